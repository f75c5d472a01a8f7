"""Of an address, what an address can consist of is sent; every other word stays under a placeholder, and comes back."""

import random
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizer.domain.text import clean
from normalizer.llm.redaction import Redacted, placeholders, redact
from tests.unit.loose_cells import loose_cells, secrets_of


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("Rua das Flores, 12, Tirol, Natal, RN", "Rua das #A, 12, #B, #CITY, RN"),
        ("Rua das Flores, 12, Jardim Modelo, Natal, RN", "Rua das #A, 12, Jardim #B, #CITY, RN"),
        ("Fulano de Tal, Rua B, 12, Itu SP", "#A, Rua B, 12, #CITY SP"),
        ("R. Fulano de Tal 77 casa da dona Beltrana Itu SP", "R. #A 77 casa da #B #CITY SP"),
        ("FULANO DE TAL, 121 RUA. VILA X. 04727-100 São Paulo - SP", "#A, 121 RUA. VILA X. 04727-100 #CITY - SP"),
        ("Rua B 12 mãe Beltrana de Souza Itu SP", "Rua B 12 #A #CITY SP"),
        ("Rua das Flores avó Beltrana 12 Itu SP", "Rua das #A 12 #CITY SP"),
        ("av brasil 300 recreio dos bandeirantes rio de janeiro rj", "av #A 300 #B #CITY RJ"),
        ("QNN 10 conjunto F casa 31 Ceilândia DF", "QNN 10 conjunto F casa 31 #CITY DF"),
        ("R 7 de Abril 320 apto 5, Centro, Salvador, Bahia", "R 7 de #A 320 apto 5, Centro, #CITY, BA"),
        ("Rua Bahia, 12, casa do Bahia, Itu SP", "Rua #A, 12, casa do #B, #CITY SP"),
        ("Rua B, 12, tel (11) 98765-4321", "Rua B, 12,"),
        ("Rua B, 12, gestante de 32 semanas, CID F32.1, Itu SP", "Rua B, 12, #A, CID #B, #CITY SP"),
        ("Rua F32, 12, Quadra C15, nascida em 12 de março de 1980", "Rua F32, 12, Quadra C15, #A em"),
    ],
)
def test_what_may_be_a_person_stays_here(typed, sent):
    assert redact(typed).text == sent


def test_the_words_of_placeholders_come_back_in_any_field():
    leaving = redact("Rua B, 12, Recreio dos Bandeirantes, Ed. Modelo Azul, Itu SP")
    assert leaving.kept[:2] == (("#A", "Recreio dos Bandeirantes"), ("#B", "Modelo Azul"))
    answer = {"rua": "Rua B", "bairro": "#A", "complemento": "Ed. #B", "numero": None, "cep": "#Z"}
    back = {"bairro": "Recreio dos Bandeirantes", "complemento": "Ed. Modelo Azul"}
    assert leaving.restored(answer) == answer | back


def test_there_are_placeholders_for_every_word_of_the_longest_text():
    names = list(islice(placeholders(), 5_000))
    assert len(set(names)) == 5_000
    kept = {name: f"p{number}" for number, name in enumerate(names)}
    assert Redacted("", tuple(kept.items())).restored({name: name for name in names}) == kept


def test_a_town_comes_back_by_its_whole_name():
    leaving = redact("Rua B 12 Jab. dos Guararapes PE")
    assert leaving.text == "Rua B 12 #CITY PE"
    assert leaving.restored({"cidade": "#CITY"}) == {"cidade": "Jaboatão dos Guararapes"}


def test_the_town_that_ends_a_text_is_told_from_the_quarter_before_it():
    leaving = redact("Rua B 12 Vila Modelo São José dos Campos")
    assert leaving.text == "Rua B 12 Vila #A #CITY"
    assert leaving.restored({"bairro": "Vila #A", "cidade": "#CITY"}) == {
        "bairro": "Vila Modelo",
        "cidade": "São José dos Campos",
    }


def test_nothing_of_anybody_in_2000_loose_cells_is_sent():
    for cell, secrets in loose_cells(2_000, random.Random(7)):
        assert not secrets & secrets_of(redact(clean(cell)).text), (cell, redact(clean(cell)).text)


def test_the_cells_hold_secrets():
    assert all(secrets for _, secrets in loose_cells(50, random.Random(1)))


@given(st.text(max_size=200))
def test_any_text_may_be_asked_about(text):
    redact(clean(text))
