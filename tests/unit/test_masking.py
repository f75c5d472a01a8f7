"""What is hidden of a patient."""

from __future__ import annotations

import itertools
import random
import re
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizer.domain.text import fold
from normalizer.observability.masking import What, mask


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
    assert mask(text, What.DOCUMENT) == shown


@given(st.lists(st.from_regex(r"[0-9]{5,14}", fullmatch=True), min_size=1, max_size=4))
def test_at_most_two_digits_of_a_number_are_shown(numbers: list[str]) -> None:
    shown = mask("; ".join(f"doc: {number}" for number in numbers), What.DOCUMENT)

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


@pytest.mark.parametrize(
    ("what", "around", "most"),
    [
        (What.DOCUMENT, "CPF {}", 2),
        (What.DOCUMENT, "{} (Maria)", 2),
        (What.ADDRESS, "Rua B, Centro, Cascavel - PR, CPF {}", 2),
        (What.FILE, "agenda {}.xlsx", 2),
        (What.FILE, "pacientes.{}", 2),
        (What.CELL, "{}", 0),
        (What.NAME, "{}", 0),
    ],
)
def test_ten_thousand_spellings_of_a_cpf_show_two_digits_at_most(what: What, around: str, most: int) -> None:
    known = {"0"} if what is What.CELL else set()
    for spelling in spellings(10_000):
        shown = mask(around.format(spelling), what)
        assert len([digit for digit in digits_shown(shown) if digit not in known]) <= most, (spelling, shown)
        assert "Maria" not in shown


PEOPLE = ("Zuleica", "Quaresma", "Tibúrcio", "Imaginário", "ZULEICA", "quaresma", "Ｚｕｌｅｉｃａ", "Tibu\u0301rcio")
MAILS = ("{0}.{1}@example.com", "{0}_{1}@clinica.com.br", "{0}＠example.com", "{1}+x@EXAMPLE.com")
PHONES = ("(45) 99876-5432", "45 99876 5432", "+55 45 9.9876-5432", "９９８７６-５４３２", "0xx45 3876,5432")
RGS = ("12.345.678-9", "12 345 678 9", "１２.３４５.６７８-９", "12,345,678-9", "MG-12.345.678", "123456789")
#: A private datum, and the places where it is found.
PLACES = {
    What.ADDRESS: ("Rua B, 12, Centro, Cascavel - PR, {}", "{} Rua B, 12, Cascavel PR", "Rua B, 12, {}, Cascavel/PR"),
    What.DOCUMENT: ("CPF 111.444.777-35 {}", "{}", "RG: {}", "{}, CPF: 11144477735"),
    What.FILE: ("agenda {}.xlsx", "{}.csv", "exames de {}", "lista.{}"),
    What.CELL: ("{}",),
}


def private(chance: random.Random) -> Iterator[str]:
    """What a stranger may not see: people, addresses of theirs, phones, identity cards."""
    one, other = chance.sample(PEOPLE, 2)
    yield f"{one} {other}"
    yield chance.choice(MAILS).format(one, other)
    yield chance.choice(PHONES)
    yield chance.choice(RGS)


def readable(text: str) -> str:
    """As a person reads it."""
    return fold(unicodedata.normalize("NFKC", text))


@pytest.mark.parametrize("what", PLACES)
def test_people_mails_phones_and_identity_cards_are_shown_nowhere(what: What) -> None:
    chance, names = random.Random(22), {readable(name) for name in PEOPLE}
    for _ in range(200):
        for place, datum in itertools.product(PLACES[what], private(chance)):
            shown = readable(mask(place.format(datum), what))
            assert not [name for name in names if name in shown], (place, datum, shown)
            runs = re.findall("[1-9]{3,}", re.sub("[^0-9a-z•]", "", shown))
            assert not runs, (place, datum, shown)


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
    shown = mask(text, What.ADDRESS)
    assert "Rua B, 1200" in shown
    assert not [one for one in gone if one in shown]


def test_words_that_were_read_from_the_address_stay() -> None:
    text = "Rua B, 1200, Parque das Flores, Cascavel - PR, Joana"
    assert mask(text, What.ADDRESS, understood=["Rua B", "Parque das Flores", None]) == (
        "Rua B, 1200, Parque das Flores, Cascavel - PR, •••••"
    )


@pytest.mark.parametrize(
    ("name", "shown"), [("Maria da Silva", "M. S."), ("Ana Sá e Silva", "A. S. S."), ("", ""), ("111 444 (Eva)", "E.")]
)
def test_a_name_is_its_initials(name: str, shown: str) -> None:
    assert mask(name, What.NAME) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("agenda.csv", "agenda.csv"),
        ("Agenda da Maria Souza.xlsx", "Agenda da ••••• •••••.xlsx"),
        ("pacientes_João-111.444.777-35.csv", "pacientes_••••-•••.•••.•••-35.csv"),
        ("Eva", "•••"),
        ("exames 01-12.xls", "exames ••-••.xls"),
        ("agenda.Maria Souza", "agenda.••••• •••••"),
        ("exames de 111.444.777-35", "exames de •••.•••.•••-35"),
    ],
)
def test_a_file_is_named_without_its_patient(name: str, shown: str) -> None:
    assert mask(name, What.FILE) == shown
