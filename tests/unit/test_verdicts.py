"""What a base says of an address: confirmed, in conflict, or nothing; and conflicts planted into right rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from normalizer.domain.address import Address, parse_address
from normalizer.domain.address.postal import Action, Verdict, Verdicts, alike, verdicts
from normalizer.domain.decision import Settled
from tests.postal_base import ROWS, made_up

if TYPE_CHECKING:
    from normalizer.domain.address.postal import Row
    from normalizer.postal import IndexedBase

GOOD = Address(
    rua="Rua das Pitangas", numero="12", bairro="Jardim Aurora", cidade="Campinas", estado="SP", cep="13010-010"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> IndexedBase:
    return made_up(tmp_path_factory.mktemp("base"))


def said(found: Verdicts) -> dict[str, str]:
    return {name: finding.verdict.value for name, finding in found.fields.items()}


def test_what_the_row_has_is_confirmed_by_it_and_the_rest_is_as_read(base: IndexedBase) -> None:
    found = verdicts(GOOD, base)
    assert said(found) == {
        "rua": "confirmado",
        "numero": "lido",
        "complemento": "ausente",
        "bairro": "confirmado",
        "cidade": "confirmado",
        "estado": "confirmado",
        "cep": "confirmado",
    }
    assert str(found.fields["rua"].row) == "13010-010: Rua das Pitangas, Jardim Aurora, Campinas - SP"
    assert (found.summary, found.action, found.suggestions) == (Verdict.CONFIRMED, Action.NOTHING, {})


def test_what_a_closed_rule_says_is_deduced(base: IndexedBase) -> None:
    unlisted = replace(GOOD, rua="Rua Nenhures do Norte", bairro=None, cep=None)
    found = verdicts(unlisted, base, ("tipo", "estado"))
    assert {name: said(found)[name] for name in ("rua", "cidade", "estado")} == {
        "rua": "deduzido",
        "cidade": "lido",
        "estado": "deduzido",
    }
    assert (found.summary, found.action) == (Verdict.READ, Action.NOTHING)


@pytest.mark.parametrize(
    ("change", "conflict", "action", "suggested"),
    [
        ({"cep": "11010-010"}, ["cidade", "cep"], Action.CORRECT, {"cidade": "Santos"}),
        (
            {"cep": "13010-020"},  # of an avenue in Vila Lua
            ["cep"],
            Action.LOOK,
            {"rua": "Avenida Maestro Fictício", "cep": "13010-010"},
        ),
        ({"bairro": "Vila Lua do Mar"}, ["bairro"], Action.LOOK, {"bairro": "Jardim Aurora"}),  # of Santos
        ({"bairro": "Vila Lua"}, [], Action.NOTHING, {}),  # of the city: people call districts by their neighbours'
        ({"bairro": "Parque Inventado", "cep": None}, [], Action.NOTHING, {"cep": "13010-010"}),  # listed nowhere
        ({"bairro": "Centro", "cep": None}, [], Action.NOTHING, {"cep": "13010-010"}),  # every town has one
        ({"cep": None}, [], Action.NOTHING, {"cep": "13010-010"}),
        ({"cidade": "Santos", "cep": None}, ["cidade"], Action.CORRECT, {"cidade": "Campinas"}),
    ],
)
def test_a_conflict_takes_two_facts_against_the_text(
    base: IndexedBase, change: dict[str, str], conflict: list[str], action: Action, suggested: dict[str, str]
) -> None:
    found = verdicts(replace(GOOD, **change), base)
    assert found.having(Verdict.CONFLICT) == conflict
    assert (found.action, found.suggestions) == (action, suggested)


@pytest.mark.parametrize("address", [
    Address(rua="Rua Modelo", cidade="Boa Vista do Buricá", estado="RS", bairro="Vila Lua", cep="13010-010"),
    Address(rua="Rua Modelo", cidade="Lins", estado="SP", bairro="Vila Lua", cep="13010-010"),
    Address(rua="SQN 210", cidade="Brasília", estado="DF", bairro="Vila Lua", cep="13010-010"),
])  # fmt: skip
def test_of_a_town_whose_streets_it_does_not_know_it_says_nothing(base: IndexedBase, address: Address) -> None:
    found = verdicts(address, base)
    assert set(said(found).values()) == {"lido", "ausente"}
    assert found.suggestions == {}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("presidente epitacio pessoa", "epitacio pessoa", True),
        ("juscelino kubistchek", "juscelino kubitschek", True),
        ("doutor jose modelo", "doutor ivo fulano", False),
        ("", "", False),
    ],
)
def test_names_that_may_be_one_are_no_conflict(one: str, other: str, same: bool) -> None:
    assert alike(one, other) is same


def right_rows() -> list[Row]:
    return [row for row in ROWS if row.city in {"Campinas", "Santos"}]


def address_of(row: Row) -> Address:
    cep = f"{row.cep[:5]}-{row.cep[5:]}"
    return Address(rua=row.street, numero="7", bairro=row.district, cidade=row.city, estado=row.uf, cep=cep)


def planted(row: Row) -> list[Address]:
    """Conflicts in a right row: a CEP of another city, of another street; another city, with the CEP and without."""
    right = address_of(row)
    elsewhere = next(other for other in right_rows() if other.city != row.city)
    street = next(other for other in right_rows() if other.city == row.city and other.district != row.district)
    return [
        replace(right, cep=address_of(elsewhere).cep),
        replace(right, cep=address_of(street).cep),
        replace(right, cidade=elsewhere.city),
        replace(right, cidade=elsewhere.city, cep=None),
    ]


def test_planted_conflicts_are_found_and_right_rows_left_alone(base: IndexedBase) -> None:
    rows = right_rows()
    wrong = [address for row in rows for address in planted(row)]
    hits = sum(bool(verdicts(address, base).having(Verdict.CONFLICT)) for address in wrong)
    false = [row for row in rows if verdicts(address_of(row), base).having(Verdict.CONFLICT)]
    assert not false
    assert hits / len(wrong) >= 0.9


def test_the_one_reading_that_the_base_holds_is_taken(base: IndexedBase) -> None:
    text = "Travessa do Moinho, 12, Estrela do Sul - Cantinho - Campinas - SP"
    decision = parse_address(text, base)
    assert isinstance(decision, Settled)
    assert (decision.value.rua, decision.value.bairro) == ("Travessa do Moinho", "Estrela do Sul")


def test_a_base_changes_nothing_of_what_the_rules_settle(base: IndexedBase) -> None:
    text = "Rua das Pitangas, 12, Vila Lua, Campinas - SP, 13010-010"
    assert parse_address(text, base) == parse_address(text)
