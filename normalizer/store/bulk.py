"""Unordered bulks: what the server refuses of one lies with that row, and keeps no other from being written.

A server that does not keep up gets slower with everything it is sent on top; pressed less, it catches up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from pymongo.errors import BulkWriteError

from normalizer.errors import StoreUnavailable
from normalizer.store.connection import BULK, Collection

DUPLICATE_KEY: Final = 11000
_TOO_LARGE: Final = frozenset({10334, 17419, 17420})
_AGAINST_A_RULE: Final = 121
# Refusals that say nothing of the row: the same write may be taken later. Not primary, shutting down, interrupted, out
# of time or room, in conflict with another write or record, not allowed; 16500: Cosmos DB's "too many requests".
_PASSING: Final = frozenset(
    {0, 6, 7, 8, 13, 24, 46, 50, 89, 91, 112, 117, 133, 134, 189, 202, 262, 290, 365}
    | {9001, 10058, 10107, 11600, 11601, 11602, 13388, 13435, 13436, 14031, 16500, DUPLICATE_KEY}
)


class Bulk(NamedTuple):
    """How many conditions held, how many of them changed a record, and each refused operation's code by position."""

    matched: int
    modified: int
    refused: dict[int, int]


async def in_bulk(collection: Collection, operations: Sequence[Any]) -> Bulk:
    """Carry out all of them. StoreUnavailable where it is not known that what was written will last."""
    if not operations:
        return Bulk(0, 0, {})
    try:
        written = await collection.bulk_write(operations, ordered=False)
        return Bulk(written.matched_count, written.modified_count, {})
    except BulkWriteError as partial:
        details = partial.details or {}
        if details.get("writeConcernErrors"):
            # Written here, but perhaps not where it would survive: the same write again changes nothing.
            raise StoreUnavailable("MongoDB não confirmou a escrita.") from None
        refused = {error["index"]: error.get("code", 0) for error in details.get("writeErrors", ())}
        return Bulk(int(details.get("nMatched", 0)), int(details.get("nModified", 0)), refused)


def is_of_the_row(code: int) -> bool:
    """Whether a refusal lies in the row, so that no later try will end differently."""
    return code not in _PASSING


def told(code: int) -> str:
    """What was refused, in an operator's words. StoreUnavailable where that says nothing of the row."""
    if code == DUPLICATE_KEY:
        return "um valor que outro registro já tem, e que a coleção não aceita duas vezes"
    if not is_of_the_row(code):
        raise StoreUnavailable(f"MongoDB recusou parte da escrita (código {code}).")
    if code in _TOO_LARGE:
        return "um registro de mais de 16 MB"
    if code == _AGAINST_A_RULE:
        return "um registro contra a regra de validação da coleção"
    return f"um registro que o MongoDB recusou (código {code})"


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
