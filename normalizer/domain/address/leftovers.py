"""Leftovers of a reading, once street, number, city and units are taken: district, named parts, asides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address import standard, weights
from normalizer.domain.address.streets import at_street, date_follows
from normalizer.domain.address.tokens import (
    DISTRICT,
    DROPPED,
    FREE,
    HARD,
    LABEL,
    NUM,
    NUMBER,
    SLASH,
    STREET,
    UNIT,
    WORD,
)
from normalizer.domain.address.words import ways_of
from normalizer.domain.decision import Reason

if TYPE_CHECKING:
    from normalizer.domain.address.rules import Reading
    from normalizer.domain.address.tokens import Tokens


# -- what may be a district -------------------------------------------------------------------------------------------

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
    named = end - start == 2 and keys[start + 1] in lx.DISTRICT_QUALIFIERS  # "Bairro Novo"
    if first in lx.DISTRICT_LABELS and not named:
        return keys[start + 1] not in lx.PREPOSITIONS
    if first in lx.PART_HEADS or (last in lx.CENTRE and keys[end - 2] not in lx.BEFORE_CENTRE):
        return True
    return _more_than_house_district(keys, start, end) if first in lx.HOUSES else _two_districts(keys, start, end)


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


# -- what is left -----------------------------------------------------------------------------------------------------

Span: TypeAlias = tuple[int, int]

_ORDINALS: Final = "ºª"


@dataclass(slots=True)
class _Sorted:
    """The chunks that may be the district, by how likely they are."""

    districts: list[Span] = field(default_factory=list)
    estates: list[Span] = field(default_factory=list)
    asides: list[Span] = field(default_factory=list)


def read_rest(draft: Reading) -> Reason | None:
    """Explain every chunk that is left, or say why that fails."""
    found = _Sorted()
    reasons = (_sort(draft, start, end, found) for start, end in chunks(draft.tokens, draft.marks))
    return next(filter(None, reasons), None) or _choose(draft, found) or _settle(draft, found)


def _choose(draft: Reading, found: _Sorted) -> Reason | None:
    """Make an estate or an aside the district where nothing else is."""
    if not found.districts and len(found.estates) == 1 and not found.asides:
        if found.estates[0][0] < draft.start.at < draft.place.start:
            return Reason.DISTRICT_AMBIGUOUS
        found.districts, found.estates = found.estates, []
    if not found.districts and len(found.asides) == 1:
        found.districts, found.asides = found.asides, []
    if found.estates and any(draft.tokens.keys[start] in lx.HOUSES for start, _ in found.districts):
        return Reason.DISTRICT_AMBIGUOUS  # the estate may be the district, and "casa amarela" a remark
    return None


def _settle(draft: Reading, found: _Sorted) -> Reason | None:
    for start, end in found.estates:
        _add_named(draft, start, end)
    for start, end in found.asides:
        draft.claim(start, end, DROPPED)
    districts = found.districts if len(found.districts) < 2 else _without_city(draft, found.districts)
    if len(districts) == 2 and _is_place_before_district(draft, *districts):
        place = districts.pop(0)
        draft.add_part(*place, standard.district(draft.tokens, *place))
    if len(districts) > 1:
        return Reason.DISTRICT_AMBIGUOUS
    return _read_district(draft, *districts[0]) if districts else None


def _without_city(draft: Reading, districts: list[Span]) -> list[Span]:
    """Drop the city said twice: "Centro, Lajeado, Lajeado RS"."""
    city = draft.tokens.phrase(draft.place.start, draft.place.end)
    again = [chunk for chunk in districts if draft.tokens.phrase(*chunk) == city]
    for start, end in again:
        draft.claim(start, end, DROPPED)
    return [chunk for chunk in districts if chunk not in again]


def _is_place_before_district(draft: Reading, place: Span, district: Span) -> bool:
    """Does a place stand between the number and the district: "88 SETOR LESTE - CENTRO"."""
    tokens, start = draft.tokens, place[0]
    if district != draft.tokens.slot or not draft.start.at < start < district[0]:
        return False
    if not may_be_district(tokens, *place, sector=not draft.start.kind):
        return False
    opens = tokens.gaps[start] == HARD or draft.marks[start - 1] in (UNIT, NUMBER)
    if (place[1] - start == 1 and tokens.keys[start] in lx.CENTRE) or tokens.keys[start] == tokens.keys[district[0]]:
        return False  # "CENTRO - PRIMEIRO": the centre is a district; "Vila Um, Vila Dois": either
    return opens and (tokens.keys[start] in lx.DISTRICT_WORDS or tokens.keys[start] in lx.PLACES)


# -- sorting -----------------------------------------------------------------------------------------------------


def _sort(draft: Reading, start: int, end: int, found: _Sorted) -> Reason | None:
    """Put one chunk among those that may be the district, or read it as a part of the complement."""
    label = draft.tokens.labelled.get(start)
    if label == "bairro":
        draft.score += weights.DISTRICT_LABELLED
        found.districts.append((start, end))
        return None
    named = draft.tokens.keys[start] in lx.BUILDING_WORDS
    named = named or (_is_phrase(draft, start, lx.BUILDING_PHRASES) and not draft.tokens.in_slot(start))
    if label == "complemento" or named:
        return _sort_building(draft, start, end, found, labelled=label is not None)
    if _read_part(draft, start, end):
        return None
    if _is_second_number(draft, start, end):
        return Reason.NUMBER_AMBIGUOUS
    _group(draft, start, end, found).append((start, end))
    return None


def _sort_building(draft: Reading, start: int, end: int, found: _Sorted, *, labelled: bool) -> Reason | None:
    tokens = draft.tokens
    closed = _closed(draft, end)
    if not labelled and closed_by_centre(tokens.keys, start, end):
        end, closed = end - 1, True  # "ED BIANCO CENTRO"
        found.districts.append((end, end + 1))
    if not closed and draft.marks[end] not in (UNIT, LABEL):
        return Reason.DISTRICT_AMBIGUOUS
    _add_named(draft, start, end)
    return None


def _read_part(draft: Reading, start: int, end: int) -> bool:
    """Read the chunk as a street inside a quadra, or a lone letter, if it is one."""
    tokens = draft.tokens
    key = tokens.keys[start]
    if _is_inside_quadra(draft, start, end):
        draft.add_part(start, end, standard.street(tokens, lx.STREET_TYPES[key], start + 1, end))
        return True
    if end - start == 1 and len(key) == 1 and tokens.kinds[start] == WORD and _closed(draft, end):
        draft.add_part(start, end, tokens.words[start].upper())
        return True
    return False


def _is_second_number(draft: Reading, start: int, end: int) -> bool:
    tokens = draft.tokens
    if tokens.kinds[start] != NUM or tokens.words[start][-1] in _ORDINALS:
        return False
    # A whole field may be the date of a district, "…, 2 de Julho, …", behind a house number.
    own = tokens.gaps[start] == HARD and _closed(draft, end)
    return not (draft.numbered and own and end - start == 3 and date_follows(tokens, start))


def _group(draft: Reading, start: int, end: int, found: _Sorted) -> list[Span]:
    tokens = draft.tokens
    key = tokens.keys[start]
    if tokens.parens[start] or (key in lx.BY_NAME and start < draft.start.at):
        return found.asides
    estate = key in lx.ESTATE_WORDS or _is_phrase(draft, start, lx.ESTATE_PHRASES)
    return found.estates if estate and end - start > 1 else found.districts


def _is_phrase(draft: Reading, start: int, phrases: frozenset[str]) -> bool:
    return draft.tokens.phrase(start, start + 2) in phrases


def _closed(draft: Reading, end: int) -> bool:
    return end == draft.tokens.size or draft.tokens.gaps[end] == HARD


def _is_inside_quadra(draft: Reading, start: int, end: int) -> bool:
    """Is it a street inside a quadra of Palmas, which belongs to the complement: "Alameda 12", "Rua SE 7"."""
    if draft.start.kind or not ways_of(draft.place.uf, draft.place.name).inner_streets:
        return False
    tokens = draft.tokens
    return tokens.keys[start] in lx.STREET_TYPES and tokens.kinds[end - 1] == NUM and 2 <= end - start <= 3


def _add_named(draft: Reading, start: int, end: int) -> None:
    draft.add_part(start, end, standard.named_unit(draft.tokens, start, end))


# -- district -----------------------------------------------------------------------------------------------------


def _read_district(draft: Reading, start: int, end: int) -> Reason | None:
    tokens = draft.tokens
    if tokens.keys[start] in lx.SHORT_DISTRICT_LABELS and tokens.dots[start] and end - start > 1:
        if not _is_short_label(draft, start, end):
            return Reason.DISTRICT_AMBIGUOUS
        draft.claim(start, start + 1, LABEL)
        start += 1
    in_slot = (start, end) == draft.tokens.slot and may_fill_slot(tokens, start)
    if not in_slot and not may_be_district(tokens, start, end, sector=not draft.start.kind):
        return Reason.TEXT_UNEXPLAINED
    district = standard.district(tokens, start, end)
    reason = _misplaced(draft, start, end, district)
    if reason is None:
        draft.score += weights.DISTRICT + (weights.DISTRICT_KNOWN if _is_known(draft, start) else 0.0)
        draft.district = district
        draft.claim(start, end, DISTRICT)
    return reason


def _is_known(draft: Reading, start: int) -> bool:
    return start in draft.tokens.labelled or draft.tokens.keys[start] in lx.DISTRICT_WORDS


def _misplaced(draft: Reading, start: int, end: int, district: str) -> Reason | None:
    """Say why what may be a district's name is none where it stands."""
    tokens, before = draft.tokens, start - 1
    qualifies = start > 0 and tokens.keys[start] in lx.DISTRICT_QUALIFIERS and not tokens.colons[before]
    if qualifies and end - start == 1 and tokens.keys[before] in lx.DISTRICT_LABELS:
        return Reason.DISTRICT_AMBIGUOUS  # "Bairro Novo" may be the whole name
    beside_city = draft.place.start < start or draft.place.start == end
    if start < draft.start.at and not _is_known(draft, start) and not beside_city:
        return Reason.TEXT_UNEXPLAINED
    if start in draft.tokens.labelled:
        return None
    doubtful = (start, end) != draft.tokens.slot and any(doubt(draft, start, end) for doubt in _DOUBTS)
    # "Salvador, Barra, BA" names city before district.
    capital_apart = district == gazetteer.CAPITALS[draft.place.uf] != draft.place.name
    return Reason.DISTRICT_AMBIGUOUS if doubtful or capital_apart else None


def _is_misspelt_city(draft: Reading, start: int, end: int) -> bool:
    """Does what stands right before the state look like another city, so that "Barra, Salavdor, BA" is no Barra."""
    place = draft.place
    if place.state is None or start < place.end or end != place.state.start:
        return False
    return gazetteer.resembles_one(draft.tokens.phrase(start, end), place.uf)


def _holds_city(draft: Reading, start: int, end: int) -> bool:
    """Does it end in the city's name of several words: "Sion Belo Horizonte, Belo Horizonte" says it twice."""
    city = draft.tokens.keys[draft.place.start : draft.place.end]
    return len(city) > 1 and end - start > len(city) and draft.tokens.keys[end - len(city) : end] == city


def _is_unbounded(draft: Reading, start: int, end: int) -> bool:
    """Does the district touch the street's name with nothing between that shows where one ends."""
    tokens = draft.tokens
    touches = start > 0 and draft.marks[start - 1] == STREET and tokens.gaps[start] != HARD
    return touches and tokens.keys[start] not in lx.STRONG_STARTERS and tokens.kinds[start - 1] != NUM


def _may_be_counted(draft: Reading, start: int, end: int) -> bool:
    """May the word behind a number that is the street's name belong to it: "Av. 3 Passos"."""
    tokens = draft.tokens
    touches = draft.marks[start - 1] == STREET and tokens.gaps[start] != HARD and tokens.kinds[start - 1] == NUM
    return touches and tokens.keys[start].endswith("s") and tokens.keys[start] not in lx.STRONG_STARTERS


_DOUBTS: Final = (_is_unbounded, _may_be_counted, _is_misspelt_city, _holds_city)


def _is_short_label(draft: Reading, start: int, end: int) -> bool:
    """Is "B." short for "Bairro", not for the Bom, Boa, Bela of the district's own name."""
    following = draft.tokens.keys[start + 1]
    if following in lx.DISTRICT_WORDS or following in lx.AFTER_SHORT_LABEL or following in lx.GOOD:
        return True
    return end - start > 2 and following not in lx.AFTER_GOOD
