"""Why a text was read as it was, or refused: what the next rule is found by."""

import json

from hypothesis import given
from hypothesis import strategies as st

from normalizer.domain.address import parse_address
from normalizer.domain.address.explain import explain
from normalizer.domain.address.weights import MARGIN
from normalizer.domain.decision import Settled


def test_a_reading_is_explained_from_words_to_result():
    about = explain("FULANO DE TAL, 121 RUA. VILA EXEMPLO. 04727-100 São Paulo - SP.")

    assert ("VILA", "district") in {(token.texto, role) for token in about.tokens for role in token.papeis}
    assert {step.passo: step.marcou for step in about.passos}["mark_trailing_type"] == (("RUA", "rótulo"),)
    best = about.leituras[0]
    assert (best.cidade, best.endereco) == ("São Paulo/SP", about.resultado)
    assert about.resultado["rua"] == "Rua Fulano de Tal"
    assert (about.motivo, about.deduzido, about.objecoes) == (None, (), ())


def test_a_refusal_is_explained():
    about = explain("Rua Bahia 22, Lua, Estrela, Salvador BA")

    assert (about.resultado, about.motivo) == (None, "bairro ambíguo")
    assert about.leituras[0].motivo == "bairro ambíguo"
    assert "em revisão: bairro ambíguo" in str(about)


def test_readings_too_near_to_each_other_show_their_margin():
    about = explain("Rua Alfa 10, Rua Beta 20, Centro, Salvador BA")

    assert about.resultado is None
    assert about.margem is None or about.margem < MARGIN or about.leituras[0].motivo is not None


def test_what_was_deduced_is_said():
    assert explain("Beltrano de Tal, 12, Centro, Ubá, 36500-000").deduzido == ("tipo", "estado")


@given(st.text(max_size=120))
def test_any_text_is_explained_as_it_is_read(text):
    about, decision = explain(text), parse_address(text)

    assert about.resultado == (decision.value.as_dict() if isinstance(decision, Settled) else None)
    assert json.loads(json.dumps(about.as_dict()))
    assert str(about)
