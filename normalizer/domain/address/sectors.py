"""Streets that need no type: sectors and quadras of planned towns ("SQN 210", "Quadra 38", "ARSE 51", "Folha 27")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from normalizer.domain.address import lexicon as lx
from normalizer.domain.address import towns, weights
from normalizer.domain.address.marks import DROPPED, LABEL
from normalizer.domain.address.streets import Start, last_resorts, starts_behind, typed_starts
from normalizer.domain.address.tokens import BLANK, GLUED, HARD, HYPHEN, NUM, SLASH, WORD

if TYPE_CHECKING:
    from normalizer.domain.address.evidence import Evidence
    from normalizer.domain.address.places import Place
    from normalizer.domain.address.tokens import Tokens
    from normalizer.domain.address.units import Unit

_TRIED: Final = 3
_NAMED_LETTERS: Final = 3  # of a code that needs no number
_QUADRA_DIGITS: Final = 3


def starts(evidence: Evidence, place: Place) -> list[Start]:
    """Return where the street may begin if the city is `place`, likeliest first."""
    town = towns.town(place.uf, place.name)
    found = _quadras(evidence, place, town) + _coded(evidence, town) + typed_starts(evidence)
    if not found:
        found = starts_behind(evidence, place)
        found += [start for start in last_resorts(evidence) if town.untyped_streets or not start.bare]
    first = min(found, default=None)
    if first is not None and not first.kind and town.inner:
        found = [first]  # "ARSE 51, Alameda 3": the street is inside
    found.sort(key=lambda start: -start.score)
    return found[:_TRIED]


def _quadras(evidence: Evidence, place: Place, town: towns.Town) -> list[Start]:
    """Return the quadra that opens an address where it is the street."""
    if not evidence.units or not town.opening_quadra:
        return []
    first = evidence.units[0]
    behind = {place.end, place.state.end if place.state else place.end}  # "sobradinho df qd 8 …"
    opens = evidence.tokens.gaps[first.start] == HARD or first.start in behind
    return [Start(first.start, "", first.start, weights.QUADRA)] if opens and first.keyword == lx.AREA_STREET else []


def _coded(evidence: Evidence, town: towns.Town) -> list[Start]:
    """Return the starts that a code of the town shows, or the side of a quadra ("1106 Sul")."""
    if not town.codes and not town.sided_quadra:
        return []
    found = [
        at for at in range(evidence.tokens.size - 1) if _opens(evidence, at) and _is_code(evidence.tokens, at, town)
    ]
    return [Start(at, "", at, weights.CODED_STREET) for at in found]


def _opens(evidence: Evidence, at: int) -> bool:
    """Does the free token open a field, or follow what was explained."""
    return evidence.free(at) and (evidence.tokens.gaps[at] == HARD or evidence.marks[at - 1] in (LABEL, DROPPED))


def _is_code(tokens: Tokens, at: int, town: towns.Town) -> bool:
    if tokens.keys[at] in town.codes:
        return True
    return town.sided_quadra and tokens.kinds[at] == NUM and tokens.keys[at + 1] in lx.QUADRA_SIDES


def sector_end(tokens: Tokens, start: int, units: list[Unit]) -> int:
    """Return where a sector or quadra that begins at `start` ends ("SHIS QI 11", "EQNP 8/12", "Quadra 1106 Sul").

    A Quadra or Trecho behind the sector's code belongs to it ("SMPW Quadra 17", "SBS, QD. 9"); any other unit ends
    it. Returns `start` when there is neither a number nor a name, and so no sector.
    """
    ends = {unit.start: unit.end for unit in units if unit.keyword in lx.AREAS}
    others = {unit.start for unit in units} - ends.keys()
    at, numbered, area = start, False, start in ends
    while at not in others:
        if at in ends and not numbered:
            at, numbered = ends[at], True
        elif _continues(tokens, start, at, numbered=numbered, area=area):
            at, numbered = at + 1, _numbers(tokens, start, at, numbered=numbered)
        else:
            break
    return at if numbered or _is_named(tokens, start, at, others) else start


def _numbers(tokens: Tokens, start: int, at: int, *, numbered: bool) -> bool:
    """Is the sector's number read once the token at `at` is: the second code of "ARSE 72 QI 5" asks for another."""
    return tokens.kinds[at] == NUM or (numbered and not _continued(tokens, start, at))


def _is_named(tokens: Tokens, start: int, end: int, others: set[int]) -> bool:
    """Is the sector named without a number, a field of its own before the units: "SDN - CONJUNTO A", "SETOR D SUL"."""
    named = tokens.keys[start] in lx.SECTORS or (len(tokens.keys[start]) >= _NAMED_LETTERS and end - start == 1)
    return end in others and named and tokens.gaps[end] == HARD and tokens.hard_end(start) == end


def _continues(tokens: Tokens, start: int, at: int, *, numbered: bool, area: bool) -> bool:
    """Does the token belong to the sector. `numbered`: its number was read. `area`: a quadra opens it."""
    if at >= tokens.size or (at > start and tokens.gaps[at] == HARD):
        return False
    if tokens.kinds[at] == NUM:
        return not numbered or tokens.gaps[at] in (SLASH, HYPHEN) or _is_between(tokens, at)
    if numbered:
        return _closes(tokens, start, at, area=area) or _continued(tokens, start, at)
    return tokens.kinds[at] == WORD and _is_named_by(tokens, start, at)


def _is_named_by(tokens: Tokens, start: int, at: int) -> bool:
    """Is it a code, or a word behind "Setor"."""
    return tokens.keys[at] in towns.ALL_CODES or tokens.keys[start] in lx.SECTORS


def _closes(tokens: Tokens, start: int, at: int, *, area: bool) -> bool:
    """Is it the letter of "QNN 10-B" or the side of "Quadra 1106 Sul"."""
    if len(tokens.keys[at]) == 1:
        return tokens.gaps[at] in (GLUED, HYPHEN)
    return tokens.keys[at] in lx.QUADRA_SIDES and (area or tokens.kinds[start] == NUM)


def _is_between(tokens: Tokens, at: int) -> bool:
    """Is it the second number of a quadra between two: "EQN 114 115"."""
    first, second = tokens.keys[at - 1], tokens.keys[at]
    both = tokens.kinds[at - 1] == NUM and tokens.gaps[at] == BLANK and len(first) == len(second) == _QUADRA_DIGITS
    return both and first < second


def mark_prefixes(evidence: Evidence) -> None:
    """Explain what says again that a sector follows: "ST SAUN", "Q SHIS QI 11"."""
    tokens = evidence.tokens
    if lx.SECTOR_PREFIXES.isdisjoint(tokens.vocabulary):
        return
    for at in range(tokens.size - 1):
        coded = tokens.keys[at + 1] in towns.ALL_CODES and len(tokens.keys[at + 1]) >= _NAMED_LETTERS
        if tokens.keys[at] in lx.SECTOR_PREFIXES and tokens.gaps[at] == HARD and coded:
            evidence.mark(at, at + 1, LABEL)


def _continued(tokens: Tokens, start: int, at: int) -> bool:
    """Is it the second code of "ARSE 72 QI 5"."""
    return tokens.keys[at] in towns.INNER and tokens.keys[start] in towns.CONTINUED and tokens.is_number(at + 1)
