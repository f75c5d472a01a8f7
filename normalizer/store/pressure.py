"""Concurrency and bulk size of MongoDB's operations, by how hard it is pressed.

A server that does not keep up gets slower with everything it is sent on top; pressed less, it catches up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from normalizer.errors import StoreUnavailable
from normalizer.store.connection import BULK


class Turns:
    """At most `at_once` loads and bulks of one process under way; who waits for longer than `patience_s` gives up."""

    def __init__(self, *, at_once: int = 3, patience_s: float = 15.0) -> None:
        self._places, self._patience_s = asyncio.Semaphore(at_once), patience_s

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Hold a place. StoreUnavailable when none got free in time."""
        try:
            async with asyncio.timeout(self._patience_s):
                await self._places.acquire()
        except TimeoutError:
            raise StoreUnavailable("O MongoDB não acompanha: há operações demais à espera.") from None
        try:
            yield
        finally:
            self._places.release()


class Stride:
    """How many rows one bulk may carry: half as many after each that MongoDB did not take in time, then more again.

    A server too slow for a bulk would otherwise be sent the same bulk for ever, each time on top of the last.
    """

    def __init__(self, largest: int = BULK, smallest: int = 20) -> None:
        self._largest, self._smallest, self.size = largest, smallest, largest

    def failed(self, rows: int) -> None:
        """A bulk of so many rows was not taken."""
        self.size = max(self._smallest, min(self.size, rows) // 2)

    def taken(self, rows: int) -> None:
        """A bulk of so many rows was taken."""
        if rows >= self.size:
            self.size = min(self._largest, self.size * 2)
