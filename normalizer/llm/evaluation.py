"""Record evaluation: a decision, or another question in a smaller call. Pure.

Every valid record of an answer is kept. A record is asked again when nothing usable was said about it; calls shrink
with each ask, so the asking ends, and only a record that failed alone is given up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from normalizer.domain.address import Address, standardize
from normalizer.domain.decision import Decision, Reason, Settled, Undecided
from normalizer.domain.gazetteer import UF_NAMES, name_key

if TYPE_CHECKING:
    from normalizer.llm.prompt import Segments

_LARGEST_SECOND_CALL: Final = 8
_CEP: Final = re.compile(r"(?:\D*\d){8}\D*")
_STATES: Final = frozenset(map(name_key, [*UF_NAMES, *UF_NAMES.values()]))


@dataclass(frozen=True, slots=True)
class Again:
    """Ask once more.

    Attributes:
        reason: what review is told should there be no smaller call left.
        alone: among others it would go wrong again.
    """

    reason: Reason
    alone: bool = False


def evaluate_record(text: str, segments: Segments | None, *, asked: int) -> Decision[Address] | Again:
    """Return what the model's segments say about `text`, every value grounded in that text and no other.

    Args:
        text: the record's own text.
        segments: what its slot says; None where it says nothing usable.
        asked: how many records were in the call. Alone, an honest "not there" (no street, no city) ends the asking;
            among others it may be a skipped field, as a value that does not hold may be a neighbour's.
    """
    if segments is None:
        return Again(Reason.MODEL_NO_ANSWER)
    if not any(segments.values()):
        return Undecided(Reason.MODEL_NO_ANSWER)
    decision = standardize(segments, text)
    if isinstance(decision, Settled):
        return decision
    if is_shifted(segments):
        return Again(decision.reason, alone=True)
    return Again(decision.reason) if asked > 1 or (segments["rua"] and segments["cidade"]) else decision


def is_shifted(segments: Segments) -> bool:
    """Tell whether fields stand in each other's places: small models skip an empty one and shift what follows it."""
    state, cep, city = segments["estado"], segments["cep"], segments["cidade"]
    return bool(
        (state and name_key(state) not in _STATES)
        or (cep and not _CEP.fullmatch(cep))
        or (city and city.upper() in UF_NAMES)
    )


def next_call_size(asked: int) -> int | None:
    """Return how many records the next call may hold after one of `asked` left a record open; None: there is no next.

    25 → 8 → 2 → 1: asking only the missing again costs a fraction of repeating the batch.
    """
    return None if asked <= 1 else max(1, min(_LARGEST_SECOND_CALL, asked // 3))


def half(asked: int) -> int | None:
    """Return how many records the next call may hold after `asked` were refused as a whole; None: it was alone."""
    return None if asked <= 1 else asked // 2
