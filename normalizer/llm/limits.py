"""What guards the way to the model: calls under way at once, and whether a call may start now.

A refused start is a value (`Denied`), because the packer then packs anew with what arrived meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from normalizer.errors import ProviderUnavailable, RateLimited, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from normalizer.llm.client import Answer


@dataclass(frozen=True, slots=True)
class Admitted:
    """The call may start; hand this back when it ended."""

    tokens: int
    id: str = ""


@dataclass(frozen=True, slots=True)
class Denied:
    """Not now: try again in `wait_s`. `closed`: the provider is down, so nobody should hold on waiting for it."""

    wait_s: float
    error: TransientError
    closed: bool = False


class Gate(Protocol):
    """Decides whether a call may start, and learns from how it ended."""

    async def free(self) -> None:
        """Return once this process may have one more call under way."""

    async def admit(self, tokens: int) -> Admitted | Denied:
        """Ask to start a call expected to take `tokens` (in and out)."""

    async def succeeded(self, call: Admitted, answer: Answer) -> None:
        """The provider answered, whatever it said."""

    async def failed(self, call: Admitted, error: TransientError | None) -> None:
        """The call brought nothing. None: not the provider's fault (a refused batch)."""


class Concurrency:
    """How many calls may be under way: one more after each full round of successes, half after a 429 or a failure."""

    def __init__(self, *, start: int = 4, largest: int = 8) -> None:
        self._limit, self._largest = float(min(start, largest)), largest
        self.under_way = 0
        self._changed = asyncio.Event()

    @property
    def limit(self) -> int:
        """Calls that may be under way now."""
        return max(1, int(self._limit))

    async def free(self) -> None:
        """Return once there is a place."""
        while self.under_way >= self.limit:
            self._changed.clear()
            await self._changed.wait()

    def begin(self) -> None:
        """Take a place."""
        self.under_way += 1

    def end(self, *, succeeded: bool | None) -> None:
        """Give the place back; None leaves the limit as it is."""
        self.under_way -= 1
        if succeeded:
            self._limit = min(float(self._largest), self._limit + 1 / self._limit)
        elif succeeded is False:
            self._limit = max(1.0, self._limit / 2)
        self._changed.set()


class LocalGate:
    """The guard of one process: adaptive concurrency, pauses the provider asked for, a breaker. No Redis."""

    def __init__(
        self,
        *,
        largest: int = 8,
        failures_to_open: int = 5,
        open_s: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._concurrency = Concurrency(largest=largest)
        self._failures_to_open, self._open_s, self._clock = failures_to_open, open_s, clock
        self._failures = 0
        self._not_before = 0.0
        self._probing = False

    async def free(self) -> None:
        """Return once this process may have one more call under way."""
        await self._concurrency.free()

    async def admit(self, tokens: int) -> Admitted | Denied:
        """Ask to start a call."""
        wait_s = self._not_before - self._clock()
        is_open = self._failures >= self._failures_to_open
        if wait_s > 0:
            error: TransientError = RateLimited("the provider asked for a pause", retry_after_s=wait_s)
            if is_open:
                error = ProviderUnavailable("the model provider is down", retry_after_s=wait_s)
            return Denied(wait_s, error, closed=is_open)
        if is_open and self._probing:
            return Denied(
                1.0, ProviderUnavailable("the model provider is being probed", retry_after_s=1.0), closed=True
            )
        self._probing = is_open
        self._concurrency.begin()
        return Admitted(tokens)

    async def succeeded(self, call: Admitted, answer: Answer) -> None:
        """Close the breaker and let concurrency grow."""
        self._failures, self._probing = 0, False
        self._concurrency.end(succeeded=True)

    async def failed(self, call: Admitted, error: TransientError | None) -> None:
        """Pause, halve, and open the breaker after too many failures in a row. A 429 is no failure of the provider."""
        self._probing = False
        self._concurrency.end(succeeded=None if error is None else False)
        if error is None:
            return
        wait_s = error.retry_after_s
        if not isinstance(error, RateLimited):
            self._failures += 1
            if self._failures >= self._failures_to_open:
                wait_s = max(wait_s or 0.0, self._open_s)
        pause = wait_s if wait_s is not None else min(0.25 * 2 ** min(self._failures, 6), 10.0)
        self._not_before = max(self._not_before, self._clock() + pause)
