"""Queue of texts waiting for a call: when a batch is due, and which texts it takes. Pure: time is an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from normalizer.llm.packing import BatchSize, Budget, Pace, pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from normalizer.llm.single_flight import PendingText

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
