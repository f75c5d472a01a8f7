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

_TELLING = 6  # so many records must go wrong together before they say that fewer would go better


@dataclass(frozen=True, slots=True)
class Cost:
    """What one item takes of a batch: tokens, and how many may share its call (1 = it must be alone)."""

    tokens_in: int
    tokens_out: int
    max_call_size: int | None = None
    """At most this many items in its batch; None leaves it to the budget."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What one batch may hold. `tokens_in` is what records may take, the fixed prompt not counted."""

    items: int = 25
    tokens_in: int = 4_000
    tokens_out: int = 2_500

    def within(self, tokens_out: int) -> Budget:
        """Return this budget with no more than `tokens_out` output tokens (what the time left allows)."""
        return replace(self, tokens_out=max(0, min(self.tokens_out, tokens_out)))


def pack(items: Sequence[T], *, budget: Budget, cost: Callable[[T], Cost]) -> Iterator[list[T]]:
    """Yield batches that hold every item once, in order, none over `budget` but a single item that is over it alone."""
    batch: list[T] = []
    room = _Room(budget)
    for item in items:
        wanted = cost(item)
        if batch and not room.fits(wanted):
            yield batch
            batch, room = [], _Room(budget)
        batch.append(item)
        room.take(wanted)
    if batch:
        yield batch


class _Room:
    """What is left of a budget while a batch is being filled."""

    def __init__(self, budget: Budget) -> None:
        self._places = budget.items
        self._tokens_in, self._tokens_out = budget.tokens_in, budget.tokens_out
        self._taken = 0

    def fits(self, cost: Cost) -> bool:
        return (
            self._taken < self._places_with(cost)
            and cost.tokens_in <= self._tokens_in
            and cost.tokens_out <= self._tokens_out
        )

    def take(self, cost: Cost) -> None:
        self._places = self._places_with(cost)
        self._tokens_in -= cost.tokens_in
        self._tokens_out -= cost.tokens_out
        self._taken += 1

    def _places_with(self, cost: Cost) -> int:
        """A batch is as small as the most demanding of its items wants it."""
        return self._places if cost.max_call_size is None else min(self._places, cost.max_call_size)


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
        self._weight = self._x = self._y = self._xx = self._xy = 0.0
        for tokens in (100.0, 1_000.0):  # the assumption, as two calls seen long ago
            self._add(tokens, latency_s + tokens / tokens_per_s, weight=0.2)

    def observe(self, *, tokens_out: int, seconds: float) -> None:
        """Learn from one finished call."""
        for name in ("_weight", "_x", "_y", "_xx", "_xy"):
            setattr(self, name, getattr(self, name) * self._memory)
        self._add(float(tokens_out), seconds, weight=1.0)

    def observe_timeout(self, *, tokens_out: int, seconds: float) -> None:
        """Learn from a call left after `seconds`: so many expected tokens take longer, perhaps twice."""
        self.observe(tokens_out=tokens_out, seconds=2 * seconds)

    def seconds(self, tokens_out: int) -> float:
        """Return how long a call of `tokens_out` is expected to take."""
        latency, per_token = self._line()
        return latency + per_token * tokens_out

    def tokens_within(self, seconds: float) -> int:
        """Return how many output tokens are expected to fit in `seconds`; 0 if not even the latency does."""
        latency, per_token = self._line()
        return max(0, int((seconds - latency) / per_token))

    def _add(self, x: float, y: float, *, weight: float) -> None:
        self._weight += weight
        self._x += weight * x
        self._y += weight * y
        self._xx += weight * x * x
        self._xy += weight * x * y

    def _line(self) -> tuple[float, float]:
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        spread = self._xx / self._weight - mean_x * mean_x
        slope = (self._xy / self._weight - mean_x * mean_y) / spread if spread > 1.0 else mean_y / max(mean_x, 1.0)
        slope = max(min(slope, mean_y / max(mean_x, 1.0)), 1e-5)  # no negative latency, no endless speed
        return max(0.0, mean_y - slope * mean_x), slope


_SAFETY: Final = 0.8  # plan for less than all the time there is


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
                taken = set(batch)
                queue[:] = [entry for entry in queue if entry not in taken]
                return batch
        return []

    def take_late(self, now: float) -> list[PendingText]:
        """Take out what would not end in time.

        With half its time still ahead a text may always start, else one slow call could close the lane for good.
        """

        def is_late(entry: PendingText) -> bool:
            needed_s = min(self._pace.seconds(entry.cost.tokens_out), self._call_timeout_s, 0.5 * entry.patience_s)
            return entry.deadline - now < needed_s

        return self._take(is_late)

    def take_due_by(self, point: float) -> list[PendingText]:
        """Take out what has no time left at `point`."""
        return self._take(lambda entry: entry.deadline <= point)

    def take_all(self) -> list[PendingText]:
        """Take out everything."""
        return self._take(lambda _: True)

    def keep(self, wanted: Callable[[PendingText], bool]) -> None:
        """Drop what is not wanted any more."""
        self._take(lambda entry: not wanted(entry))

    def _take(self, chosen: Callable[[PendingText], bool]) -> list[PendingText]:
        taken: list[PendingText] = []
        for queue in (self._again, self._fresh):
            kept: list[PendingText] = []
            for entry in queue:
                (taken if chosen(entry) else kept).append(entry)
            queue[:] = kept
        return taken

    def _is_full(self, queue: Sequence[PendingText]) -> bool:
        budget = self._budget_within(self._call_timeout_s)
        return len(queue) >= budget.items or sum(entry.cost.tokens_out for entry in queue) >= budget.tokens_out

    def _budget_within(self, left_s: float) -> Budget:
        items = min(self._size.items, self._budget.items)
        tokens_out = self._pace.tokens_within(_SAFETY * min(self._call_timeout_s, left_s))
        return Budget(items, self._budget.tokens_in, self._budget.tokens_out).within(tokens_out)


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
