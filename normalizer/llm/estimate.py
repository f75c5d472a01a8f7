"""Estimate of a sheet's calls and tokens, before anything is sent. Pure: counts in, figures out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from normalizer.llm.answer import Usage
from normalizer.llm.packing import Budget, Cost, Pace, pack
from normalizer.llm.pricing import price
from normalizer.llm.prompt import SYSTEM, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

# Measured with o200k_base on the development set, beside the words of the texts themselves.
ANSWER_OVERHEAD_TOKENS = 20
"""Slot, names of the fields, quotes and commas of one answered record."""
RECORD_OVERHEAD_TOKENS = 16
"""Slot and line break of one record, and its slot's place in the schema."""
PROMPT_OVERHEAD_TOKENS = 150
"""Roles, and the schema's frame."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Calls, tokens, money and time for the texts that only a model can settle."""

    texts: int
    calls: int
    tokens_in: int
    tokens_out: int
    usd: float
    minutes: float


def cost_of(record: Record, count: Callable[[str], int]) -> Cost:
    """Return what one record is expected to take of a call."""
    words = count(record.text)
    max_call_size = 1 if record.suspicious else None
    return Cost(words + RECORD_OVERHEAD_TOKENS, words + ANSWER_OVERHEAD_TOKENS, max_call_size)


def max_tokens_out(costs: Iterable[Cost]) -> int:
    """Return how long an answer to these may get: twice what is expected, and some."""
    return 2 * sum(cost.tokens_out for cost in costs) + 100


def prompt_tokens(count: Callable[[str], int]) -> int:
    """Return what every call takes beside its records."""
    return count(SYSTEM) + PROMPT_OVERHEAD_TOKENS


def estimate(
    texts: Sequence[str],
    *,
    model: str,
    count: Callable[[str], int],
    budget: Budget | None = None,
    rpm: int = 0,
    tpm: int = 0,
    concurrency: int = 8,
    tier: str | None = None,
    pace: Pace | None = None,
) -> Estimate:
    """Return what asking about `texts` (distinct, unsettled) would take.

    Args:
        texts: each is asked once; asking again for broken records is not foreseen.
        model: whose price counts.
        count: tokens of a text.
        budget: what one call may hold.
        rpm, tpm: the limits, 0 = unlimited. The minutes are the longest of what limits and endpoint speed demand.
        concurrency: calls under way at once.
        tier: the service tier whose price counts.
        pace: how long calls take, as far as it is known.
    """
    costs = [cost_of(record, count) for record in map(Record.of, texts) if record.text]
    costs.sort(key=lambda each: each.max_call_size or 0)  # as in `PendingTexts`: who goes alone cuts no call
    calls = list(pack(costs, budget=budget or Budget(), cost=lambda each: each))
    tokens_in = len(calls) * prompt_tokens(count) + sum(each.tokens_in for each in costs)
    tokens_out = sum(each.tokens_out for each in costs)
    pace = pace or Pace()
    each_s = [pace.seconds(sum(each.tokens_out for each in call)) for call in calls]
    seconds = [sum(each_s) / max(1, concurrency), max(each_s, default=0.0)]
    seconds += [60 * len(calls) / rpm] if rpm else []
    seconds += [60 * (tokens_in + tokens_out) / tpm] if tpm else []
    return Estimate(
        texts=len(costs),
        calls=len(calls),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        usd=round(price(model).of(Usage(tokens_in, tokens_out, tier=tier)), 6),
        minutes=round(max(seconds) / 60, 2),
    )
