"""What is hidden of a patient."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizer.api import masking


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("CPF: 111.444.777-35, RG: 123456789", "CPF: •••.•••.•••-35, RG: •••••••89"),
        ("rg 12.345.678-X", "rg ••.•••.••8-X"),
        ("123", "•••"),
        ("não informado", "não informado"),
        ("", ""),
    ],
)
def test_a_document_keeps_the_last_two(text: str, shown: str) -> None:
    assert masking.document_text(text) == shown


@given(st.lists(st.from_regex(r"[0-9]{5,14}", fullmatch=True), min_size=1, max_size=4))
def test_at_most_two_digits_of_a_number_are_shown(numbers: list[str]) -> None:
    shown = masking.document_text("; ".join(f"doc: {number}" for number in numbers))

    assert len([char for char in shown if char.isdigit()]) == 2 * len(numbers)
    assert all(number not in shown for number in numbers)


def test_an_address_stays_readable_but_for_phones_and_documents() -> None:
    text = "Rua B, 1200, 85801-000, tel (45) 99999-8888 e CPF 111.444.777-35"

    shown = masking.address_text(text)

    assert shown.startswith("Rua B, 1200, 85801-000, tel (")
    assert "99999-88" not in shown
    assert "111.444" not in shown


@pytest.mark.parametrize(("name", "shown"), [("Maria da Silva", "M. S."), ("Ana Sá e Silva", "A. S. S."), ("", "")])
def test_a_name_is_its_initials(name: str, shown: str) -> None:
    assert masking.initials(name) == shown


def test_a_value_is_hidden_field_by_field() -> None:
    stored = {"cpf": "11144477735", "rg": None, "cpf_formatted": "111.444.777-35", "rg_formatted": None}
    assert masking.document_value(stored) == {
        "cpf": "•••••••••35",
        "rg": None,
        "cpf_formatted": "•••.•••.•••-35",
        "rg_formatted": None,
    }
    assert masking.document_value(None) is None
