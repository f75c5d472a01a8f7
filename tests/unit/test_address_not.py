"""What the rules do not do: no street is made of a name, a building, an institution, a locality or a remark."""

import pytest

from normalizer.domain.address import deduced, parse_address
from normalizer.domain.address.standard import Address
from normalizer.domain.decision import Settled, Undecided

END = "Centro, Ubá - MG"
OUTSIDE = "Zona Rural, Ubá - MG"


@pytest.mark.parametrize(
    "text",
    [
        f"Hospital São Modelo, 300, {END}",
        f"Escola Municipal Fulano de Tal, 300, {END}",
        f"UBS Vila Modelo, 12, {END}",
        f"PSF Central, 30, {END}",
        f"Igreja Matriz, s/n, {END}",
        f"Secretaria Municipal de Saúde, 10, {END}",
        f"Edifício Modelo, 10, {END}",
        f"Condomínio Modelo, 10, {END}",
        f"Campus Modelo 1, 10, {END}",
        f"Dona Fulana, 12, {END}",
        f"casa da dona Fulana, 12, {END}",
        f"Sr. Beltrano, 12, {END}",
        f"perto do mercado, 12, {END}",
        f"Rio Modelo, s/n, {OUTSIDE}",
        f"Margem Esquerda do Rio Modelo, s/n, {OUTSIDE}",
        f"Faxinal dos Modelos, s/n, {OUTSIDE}",
        "Cabeceira do Modelo, 12, Interior, Ubá - MG",
        f"Zona Rural, s/n, {OUTSIDE}",
        "Vila Modelo, São Paulo, SP",
    ],
)
def test_no_street_is_made_of(text):
    assert isinstance(parse_address(text), Undecided)


@pytest.mark.parametrize(
    ("text", "rua"),
    [
        (f"POV LAGOA MODELO, S/N, {OUTSIDE}", "Povoado Lagoa Modelo"),
        (f"COMUNIDADE PEDRA MODELO, S/N, {OUTSIDE}", "Comunidade Pedra Modelo"),
        (f"Loc. Barro Modelo, s/n, {OUTSIDE}", "Localidade Barro Modelo"),
        (f"AGROVILA MODELO, S/N, {OUTSIDE}", "Agrovila Modelo"),
    ],
)
def test_a_locality_is_its_own_type(text, rua):
    decision = parse_address(text)
    assert isinstance(decision, Settled), decision
    assert (decision.value.rua, decision.inferred) == (rua, ())


@pytest.mark.parametrize(
    ("text", "inferred"),
    [
        ("Rua Modelo, 12, Centro, Ubá - MG", ()),
        ("Beltrano de Tal, 12, Centro, Ubá - MG", ("tipo",)),
        ("Rua Modelo, 12, Centro, Ubá, 36500-000", ("estado",)),
        ("Rua Modelo, 12, Boa Viagem, Recife", ("estado",)),
        ("Beltrano de Tal, 12, Centro, Ubá, 36500-000", ("tipo", "estado")),
        ("BR 277, km 12, Centro, Guarapuava - PR", ()),
    ],
)
def test_what_the_text_does_not_say_is_marked(text, inferred):
    decision = parse_address(text)
    assert isinstance(decision, Settled), decision
    assert decision.inferred == inferred


def test_an_answer_from_elsewhere_is_marked_too():
    address = Address(rua="Rua Beltrano de Tal", numero="12", bairro="Centro", cidade="Ubá", estado="MG")
    assert deduced("Beltrano de Tal, 12, Centro, Ubá", address) == ("tipo", "estado")
    assert deduced("R. Beltrano de Tal, 12, Centro, Ubá/MG", address) == ()
