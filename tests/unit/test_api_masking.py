"""What is hidden of a patient."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizer.api import masking


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("CPF: 111.444.777-35, RG: 123456789", "CPF: •••.•••.•••-35, RG: •••••••89"),
        ("rg 12.345.678-X", "rg ••.•••.•78-•"),
        (
            "CPF 111,444,777,35 Maria da Silva, maria@example.com",
            "CPF •••,•••,•••,35 ••••• •• •••••, •••••@•••••••.•••",
        ),
        ("１１１．４４４．７７７－３５", "•••.•••.•••-35"),
        ("١١١٤٤٤٧٧٧٣٥", "•••••••••35"),
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


CPF = "11144477735"
SCRIPTS = ("0123456789", "０１２３４５６７８９", "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗")
BETWEEN = ("", ".", "-", "/", ",", " ", "  ", " . ", "·", "_", "–", "\u00a0", "*", ":", ";", "\u200b")


def spellings(count: int) -> Iterator[str]:
    """One CPF as people and programs write it."""
    chance = random.Random(11)
    for _ in range(count):
        script = chance.choice(SCRIPTS)
        signs = chance.choices(BETWEEN, weights=[6, *[1] * (len(BETWEEN) - 1)], k=len(CPF))
        yield "".join(script[int(digit)] + sign for digit, sign in zip(CPF, signs, strict=True))


def digits_shown(text: str) -> list[str]:
    return [char for char in text if char.isdigit()]


def test_ten_thousand_spellings_of_a_cpf_show_two_digits_at_most() -> None:
    for spelling in spellings(10_000):
        assert digits_shown(masking.document_text(f"CPF {spelling}")) == ["3", "5"], spelling
        in_address = masking.address_text(f"Rua B, Centro, Cascavel - PR, CPF {spelling}")
        assert len(digits_shown(in_address)) <= 2, (spelling, in_address)


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("Rua B, 1200, 85801-000, tel (45) 99999-8888 e CPF 111.444.777-35", ("99999", "8888", "111", "444")),
        ("Rua B, 1200, Cascavel - PR, RG 12.345.678-9", ("345", "678")),
        ("Rua B, 1200, Cascavel - PR, maria.souza@example.com", ("maria", "souza", "@")),
        ("Rua B, 1200, Cascavel - PR, casa da dona Maria Aparecida", ("Maria", "Aparecida")),
        ("Fulana de Souza, Rua B, 1200, Cascavel - PR", ("Fulana", "Souza")),
    ],
)
def test_an_address_shows_what_one_consists_of(text: str, gone: tuple[str, ...]) -> None:
    shown = masking.address_text(text)
    assert "Rua B, 1200" in shown
    assert not [one for one in gone if one in shown]


def test_words_that_were_read_from_the_address_stay() -> None:
    text = "Rua B, 1200, Parque das Flores, Cascavel - PR, Joana"
    assert masking.address_text(text, ["Rua B", "Parque das Flores", None]) == (
        "Rua B, 1200, Parque das Flores, Cascavel - PR, •••••"
    )


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


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("agenda.csv", "agenda.csv"),
        ("Agenda da Maria Souza.xlsx", "Agenda da ••••• •••••.xlsx"),
        ("pacientes_João-111.444.777-35.csv", "pacientes_••••-•••.•••.•••-35.csv"),
        ("Eva", "•••"),
        ("exames 01-12.xls", "exames ••-••.xls"),
    ],
)
def test_a_file_is_named_without_its_patient(name: str, shown: str) -> None:
    assert masking.file_name(name) == shown
