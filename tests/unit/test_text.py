"""Cleaning undoes damage and nothing else; identity is stable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizer.domain.text import canonical, clean, fingerprint, fold

DAMAGED = [
    ("SÃ£o JoÃ£o", "São João"),
    ("SÃƒÂ£o", "São"),
    ("CORAÃ‡ÃƒO", "CORAÇÃO"),
    ("Rua A â€“ 12", "Rua A – 12"),
    ("NÂº 7", "Nº 7"),
    ("Pra&ccedil;a &amp;amp; Largo", "Praça & Largo"),
    ("&#82;ua X", "Rua X"),
    ("<p>Av. X, 1 &ndash; Centro</p><p>Natal</p>", "Av. X, 1 – Centro, Natal"),
    ("Rua <b>Nova</b> 5", "Rua Nova 5"),
    ("a<script>x()</script>b", "a, b"),
    ("Rua\u00a0Nova\u200b,\u202f10\ufeff", "Rua Nova, 10"),
    ("Rua A\r\n10\tCentro", "Rua A, 10, Centro"),
    ("Rua A,\n10", "Rua A, 10"),
    ("Sa\u0303o", "São"),
    ("R\x00u\x07a", "Rua"),
    ("a\ud800b", "ab"),
    ("  R.   X ", "R. X"),
]


@pytest.mark.parametrize(("typed", "meant"), DAMAGED)
def test_clean_undoes(typed, meant):
    assert clean(typed) == meant


@pytest.mark.parametrize(
    "intact", ["Rua São João, 10", "AVENIDA CORAÇÃO ÂNGELA", "C&A, loja 2", "a < b > c", "Âmbar às 10h", "1º andar"]
)
def test_clean_leaves_honest_text_alone(intact):
    assert clean(intact) == intact


def test_canonical_ignores_case_and_blanks_but_not_words():
    assert canonical("RUA  Água Fria, 10") == canonical(" rua água fria, 10 ")
    assert canonical("Rua A, 10") != canonical("Rua A, 100")


def test_fold_compares_words():
    assert fold("São Tomé das Letras") == fold("SAO TOME DAS LETRAS")


def test_fingerprint_depends_on_kind_secret_and_meaning_only():
    one = fingerprint("endereco", "Rua A, 10", secret=b"s")
    assert one == fingerprint("endereco", " RUA  A, 10", secret=b"s")
    assert one != fingerprint("documento", "Rua A, 10", secret=b"s")
    assert one != fingerprint("endereco", "Rua A, 10", secret=b"t")
    assert len(one) == 64


PIECES = st.sampled_from(
    ["&", "amp", ";", "&lt", "<", ">", "b", "/", "Ã", "Â", "â", "€", "£", "\u00ad", "\n", " ", "#", "38", "&num;", "İ"]
)


@given(st.one_of(st.text(), st.lists(PIECES, max_size=30).map("".join)))
def test_clean_and_canonical_are_idempotent(text):
    assert clean(clean(text)) == clean(text)
    assert canonical(canonical(text)) == canonical(text)


@given(st.text(alphabet=[*map(chr, range(0x20, 0x7F)), *map(chr, range(0xC0, 0x100)), *"ªº°–— "], max_size=40))
def test_plain_text_is_folded_as_any_other(text):
    assert canonical(text) == clean(clean(text).casefold())


@given(st.text())
def test_clean_is_one_encodable_line(text):
    cleaned = clean(text)
    cleaned.encode()
    assert not set(cleaned) & set("\n\r\t\x00\u200b\u00a0\u2028")


@pytest.mark.parametrize(
    "bomb",
    [
        "&amp;" * 20_000,
        "&" + "amp;" * 25_000,
        "<" * 100_000,
        "<script>" * 12_000,
        "Ã" * 100_000,
        "&#" + "9" * 99_000 + ";",
    ],
)
def test_clean_is_linear(bomb):
    assert len(clean(bomb)) <= len(bomb)
