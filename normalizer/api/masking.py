"""Masks: what a reader may see of a patient. Kept is what is understood as address or label; the rest shows its length.

A list of what to hide would never be complete (full-width digits, commas for points, a name without a label), so it is
the other way round, as with what may go to the model (`llm/redaction.py`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, Final

from normalizer.domain.document import cpf_is_valid
from normalizer.domain.document.tokens import LABELS
from normalizer.domain.text import clean, fold
from normalizer.llm.redaction import placeholders, redact

HIDDEN: Final = "•"
_SHOWN: Final = 2
_SMALL_WORDS: Final = frozenset({"da", "das", "de", "do", "dos", "e"})
_OF_FILES: Final = (
    "agenda agendas agendamento agendamentos planilha relatorio lista export exportacao importacao pacientes coleta "
    "coletas consulta consultas exame exames enviado arquivo correcao em massa migracao de do da dos das e"
)
_WORDS_OF_FILES: Final = frozenset(_OF_FILES.split())
_WORD: Final = re.compile(r"[^\W\d_]+")
_PLACEHOLDER: Final = re.compile(r"#[A-Z]{1,3}(?![A-Za-z])")
# Seven digits and more with no word between them are a phone or a document; a house number and a CEP are not.
_LONG_RUN: Final = re.compile(r"(?:[0-9](?:[^\w\n]|_){0,4}){6,}[0-9]")
_CEP_BEHIND_A_NUMBER: Final = re.compile(r"(?:[0-9]{1,5}\s?[,.;–-]\s?)?[0-9]{2}\.?[0-9]{3}-?[0-9]{3}")


def document_text(text: str) -> str:
    """`CPF: 111.444.777-35 (Maria)` → `CPF: •••.•••.•••-35 (•••••)`.

    Labels of documents stay, and the last two digits before the next of them, where there are more than four.
    """
    shown = list(_plain(text))
    digits: list[int] = []
    ends = [found.end() for found in _WORD.finditer("".join(shown)) if fold(found[0]) in LABELS]
    for found in _WORD.finditer(_plain(text)):
        if fold(found[0]) not in LABELS:
            shown[found.start() : found.end()] = HIDDEN * len(found[0])
    for at, char in enumerate(shown):
        if ends and at >= ends[0]:
            ends.pop(0)
            _hide(shown, digits)
        if char.isdigit():
            digits.append(at)
    _hide(shown, digits)
    return "".join(shown)


def address_text(text: str, understood: Iterable[str | None] = ()) -> str:
    """An address without what none consists of; words of the fields that were read from it stay.

    Args:
        text: as typed.
        understood: values of its fields.
    """
    known = {fold(word) for value in understood if value for word in _WORD.findall(value)}
    sent = redact(_LONG_RUN.sub(_unless_a_cep, clean(_plain(text))))
    kept = {name: _unknown(words, known) for name, words in zip(placeholders(), sent.kept, strict=False)}
    return _PLACEHOLDER.sub(lambda found: kept.get(found[0], found[0]), sent.text)


def file_name(name: str) -> str:
    """`agenda Maria Silva 11144477735.xlsx` → `agenda ••••• ••••• •••••••••35.xlsx`: a file may be a patient's."""
    stem, dot, ending = name.rpartition(".")
    plain = _plain(stem or name)
    shown, digits = list(plain), [at for at, char in enumerate(plain) if char.isdigit()]
    for found in _WORD.finditer(plain):
        if fold(found[0]) not in _WORDS_OF_FILES:
            shown[found.start() : found.end()] = HIDDEN * len(found[0])
    _hide(shown, digits)
    return "".join(shown) + (f".{ending}" if stem and dot else "")


def document_value(value: Mapping[str, Any] | None) -> dict[str, str | None] | None:
    """`documento_normalizado` with its digits hidden."""
    if value is None:
        return None
    return {name: document_text(text) if isinstance(text, str) else None for name, text in value.items()}


def initials(name: str) -> str:
    """`Maria da Silva` → `M. S.`"""
    words = [word for word in name.split() if word.lower() not in _SMALL_WORDS]
    return " ".join(f"{word[0].upper()}." for word in words[:4])


def _plain(text: str) -> str:
    """The text with every digit written as ASCII, whatever script or width it was typed in."""
    folded = unicodedata.normalize("NFKC", text)
    return "".join(str(unicodedata.digit(char)) if char.isdigit() and not char.isascii() else char for char in folded)


def _hide(shown: list[str], digits: list[int]) -> None:
    """Hide the digits at these places, all but the last two of many; none are left over."""
    hidden = digits[:-_SHOWN] if len(digits) > 2 * _SHOWN else digits
    for at in hidden:
        shown[at] = HIDDEN
    digits.clear()


def _unless_a_cep(run: re.Match[str]) -> str:
    digits = "".join(filter(str.isdigit, run[0]))
    if _CEP_BEHIND_A_NUMBER.fullmatch(run[0]) and not cpf_is_valid(digits):
        return run[0]
    return re.sub(r"[0-9]", HIDDEN, run[0])


def _unknown(words: str, known: set[str]) -> str:
    return _WORD.sub(lambda word: word[0] if fold(word[0]) in known else HIDDEN * len(word[0]), words)
