"""Fields in the forms the deployed backend reads."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizer.domain.stored_form import DEFAULT_STATUS, STATUSES, phone_of, status_of, stored_form


@pytest.mark.parametrize(
    ("text", "phone"),
    [
        ("(19) 90000-0001", "19900000001"),
        ("+55 19 90000-0001", "19900000001"),
        ("Residencial: (19) 3232-1010 / Celular: (19) 90000-0001", "19900000001"),
        ("(19) 3232-1010", "1932321010"),
        ("019 90000-0001", "19900000001"),
        ("ana@exemplo.invalid; 11 3232 1010", "1132321010"),
        ("90000-0001", None),
        ("ana@exemplo.invalid", None),
        ("111.444.777-35", None),
        ("11144477735", None),
    ],
)
def test_one_phone_the_mobile_first(text: str, phone: str | None) -> None:
    assert phone_of(text) == phone


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("Agendado", "Confirmado"),
        ("EFETIVADO", "Confirmado"),
        ("Realizado", "Coletado"),
        ("Agendamento de  Encaixe", "Agendado"),
        ("Cancelado", "Cancelado"),
        ("autorizacao", "Autorização"),
        ("Em triagem", None),
    ],
)
def test_statuses(typed: str, stored: str | None) -> None:
    assert status_of(typed) == stored


def test_every_stored_status_is_its_own() -> None:
    assert [status_of(name) for name in STATUSES if name != "Agendado"] == [n for n in STATUSES if n != "Agendado"]


def test_a_row_in_its_forms() -> None:
    row = {
        "nome_paciente": "Ana",
        "data_agendamento": "01/12/2026",
        "hora_agendamento": "08:30:00",
        "telefone": "Celular: (19) 90000-0001 / Residencial: (19) 3232-1010",
        "status": "Em triagem",
        "cep": None,
    }
    assert stored_form(row) == {
        "nome_paciente": "Ana",
        "data_agendamento": dt.datetime(2026, 12, 1),
        "hora_agendamento": "08:30",
        "telefone": "19900000001",
        "telefone_informado": row["telefone"],
        "status": DEFAULT_STATUS,
        "status_informado": "Em triagem",
        "cep": None,
    }


def test_a_phone_that_is_only_written_otherwise_is_not_kept_twice() -> None:
    assert stored_form({"telefone": "(19) 90000-0001"}) == {"telefone": "19900000001"}


FIELDS = ["data_agendamento", "hora_agendamento", "telefone", "status", "observacoes"]


@given(st.dictionaries(st.sampled_from(FIELDS), st.text(max_size=30) | st.none()))
def test_what_is_in_form_stays(row: dict[str, Any]) -> None:
    once = stored_form(row)
    again = stored_form(once)
    assert {name: again[name] for name in once} == once
    assert once.get("status") in {None, *STATUSES}
