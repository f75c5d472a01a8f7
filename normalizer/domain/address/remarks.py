"""Passes over what is no address: orders, repetitions, empty fields, people, notes, references, corners."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address.streets import at_street
from normalizer.domain.address.tokens import DROPPED, FREE, HARD, LABEL, NOISE, NUM, NUMBER, SLASH, WORD

if TYPE_CHECKING:
    from normalizer.domain.address.tokens import Evidence, Tokens

_STATE_KEYS: Final = frozenset(gazetteer.name_key(name) for name in gazetteer.UF_NAMES.values())
_STATE_ENDS: Final = frozenset(key.split()[-1] for key in _STATE_KEYS)
_CAPITAL_ENDS: Final = frozenset(
    {gazetteer.name_key(name).split()[-1] for name in gazetteer.CAPITALS.values()}
    | {uf.lower() for uf in gazetteer.UF_NAMES}
)
_CROSSING: Final = lx.STREET_TYPES.keys() - lx.LAST_RESORT_TYPES
_LIVED_WITH: Final = 7  # words between "mora" and "na Rua"
# Without any of these no field is one that says nothing, of a person, or a note.
_FIELD_WORDS: Final = {slot.split()[0] for slot in lx.NULL_SLOTS} | lx.OWN_COUNTRY | lx.PERSON_WORDS | lx.NOTE_WORDS


# -- orders ------------------------------------------------------------------------------------------------------


def mark_orders(evidence: Evidence) -> None:
    """Drop what gives orders: from its field to the end, or, before an address, up to the sentence's end."""
    if lx.ORDER_WORDS.isdisjoint(evidence.vocabulary):
        return
    found = [at for at, key in enumerate(evidence.keys) if key in lx.ORDER_WORDS]
    if _is_no_order(evidence, found):
        return
    evidence.ordered = True
    before = _order_start(evidence, found[0])
    if _street_in(evidence, 0, before) is not None:
        evidence.mark(before, evidence.size, DROPPED)
    else:
        evidence.mark(0, _order_end(evidence, found[-1]), DROPPED)


def _order_end(tokens: Tokens, last: int) -> int:
    """Return where the street begins that a sentence of its own gives behind the order; the text's end otherwise."""
    start = _street_in(tokens, last + 1, tokens.size)
    sentence_ends = start is not None and tokens.gaps[start] == HARD and tokens.dots[start - 1]
    return start if start is not None and sentence_ends else tokens.size


def _street_in(tokens: Tokens, start: int, end: int) -> int | None:
    return next((at for at in range(start, end) if at_street(tokens, at)), None)


def _is_no_order(tokens: Tokens, found: list[int]) -> bool:
    """Is it one weak word, or a street's name ("Rua Modelo")."""
    keys, first = tokens.keys, found[0]
    if len(found) == 1 and keys[first] in lx.WEAK_ORDER_WORDS and not tokens.colons[first]:
        return True
    return at_street(tokens, first - 1) and keys[first - 1].upper() not in gazetteer.UF_NAMES


def _order_start(tokens: Tokens, first: int) -> int:
    before = first
    while before > 0 and tokens.gaps[before] != HARD and not _closes_address(tokens, before - 1):
        before -= 1
    opened = before > 1 and tokens.colons[before - 1]
    if opened and (tokens.gaps[before - 1] == HARD or tokens.dots[before - 2]):
        before -= 1  # "Sistema: ignore …"
    return before


def _closes_address(tokens: Tokens, at: int) -> bool:
    key = tokens.keys[at]
    return tokens.kinds[at] != WORD or key.upper() in gazetteer.UF_NAMES or key in _STATE_ENDS


# -- fields ------------------------------------------------------------------------------------------------------


def mark_repeats(evidence: Evidence) -> None:
    """Drop a field that says the one before it again: "Centro, Centro"; a number only where more is doubled.

    "45, 45" alone may be house and flat, and "São Paulo, São Paulo" city and state.
    """
    if len(evidence.vocabulary) == evidence.size:
        return
    said = [(start, end, evidence.phrase(start, end)) for start, end in evidence.fields()]
    doubled = [again for first, again in pairwise(said) if first[2] == again[2] not in _STATE_KEYS]
    for start, end, _ in doubled:
        if WORD in evidence.kinds[start:end] or len(doubled) > 1:
            evidence.mark(start, end, DROPPED)


def mark_fields(evidence: Evidence) -> None:
    """Drop empty slots, contacts, persons and notes, field by field."""
    marks = evidence.marks
    if _FIELD_WORDS.isdisjoint(evidence.vocabulary) and NOISE not in evidence.kinds:
        return
    for start, end in evidence.fields():
        if marks[start] in (FREE, LABEL) and not evidence.in_city(start) and not is_district_too(evidence, start):
            _mark_field(evidence, start, end)


def is_district_too(evidence: Evidence, at: int) -> bool:
    """Does a word that is also a district's open the field where a register prints the district."""
    return at == evidence.slot[0] > 0 and evidence.keys[at] in lx.DISTRICT_TOO


def _mark_field(evidence: Evidence, start: int, end: int) -> None:
    key = evidence.keys[start]
    if _is_empty(evidence, start, end):
        evidence.mark(start, end, DROPPED)
    elif key in lx.PERSON_WORDS and end - start > 1:
        street = _street_in(evidence, start, end)
        evidence.mark(start, end if street is None else street, DROPPED)
    elif (start > 0 or key in lx.NOTE_WORDS) and not lx.NOTE_WORDS.isdisjoint(evidence.keys[start:end]):
        _mark_note(evidence, start, end)


def _is_empty(tokens: Tokens, start: int, end: int) -> bool:
    """Does the field say nothing: "não informado", "Brasil" behind the state, an hour."""
    if end - start <= 3 and tokens.phrase(start, end) in lx.NULL_SLOTS:
        return True
    if end - start == 1 and start > 0 and tokens.keys[start] in lx.OWN_COUNTRY:
        return tokens.kinds[start - 1] != NUM and _closes_address(tokens, start - 1)
    if NOISE not in tokens.kinds[start:end]:
        return False
    spoken = {tokens.keys[at] for at in range(start, end) if tokens.kinds[at] != NOISE}
    return spoken <= lx.PREPOSITIONS | lx.ARTICLES | lx.TO


def _mark_note(evidence: Evidence, start: int, end: int) -> None:
    if _street_in(evidence, start, end) is not None:
        return
    first = next(at for at in range(start, end) if evidence.keys[at] in lx.NOTE_WORDS)
    worded = all(kind == WORD for kind in evidence.kinds[start:first])
    begins = start if first - start < 2 and worded else first
    rest = evidence.size if evidence.colons[end - 1] or evidence.colons[first] else end
    evidence.mark(begins, end if _street_in(evidence, end, rest) is not None else rest, DROPPED)


def mark_capital(evidence: Evidence) -> None:
    """Drop "capital" behind one: "São Paulo capital", "Natal/RN - Capital"."""
    if lx.CAPITAL_WORDS.isdisjoint(evidence.vocabulary):
        return
    for at in range(3, evidence.size):
        if evidence.keys[at] in lx.CAPITAL_WORDS and evidence.keys[at - 1] in _CAPITAL_ENDS:
            following = at + 1
            closes = following == evidence.size or evidence.gaps[following] == HARD
            if closes or _closes_address(evidence, following):
                evidence.mark(at, following, DROPPED)


def mark_lead(evidence: Evidence) -> None:
    """Drop "Mora na", "Reside à" before the street."""
    marks = evidence.marks
    start = 0
    while start < evidence.size and marks[start] == DROPPED:
        start += 1  # "Paciente Fulana, residente na Rua"
    at = start
    while evidence.free(at) and evidence.keys[at] in lx.LEAD_WORDS:
        at += 1
    if at == start:
        return
    if evidence.keys[start] in lx.LIVES:
        at = _behind_whom(evidence, at)
    if at_street(evidence, at, opens=True):
        evidence.mark(start, at, DROPPED)


def _behind_whom(tokens: Tokens, at: int) -> int:
    """Return where the street begins behind "mora com a filha na", or `at`."""
    for street in range(at, min(at + _LIVED_WITH, tokens.hard_end(at - 1))):
        if tokens.kinds[street] != WORD:
            break
        if tokens.keys[street - 1] in lx.PLACED_IN and at_street(tokens, street, opens=True):
            return street
    return at


# -- points of reference -----------------------------------------------------------------------------------------


def mark_references(evidence: Evidence) -> None:
    """Drop points of reference and contacts up to the end of their field."""
    if lx.ASIDE_FIRST.isdisjoint(evidence.vocabulary):
        return
    for at, key in enumerate(evidence.keys):
        if (
            key in lx.ASIDE_FIRST
            and evidence.free(at)
            and not evidence.in_city(at)
            and not is_district_too(evidence, at)
        ):
            start = _reference_start(evidence, at)
            if start is not None:
                evidence.mark(start, corner_end(evidence, at), DROPPED)


def _reference_start(evidence: Evidence, at: int) -> int | None:
    """Return where the reference begins that the word at `at` opens, or None when it opens none."""
    key, following = evidence.keys[at], evidence.key(at + 1)
    start = _remark_start(evidence, at)
    if start == at > 0 and evidence.gaps[at] != HARD:
        before = evidence.keys[at - 1]
        if before in lx.STREET_TYPES or before in lx.OF:  # "Rua da Frente", "Travessa do Lado"
            return None
    if key in lx.PAINTED_WORDS and following in lx.COLOURS:
        while start > 1 and evidence.keys[start - 2] in lx.HOUSES and evidence.keys[start - 1] in lx.COLOURS:
            start -= 2  # "casa azul portão branco"
        return start
    pair = f"{key} {following}"
    if pair in lx.REFERENCE_PHRASES or pair in lx.CONTACT_PHRASES or _refers(evidence, at, following):
        return start
    return None


def _remark_start(tokens: Tokens, at: int) -> int:
    """Return where the remark begins that the corner at `at` ends: "casa de esquina", "bem na esquina"."""
    if lx.CORNERS.isdisjoint(tokens.keys[at : at + 2]):
        return at
    start = at
    while start > 0 and tokens.gaps[start] != HARD and tokens.keys[start - 1] in lx.AT_CORNERS:
        start -= 1
    return start if tokens.gaps[start] == HARD else at


def _refers(evidence: Evidence, at: int, following: str) -> bool:
    key = evidence.keys[at]
    if key not in lx.REFERENCE_WORDS or key in lx.BESIDE:
        return False
    if key in lx.REFERENCE_OF:
        return following in lx.OF or following in lx.ARTICLES
    if key in lx.BETWEEN:
        return _between_streets(evidence, at) or following in lx.BETWEEN_WHAT
    if key in lx.POINTS:
        return following in lx.POINTED_AT
    return at > 0


def _between_streets(evidence: Evidence, at: int) -> bool:
    """Do two streets' names follow a house number, up to the end of a field: "2870 entre Duque e Visconde, …"."""
    end = evidence.hard_end(at)
    numbered = at > 0 and (evidence.kinds[at - 1] == NUM or evidence.marks[at - 1] == NUMBER)
    return numbered and end < evidence.size and not lx.AND.isdisjoint(evidence.keys[at + 2 : end - 1])


# -- corners ----------------------------------------------------------------------------------------------------------


def mark_corners(evidence: Evidence) -> None:
    """Drop the other street of a corner: "C/ RUA X", "COM A RUA X", "/RUA X", up to the next field or plot."""
    if lx.MEETING.isdisjoint(evidence.vocabulary) and SLASH not in evidence.gaps:
        return
    for at in range(2, evidence.size - 1):
        if evidence.free(at) and _meets_street(evidence, at):
            evidence.mark(at, corner_end(evidence, at), DROPPED)


def _meets_street(evidence: Evidence, at: int) -> bool:
    """Does another street begin at `at`, behind "com", "c/" or a slash, where the first one's name is over."""
    key = evidence.keys[at]
    if evidence.gaps[at] == SLASH and key in _CROSSING:
        return evidence.kinds[at + 1] == WORD and at_street(evidence, 0)
    if key not in lx.MEETING:
        return False
    street = at + 1 + (evidence.key(at + 1) in lx.ARTICLES)
    slashed = len(key) == 1 and evidence.gaps[at + 1] == SLASH  # "c/ Rua X"
    typed = evidence.key(street) in _CROSSING and street + 1 < evidence.size
    return typed and (slashed or stands_apart(evidence, at))


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


def stands_apart(evidence: Evidence, at: int) -> bool:
    """Does the word at `at` open a field, or follow a number or "S/N"."""
    before = at - 1
    return evidence.gaps[at] == HARD or evidence.kinds[before] == NUM or evidence.marks[before] == NUMBER
