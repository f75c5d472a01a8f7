"""Leftovers of a reading, once street, number, city and units are taken: district, named parts, asides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address import standard, towns, weights
from normalizer.domain.address.districts import chunks, closed_by_centre, may_be_district, may_fill_slot
from normalizer.domain.address.marks import DISTRICT, DROPPED, LABEL, NUMBER, STREET, UNIT
from normalizer.domain.address.streets import date_follows
from normalizer.domain.address.tokens import HARD, NUM, WORD
from normalizer.domain.decision import Reason

if TYPE_CHECKING:
    from normalizer.domain.address.readings import Draft
    from normalizer.domain.address.tokens import Tokens

Span: TypeAlias = tuple[int, int]

_ORDINALS: Final = "ºª"


@dataclass(slots=True)
class _Sorted:
    """The chunks that may be the district, by how likely they are."""

    districts: list[Span] = field(default_factory=list)
    estates: list[Span] = field(default_factory=list)
    asides: list[Span] = field(default_factory=list)


def read_rest(draft: Draft) -> Reason | None:
    """Explain every chunk that is left, or say why that fails."""
    found = _Sorted()
    for start, end in chunks(draft.tokens, draft.marks):
        reason = _sort(draft, start, end, found)
        if reason is not None:
            return reason
    return _choose(draft, found) or _settle(draft, found)


def _choose(draft: Draft, found: _Sorted) -> Reason | None:
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


def _settle(draft: Draft, found: _Sorted) -> Reason | None:
    for start, end in found.estates:
        _add_named(draft, start, end)
    for start, end in found.asides:
        draft.claim(start, end, DROPPED)
    districts = found.districts if len(found.districts) < 2 else _without_city(draft, found.districts)
    if len(districts) == 2 and _is_place_before_district(draft, *districts):
        _add_place(draft, *districts.pop(0))
    if len(districts) > 1:
        return Reason.DISTRICT_AMBIGUOUS
    return _read_district(draft, *districts[0]) if districts else None


def _without_city(draft: Draft, districts: list[Span]) -> list[Span]:
    """Drop the city said twice: "Centro, Lajeado, Lajeado RS"."""
    city = draft.tokens.phrase(draft.place.start, draft.place.end)
    again = [chunk for chunk in districts if draft.tokens.phrase(*chunk) == city]
    for start, end in again:
        draft.claim(start, end, DROPPED)
    return [chunk for chunk in districts if chunk not in again]


def _is_place_before_district(draft: Draft, place: Span, district: Span) -> bool:
    """Does a place stand between the number and the district: "88 SETOR LESTE - CENTRO"."""
    tokens, start = draft.tokens, place[0]
    if district != draft.evidence.slot or not draft.start.at < start < district[0]:
        return False
    if not may_be_district(tokens, *place, sector=not draft.start.kind):
        return False
    opens = tokens.gaps[start] == HARD or draft.marks[start - 1] in (UNIT, NUMBER)
    if (place[1] - start == 1 and tokens.keys[start] in lx.CENTRE) or tokens.keys[start] == tokens.keys[district[0]]:
        return False  # "CENTRO - PRIMEIRO": the centre is a district; "Vila Um, Vila Dois": either
    return opens and (tokens.keys[start] in lx.DISTRICT_WORDS or tokens.keys[start] in lx.PLACES)


def _add_place(draft: Draft, start: int, end: int) -> None:
    draft.add_part(start, end, standard.district(draft.tokens, start, end))


# -- sorting -----------------------------------------------------------------------------------------------------


def _sort(draft: Draft, start: int, end: int, found: _Sorted) -> Reason | None:
    """Put one chunk among those that may be the district, or read it as a part of the complement."""
    label = draft.evidence.labelled.get(start)
    if label == "bairro":
        draft.score += weights.DISTRICT_LABELLED
        found.districts.append((start, end))
        return None
    named = draft.tokens.keys[start] in lx.BUILDING_WORDS
    named = named or (_is_phrase(draft, start, lx.BUILDING_PHRASES) and not draft.evidence.in_slot(start))
    if label == "complemento" or named:
        return _sort_building(draft, start, end, found, labelled=label is not None)
    if _read_part(draft, start, end):
        return None
    if _is_second_number(draft, start, end):
        return Reason.NUMBER_AMBIGUOUS
    _group(draft, start, end, found).append((start, end))
    return None


def _sort_building(draft: Draft, start: int, end: int, found: _Sorted, *, labelled: bool) -> Reason | None:
    tokens = draft.tokens
    closed = _closed(draft, end)
    if not labelled and closed_by_centre(tokens.keys, start, end):
        end, closed = end - 1, True  # "ED BIANCO CENTRO"
        found.districts.append((end, end + 1))
    if not closed and draft.marks[end] not in (UNIT, LABEL):
        return Reason.DISTRICT_AMBIGUOUS
    _add_named(draft, start, end)
    return None


def _read_part(draft: Draft, start: int, end: int) -> bool:
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


def _is_second_number(draft: Draft, start: int, end: int) -> bool:
    tokens = draft.tokens
    number = tokens.kinds[start] == NUM and tokens.words[start][-1] not in _ORDINALS
    return number and not _is_dated(draft, start, end)


def _group(draft: Draft, start: int, end: int, found: _Sorted) -> list[Span]:
    tokens = draft.tokens
    key = tokens.keys[start]
    if tokens.parens[start] or (key in lx.BY_NAME and start < draft.start.at):
        return found.asides
    estate = key in lx.ESTATE_WORDS or _is_phrase(draft, start, lx.ESTATE_PHRASES)
    return found.estates if estate and end - start > 1 else found.districts


def _is_phrase(draft: Draft, start: int, phrases: frozenset[str]) -> bool:
    return draft.tokens.phrase(start, start + 2) in phrases


def _closed(draft: Draft, end: int) -> bool:
    return end == draft.tokens.size or draft.tokens.gaps[end] == HARD


def _is_inside_quadra(draft: Draft, start: int, end: int) -> bool:
    """Is it a street inside a quadra of Palmas, which belongs to the complement: "Alameda 12", "Rua SE 7"."""
    if draft.start.kind or not towns.town(draft.place.uf, draft.place.name).inner_streets:
        return False
    tokens = draft.tokens
    return tokens.keys[start] in lx.STREET_TYPES and tokens.kinds[end - 1] == NUM and 2 <= end - start <= 3


def _is_dated(draft: Draft, start: int, end: int) -> bool:
    """Is a whole field the date of a district, "…, 2 de Julho, …", behind a house number."""
    own = draft.tokens.gaps[start] == HARD and _closed(draft, end)
    return draft.numbered and own and end - start == 3 and date_follows(draft.tokens, start)


def _add_named(draft: Draft, start: int, end: int) -> None:
    draft.add_part(start, end, standard.named_unit(draft.tokens, start, end))


# -- district -----------------------------------------------------------------------------------------------------


def _read_district(draft: Draft, start: int, end: int) -> Reason | None:
    tokens = draft.tokens
    if tokens.keys[start] in lx.SHORT_DISTRICT_LABELS and tokens.dots[start] and end - start > 1:
        if not _is_short_label(draft, start, end):
            return Reason.DISTRICT_AMBIGUOUS
        draft.claim(start, start + 1, LABEL)
        start += 1
    slot = (start, end) == draft.evidence.slot
    if not (
        may_be_district(tokens, start, end, sector=not draft.start.kind) or (slot and may_fill_slot(tokens, start))
    ):
        return Reason.TEXT_UNEXPLAINED
    district = standard.district(tokens, start, end)
    reason = _misplaced(draft, start, end, district)
    if reason is not None:
        return reason
    known = _is_known(draft, start)
    draft.score += weights.DISTRICT + (weights.DISTRICT_KNOWN if known else 0.0)
    draft.district = district
    draft.claim(start, end, DISTRICT)
    return None


def _is_known(draft: Draft, start: int) -> bool:
    return start in draft.evidence.labelled or draft.tokens.keys[start] in lx.DISTRICT_WORDS


def _misplaced(draft: Draft, start: int, end: int, district: str) -> Reason | None:
    """Say why what may be a district's name is none where it stands."""
    if end - start == 1 and _follows_label(draft.tokens, start):
        return Reason.DISTRICT_AMBIGUOUS  # "Bairro Novo" may be the whole name
    if start < draft.start.at and not _is_known(draft, start) and not _is_beside_city(draft, start, end):
        return Reason.TEXT_UNEXPLAINED
    if start in draft.evidence.labelled:
        return None
    doubtful = (start, end) != draft.evidence.slot and any(doubt(draft, start, end) for doubt in _DOUBTS)
    return Reason.DISTRICT_AMBIGUOUS if doubtful or _is_capital_apart(draft, district) else None


def _is_beside_city(draft: Draft, start: int, end: int) -> bool:
    return draft.place.start < start or draft.place.start == end


def _follows_label(tokens: Tokens, at: int) -> bool:
    """Is it the "Novo" of "Bairro Novo"."""
    if at == 0 or tokens.keys[at] not in lx.DISTRICT_QUALIFIERS:
        return False
    return tokens.keys[at - 1] in lx.DISTRICT_LABELS and not tokens.colons[at - 1]


def _is_misspelt_city(draft: Draft, start: int, end: int) -> bool:
    """Does what stands right before the state look like another city, so that "Barra, Salavdor, BA" is no Barra."""
    place = draft.place
    if place.state is None or start < place.end or end != place.state.start:
        return False
    return gazetteer.resembles_one(draft.tokens.phrase(start, end), place.uf)


def _is_capital_apart(draft: Draft, district: str) -> bool:
    """Is the district called like the state's capital, as where "Salvador, Barra, BA" names city before district."""
    return district == gazetteer.CAPITALS[draft.place.uf] != draft.place.name


def _holds_city(draft: Draft, start: int, end: int) -> bool:
    """Does it end in the city's name of several words: "Sion Belo Horizonte, Belo Horizonte" says it twice."""
    city = draft.tokens.keys[draft.place.start : draft.place.end]
    return len(city) > 1 and end - start > len(city) and draft.tokens.keys[end - len(city) : end] == city


def _is_unbounded(draft: Draft, start: int, end: int) -> bool:
    """Does the district touch the street's name with nothing between that shows where one ends."""
    tokens = draft.tokens
    touches = start > 0 and draft.marks[start - 1] == STREET and tokens.gaps[start] != HARD
    return touches and tokens.keys[start] not in lx.STRONG_STARTERS and tokens.kinds[start - 1] != NUM


def _may_be_counted(draft: Draft, start: int, end: int) -> bool:
    """May the word behind a number that is the street's name belong to it: "Av. 3 Passos"."""
    tokens = draft.tokens
    touches = draft.marks[start - 1] == STREET and tokens.gaps[start] != HARD and tokens.kinds[start - 1] == NUM
    return touches and tokens.keys[start].endswith("s") and tokens.keys[start] not in lx.STRONG_STARTERS


_DOUBTS: Final = (_is_unbounded, _may_be_counted, _is_misspelt_city, _holds_city)


def _is_short_label(draft: Draft, start: int, end: int) -> bool:
    """Is "B." short for "Bairro", not for the Bom, Boa, Bela of the district's own name."""
    following = draft.tokens.keys[start + 1]
    if following in lx.DISTRICT_WORDS or following in lx.AFTER_SHORT_LABEL or following in lx.GOOD:
        return True
    return end - start > 2 and following not in lx.AFTER_GOOD
