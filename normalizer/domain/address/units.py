"""The parts of a complement that a keyword announces: "ap 52", "bl. 3", "Qd 19 Lt 32", "3º andar", "fundos"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from normalizer.domain.address import lexicon as lx
from normalizer.domain.address import standard
from normalizer.domain.address.streets import at_street, date_follows
from normalizer.domain.address.tokens import (
    BLANK,
    DROPPED,
    FREE,
    GLUED,
    HARD,
    HYPHEN,
    LABEL,
    NUM,
    NUMBER,
    SLASH,
    UNIT,
    WORD,
)

if TYPE_CHECKING:
    from normalizer.domain.address.tokens import Evidence, Tokens

_ORDINAL_SIGNS: Final = "ºª°oOaA"  # "10o andar"
# A named block is given a name that is no word of another field.
_NO_UNIT_NAMES: Final = frozenset(
    {*lx.UNIT_WORDS, *lx.DISTRICT_WORDS, *lx.STREET_TYPES, *lx.LABELS, *lx.REFERENCE_WORDS, *lx.NOTE_WORDS}
)
_OPENS_UNIT: Final = lx.UNIT_FIRST | lx.BEHIND_FLATS.keys()
_BEFORE_INNER: Final = lx.OF | lx.AND
_AFTER_ALONE: Final = lx.OF | lx.PLACED_AT
_LOOSE_LETTERS: Final = frozenset("aeo")
_UNIT_LETTERS: Final = frozenset("lq")


class Unit(NamedTuple):
    """One part of the complement: tokens [start, end), its keyword spelled out and its value."""

    start: int
    end: int
    keyword: str
    value: str


def mark_units(evidence: Evidence) -> None:
    """Find the units among the free tokens, in the order of the text, and mark them."""
    if lx.UNIT_FIRST.isdisjoint(evidence.vocabulary):
        return
    for at, key in enumerate(evidence.keys):
        if key in _OPENS_UNIT and evidence.free(at) and not evidence.in_city(at):
            unit = _phrase(evidence, at) or _word(evidence, at)
            if unit is not None:
                _keep(evidence, unit)


def _word(evidence: Evidence, at: int) -> Unit | None:
    keyword = lx.UNIT_WORDS.get(evidence.keys[at])
    if keyword is None:  # the T or B of "ap 501 T2": right behind a flat, and bound to its number
        keyword = lx.BEHIND_FLATS.get(evidence.keys[at])
        bound = at > 0 and evidence.marks[at - 1] == UNIT and evidence.numeric(at + 1)
        if keyword is None or not bound or evidence.gaps[at + 1] != GLUED:
            return None
    floor = _floor(evidence, at, keyword) if keyword in lx.FLOOR_UNITS else None
    return floor or _unit(evidence, at, keyword)


def _phrase(evidence: Evidence, at: int) -> Unit | None:
    """Read a unit whose keyword is two words: "Área Especial 4", "Caixa Postal 22"."""
    last = at + 1
    if evidence.keys[at] not in lx.PHRASE_FIRST:
        return None
    keyword = lx.UNIT_PHRASES.get(evidence.phrase(at, at + 2))
    if keyword is None or not evidence.free(last) or evidence.gaps[last] == HARD:
        return None
    value = _behind_number_word(evidence, last)
    end = _value_end(evidence, last, value)
    if end > value:
        return Unit(at, end, keyword, _value(evidence, value, end))
    return Unit(at, at + 2, keyword, "") if keyword in lx.ALONE_UNITS and _closed(evidence, at + 2) else None


def _keep(evidence: Evidence, unit: Unit) -> None:
    """Mark the unit; one that was said before is dropped."""
    again = any(unit[2:] == other[2:] for other in evidence.units)
    if not again:
        evidence.units.append(unit)
    evidence.marks[unit.start : unit.end] = bytes([DROPPED if again else UNIT]) * (unit.end - unit.start)


def _floor(evidence: Evidence, at: int, keyword: str) -> Unit | None:
    """Read "3º andar", "1º e 2º subsolo", "segundo andar", whose value comes first, and "pavimento superior"."""
    before = at - 1
    if evidence.key(at + 1) in lx.LEVELS and evidence.free(at + 1) and evidence.gaps[at + 1] != HARD:
        return Unit(at, at + 2, keyword, standard.proper(evidence.words[at + 1], first=True))
    if not evidence.free(before) or evidence.gaps[at] == HARD:
        return None
    if evidence.keys[before] in lx.ORDINALS:
        return Unit(before, at + 1, f"{evidence.words[before].capitalize()} {keyword}", "")
    if not evidence.numeric(before) or not _counts_floors(evidence, at):
        return None
    floor = f"{evidence.keys[before]}º {keyword}"
    if evidence.key(at - 2) in lx.AND and evidence.numeric(at - 3):
        return Unit(at - 3, at + 1, f"{evidence.keys[at - 3]}º e {floor}", "")
    return Unit(before, at + 1, floor, "")


def _counts_floors(tokens: Tokens, at: int) -> bool:
    """Does the number before the floor at `at` count it, and is no house's: "12 - 3º andar", "12 3 andar"."""
    before = at - 1
    if tokens.words[before][-1] in _ORDINAL_SIGNS or tokens.dots[before] or tokens.gaps[before] == HARD:
        return True
    return before > 0 and (tokens.kinds[before - 1] == NUM or tokens.keys[before - 1] in lx.AND)


def _unit(evidence: Evidence, at: int, keyword: str) -> Unit | None:
    if at and evidence.gaps[at] != HARD and _inside_name(evidence, at):
        return None
    if keyword in lx.VALUELESS_UNITS:
        if at > 1 and evidence.keys[at - 1] in lx.PLACED_AT and evidence.free(at - 1):  # "kitnet 7 nos fundos"
            behind = evidence.marks[at - 2] in (UNIT, NUMBER) or evidence.kinds[at - 2] == NUM
            evidence.marks[at - 1] = LABEL if behind else FREE
        return Unit(at, at + 1, keyword, "") if _stands_alone(evidence, at) else None
    value = _behind_number_word(evidence, at)
    end = _value_end(evidence, at, value)
    if end > value:
        return Unit(at, end, keyword, _value(evidence, value, end))
    return _without_number(evidence, at, keyword)


def _behind_number_word(evidence: Evidence, at: int) -> int:
    """Return where the value begins: behind the "nº" of "casa nº 2"."""
    value = at + 1
    labelled = evidence.key(value) in lx.NUMBER_WORDS and _binds(evidence, at, value)
    return value + 1 if labelled and evidence.numeric(value + 1) else value


def _without_number(evidence: Evidence, at: int, keyword: str) -> Unit | None:
    words, value = evidence.words, at + 1
    if _behind(evidence, at):
        return Unit(at, at + 3, f"{keyword} {words[value].lower()} {words[value + 1].capitalize()}", "")
    if keyword in lx.NAMED_UNITS and _named(evidence, value):
        return Unit(at, value + 1, keyword, standard.proper(words[value], first=True))
    if (keyword in lx.ALONE_UNITS and _stands_alone(evidence, at)) or _is_whole_field(evidence, at):
        return Unit(at, at + 1, keyword, "")
    return None


def _is_whole_field(evidence: Evidence, at: int) -> bool:
    """Is the bare keyword a field of its own, behind others: "…, 120, LOJA - CENTRO"."""
    if at < 2 or len(evidence.keys[at]) < 4 or evidence.in_slot(at) or evidence.hard_end(at) != at + 1:
        return False
    return evidence.gaps[at] == HARD or _is_behind_part(evidence, at)


def _behind(evidence: Evidence, at: int) -> bool:
    """Does the unit say which of two it is: "casa dos fundos", "casa de baixo"."""
    if evidence.keys[at] not in lx.HOUSES or evidence.key(at + 1) not in lx.OF or evidence.key(at + 2) not in lx.BEHIND:
        return False
    bound = all(evidence.free(i) and evidence.gaps[i] == BLANK for i in (at + 1, at + 2))
    return bound and _closed(evidence, at + 3)


def _closed(evidence: Evidence, at: int) -> bool:
    """Does nothing free follow in the field."""
    return at == evidence.size or evidence.gaps[at] == HARD or not evidence.free(at)


def _named(evidence: Evidence, value: int) -> bool:
    """Is the value a name, and the whole rest of its field: "Bloco Jangada, Apto 702"."""
    if not evidence.free(value) or evidence.kinds[value] != WORD or evidence.gaps[value] != BLANK:
        return False
    following = value + 1
    closed = following == evidence.size or evidence.gaps[following] == HARD or evidence.keys[following] in lx.UNIT_WORDS
    return closed and len(evidence.keys[value]) > 2 and evidence.keys[value] not in _NO_UNIT_NAMES


def _inside_name(evidence: Evidence, at: int) -> bool:
    """Does the keyword stand in a street's name, as in "Rua da Casa Branca"."""
    before = evidence.keys[at - 1]
    if evidence.marks[at - 1] in (UNIT, NUMBER, LABEL):
        return False
    return before in _BEFORE_INNER or (before in lx.STREET_TYPES and at_street(evidence, at - 1))


def _stands_alone(evidence: Evidence, at: int) -> bool:
    opens = evidence.gaps[at] == HARD
    if not opens and not _is_behind_part(evidence, at):
        return False
    after = evidence.key(at + 1) if evidence.hard_end(at) > at + 1 else ""
    if after in _AFTER_ALONE or (evidence.keys[at] in lx.HOUSES and after in lx.HOUSE_LOOKS):
        return False
    return not (opens and after and after not in lx.UNIT_WORDS and evidence.free(at + 1))


def _is_behind_part(evidence: Evidence, at: int) -> bool:
    """Does it follow a unit, a number, or a label."""
    return evidence.marks[at - 1] in (UNIT, NUMBER, LABEL) or evidence.kinds[at - 1] == NUM


def _binds(tokens: Tokens, at: int, following: int) -> bool:
    return tokens.gaps[following] != HARD or tokens.colons[at]


# -- values ------------------------------------------------------------------------------------------------------


def _value_end(evidence: Evidence, at: int, value: int) -> int:
    """Return where the value that begins at `value` ends, or `value` when there is none."""
    if not evidence.free(value) or not (_binds(evidence, at, value) or _is_next_field(evidence, at, value)):
        return value
    if evidence.kinds[value] == NUM:
        return _number_end(evidence, at, value)
    if evidence.kinds[value] != WORD:
        return value
    bound = evidence.numeric(value + 1) and evidence.gaps[value + 1] in (GLUED, HYPHEN)
    if bound and len(evidence.keys[value]) <= 2:  # "A2", "B-1"
        return value + 2
    return value + 1 if _worded(evidence, at, value) or _lettered(evidence, at, value) else value


def _number_end(evidence: Evidence, at: int, value: int) -> int:
    if len(evidence.keys[at]) == 1 and evidence.gaps[value] == HYPHEN:
        return value  # "Q-3" may be a street's code
    end = _one_number_end(evidence, value)
    if lx.UNIT_WORDS.get(evidence.keys[at]) in lx.PLURAL_UNITS:
        end = _enumeration_end(evidence, end)
    joins = lx.AND if lx.UNIT_WORDS.get(evidence.keys[at]) not in lx.PLURAL_UNITS else lx.JOINS_NUMBERS
    while evidence.key(end) in joins and evidence.free(end) and _listed(evidence, end + 1):
        end = _one_number_end(evidence, end + 1)  # "lojas 1 e 2"
    return end + 1 if _lettered_plot(evidence, at, end) else end


def _one_number_end(evidence: Evidence, at: int) -> int:
    end = at + 1
    while _continues(evidence, end):
        end += 1
    return end


def _enumeration_end(evidence: Evidence, at: int) -> int:
    """Return where the numbers end that only commas separate and an "e" closes: the "1, 2" of "lojas 1, 2 e 3"."""
    end = at
    while evidence.numeric(end) and evidence.gaps[end] == HARD:
        end += 1
    return end if evidence.key(end) in lx.AND and evidence.gaps[end] == BLANK and _listed(evidence, end + 1) else at


def _listed(evidence: Evidence, at: int) -> bool:
    """Is the number at `at` one more of a list, and no date."""
    return evidence.numeric(at) and evidence.gaps[at] == BLANK and not date_follows(evidence, at)


def _is_next_field(tokens: Tokens, at: int, value: int) -> bool:
    """Is the value the whole next field, where the house has its number: "155 - Sala, 02 - Centro"."""
    alone = tokens.gaps[at] == HARD and tokens.is_number(value) and tokens.hard_end(value) == value + 1
    return alone and (at == 0 or NUM in tokens.kinds[:at])


def _lettered_plot(evidence: Evidence, at: int, end: int) -> bool:
    """Does a letter of its own belong to the plot's number: "QD 7 A LT 22"."""
    if lx.UNIT_WORDS.get(evidence.keys[at]) not in lx.PLOTS or not evidence.free(end) or end + 1 >= evidence.size:
        return False
    letter = len(evidence.keys[end]) == 1 and evidence.words[end].isupper() and evidence.keys[end] not in "eoq"
    unit = evidence.keys[end + 1] in lx.UNIT_WORDS and (evidence.numeric(end + 2) or len(evidence.key(end + 2)) == 1)
    return letter and evidence.gaps[end] == BLANK and unit


def _worded(tokens: Tokens, at: int, value: int) -> bool:
    """Is the value a Roman numeral, or the side of a tower."""
    key = tokens.keys[value]
    if key in lx.ROMAN and len(key) > 1 and tokens.words[value].isupper():
        return True
    return key in lx.SIDES and lx.UNIT_WORDS[tokens.keys[at]] in lx.NAMED_UNITS


def _lettered(evidence: Evidence, at: int, value: int) -> bool:
    """Is the value one letter. A letter that is a word counts in capitals or where nothing else can follow."""
    following = value + 1
    key, long = evidence.keys[value], len(evidence.keys[at]) > 1
    if len(key) != 1 or (key in _UNIT_LETTERS and not (long and evidence.hard_end(value) == following)):
        return False
    if evidence.dots[value] and evidence.free(following) and evidence.gaps[following] == BLANK:
        return evidence.keys[following] in lx.UNIT_WORDS  # "Casa N. Sra. das Dores"
    worded = key in _LOOSE_LETTERS and not evidence.words[value].isupper()
    return _closed(evidence, following) or evidence.keys[following] in lx.UNIT_WORDS or long > worded


def _continues(evidence: Evidence, at: int) -> bool:
    """Does the token at `at` still belong to a unit's number: "101-B", "101/102", "3A"."""
    if not evidence.free(at):
        return False
    gap = evidence.gaps[at]
    if evidence.kinds[at] == NUM:
        return gap in (SLASH, HYPHEN) and evidence.kinds[at - 1] == NUM
    lettered = len(evidence.keys[at]) == 1 and evidence.kinds[at] == WORD and gap in (GLUED, HYPHEN)
    return lettered and not (evidence.is_number(at + 1) and evidence.gaps[at + 1] in (GLUED, BLANK))


def _value(tokens: Tokens, start: int, end: int) -> str:
    written = ""
    for at in range(start, end):
        joins = start < at < end - 1 and tokens.keys[at] in lx.JOINS_NUMBERS and tokens.gaps[at] == BLANK
        written += tokens.joint(at) if at > start else ""
        word, key = tokens.words[at].replace(".", ""), tokens.keys[at]
        named = (len(word) > 3 or key in lx.SIDES) and key not in lx.ROMAN  # "Torre Norte"; codes and letters are not
        written += tokens.words[at].lower() if joins else word.capitalize() if named else word.upper()
    return written
