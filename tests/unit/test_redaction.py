"""Of an address, what an address can consist of is sent; every other word stays under a placeholder, and comes back."""

import random
import re
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizer.domain.text import clean, fold
from normalizer.llm.redaction import Redacted, placeholders, redact
from tests.unit.loose_cells import NAMES, loose_cells


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("Rua das Flores, 12, Tirol, Natal, RN", "Rua das Flores, 12, #A, Natal, RN"),
        ("Rua das Flores, 12, Jardim Modelo, Natal, RN", "Rua das Flores, 12, Jardim #A, Natal, RN"),
        ("Fulano de Tal, Rua B, 12, Itu SP", "#A, Rua B, 12, Itu SP"),
        ("R. Fulano de Tal 77 casa da dona Beltrana Itu SP", "R. Fulano de Tal 77 casa da #A Itu SP"),
        ("FULANO DE TAL, 121 RUA. VILA X. 04727-100 São Paulo - SP", "#A, 121 RUA. VILA X. 04727-100 São Paulo - SP"),
        ("Rua B 12 mãe Beltrana de Souza Itu SP", "Rua B 12 #A Itu SP"),
        ("av brasil 300 recreio dos bandeirantes rio de janeiro rj", "av brasil 300 #A rio de janeiro rj"),
        ("QNN 10 conjunto F casa 31 Ceilândia DF", "QNN 10 conjunto F casa 31 Ceilândia DF"),
        ("Rua B, 12, tel (11) 98765-4321", "Rua B, 12,"),
    ],
)
def test_what_may_be_a_person_stays_here(typed, sent):
    assert redact(typed).text == sent


def test_the_words_of_placeholders_come_back_in_any_field():
    leaving = redact("Rua B, 12, Recreio dos Bandeirantes, Ed. Modelo Azul, Itu SP")
    assert leaving.kept == (("#A", "Recreio dos Bandeirantes"), ("#B", "Modelo Azul"))
    answer = {"rua": "Rua B", "bairro": "#A", "complemento": "Ed. #B", "numero": None, "cep": "#Z"}
    back = {"bairro": "Recreio dos Bandeirantes", "complemento": "Ed. Modelo Azul"}
    assert leaving.restored(answer) == answer | back


def test_there_are_placeholders_for_every_word_of_the_longest_text():
    names = list(islice(placeholders(), 5_000))
    assert len(set(names)) == 5_000
    kept = {name: f"p{number}" for number, name in enumerate(names)}
    assert Redacted("", tuple(kept.items())).restored({name: name for name in names}) == kept


def test_the_town_that_ends_a_text_is_told_from_the_quarter_before_it():
    leaving = redact("Rua B 12 Vila Modelo São José dos Campos")
    assert leaving.text == "Rua B 12 Vila #A #CITY"
    assert leaving.restored({"bairro": "Vila #A", "cidade": "#CITY"}) == {
        "bairro": "Vila Modelo",
        "cidade": "São José dos Campos",
    }


def test_no_name_of_500_loose_cells_is_sent():
    for cell, secrets in loose_cells(500, random.Random(7)):
        sent = redact(clean(cell)).text
        assert not secrets & set(re.findall(r"[a-z]+", fold(sent))), sent
        assert not re.search(r"\d(?:[.\-/ ]?\d){8,}", sent)


def test_the_cells_hold_names():
    assert all(secrets <= NAMES for _, secrets in loose_cells(50, random.Random(1)))


@given(st.text(max_size=200))
def test_any_text_may_be_asked_about(text):
    redact(clean(text))
