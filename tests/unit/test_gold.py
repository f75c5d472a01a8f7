"""The rules against gold: the figures promised, and no worse than the committed ones."""

import json

import pytest

from benchmarks import quality
from normalizer.domain.address import parse_address
from normalizer.domain.decision import Settled
from normalizer.domain.document import parse_document


@pytest.fixture(scope="module")
def measured():
    return {name: quality.measure(name) for name in quality.SETS}


@pytest.mark.parametrize("name", list(quality.SETS))
def test_nothing_is_invented(measured, name):
    assert measured[name]["hallucinations"] == 0


@pytest.mark.parametrize("name", list(quality.SETS))
def test_wrong_answers_are_hardly_ever_accepted(measured, name):
    assert measured[name]["wrong_accepted"] <= 0.015 * measured[name]["rows"]


@pytest.mark.parametrize(
    ("tag", "share"), [("class:clean", 0.98), ("class:messy", 0.85), ("class:special", 0.75), ("class:junk", 0.90)]
)
@pytest.mark.parametrize("name", ["addresses", "addresses (hold-out)"])
def test_addresses_reach_their_class_target(measured, name, tag, share):
    assert measured[name]["canon"] >= 0.90
    assert measured[name]["tags"][tag]["canon"] >= share


def test_documents_reach_their_target(measured):
    assert measured["documents"]["canon"] >= 0.99


def test_no_figure_is_worse_than_the_committed_one(measured):
    committed = json.loads(quality.RESULTS.read_text("utf-8"))
    assert quality.regressions(measured, committed) == []


def test_a_regression_is_named():
    committed = json.loads(quality.RESULTS.read_text("utf-8"))
    worse = json.loads(json.dumps(committed))
    worse["addresses"]["canon"] -= 0.01
    worse["documents"]["wrong_accepted"] += 1
    assert len(quality.regressions(worse, committed)) == 2


def test_the_reference_pairs_hold_to_the_letter():
    typed = "rua maurício da costa faria,52,recreio dos bandeirantes,rio de janeiro,RJ,22790-285"
    decision = parse_address(typed)
    assert isinstance(decision, Settled)
    assert decision.value.as_dict() == {
        "rua": "Rua Maurício da Costa Faria",
        "numero": "52",
        "complemento": None,
        "bairro": "Recreio dos Bandeirantes",
        "cidade": "Rio de Janeiro",
        "estado": "RJ",
        "cep": "22790-285",
    }
    both = parse_document("CPF: 11144477735, RG: 123456789")
    assert isinstance(both, Settled)
    assert both.value.as_dict() == {
        "cpf": "11144477735",
        "rg": "123456789",
        "cpf_formatted": "111.444.777-35",
        "rg_formatted": "123.456.789",
    }
    only_rg = parse_document("CPF: 11111111111, RG: 123456789")
    assert isinstance(only_rg, Settled)
    assert only_rg.value.as_dict()["cpf"] is None
    assert only_rg.value.as_dict()["rg"] == "123456789"
