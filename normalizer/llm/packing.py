"""Cuts a sequence of records into batches, one batch per model call. Pure: no clock, no I/O.

Output tokens are what costs time and money, so they bound a batch first; then input tokens and the number of items.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
