"""Of an address only what it can consist of is sent: other words stay under placeholders, private numbers stay here."""

import json
import random
import re
import time
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizer.domain.text import clean
from normalizer.llm.redaction import Redacted, numbers_of, numbers_withheld, placeholders, redact, stripped
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


GOLD = Path(__file__).parents[1] / "gold" / "dev_addresses.jsonl"
SEVEN_DIGITS = re.compile(r"\d(?:[.\-/–]?\d){6,}")


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("Rua X, 10, Centro, Rio, RJ 22790-285 tel (21) 98765-4321", "Rua X, 10, Centro, Rio, RJ 22790-285"),
        ("Rua X 10 Recreio RJ 22790285 RG 12.345.678-9 fone 3456-7890", "Rua X 10 Recreio RJ 22790285"),
        ("Rua X 10, Itu 13300123", "Rua X 10, Itu 13300123"),
        ("Rua X 10, Centro, S. Paulo 01310100", "Rua X 10, Centro, S. Paulo 01310100"),
        ("Rua X 10, minas gerais 30130000", "Rua X 10, minas gerais 30130000"),
        ("Rua X 10, Itu 22790285", "Rua X 10, Itu"),
        ("Rua X 10 22790285", "Rua X 10"),
        ("Rua X 10, RG 12345-678, Itu", "Rua X 10, , Itu"),
        ("Rua X 10, 111 444 777 35, Itu", "Rua X 10, , Itu"),
        ("Rua X 10, 111, 444, 777, 35, Itu", "Rua X 10, , Itu"),
        ("Rua X 10, 12 345 678 9, Itu", "Rua X 10, , Itu"),
        ("Rua X 10, 29,408,702, Itu", "Rua X 10, , Itu"),
        ("Rua X 10, 120, 305, Itu", "Rua X 10, 120, 305, Itu"),
        ("Rua X 1250,1204,Centro,Itu", "Rua X 1250,1204,Centro,Itu"),
        ("Rua X 10 (11) 3456 - 7890 Itu", "Rua X 10 Itu"),
        ("Rua X 10 98765 - 4321 Itu", "Rua X 10 Itu"),
        ("Rua X 10 3456 7890 Itu", "Rua X 10 Itu"),
        ("Rua X 10, 0800 123 4567, Itu", "Rua X 10, , Itu"),
        ("Rua X,10,maria@exemplo.com,Itu", "Rua X,10, ,Itu"),
        ("Rua A 10 CPF 111.444.777-35 cep: 12345678", "Rua A 10 cep: 12345678"),
        ("Rua A 10, Itu, cep 1330-0123", "Rua A 10, Itu, cep 1330-0123"),
        ("Rua A 10 whats +55 11 98765 4321", "Rua A 10"),
        ("Rua A 10 11 98765 4321", "Rua A 10"),
        ("Rua A 10 carteirinha 0012345678901", "Rua A 10"),
        ("Rua A 10, Itu SP maria@exemplo.com.br", "Rua A 10, Itu SP"),
        ("Rua A, 691.0, Vilhena, RO, 76985004.0", "Rua A, 691.0, Vilhena, RO, 76985004"),
    ],
)
def test_what_is_no_address_stays_here(typed, sent):
    assert stripped(typed) == sent


@pytest.mark.parametrize("text", ["Rua A 12345678 Itu 87654321", "Rua A 1234567", "RG 12345678 rua a"])
def test_a_run_that_may_be_a_document_stays_here(text):
    assert not SEVEN_DIGITS.search(stripped(text))


@given(st.text(alphabet="0123456789 .-/()ruaRG:cep,", max_size=80))
def test_at_most_one_run_of_seven_digits_leaves_and_it_has_eight(text):
    runs = SEVEN_DIGITS.findall(stripped(text))

    assert len(runs) <= 1
    assert all(sum(character.isdigit() for character in run) == 8 for run in runs)


@pytest.mark.parametrize("number", ["22790285", "22790-285", "22.790.285", "22 790 285", "22.790-285"])
def test_a_number_of_the_appointments_documents_stays_here_in_any_spelling(number):
    withheld = numbers_of("RG 22.790.285 SSP/RJ, CPF 111.444.777-35")

    assert withheld >= {"22790285", "11144477735"}
    assert stripped(f"Rua X 10, Recreio, Rio de Janeiro RJ {number}", withheld=withheld).endswith("Janeiro RJ")


@pytest.mark.parametrize(
    "document", ["RG 12 345 678-9", "RG: 12345678.0", "123456789", "MG-12.345.678-X e 111 444 777 35"]
)
def test_documents_are_known_however_they_are_grouped(document):
    numbers = numbers_of(document)

    assert any(number.startswith("12345678") for number in numbers)
    assert all(len(number) >= 7 for number in numbers)


DOCUMENT_SHAPES = ["{}", "RG {}", "rg:{}", "RG nº {}", "{} SSP", "doc. {}", "({})"]


@given(
    st.integers(10**6, 10**11 - 1).map(str),
    st.sampled_from(["", ".", "-", " ", "/", ". "]),
    st.sampled_from(DOCUMENT_SHAPES),
    st.sampled_from(["Rua X, 10, {}, Itu, SP", "{} Rua X 10 Itu SP 13300-000", "Rua X 10 Itu SP {}"]),
)
def test_no_document_of_the_appointment_leaves(number, sign, shape, address):
    grouped = sign.join([number[:-8], number[-8:-5], number[-5:-2], number[-2:]]).strip(". -/")
    typed = address.format(shape.format(grouped))

    sent = stripped(clean(typed), withheld=numbers_of(f"RG {number}"))

    assert number not in re.sub(r"\D", "", sent)


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("Rua X, 10, Itu 98765 4321", "Rua X, 10, Itu"),
        ("Rua X, 10, São Paulo SP 34567890", "Rua X, 10, São Paulo SP"),
        ("Rua X, 10, Itu SP 13300-123", "Rua X, 10, Itu SP 13300-123"),
    ],
)
def test_the_patients_own_phone_stays_here_without_any_label(typed, sent):
    patient = ("", "Maria José da Silva", "(11) 98765-4321 / 1134567890", "")

    assert stripped(typed, withheld=numbers_withheld([patient])) == sent


def test_what_two_patients_withhold_is_withheld_together():
    numbers = numbers_withheld([("RG 12345678", "Ana Lima", ""), ("CPF 11144477735", "Rui Prado", "1134567890")])

    assert numbers == {"12345678", "11144477735", "1134567890", "134567890", "34567890"}


ENDLESS = {
    "no blank": "a" * 100_000,
    "at signs": "a@" * 50_000,
    "no at sign": ("x." * 49_999) + "@",
    "digits": "1" * 100_000,
    "digits and dots": "1." * 50_000,
    "digits and blanks": "1 " * 50_000,
    "groups": "123 " * 25_000,
    "dots after a label": "cpf n" + "." * 99_990,
    "label and blanks": "paciente" + " " * 99_990 + "1",
    "labels": "cpf: rg: tel: " * 7_000,
    "phones": "(11) 9" * 16_000,
    "open brackets": "(" * 50_000 + "11" * 25_000,
    "ceps": "22790-285 " * 10_000,
    "a bare cep": "Itu " * 24_000 + " 13300123 " + "São Paulo " * 100,
}


@pytest.mark.parametrize("text", ENDLESS.values(), ids=ENDLESS.keys())
def test_any_text_is_read_in_bounded_time(text):
    started = time.process_time()

    stripped(text, withheld=numbers_withheld([("CPF 11144477735 RG 22790285", "11987654321")]))

    assert time.process_time() - started < 2.0


def test_a_clean_address_leaves_as_it_is():
    rows = [json.loads(line) for line in GOLD.read_text(encoding="utf-8").splitlines()]
    untouched = [row for row in rows if clean(row["text"]) == stripped(clean(row["text"]))]

    assert len(untouched) >= 0.95 * len(rows)
