"""District candidates: what is left once street, number, complement, city and CEP are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from normalizer.domain.address import lexicon as lx
from normalizer.domain.address.marks import FREE
from normalizer.domain.address.streets import at_street, date_follows
from normalizer.domain.address.tokens import HARD, NUM, SLASH, WORD

if TYPE_CHECKING:
    from normalizer.domain.address.tokens import Tokens

_LONGEST: Final = 7  # words
_VOWELS: Final = frozenset("aeiouy")
_LOOSE_LETTERS: Final = frozenset("eaosnd")
_NAMED_BY: Final = lx.OF - lx.BARE_OF


def chunks(tokens: Tokens, marks: bytearray) -> list[tuple[int, int]]:
    """Return the runs of tokens that nothing explains yet, cut where fields are separated."""
    found: list[tuple[int, int]] = []
    at, size = 0, tokens.size
    while at < size:
        if marks[at] != FREE:
            at += 1
            continue
        end = at + 1
        while end < size and marks[end] == FREE and tokens.gaps[end] not in (HARD, SLASH):
            end += 1
        found.append((at, end))
        at = end
    return found


def may_be_district(tokens: Tokens, start: int, end: int, *, sector: bool) -> bool:
    """Can the tokens [start, end) be the name of a district.

    `sector`: the street is a sector of Brasília, where "Rua 310" behind it is no district.
    """
    if not _opens_and_closes(tokens, start, end):
        return False
    if _opens_other_field(tokens, start, sector=sector) or _holds_other_field(tokens.keys, start, end):
        return False
    return _long_enough(tokens, start, end) and all(_belongs(tokens, at, start, end) for at in range(start, end))


def may_fill_slot(tokens: Tokens, start: int) -> bool:
    """May the field where a register prints the district be one that no rule knows: "BNH", "NORTE"."""
    key = tokens.keys[start]
    if key in lx.DISTRICT_TOO:
        return True
    if tokens.kinds[start] != WORD or key in lx.UNIT_WORDS or key in lx.REFERENCE_WORDS or key in lx.BETWEEN:
        return False
    words = tokens.keys[start : tokens.hard_end(start)]
    return NUM not in tokens.kinds[start : start + len(words) - 1] and lx.NOTE_WORDS.isdisjoint(words)


def _opens_and_closes(tokens: Tokens, start: int, end: int) -> bool:
    """Are its first and its last word ones that a district's name may begin and end with."""
    keys = tokens.keys
    if end - start > _LONGEST or keys[end - 1] in lx.BREAKS_OFF:
        return False
    if keys[start] in lx.PREPOSITIONS and not _named_with_article(tokens, start, end):
        return False
    if end - start == 1:
        return _may_stand_alone(tokens, start)
    return keys[end - 1] not in lx.TOWN_WORDS or keys[end - 2] in lx.TOWN_DISTRICTS  # "Nova Cidade"


def _long_enough(tokens: Tokens, start: int, end: int) -> bool:
    words = [tokens.keys[at] for at in range(start, end) if tokens.kinds[at] == WORD]
    letters = sum(len(lx.DISTRICT_WORDS.get(key, key)) for key in words)
    return letters > 2 or (end - start == 1 and tokens.words[start].lower() in lx.SHORTEST_DISTRICTS)


def _named_with_article(tokens: Tokens, start: int, end: int) -> bool:
    """Is the district called "da Paz", "dos Pires": the whole field, or all that a label announces."""
    opens = tokens.gaps[start] == HARD or tokens.keys[start - 1] in lx.DISTRICT_LABELS
    closes = end == tokens.size or tokens.gaps[end] == HARD
    return tokens.keys[start] in _NAMED_BY and end - start > 1 and opens and closes


def _may_stand_alone(tokens: Tokens, at: int) -> bool:
    """May the one word be a whole district: no "Jardim", no "Casa", and no "Balneário" that runs into "Camboriú"."""
    key = tokens.keys[at]
    if key in lx.GENERIC_DISTRICTS or key in lx.PART_HEADS or lx.UNIT_WORDS.get(key) in lx.ALONE_UNITS:
        return False
    runs_on = at + 1 < tokens.size and tokens.gaps[at + 1] != HARD
    return not (runs_on and key in lx.RUNNING_ON)


def closed_by_centre(keys: list[str], start: int, end: int) -> bool:
    """Does the district "Centro" end the name of a building, and is no part of it ("Edifício Novo Centro")."""
    if end - start < 3 or keys[end - 1] not in lx.CENTRE:
        return False
    return keys[end - 2] not in lx.BEFORE_CENTRE and keys[end - 2] not in lx.PREPOSITIONS


def _holds_other_field(keys: list[str], start: int, end: int) -> bool:
    """Is a part of the complement read into the district: "Sala Verde Centro", "Casa dos Fundos"."""
    if end - start == 1:
        return False
    first, last = keys[start], keys[end - 1]
    if first in lx.NO_NAMES or last in lx.PART_TAILS or _is_remark(keys, start, end):
        return True
    if first in lx.DISTRICT_LABELS and not _is_label_name(keys, start, end):
        return keys[start + 1] not in lx.PREPOSITIONS
    if _ends_in_other_centre(keys, end) or first in lx.PART_HEADS:
        return True
    return _more_than_house_district(keys, start, end) if first in lx.HOUSES else _two_districts(keys, start, end)


def _ends_in_other_centre(keys: list[str], end: int) -> bool:
    return keys[end - 1] in lx.CENTRE and keys[end - 2] not in lx.BEFORE_CENTRE


def _is_label_name(keys: list[str], start: int, end: int) -> bool:
    """Is it "Bairro Novo"."""
    return end - start == 2 and keys[start + 1] in lx.DISTRICT_QUALIFIERS


def _is_remark(keys: list[str], start: int, end: int) -> bool:
    """Is it two streets, and maybe a district behind them, or a note."""
    between = keys[start] in lx.BETWEEN and not lx.AND.isdisjoint(keys[start + 1 : end])
    return between or not lx.NOTE_WORDS.isdisjoint(keys[start:end])


def _more_than_house_district(keys: list[str], start: int, end: int) -> bool:
    """Is it more than a district: "Casa Verde Alta" is one, "casa verde Jardim Europa" is not."""
    if keys[start + 1] in lx.PREPOSITIONS:
        return True
    return end - start > 2 and keys[start + 2] not in lx.HOUSE_DISTRICT_ENDS


def _two_districts(keys: list[str], start: int, end: int) -> bool:
    """Does a second district begin inside the first: "Jardim América Vila Nova"."""
    return keys[start] in lx.STRONG_STARTERS and any(
        keys[at] in lx.SECOND_DISTRICTS and keys[at - 1] not in lx.BEFORE_SECOND for at in range(start + 2, end - 1)
    )


def _opens_other_field(tokens: Tokens, start: int, *, sector: bool) -> bool:
    key = tokens.keys[start]
    if key in lx.REFERENCE_WORDS and key not in lx.BESIDE and key not in lx.BETWEEN:
        return True
    return key in lx.STREET_TYPES and key not in lx.DISTRICT_WORDS and (len(key) < 4 or sector)


def _belongs(tokens: Tokens, at: int, start: int, end: int) -> bool:
    """Can the token stand in a district's name: a word that can be spoken or is listed, a short number at the end."""
    if tokens.kinds[at] == NUM:
        return end - start > 1 and len(tokens.keys[at]) <= 3 and (at == end - 1 or date_follows(tokens, at))
    return not (at > start and at_street(tokens, at)) and not _unreadable(tokens, at)


def _unreadable(tokens: Tokens, at: int) -> bool:
    """Is the word an abbreviation nobody listed ("bx"), or the letter of a unit left over?"""
    key = tokens.keys[at]
    if tokens.kinds[at] != WORD or key in lx.ROMAN or tokens.dots[at]:
        return False
    if len(key) == 1:
        return key not in _LOOSE_LETTERS and tokens.gaps[at] != HARD and tokens.kinds[at - 1] != WORD
    known = key in lx.DISTRICT_WORDS or key in lx.TITLES or key in lx.CITY_SHORTS
    return not known and _VOWELS.isdisjoint(key)
