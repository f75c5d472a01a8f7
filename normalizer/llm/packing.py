"""Batches, one per model call: what one may hold, which waiting texts it takes and when, what a sheet would take.

Pure: time is an argument. Output tokens are what costs time and money, so they bound a batch first; then input tokens
and the number of items.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

from normalizer.llm.answer import Usage
from normalizer.llm.pricing import price
from normalizer.llm.prompt import SYSTEM, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from normalizer.llm.single_flight import PendingText

T = TypeVar("T")

_TELLING: Final = 6  # so many records must go wrong together before they say that fewer would go better
_SAFETY: Final = 0.8  # plan for less than all the time there is


@dataclass(frozen=True, slots=True)
class Cost:
    """What one item takes of a batch, or a batch in all."""

    tokens_in: int = 0
    tokens_out: int = 0
    max_call_size: int | None = None
    """At most this many items in its batch (1 = it must be alone); None leaves it to the budget."""

    def __add__(self, other: Cost) -> Cost:
        sizes = [size for size in (self.max_call_size, other.max_call_size) if size is not None]
        return Cost(self.tokens_in + other.tokens_in, self.tokens_out + other.tokens_out, min(sizes, default=None))


@dataclass(frozen=True, slots=True)
class Budget:
    """What one batch may hold. `tokens_in` is what records may take, the fixed prompt not counted."""

    items: int = 25
    tokens_in: int = 4_000
    tokens_out: int = 2_500

    def within(self, tokens_out: int) -> Budget:
        """Return this budget with no more than `tokens_out` output tokens (what the time left allows)."""
        return replace(self, tokens_out=max(0, min(self.tokens_out, tokens_out)))

    def holds(self, items: int, cost: Cost) -> bool:
        """Tell whether so many items that cost so much in all make one batch."""
        in_tokens = cost.tokens_in <= self.tokens_in and cost.tokens_out <= self.tokens_out
        return in_tokens and items <= min(self.items, cost.max_call_size or self.items)


def pack(items: Sequence[T], *, budget: Budget, cost: Callable[[T], Cost]) -> Iterator[list[T]]:
    """Yield batches that hold every item once, in order, none over `budget` but a single item that is over it alone."""
    batch: list[T] = []
    total = Cost()
    for item in items:
        wanted = cost(item)
        grown = total + wanted
        if batch and not budget.holds(len(batch) + 1, grown):
            yield batch
            batch, grown = [], wanted
        batch.append(item)
        total = grown
    if batch:
        yield batch


class BatchSize:
    """How many items a batch may hold: grows while answers come back whole, halves when they do not.

    Accuracy holds to about 100 items a call for most models and falls sharply past 200, so 50 is the cap.
    """

    def __init__(self, *, start: int = 25, largest: int = 50) -> None:
        if not 1 <= start <= largest:
            raise ValueError("sizes must be 1 <= start <= largest")
        self._size, self._largest = start, largest

    @property
    def items(self) -> int:
        """Items a batch may hold now."""
        return self._size

    def observe(self, *, asked: int, valid: int) -> None:
        """Learn from one answer. A small call says nothing about larger ones, neither well nor badly."""
        if asked == 0:
            return
        if valid < 0.8 * asked:
            if asked >= min(self._size, _TELLING):
                self.shrink(asked)
        elif valid >= 0.95 * asked and asked >= self._size:
            self._size = min(self._largest, self._size + min(5, self._size))

    def shrink(self, asked: int) -> None:
        """A call of `asked` was too large."""
        self._size = max(1, min(self._size, asked) // 2)


class Pace:
    """How long a call takes: seconds = latency + output tokens x seconds per token, learned with fading memory.

    A least-squares line over past calls, older ones counting less; before the first call a slow endpoint is assumed.
    """

    def __init__(self, *, latency_s: float = 1.0, tokens_per_s: float = 60.0, memory: float = 0.9) -> None:
        self._memory = memory
        self._sums = [0.0] * 5  # of weights, x, y, x², xy
        for tokens in (100.0, 1_000.0):  # the assumption, as two calls seen long ago
            self._add(tokens, latency_s + tokens / tokens_per_s, weight=0.2)

    def observe(self, *, tokens_out: int, seconds: float) -> None:
        """Learn from one finished call."""
        self._sums = [self._memory * each for each in self._sums]
        self._add(float(tokens_out), seconds, weight=1.0)

    def seconds(self, tokens_out: int) -> float:
        """Return how long a call of `tokens_out` is expected to take."""
        latency, per_token = self._line()
        return latency + per_token * tokens_out

    def tokens_within(self, seconds: float) -> int:
        """Return how many output tokens are expected to fit in `seconds`; 0 if not even the latency does."""
        latency, per_token = self._line()
        return max(0, int((seconds - latency) / per_token))

    def _add(self, x: float, y: float, *, weight: float) -> None:
        terms = (1.0, x, y, x * x, x * y)
        self._sums = [each + weight * term for each, term in zip(self._sums, terms, strict=True)]

    def _line(self) -> tuple[float, float]:
        weight, x, y, xx, xy = self._sums
        mean_x, mean_y = x / weight, y / weight
        spread = xx / weight - mean_x * mean_x
        slope = (xy / weight - mean_x * mean_y) / spread if spread > 1.0 else mean_y / max(mean_x, 1.0)
        slope = max(min(slope, mean_y / max(mean_x, 1.0)), 1e-5)  # no negative latency, no endless speed
        return max(0.0, mean_y - slope * mean_x), slope


class PendingTexts:
    """Two queues: texts asked for the first time, and before them those that are asked again.

    Args:
        budget: what one call may hold at most.
        size: how many records a call may hold, adapted below the budget to what comes back valid.
        pace: how long calls take, learned.
        linger_s: how long a text waits for others to share its call.
        call_timeout_s: a call is planned to end within.

    All other times are points on one clock, in seconds.
    """

    def __init__(self, *, budget: Budget, size: BatchSize, pace: Pace, linger_s: float, call_timeout_s: float) -> None:
        self._budget, self._size, self._pace = budget, size, pace
        self._linger_s, self._call_timeout_s = linger_s, call_timeout_s
        self._fresh: list[PendingText] = []
        self._again: list[PendingText] = []

    def add(self, entry: PendingText) -> None:
        """Queue a new text."""
        self._fresh.append(entry)

    def put_back(self, entries: Sequence[PendingText]) -> None:
        """Put texts at the head: they were on their way and could not go."""
        self._fresh[:0] = entries

    def add_again(self, entries: Iterable[PendingText]) -> None:
        """Queue texts that an answer left open."""
        self._again.extend(entries)

    def waiting(self) -> list[PendingText]:
        """All of them."""
        return [*self._again, *self._fresh]

    def due_in(self, now: float, *, nothing_more: bool) -> float | None:
        """Return the seconds until a batch is due; 0 when one is now, None when there is nothing to ask."""
        waiting = self.waiting()
        if not waiting:
            return None
        if nothing_more or self._is_full(self._fresh) or self._is_full(self._again):
            return 0.0
        return max(0.0, min(entry.since for entry in waiting) + self._linger_s - now)

    def next_batch(self, now: float) -> list[PendingText]:
        """Take the next batch out, sized so that it ends before its first deadline; empty if none.

        Texts with the same `max_call_size` go together: one that must be alone would else cut the call of the others.
        """
        for queue in (self._again, self._fresh):
            if queue:
                alike = [entry for entry in queue if entry.cost.max_call_size == queue[0].cost.max_call_size]
                left_s = min(entry.deadline for entry in alike[: self._size.items]) - now
                batch = next(pack(alike, budget=self._budget_within(left_s), cost=lambda entry: entry.cost))
                return self.take(set(batch).__contains__)
        return []

    def take_late(self, now: float) -> list[PendingText]:
        """Take out what would not end in time.

        With half its time still ahead a text may always start, else one slow call could close the lane for good.
        """

        def is_late(entry: PendingText) -> bool:
            needed_s = min(self._pace.seconds(entry.cost.tokens_out), self._call_timeout_s, 0.5 * entry.patience_s)
            return entry.deadline - now < needed_s

        return self.take(is_late)

    def take(self, chosen: Callable[[PendingText], bool] = lambda _: True) -> list[PendingText]:
        """Take out what is chosen; everything by default."""
        taken = [entry for entry in self.waiting() if chosen(entry)]
        gone = set(taken)
        for queue in (self._again, self._fresh):
            queue[:] = [entry for entry in queue if entry not in gone]
        return taken

    def _is_full(self, queue: Sequence[PendingText]) -> bool:
        budget = self._budget_within(self._call_timeout_s)
        return len(queue) >= budget.items or sum(entry.cost.tokens_out for entry in queue) >= budget.tokens_out

    def _budget_within(self, left_s: float) -> Budget:
        tokens_out = self._pace.tokens_within(_SAFETY * min(self._call_timeout_s, left_s))
        return replace(self._budget.within(tokens_out), items=min(self._size.items, self._budget.items))


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
    """
    costs = [cost_of(record, count) for record in map(Record.of, texts) if record.text]
    costs.sort(key=lambda each: each.max_call_size or 0)  # as in `PendingTexts`: who goes alone cuts no call
    calls = list(pack(costs, budget=budget or Budget(), cost=lambda each: each))
    totals = [sum(call, Cost()) for call in calls]
    whole = sum(totals, Cost())
    tokens_in, tokens_out = len(calls) * prompt_tokens(count) + whole.tokens_in, whole.tokens_out
    each_s = list(map(Pace().seconds, (call.tokens_out for call in totals)))
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
