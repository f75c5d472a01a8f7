"""The mask: what may be shown of a patient. Kept is what is understood as address or label; the rest shows its length.

A list of what to hide would never be complete (full-width digits, commas for points, a name without a label), so it is
the other way round, as with what may go to the model (`llm/redaction.py`). Everything that shows a text to somebody who
may not read it asks here: page, API, command line, the sheet to correct.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

from normalizer.domain.appointment import Kind
from normalizer.domain.document import cpf_is_valid
from normalizer.domain.document.tokens import LABELS
from normalizer.domain.text import clean, fold

HIDDEN: Final = "•"
_SHOWN: Final = 2
_SMALL_WORDS: Final = frozenset({"da", "das", "de", "do", "dos", "e"})
_OF_FILES: Final = (
    "agenda agendas agendamento agendamentos planilha relatorio lista export exportacao importacao pacientes coleta "
    "coletas consulta consultas exame exames enviado arquivo correcao em massa migracao de do da dos das e"
)
_WORDS_OF_FILES: Final = frozenset(_OF_FILES.split())
_KINDS_OF_FILES: Final = "csv tsv txt xls xlsx xlsm xlsb ods html htm xml mht mhtml json zip"
_ENDINGS: Final = frozenset(_KINDS_OF_FILES.split())
_CELL_CHARS: Final = 24
_WORD: Final = re.compile(r"[^\W\d_]+")
# Seven digits and more with no word between them are a phone or a document; a house number and a CEP are not.
_LONG_RUN: Final = re.compile(r"(?:[0-9](?:[^\w\n]|_){0,4}){6,}[0-9]")
_CEP_BEHIND_A_NUMBER: Final = re.compile(r"(?:[0-9]{1,5}\s?[,.;–-]\s?)?[0-9]{2}\.?[0-9]{3}-?[0-9]{3}")


class What(Enum):
    """What a text is known to be, which says what of it can be understood."""

    ADDRESS = auto()
    DOCUMENT = auto()
    FILE = auto()
    NAME = auto()
    CELL = auto()

    @classmethod
    def of(cls, kind: Kind) -> What:
        """What an appointment's text of this kind is."""
        return cls.ADDRESS if kind is Kind.ADDRESS else cls.DOCUMENT


def mask(value: object, what: What = What.CELL, *, understood: Iterable[str | None] = ()) -> str:
    """Show of a text what is understood of it, and the length of the rest.

    - ADDRESS: what an address consists of, and words of `understood`, the fields that were read from it.
    - DOCUMENT: labels of documents, and the last two digits before the next of them, where there are more than four.
    - FILE: words that files are called by, and its ending; a file may be a patient's.
    - NAME: initials.
    - CELL: nothing; its shape, x for letters and 0 for digits, at most 24 characters.
    """
    text = _plain("" if value is None else str(value))
    match what:
        case What.ADDRESS:
            return _address(text, understood)
        case What.DOCUMENT:
            return _worded(text, LABELS, each=True)
        case What.FILE:
            stem, dot, ending = text.rpartition(".")
            if stem and ending.lower() in _ENDINGS:
                return _worded(stem, _WORDS_OF_FILES) + dot + ending
            return _worded(text, _WORDS_OF_FILES)
        case What.NAME:
            words = [word for word in _WORD.findall(text) if word.lower() not in _SMALL_WORDS]
            return " ".join(f"{word[0].upper()}." for word in words[:4])
        case What.CELL:
            return _cell(text)


def _worded(text: str, known: Iterable[str], *, each: bool = False) -> str:
    """The text with all hidden but the known words and the last two of many digits, or `each` time behind a word."""
    shown, digits = list(text), list[int]()
    words = list(_WORD.finditer(text))
    for found in words:
        if fold(found[0]) not in known:
            shown[found.start() : found.end()] = HIDDEN * len(found[0])
    ends = iter([found.end() for found in words if each and fold(found[0]) in known] + [len(text)])
    end = next(ends)
    for at, char in enumerate(text):
        if at >= end:
            end = next(ends)
            _hide(shown, digits)
        if char.isdigit():
            digits.append(at)
    _hide(shown, digits)
    return "".join(shown)


def _address(text: str, understood: Iterable[str | None]) -> str:
    # Loaded where it is asked for: the process that reads a sheet has no use for the words of addresses.
    from normalizer.llm.redaction import CITY, PLACEHOLDER, redact

    known = {fold(word) for value in understood if value for word in _WORD.findall(value)}
    sent = redact(_LONG_RUN.sub(_unless_a_cep, clean(text)))
    kept = {name: words if name == CITY else _unknown(words, known) for name, words in sent.kept}
    return PLACEHOLDER.sub(lambda found: kept.get(found[0], found[0]), sent.text)


def _cell(text: str) -> str:
    if not text.strip():
        return "célula vazia"
    shape = "".join(map(_shape, text[:_CELL_CHARS]))
    return f"“{shape}…”" if len(text) > _CELL_CHARS else f"“{shape}”"


def _shape(char: str) -> str:
    if char.isdigit():
        return "0"
    return "x" if char.isalnum() else char if char.isprintable() else " "


def _plain(text: str) -> str:
    """The text with every digit written as ASCII, whatever script or width it was typed in."""
    if text.isascii():
        return text
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
