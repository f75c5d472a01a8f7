"""A second look at a text that the rules refused, with a postal base: where do street and district begin and end.

The base adds no word. Where it lists a street of the city, and the text names a district that this street is in, the
two get the separators that somebody left out, and the district its label; then the rules read the text as any other. A
reading counts when street and district are those of the base's row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address.marks import DROPPED
from normalizer.domain.address.passes import gather
from normalizer.domain.address.places import places
from normalizer.domain.address.postal import district_key, key_of, street_key
from normalizer.domain.address.sectors import starts
from normalizer.domain.address.tokens import HARD, NUM, WORD, Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normalizer.domain.address.evidence import Evidence
    from normalizer.domain.address.places import Place
    from normalizer.domain.address.postal import Names, PostalBase, Row
    from normalizer.domain.address.streets import Start
    from normalizer.domain.address.value import Address

_PLACES_TRIED: Final = 3
_LONGEST: Final = 8  # words of a name


class Sight(NamedTuple):
    """Where a street and a district of one row of the base stand: tokens [start, street_end), [district, end)."""

    street_end: int
    district: int
    end: int
    row: Row

    def holds(self, address: Address) -> bool:
        """Is this what the rules have read, too."""
        row = self.row
        return (
            (address.cidade, address.estado) == (row.city, row.uf)
            and street_key(address.rua) == street_key(row.street)
            and address.bairro is not None
            and district_key(address.bairro) == district_key(row.district)
        )


def second_look(evidence: Evidence, base: PostalBase) -> Iterator[tuple[Sight, Evidence]]:
    """Yield each way in which rows of the base stand in the text, with the evidence that shows it to the rules."""
    for place in places(evidence)[:_PLACES_TRIED]:
        for sight in _sights(evidence, place, base):
            shown = _shown(evidence, sight)
            if shown is not None:
                shown.mark(sight.end, place.start, DROPPED)  # a second district, a subdistrict
                yield sight, shown


def _sights(evidence: Evidence, place: Place, base: PostalBase) -> Iterator[Sight]:
    streets = base.streets_of(gazetteer.Municipality(place.name, place.uf))
    for start in starts(evidence, place) if len(streets) else ():
        end, rows = _longest_street(evidence, place, start, streets)
        yield from _with_district(evidence, place, end, rows)


def _longest_street(evidence: Evidence, place: Place, start: Start, streets: Names) -> tuple[int, Sequence[Row]]:
    """Return where the longest street of the city that begins at `start` ends, and its rows."""
    tokens, first = evidence.tokens, start.name
    counted = tokens.keys[start.at : start.at + 1] if tokens.kinds[start.at] == NUM and start.at < first else []
    for end in range(min(_run_end(evidence, place, first), first + _LONGEST), first, -1):
        rows = streets.rows(key_of([*counted, *tokens.keys[first:end]]))
        if rows:
            return end, rows
    return first, ()


def _run_end(evidence: Evidence, place: Place, at: int) -> int:
    """Return where the words and numbers from `at` on end: at a separator, at what is explained, at the city."""
    tokens, end = evidence.tokens, at
    while evidence.free(end) and tokens.kinds[end] in (WORD, NUM) and end != place.start:
        if end > at and tokens.gaps[end] == HARD:
            break
        end += 1
    return end


def _with_district(evidence: Evidence, place: Place, street_end: int, rows: Sequence[Row]) -> Iterator[Sight]:
    """Yield each place behind the street where a district stands that the street is in."""
    wanted = {district_key(row.district): row for row in rows if row.district}
    for at in range(street_end, evidence.tokens.size) if wanted else ():
        if evidence.tokens.keys[at] in lx.PREPOSITIONS or place.start <= at < place.end:
            continue
        end = _run_end(evidence, place, at)  # to the end of the run: what follows may belong to the name, "Caxias I"
        row = wanted.get(key_of(evidence.tokens.keys[at:end])) if 0 < end - at <= _LONGEST else None
        if row is not None:
            yield Sight(street_end, at, end, row)


def _shown(evidence: Evidence, sight: Sight) -> Evidence | None:
    """Return the evidence of the text with the separators of the sight; None where they make it another text."""
    tokens = evidence.tokens
    text = tokens.text
    for cut in sorted({sight.street_end, sight.district, sight.end} - {tokens.size}, reverse=True):
        if tokens.gaps[cut] != HARD:
            text = f"{text[: tokens.starts[cut]]}, {text[tokens.starts[cut] :]}"
    again = Tokens(text)
    shown = gather(again) if again.keys == tokens.keys else None
    if shown is None or any(shown.marks[sight.district : sight.end]):
        return None
    shown.labelled[sight.district] = "bairro"
    return shown
