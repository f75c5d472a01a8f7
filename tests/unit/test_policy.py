"""What a missing address means, and what earlier rows become when that is decided."""

from __future__ import annotations

from typing import Any

import pytest

from normalizer.domain.appointment import (
    BRAND,
    UNIT,
    Absent,
    Appointment,
    Kind,
    Policies,
    Review,
    WhenMissing,
    is_home_collection,
    scope_of,
)
from normalizer.domain.decision import Reason
from normalizer.store.migration import mended
from normalizer.worker.pipeline import Finished, Pipeline

VISITED = {BRAND: "Clínica  Exemplo", "carro": "Carro 1"}
AT_THE_CLINIC = {BRAND: "CLINICA EXEMPLO", UNIT: "Centro"}


def test_one_name_has_one_scope_however_it_is_written() -> None:
    assert scope_of(BRAND, "Clínica  Exemplo ") == scope_of(BRAND, "CLINICA EXEMPLO") == "marca:clinica exemplo"
    assert scope_of(UNIT, "Centro") == "unidade:centro"
    assert scope_of(BRAND, "  ") is scope_of(BRAND, None) is None


@pytest.mark.parametrize(
    ("record", "visited"),
    [
        ({"carro": "Carro 1"}, True),
        ({"tipo_consulta": "Coleta Domiciliar"}, True),
        ({"tipo_consulta": "HEMOGRAMA EM CASA"}, True),
        ({"endereco_coleta": "residência"}, True),
        ({"tipo_consulta": "Hemograma", "carro": "  "}, False),
        ({"tipo_consulta": "Consulta com o Dr. Casanova"}, False),
        ({}, False),
    ],
)
def test_who_is_visited(record: dict[str, Any], visited: bool) -> None:
    assert is_home_collection(record) is visited


def test_nothing_is_needed_until_somebody_says_so_and_a_unit_comes_before_its_brand() -> None:
    assert not Policies().need_address(VISITED)
    brand = Policies({"marca:clinica exemplo": WhenMissing.HOME})
    assert (brand.need_address(VISITED), brand.need_address(AT_THE_CLINIC)) == (True, False)
    unit = Policies({"marca:clinica exemplo": WhenMissing.NEVER, "unidade:centro": WhenMissing.ALWAYS})
    assert (unit.need_address(VISITED), unit.need_address(AT_THE_CLINIC)) == (False, True)
    assert not Policies.of([("marca:clinica exemplo", "word of a later version")]).by_scope


@pytest.mark.parametrize(("needed", "outcome"), [(False, Absent), (True, Review)])
async def test_a_needed_address_that_is_missing_is_a_question(needed: bool, outcome: type) -> None:
    appointment = Appointment("1", {"documento_completo": "CPF 111.444.777-35"}, needs_address=needed)
    async for part in Pipeline(cache=None, coalescer=None).run([appointment], deadline=1e9):
        (done,) = part
        assert isinstance(done, Finished)
        found = done.outcomes[Kind.ADDRESS]
    assert type(found) is outcome
    assert found.reason is Reason.ADDRESS_MISSING  # type: ignore[union-attr]


def stored(status: str, address: dict[str, Any], **fields: Any) -> dict[str, Any]:
    tracking = "failed" if status == "revisar" else "completed"
    return {
        "id": "1",
        **VISITED,
        **fields,
        "normalization_status": tracking,
        "normalizacao": {"status": status, "endereco": address},
    }


def test_stored_rows_follow_what_was_decided_in_both_directions() -> None:
    absent = {"versao": 3, "origem": "ausente"}
    missing = {"versao": 3, "origem": "regras", "motivo": "endereço não informado"}
    home = Policies({"marca:clinica exemplo": WhenMissing.HOME})

    asked = mended(stored("concluido", absent), home)
    assert asked["falta"] == {"normalizacao.endereco": missing, "normalizacao.status": "revisar"}
    assert asked["acompanhamento"]["normalization_error"] == "endereço: endereço não informado"
    assert asked["acompanhamento"]["normalization_status"] == "failed"

    gone = mended(stored("revisar", missing), Policies())
    assert gone["ausente"] == {"normalizacao.endereco": absent, "normalizacao.status": "concluido"}

    assert mended(stored("revisar", missing), home) == {}
    assert mended(stored("concluido", absent), Policies()) == {}
    assert mended(stored("concluido", absent, carro=None), home) == {}
