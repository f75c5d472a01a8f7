"""Every municipality is read where people write it, whatever else its name is; and so are older names."""

import pytest

from normalizer.domain import gazetteer
from normalizer.domain.address import parse_address
from normalizer.domain.decision import Settled


def municipalities():
    return sorted({(uf, name) for by_uf in gazetteer.municipality_names().values() for uf, name in by_uf.items()})


def misread(form):
    for uf, name in municipalities():
        decision = parse_address(form.format(name, uf))
        if not isinstance(decision, Settled) or (decision.value.cidade, decision.value.estado) != (name, uf):
            yield f"{name} - {uf}"


@pytest.mark.parametrize("form", ["Rua X, 10, Centro, {} - {}", "RUA MODELO, 10, {}/{}"])
def test_every_municipality_is_read(form):
    # The two spellings of one town have one key: the file's own wins.
    assert [name for name in misread(form) if not name.startswith("Sant'Ana")] == []


@pytest.mark.parametrize(
    ("typed", "city"),
    [
        ("MOJI DAS CRUZES - SP", "Mogi das Cruzes"),
        ("Augusto Severo/RN", "Campo Grande"),
        ("Presidente Juscelino - RN", "Serra Caiada"),
        ("Embu - SP", "Embu das Artes"),
        ("Parati, RJ", "Paraty"),
        ("São Valério da Natividade - TO", "São Valério"),
        ("Governador Lomanto Júnior - BA", "Barro Preto"),
    ],
)
def test_an_older_name_is_the_present_one(typed, city):
    decision = parse_address(f"Rua Modelo, 10, Centro, {typed}")
    assert isinstance(decision, Settled)
    assert decision.value.cidade == city


def test_the_last_field_is_the_city_where_no_state_is_named():
    assert not isinstance(parse_address("RUA PADRE MODELO, 12, SANTOS DUMONT, CASCAVEL"), Settled)


@pytest.mark.parametrize("end", ["SAO PAULO - SP, 04760-000", "São Paulo/SP - CEP 04760000"])
def test_a_district_named_like_a_town_is_no_town(end):
    decision = parse_address(f"RUA MODELO, 10, VILA MODELO - SOCORRO, {end}")
    assert isinstance(decision, Settled)
    assert (decision.value.bairro, decision.value.cidade) == ("Socorro", "São Paulo")
