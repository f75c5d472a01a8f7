"""What may leave the machine: the address, and nothing that was typed around it."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizer.domain.text import clean
from normalizer.llm.privacy import outgoing

GOLD = Path(__file__).parents[1] / "gold" / "dev_addresses.jsonl"
SEVEN_DIGITS = re.compile(r"\d(?:[.\-/–]?\d){6,}")


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("Rua X, 10, Centro, Rio, RJ 22790-285 tel (21) 98765-4321", "Rua X, 10, Centro, Rio, RJ 22790-285"),
        ("Rua X 10 22790285 RG 12.345.678-9 fone 3456-7890", "Rua X 10 22790285"),
        ("Rua A 10 CPF 111.444.777-35 cep: 12345678", "Rua A 10 cep: 12345678"),
        ("Rua A 10, Itu, cep 1330-0123", "Rua A 10, Itu, cep 1330-0123"),
        ("Rua A 10 whats +55 11 98765 4321", "Rua A 10"),
        ("Rua A 10 11 98765 4321", "Rua A 10"),
        ("Rua A 10 carteirinha 0012345678901", "Rua A 10"),
        ("Rua A 10, Itu SP maria@exemplo.com.br", "Rua A 10, Itu SP"),
        ("Av. Y, 5 - paciente: Maria da Silva Rua Z 7", "Av. Y, 5 - Rua Z 7"),
        ("A/C João Souza, Rua B, 1200", ", Rua B, 1200"),
        ("Rua B, 12, falar com Dona Ana, Itu", "Rua B, 12, , Itu"),
        ("Rua A, 691.0, Vilhena, RO, 76985004.0", "Rua A, 691.0, Vilhena, RO, 76985004"),
    ],
)
def test_what_is_no_address_stays_here(typed, sent):
    assert outgoing(typed) == sent


@pytest.mark.parametrize("text", ["Rua A 12345678 Itu 87654321", "Rua A 1234567", "RG 12345678 rua a"])
def test_a_run_that_may_be_a_document_stays_here(text):
    assert not SEVEN_DIGITS.search(outgoing(text))


@given(st.text(alphabet="0123456789 .-/()ruaRG:cep,", max_size=80))
def test_at_most_one_run_of_seven_digits_leaves_and_it_has_eight(text):
    runs = SEVEN_DIGITS.findall(outgoing(text))

    assert len(runs) <= 1
    assert all(sum(character.isdigit() for character in run) == 8 for run in runs)


def test_a_clean_address_leaves_as_it_is():
    rows = [json.loads(line) for line in GOLD.read_text(encoding="utf-8").splitlines()]
    untouched = [row for row in rows if clean(row["text"]) == outgoing(clean(row["text"]))]

    assert len(untouched) >= 0.95 * len(rows)
