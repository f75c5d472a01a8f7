"""What one record of an answer is worth: a decision, or another question in a smaller call. Pure.

Every valid record of an answer is kept. A record is asked again when nothing usable was said about it; calls shrink
with each ask, so the asking ends, and only a record that failed alone is given up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from normalizer.domain.address import Address, standardize
from normalizer.domain.decision import Decision, Reason, Settled, Undecided

if TYPE_CHECKING:
    from normalizer.llm.prompt import Segments

_LARGEST_SECOND_COMPANY: Final = 8


@dataclass(frozen=True, slots=True)
class Again:
    """Ask once more; `reason` is what review is told should there be no smaller call left."""

    reason: Reason


def evaluate_record(text: str, segments: Segments | None) -> Decision[Address] | Again:
    """Return what the model's segments say about `text`, every value grounded in that text and no other.

    An honest "not there" (no street or no city given) ends it. A value that does not hold is worth another question:
    it may be a neighbour's (swapped slots) or a shifted field.
    """
    if segments is None:
        return Again(Reason.MODEL_NO_ANSWER)
    if not any(segments.values()):
        return Undecided(Reason.MODEL_NO_ANSWER)
    decision = standardize(segments, text)
    if isinstance(decision, Settled) or not (segments["rua"] and segments["cidade"]):
        return decision
    return Again(decision.reason)


def next_call_size(asked: int) -> int | None:
    """Return how many records the next call may hold after one of `asked` left a record open; None: there is no next.

    25 → 8 → 2 → 1: asking only the missing again costs a fraction of repeating the batch.
    """
    return None if asked <= 1 else max(1, min(_LARGEST_SECOND_COMPANY, asked // 3))


def half(asked: int) -> int | None:
    """Return how many records the next call may hold after `asked` were refused as a whole; None: it was alone."""
    return None if asked <= 1 else asked // 2
