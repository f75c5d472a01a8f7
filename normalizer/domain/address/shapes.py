"""Passes over the shapes of registers: where the district stands, a type behind its number, look-up ranges, corners."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address.marks import DROPPED, LABEL, NUMBER
from normalizer.domain.address.streets import at_street, date_follows
from normalizer.domain.address.tokens import BLANK, CEP, HARD, NUM, SLASH, WORD

if TYPE_CHECKING:
    from normalizer.domain.address.evidence import Evidence
    from normalizer.domain.address.tokens import Tokens

_ORDINALS: Final = "ºª°"
_FEW_DIGITS: Final = 6
_PAIR: Final = 2
_SIGLAS: Final = frozenset(uf.lower() for uf in gazetteer.UF_NAMES)
_RANGE_WORDS: Final = lx.PARTIAL | lx.SIDE_OF_STREET | lx.TO | lx.BARE_OF
_CROSSING: Final = lx.STREET_TYPES.keys() - lx.LAST_RESORT_TYPES


def find_slot(evidence: Evidence) -> None:
    """Note the field right before "CITY - UF", behind a street: a register prints the district there."""
    tokens = evidence.tokens
    city, end = _city(tokens)
    if city < 2:
        return
    evidence.city = (city, end)
    while city > 1 and tokens.kinds[city - 1] == CEP:
        city -= 1  # "VILA EXEMPLO. 04727-100 São Paulo - SP"
    start = tokens.hard_start(city - 1)
    if start > 0 and not _holds_street(tokens, start, city):
        evidence.slot = (start, city)


def _city(tokens: Tokens) -> tuple[int, int]:
    """Return the field before the last sigla, if it is a municipality of that state, brackets behind it left out."""
    state = end = _last_sigla(tokens, 2)
    while end > 1 and tokens.parens[end - 1]:
        end -= 1  # "BRASILIA (GAMA) - DF"
    city = tokens.hard_start(end - 1) if state else 0
    if not city or tokens.keys[state].upper() not in gazetteer.municipalities(tokens.phrase(city, end)):
        return 0, 0
    return city, end


def _holds_street(tokens: Tokens, start: int, end: int) -> bool:
    """Does a street begin in [start, end) that is no district's name, as "Caminho das Árvores" is."""
    keys = tokens.keys
    return any(keys[at] not in lx.DISTRICT_TOO and at_street(tokens, at) for at in range(start, end))


def _last_sigla(tokens: Tokens, behind: int) -> int:
    """Return where the last sigla behind token `behind` stands, with no word after it in its field; 0 for none."""
    for at in range(tokens.size - 1, behind, -1):
        if tokens.keys[at] in _SIGLAS and (
            at + 1 == tokens.size or tokens.gaps[at + 1] == HARD or tokens.kinds[at + 1] != WORD
        ):
            return at
    return 0


def mark_brackets(evidence: Evidence) -> None:
    """Drop a part of the city that stands in brackets behind it: "BRASILIA (GAMA) - DF"."""
    tokens = evidence.tokens
    if True not in tokens.parens:
        return
    state = _last_sigla(tokens, 1)
    start = state
    while start > 0 and tokens.parens[start - 1]:
        start -= 1
    city = tokens.hard_start(start - 1) if 0 < start < state else start
    if 0 < city < start and tokens.keys[state].upper() in gazetteer.municipalities(tokens.phrase(city, start)):
        evidence.mark(start, state, DROPPED)


def mark_trailing_type(evidence: Evidence) -> None:
    """Take the type of "FULANO DE TAL, 121 RUA. VILA …", and drop one that says the street's own again."""
    tokens = evidence.tokens
    types = [at for at, key in enumerate(tokens.keys) if key in lx.STREET_TYPES and at > 1]
    at = next((at for at in types if _trails(evidence, at)), 0)
    if not at:
        return
    kind, own = lx.STREET_TYPES[tokens.keys[at]], lx.STREET_TYPES.get(tokens.keys[0])
    if own is None or not at_street(tokens, 0):
        evidence.trailing_type = kind
        evidence.mark(at, at + 1, LABEL)
    elif own == kind:
        evidence.mark(at, at + 1, DROPPED)


def _trails(evidence: Evidence, at: int) -> bool:
    """Does the type end its field, right behind the number of the text's first field."""
    tokens, number = evidence.tokens, at - 1
    if tokens.keys[at] in lx.LAST_RESORT_TYPES or tokens.gaps[at] == HARD or tokens.hard_end(at) != at + 1:
        return False
    start = tokens.hard_start(number)
    numbered = (start == number and tokens.kinds[number] == NUM) or evidence.marks[start] == NUMBER
    return numbered and start > 0 and tokens.hard_start(start - 1) == 0 and tokens.kinds[0] == WORD


def mark_ranges(evidence: Evidence) -> None:
    """Drop what was pasted from a CEP look-up: "de 77 ao fim", "até 90/91", "lado ímpar"; and a bare "PARTE"."""
    tokens = evidence.tokens
    for at, key in enumerate(tokens.keys):
        if key in _RANGE_WORDS and at > 1 and evidence.free(at) and (end := _range_end(evidence, at)) > at:
            evidence.mark(at, end, DROPPED)


def _range_end(evidence: Evidence, at: int) -> int:
    """Return where the range ends that begins at `at`, or `at`."""
    tokens = evidence.tokens
    key, following = tokens.keys[at], at + 1
    if key in lx.PARTIAL:
        return _part_end(tokens, at) if _stands_apart(evidence, at) else at
    if key in lx.SIDE_OF_STREET:
        sided = tokens.key(following) in lx.PARITY and tokens.gaps[following] != HARD
        return at + 2 if sided else at
    if not evidence.numeric(following):
        return at
    last = _limit_end(evidence, following)
    if key in lx.TO:
        return last
    opens = tokens.gaps[at] == HARD and tokens.key(last) in lx.UP_TO
    return _open_range_end(evidence, last, at) if opens else at


def _part_end(tokens: Tokens, at: int) -> int:
    """Return where "PARTE" or "PARTE A" ends, if that is the whole rest of its field; else `at`."""
    end, following = tokens.hard_end(at), at + 1
    lettered = end == at + 2 and len(tokens.keys[following]) == 1
    return end if end == following or lettered else at


def _stands_apart(evidence: Evidence, at: int) -> bool:
    before = at - 1
    return evidence.tokens.gaps[at] == HARD or evidence.tokens.kinds[before] == NUM or evidence.marks[before] == NUMBER


def _limit_end(evidence: Evidence, at: int) -> int:
    """Return where "90/91" ends."""
    double = evidence.numeric(at + 1) and evidence.tokens.gaps[at + 1] == SLASH
    return at + 2 if double else at + 1


def _open_range_end(evidence: Evidence, at: int, start: int) -> int:
    """Return where "ao fim" or "a 1200/1201" ends, or `start` where it is neither."""
    end = at + 1
    if evidence.tokens.key(end) in lx.THE_END:
        return end + 1
    return _limit_end(evidence, end) if evidence.numeric(end) else start


def mark_counted_registries(evidence: Evidence) -> None:
    """Drop the district of a notary's office: a field such as "34º", "39º Subdistrito", "PRIMEIRO"."""
    tokens = evidence.tokens
    if lx.ORDINALS.isdisjoint(tokens.vocabulary) and not any(sign in tokens.text for sign in _ORDINALS):
        return
    for at in range(3, tokens.size):
        if tokens.gaps[at] != HARD or not evidence.free(at):
            continue
        end = tokens.hard_end(at)
        ordinal = tokens.words[at][-1] in _ORDINALS or tokens.keys[at] in lx.ORDINALS
        if ordinal and lx.REGISTRY_COUNTS.issuperset(tokens.keys[at + 1 : end]):
            evidence.mark(at, end, DROPPED)


def mark_second_numbers(evidence: Evidence) -> None:
    """Drop the second of two house numbers: "120 E 122", "1200 A 1210", "620 636"."""
    tokens = evidence.tokens
    if tokens.kinds.count(NUM) < _PAIR:
        return
    for at in range(2, tokens.size - 1):
        if not evidence.numeric(at) or not _is_house_number(evidence, at):
            continue
        joined = tokens.keys[at + 1] in lx.JOINS_NUMBERS and tokens.gaps[at + 1] == BLANK
        second = at + 2 if joined else at + 1
        if _is_second(evidence, at, second):
            evidence.mark(at + 1, second + 1, DROPPED)


def _is_house_number(evidence: Evidence, at: int) -> bool:
    """Does the number open a field behind the first, or follow "nº"."""
    tokens = evidence.tokens
    return tokens.gaps[at] == HARD or tokens.keys[at - 1] in lx.NUMBER_WORDS


def _is_second(evidence: Evidence, first: int, second: int) -> bool:
    tokens = evidence.tokens
    if not evidence.numeric(second) or tokens.gaps[second] != BLANK or date_follows(tokens, second):
        return False
    low, high = tokens.keys[first], tokens.keys[second]
    ascending = low.isdecimal() and high.isdecimal() and int(low) < int(high) and len(high) < _FEW_DIGITS
    return ascending and (second + 1 == tokens.size or tokens.gaps[second + 1] == HARD)


def mark_corners(evidence: Evidence) -> None:
    """Drop the other street of a corner: "C/ RUA X", "COM A RUA X", "/RUA X", up to the next field or plot."""
    tokens = evidence.tokens
    if lx.MEETING.isdisjoint(tokens.vocabulary) and SLASH not in tokens.gaps:
        return
    for at in range(2, tokens.size - 1):
        if evidence.free(at) and _meets_street(evidence, at):
            evidence.mark(at, corner_end(tokens, at), DROPPED)


def _meets_street(evidence: Evidence, at: int) -> bool:
    """Does another street begin at `at`, behind "com", "c/" or a slash, where the first one's name is over."""
    tokens = evidence.tokens
    key = tokens.keys[at]
    if tokens.gaps[at] == SLASH and key in _CROSSING:
        return tokens.kinds[at + 1] == WORD and at_street(tokens, 0)
    if key not in lx.MEETING:
        return False
    street = at + 1 + (tokens.key(at + 1) in lx.ARTICLES)
    slashed = len(key) == 1 and tokens.gaps[at + 1] == SLASH  # "c/ Rua X"
    typed = tokens.key(street) in _CROSSING and street + 1 < tokens.size
    return typed and (slashed or _stands_apart(evidence, at))


def corner_end(tokens: Tokens, at: int) -> int:
    """Return where the corner or reference that begins at `at` ends: with its field, or before a plot or flat."""
    end = tokens.hard_end(at)
    return next((i for i in range(at + 1, end) if _is_unit(tokens, i)), end)


def _is_unit(tokens: Tokens, at: int) -> bool:
    """Does a unit with a number or a letter begin at `at`."""
    if tokens.keys[at] not in lx.UNIT_WORDS or len(tokens.keys[at]) < 2:
        return False
    following = tokens.key(at + 1)
    return tokens.is_number(at + 1) or (len(following) == 1 and following.isalpha())


__all__ = [
    "corner_end",
    "find_slot",
    "mark_brackets",
    "mark_corners",
    "mark_counted_registries",
    "mark_ranges",
    "mark_second_numbers",
    "mark_trailing_type",
]
