"""What may leave the machine: the address, and nothing that was typed around it."""

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizer.domain.text import clean
from normalizer.llm.redaction import numbers_of, numbers_withheld, stripped

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
