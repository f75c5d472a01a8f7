"""Numbers that stay here: phones, e-mails, documents and dates around an address are taken out before it is sent.

Taken out is what is recognisable by its shape or its label, and every number that the appointment's own texts hold
(words are `redaction`'s). Nothing of it is part of an address, so the answer can still be grounded against the whole
text, and nothing has to be put back: documents are settled by rules alone. The one run of eight digits that may stay is
the CEP.
Every pattern is linear: repetitions are bounded, or what they match cannot be split in two ways.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from normalizer.domain.document import cpf_is_valid
from normalizer.domain.gazetteer import UF_NAMES, municipalities, nickname, uf_of_cep
from normalizer.domain.text import fold

Span = tuple[int, int]

_WITH_AT = re.compile(r"[^\s,;()<>]+")
_LABEL = r"""\b(?:cpf|rg|cnh|cns|cnpj|rne|rnm|pis|nis|sus|identidade|documento|doc|registro|
         tel(?:efone|\.)?s?|fones?|cel(?:ular)?(?:es)?|whats(?:app)?|wpp|zap|ramal|recado|contatos?|ligar|
         conv[eê]nio|carteir(?:a|inha)|matr[ií]cula|prontu[aá]rio|benefici[aá]rio)
        \b[^\w\n]{0,8}(?:n[º°.o]{0,3}[^\w\n]{0,4})?\(?\+?"""
_LABELLED_NUMBER = re.compile(
    rf"{_LABEL}\d(?:[\d\s().\-/–]|\b(?:e|dv|d[ií]gito)\b)*\d[\dxX]?", re.IGNORECASE | re.VERBOSE
)
_LABEL_BEFORE = re.compile(rf"{_LABEL}\Z", re.IGNORECASE | re.VERBOSE)
_LONGEST_LABEL = 40
# A number with a country or area code, a mobile, or four digits, blank or hyphen, four:
# +55 11 98765-4321, (11) 3456-7890, 3456 7890, 0800 123 4567.
_PHONE = re.compile(
    r"""(?<![\w.,/-])(?:\+\s?55[\s.-]{0,3})?(?:\(\s?0?\d{2}\s?\)[\s.-]{0,3}|0?[1-9]{2}[\s.-]{1,3}(?=9?\s?\d{4}[\s.-]\d{4}))?
        (?:9[\s.-]?\d{4}[\s.\-–]{0,3}\d{4}|[2-9]\d{3}[-–.\s]\d{4}|0[3589]00[\s.-]?\d{3}[\s.-]?\d{4})(?![\d-])""",
    re.VERBOSE,
)
_PHONE_WITH_AREA = re.compile(r"(?:\+\s?55[\s.-]{0,3})?\(\s?0?\d{2}\s?\)[\s.-]{0,3}9?\s?\d{4}[\s.\-–]{0,3}\d{4}(?!\d)")
# Seven digits or more, grouped or not: a document, a phone, a card. (The CEP has been set aside by then.)
_LONG_RUN = re.compile(r"(?<!\d)\d(?:[.\-/–]?\d){6,}(?:-?[xX](?!\w))?")
# The groups of a CPF or an RG with other signs between them: 111 444 777 35, 12 345 678-9, 1,234,567.
_GROUPED = re.compile(
    r"""(?<!\d)(?:\d{3}[\s._*·:–-]{1,2}\d{3}[\s._*·:–-]{1,2}\d{3}[\s._*·:/–-]{1,2}\d{2}
        |\d{1,2}[\s._*·-]\d{3}[\s._*·-]\d{3}\s?[\s._*·/–-]\s?[\dxX]
        |\d{1,3}(?:,\d{3}){2,})(?!\w)""",
    re.VERBOSE,
)
# Eight digits or more in groups of any length: 987 654 321, 98 76 54 32 1, 98765_4321, 12 03 1980.
_SPACED = re.compile(r"(?<!\d)(?!\d{5} \d{3}(?!\d))\d(?:[ ._*]?\d){7,}(?!\d)")  # but a CEP with a blank
# A day with its year: 12/03/80, 12.3.1980, 12 de março de 1980. A street is called after the day alone.
_MONTH = "jan|fev|mar|abr|mai|jun|jul|ago|set|out|nov|dez"
_DATE = re.compile(
    rf"(?<!\d)\d{{1,2}}(?:[./-]\d{{1,2}}[./-]|\s?(?:de\b|[./-])?\s?(?:{_MONTH})[a-zç]{{0,6}}\.?\s?(?:de\b|[./-])?\s?)"
    r"(?:(?:19|20)\d{2}|\d{2})(?!\d)",
    re.IGNORECASE,
)
_ANY_CPF = re.compile(r"(?<!\d)(\d{3})[^\w\n]{1,3}(\d{3})[^\w\n]{1,3}(\d{3})[^\w\n]{1,3}(\d{2})(?!\d)")
_EXCEL_FLOAT = re.compile(r"(?<!\d)(\d{7,8})\.0(?!\d)")
_CEP_SPELLINGS = (
    re.compile(r"\bcep[^\w\n]{0,4}\d(?:[.\- –]?\d){7}(?![\d-])", re.IGNORECASE),
    re.compile(r"(?<![\d.\-/(])\d{2}\.?\d{3}\s?[-–]\s?\d{3}(?![\d-])"),
)
_BARE_CEP = re.compile(r"(?<![\w.\-/(])\d{8}(?![\w-])")

_BLANKS = re.compile(r"[^\S\n]{2,}")

_NUMBER_IN_DOCUMENT: Final = (re.compile(r"\d{7,}"), re.compile(r"\d(?:[.\-/– ]?\d){6,}"), _LONG_RUN)
_STATES: Final = {fold(name): uf for uf, name in UF_NAMES.items()}
_LETTERS = re.compile(r"[^\W\d_]+")
_LONGEST_PLACE_WORDS: Final = 5


def numbers_withheld(patients: Iterable[Sequence[str]]) -> frozenset[str]:
    """Return the numbers, seven digits or more, that stay here even where they look like a CEP.

    Args:
        patients: of each the document text, then texts with other numbers (phones, cards).
    """
    numbers: set[str] = set()
    for document, *private in patients:
        numbers |= numbers_of(document)
        for found in map(numbers_of, private):
            numbers |= found
            # A phone is also typed without its area or country code.
            numbers |= {number[-length:] for number in found if 10 <= len(number) <= 13 for length in (8, 9)}
    return frozenset(numbers)


def numbers_of(document_text: str) -> frozenset[str]:
    """Return the digits of every number of seven digits or more in a document text, in each way they may be grouped."""
    found = (match[0] for pattern in _NUMBER_IN_DOCUMENT for match in pattern.finditer(document_text))
    return frozenset("".join(filter(str.isdigit, number)) for number in found)


def stripped(text: str, *, withheld: frozenset[str] = frozenset()) -> str:
    """Return `text` without e-mails, phones and runs of seven or more digits other than its CEP.

    Args:
        text: an address as typed, cleaned.
        withheld: numbers that stay here although they look like a CEP.
    """
    text = _EXCEL_FLOAT.sub(r"\1", text)
    text = _WITH_AT.sub(lambda found: " " if "@" in found[0] else found[0], text)
    carried = "".join(filter(str.isdigit, text)) if withheld else ""
    for number in withheld:
        if number in carried:
            text = _spelled(number).sub(" ", text)
    start, end = _cep_span(text)
    kept = _without_numbers(text[:start]) + text[start:end] + _without_numbers(text[end:])
    return _BLANKS.sub(" ", kept).strip()


def _spelled(number: str) -> re.Pattern[str]:
    """Matches the digits with whatever two signs may stand between them."""
    return re.compile(r"(?<!\d)" + r"[^\w\n]{0,2}".join(number) + r"(?!\d)")


def _without_numbers(text: str) -> str:
    for pattern in (_LABELLED_NUMBER, _PHONE_WITH_AREA, _DATE, _GROUPED, _PHONE, _LONG_RUN, _SPACED):
        text = pattern.sub(" ", text)
    return _ANY_CPF.sub(lambda found: " " if cpf_is_valid("".join(found.groups())) else found[0], text)


def _cep_span(text: str) -> Span:
    """Where the CEP stands; an empty span at the end if there is none. Bare digits count only when nothing else can."""
    for spelling in _CEP_SPELLINGS:
        for found in spelling.finditer(text):
            if not _is_labelled(text, found.start()):
                return found.span()
    bare = list(_BARE_CEP.finditer(_LABELLED_NUMBER.sub(lambda found: "#" * len(found[0]), text)))
    if len(bare) == 1 and uf_of_cep(bare[0][0]) in set(_states_named(text)):
        return bare[0].span()
    return len(text), len(text)


def _is_labelled(text: str, start: int) -> bool:
    """Whether the number at `start` is announced as a document or a phone."""
    return _LABEL_BEFORE.search(text[max(0, start - _LONGEST_LABEL) : start]) is not None


def _states_named(text: str) -> Iterator[str]:
    """The UFs that a text speaks of: by their sigla or name, or by any place of that name. Generous: it is evidence."""
    words = _LETTERS.findall(fold(text).replace("'", ""))
    for first, word in enumerate(words):
        if word.upper() in UF_NAMES:
            yield word.upper()
        for last in range(first + 1, min(first + _LONGEST_PLACE_WORDS, len(words)) + 1):
            key = " ".join(words[first:last])
            yield from municipalities(key)
            if key in _STATES:
                yield _STATES[key]
            if (place := nickname(key)) is not None:
                yield place.uf
