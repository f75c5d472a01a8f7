"""Redaction of an address text for the model: what names or numbers a person stays here.

Words: a list of names would never be complete, so it is the other way round: words of the word list ("Rua", "bloco",
"Jardim"; `domain/address/words`), siglas of states, single letters and numbers of an address go out. Every other run of
words goes out as "#A", "#B", …, whatever it names, and the likeliest town as "#CITY"; a model may put a placeholder
into a field, and its words are put back here before the answer is grounded. A number goes with the words before it
where these are no part of an address that carries numbers, and it is not the first: an age, a date, a card.

Numbers: phones, e-mails, documents and dates are taken out first, by their shape or their label, and so is every number
that the appointment's own texts hold. Nothing of it is part of an address, so the answer can still be grounded against
the whole text, and nothing has to be put back: documents are settled by rules alone. The one run of eight digits that
may stay is the CEP. Every pattern is linear: repetitions are bounded, or what they match cannot be split in two ways.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from string import ascii_uppercase
from typing import Final, NamedTuple

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address.passes import gather
from normalizer.domain.address.places import places, states
from normalizer.domain.address.tokens import CEP, GLUED, HARD, MAX_CHARS, NUM, WORD, Evidence, Tokens
from normalizer.domain.address.words import ALL_CODES
from normalizer.domain.document import cpf_is_valid
from normalizer.domain.gazetteer import UF_NAMES, municipalities, nickname, uf_of_cep
from normalizer.domain.text import fold

# The words that say nothing of a person.
_SENT: Final = frozenset(
    lx.STREET_TYPES.keys()
    | lx.OPENING_TYPES.keys()
    | lx.DISTRICT_WORDS.keys()
    | lx.BUILDING_WORDS.keys()
    | lx.UNIT_WORDS.keys()
    | {label for label, field in lx.LABELS.items() if field != lx.OTHER_FIELD}
    | lx.NUMBER_WORDS
    | lx.NO_NUMBERS
    | lx.NONE_WORDS
    | lx.PREPOSITIONS
    | lx.SIDES
    | lx.ROMAN
    | lx.CENTRE
    | lx.CORNERS
    | lx.COUNTED
    | lx.NO_STREETS
    | lx.NUMBERED_STREET_WORDS
    | lx.DISTRICT_QUALIFIERS
    | lx.STATE_WORDS
    | lx.TOWN_NAMES
    | ALL_CODES
)
# What carries a code of a letter and a number, as "F32"; behind other words that may be a diagnosis.
_UNITS: Final = {word for word, unit in lx.UNIT_WORDS.items() if unit not in lx.VALUELESS_UNITS}
_CODED: Final = lx.STREET_TYPES.keys() | lx.BUILDING_WORDS.keys() | lx.SECTORS | _UNITS
# What begins a run of its own, so that a street's name and a remark behind it do not share a placeholder.
_REMARKS: Final = (lx.PERSON_WORDS | lx.NOTE_WORDS | lx.REFERENCE_WORDS | lx.LEAD_WORDS) - lx.PREPOSITIONS
_LETTERS: Final = 3  # of a placeholder at most: more of them than words in the longest text
CITY: Final = "#CITY"  # stands for what the gazetteer knows as a town; a model need not guess
PLACEHOLDER: Final = re.compile(rf"(?:{CITY}|#[A-Z]{{1,{_LETTERS}}})(?![A-Za-z])")


class Known(NamedTuple):
    """Tokens that stay, what is written for them, and what that means where it is not their words."""

    start: int
    end: int
    written: str
    means: str = ""


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text as it may leave the machine, and the words that stay here, each with its placeholder."""

    text: str
    kept: tuple[tuple[str, str], ...] = ()

    def restored(self, segments: Mapping[str, str | None] | None) -> dict[str, str | None] | None:
        """Return what an answer says of this text, if anything, with the words its placeholders stand for put back."""
        if segments is None:
            return None
        words = dict(self.kept)
        return {
            name: PLACEHOLDER.sub(lambda found: words.get(found[0], found[0]), value) if value else value
            for name, value in segments.items()
        }


def redact(text: str, *, withheld: frozenset[str] = frozenset()) -> Redacted:
    """Return what of a cleaned address text may leave.

    Args:
        text: an address as typed, cleaned.
        withheld: numbers that stay here even where an address could consist of them.
    """
    tokens = Evidence(stripped(text, withheld=withheld)[:MAX_CHARS])
    kept: list[tuple[str, str]] = []
    written: list[str] = []
    at = 0
    for run in _runs(gather(tokens)):
        first, last = tokens.starts[run.start], tokens.starts[run.end - 1] + len(tokens.words[run.end - 1])
        written += [tokens.text[at:first], run.written]
        kept.append((run.written, run.means or tokens.text[first:last]))
        at = last
    return Redacted("".join([*written, tokens.text[at:]]), tuple(kept))


def _known(evidence: Evidence) -> dict[int, Known]:
    """Return the likeliest town and the states, by where they begin: what a model need not recognise."""
    last = Known(_last_town(evidence), evidence.size, CITY)
    town = next((Known(place.start, place.end, CITY, place.name) for place in places(evidence)), last)
    if town.end == last.end:
        town = min(town, last)  # "Aparecida de Goiânia"
    named = [state for state in states(evidence) if state.end <= town.start or state.start >= town.end]
    named = [state for state in named if not state.spelled or _is_apart(evidence, state.start, town.end)]
    siglas = [state for state in named if not state.spelled]
    known = [town, *(Known(state.start, state.end, state.uf) for state in siglas or named[-1:])]
    return {each.start: each for each in known}


def _is_apart(tokens: Tokens, at: int, town_end: int) -> bool:
    """Whether a state's name stands where a state stands: "Bahia" is somebody's name, too."""
    return tokens.gaps[at] == HARD or at == town_end or tokens.kinds[at - 1] == CEP


def _runs(evidence: Evidence) -> Iterator[Known]:
    """Yield what stays, run by run, each with what is written for it."""
    known, names = _known(evidence), placeholders()
    at, numbered = 0, evidence.no_number >= 0
    while at < evidence.size:
        if at in known:
            yield known[at]
            at = known[at].end
        elif _leaves(evidence, at):
            numbered = numbered or _may_be_house(evidence, at)
            at += 1
        else:
            end = _run_end(evidence, at, known, numbered)
            yield Known(at, end, next(names))
            at = end


def _may_be_house(tokens: Tokens, at: int) -> bool:
    """Whether the number is none that the word before it asks for: a street's, a flat's."""
    if tokens.kinds[at] != NUM or at == 0:
        return False
    return tokens.gaps[at] == HARD or not _leaves(tokens, at - 1) or tokens.keys[at - 1] in lx.NUMBER_WORDS


def _run_end(tokens: Tokens, start: int, known: Mapping[int, Known], numbered: bool) -> int:
    """Return where the words end that stay, with the prepositions between them and the numbers behind them."""
    end = at = start + 1
    while at < tokens.size and tokens.gaps[at] != HARD and at not in known and tokens.keys[at] not in _REMARKS:
        if not _leaves(tokens, at) or (numbered and _is_value(tokens, at)):
            end = at + 1
        elif tokens.keys[at] not in lx.PREPOSITIONS:
            break
        at += 1
    return end


def _is_value(tokens: Tokens, at: int) -> bool:
    """Whether a number, or a letter no word follows, says more of the words before it."""
    last = at + 1 == tokens.size or tokens.gaps[at + 1] == HARD or tokens.kinds[at + 1] != WORD
    return tokens.kinds[at] == NUM or (len(tokens.keys[at]) == 1 and last)


def _leaves(tokens: Tokens, at: int) -> bool:
    """Say of a token whether it may leave."""
    kind, key = tokens.kinds[at], tokens.keys[at]
    if kind != WORD:
        return kind in {NUM, CEP}
    if len(key) == 1 and tokens.is_number(at + 1) and tokens.gaps[at + 1] == GLUED:
        return at > 0 and tokens.gaps[at] != HARD and tokens.keys[at - 1] in _CODED
    return key in _SENT or len(key) == 1


def _last_town(tokens: Tokens) -> int:
    """Return where the municipality begins that the text ends with; past the end where there is none."""
    first = max(tokens.hard_start(tokens.size - 1), tokens.size - gazetteer.MAX_NAME_WORDS) if tokens.size else 0
    starts = (at for at in range(first, tokens.size) if gazetteer.municipalities(tokens.phrase(at, tokens.size)))
    return next(starts, tokens.size)


def placeholders() -> Iterator[str]:
    """Yield the placeholders in their order: #A … #Z, #AA …"""
    for letters in range(1, _LETTERS + 1):
        yield from (f"#{''.join(name)}" for name in product(ascii_uppercase, repeat=letters))


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
_LETTERS_OF_WORD = re.compile(r"[^\W\d_]+")
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
    words = _LETTERS_OF_WORD.findall(fold(text).replace("'", ""))
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
