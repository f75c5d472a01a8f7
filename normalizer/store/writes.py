"""Writes on MongoDB: unordered bulks, and guarded rows: written, changed meanwhile, to be tried again, or never taken.

What the server refuses of a bulk lies with that row, and keeps no other from being written. A server that does not keep
up gets slower with everything it is sent on top; pressed less, it catches up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

from pymongo import UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError

from normalizer.domain.appointment import Appointment, Status, Tracking
from normalizer.errors import StoreUnavailable
from normalizer.store.connection import BULK, Collection, Record, batched, translated, utc
from normalizer.store.records import (
    Result,
    change_of,
    failure_of,
    identity_of,
    not_fenced_off,
    ours,
    overtaking,
    unchanged,
)

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


# A field of ours that is no sub-document or no number (a typed model dumps null): put right, and written again.
# 14 TypeMismatch, 28 PathNotViable.
_OURS_IS_MISSHAPEN = frozenset({14, 28})


@dataclass(slots=True)
class SaveReport:
    """What became of each row of one save, by appointment id. Every row is in exactly one of the four.

    Attributes:
        saved: written; the status it ended with.
        conflicts: not written: the text was edited meanwhile, a newer claim has written, or the appointment is gone.
        failed: not written for now; try again.
        refused: MongoDB will never take it (a validation rule of the collection, a document too large): the cause.
    """

    saved: dict[str, Status] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


class GuardedWrite(NamedTuple):
    """One row's conditional update; `key` is its `_id`, `id` what the report calls it.

    `overtaking`: the condition to try once more where the first does not hold. Tried by itself: under an `$or` of the
    two some servers leave the index on `_id` alone.
    """

    id: str
    key: Any
    condition: Mapping[str, Any]
    change: Mapping[str, Any]
    status: Status
    fence: int
    overtaking: Callable[[], Mapping[str, Any]] | None = None


def result_write(result: Result, now: datetime, *, secret: bytes) -> GuardedWrite:
    """Writes a result where texts and results are as loaded, or an older claim has written since."""
    seen = result.appointment
    change, condition = change_of(result, now, secret=secret), unchanged(result)
    late = partial(overtaking, result)
    return GuardedWrite(seen.id, seen.key, condition, change, result.ending.status, result.fence, late)


def failure_write(appointment: Appointment, cause: str, fence: int, now: datetime) -> GuardedWrite:
    """Ends an appointment as `falhou` where no newer claim has written."""
    change = failure_of(cause, fence, now)
    return GuardedWrite(appointment.id, appointment.key, not_fenced_off(fence), change, Status.FAILED, fence)


async def fail_without_room(collection: Collection, claimed: Sequence[tuple[Appointment, int]]) -> set[str]:
    """End appointments as `falhou`, each with its fence, whose records have no room for the cause. Returns the ids.

    No longer than what stands there, in the account that holds. Where the hashes of the last import are gone, the next
    one compares the texts themselves.
    """
    failed = {"normalization_status": Tracking.FAILED.value}
    change = {"$set": failed, "$unset": {"normalizacao.linha": "", "normalizacao.fontes": ""}}
    ended = [UpdateOne({"_id": one.key, **not_fenced_off(fence)}, change) for one, fence in claimed]
    refused = (await in_bulk(collection, ended)).refused
    return {one.id for at, (one, _) in enumerate(claimed) if at not in refused}


async def set_pending(collection: Collection, keys: list[Any], among: Mapping[str, Any], fields: Record) -> None:
    """Put records back to `pendente`, those of them that are still `among` the chosen."""
    change = {"$set": fields, "$inc": {"normalizacao.revisao": 1}}
    for chunk in batched(keys):
        await straighten(collection, chunk)
        if (await in_bulk(collection, [UpdateMany({"_id": {"$in": chunk}, **among}, change)])).refused:
            # It ended at a record that takes no more; those that were written are among the chosen no longer.
            singly = [UpdateOne({"_id": key, **among}, change) for key in chunk]
            for code in (await in_bulk(collection, singly)).refused.values():
                told(code)  # raises where it says nothing of the record


async def write_all(
    collection: Collection,
    rows: Sequence[Callable[[datetime], GuardedWrite]],
    *,
    clock: Callable[[], datetime],
    stride: Stride,
    turns: Turns,
) -> SaveReport:
    """Write every row whose condition holds, in unordered bulks of at most `stride.size`, each in its turn.

    Raises:
        StoreUnavailable: nothing at all was written because MongoDB is away. Away after the first bulk: those rows that
            were not written are in `failed`.
    """
    report = SaveReport()
    outage: StoreUnavailable | None = None
    begin = 0
    while begin < len(rows) and outage is None:
        writes: list[GuardedWrite] = []
        try:
            async with turns.take():
                now = clock()
                writes = [row(now) for row in rows[begin : begin + stride.size]]
                await _write_chunk(collection, writes, now, report)
        except StoreUnavailable as error:
            outage = error
            if writes:  # none: its turn did not come
                stride.failed(len(writes))
        else:
            stride.taken(len(writes))
            begin += len(writes)
    report.failed.extend(row(clock()).id for row in rows[begin:])
    if outage is not None and len(report.failed) == len(rows):
        raise outage
    return report


async def _write_chunk(
    collection: Collection, writes: Sequence[GuardedWrite], now: datetime, report: SaveReport
) -> None:
    with translated():
        written, errors = await _attempt(collection, writes, now)
        if misshapen := [one for one in writes if errors.get(one.id) in _OURS_IS_MISSHAPEN]:
            await straighten(collection, [one.key for one in misshapen])
            more, still = await _attempt(collection, misshapen, now)
            written |= more
            errors = {name: code for name, code in errors.items() if code not in _OURS_IS_MISSHAPEN} | still
        lost = [one for one in writes if one.id not in written and one.id not in errors]
        if late := [one._replace(condition=one.overtaking()) for one in lost if one.overtaking]:
            more, refused = await _attempt(collection, late, now)
            written |= more
            errors |= refused
    for write in writes:
        _sort_in(report, write, errors.get(write.id), is_written=write.id in written)


async def _attempt(
    collection: Collection, writes: Sequence[GuardedWrite], now: datetime
) -> tuple[set[str], dict[str, int]]:
    """Which of these one bulk wrote, and the code of each that was refused.

    The server answers with a count: short of all, rows are asked for our mark.
    """
    updates = [UpdateOne({"_id": one.key, **one.condition}, one.change) for one in writes]
    matched, _, refused = await in_bulk(collection, updates)
    errors = {writes[at].id: code for at, code in refused.items()}
    if matched + len(errors) == len(writes):
        return {one.id for one in writes} - errors.keys(), errors
    wanted = {"id": 1, "normalizacao.fence": 1, "normalizacao.atualizado_em": 1}
    fences = {one.id: one.fence for one in writes if one.id not in errors}
    found: set[str] = set()
    async for record in collection.find({"_id": {"$in": [one.key for one in writes]}}, wanted):
        name, mark = identity_of(record), ours(record)
        if name in fences and mark.get("fence") == fences[name] and utc(mark.get("atualizado_em")) == now:
            found.add(name)
    return found, errors


async def straighten(collection: Collection, keys: Sequence[Any]) -> None:
    """Make `normalizacao` of these records one that can be written on: a sub-document with a number for revision."""
    chosen: dict[str, Any] = {"_id": {"$in": list(keys)}}
    no_document = {"$exists": True, "$not": {"$type": "object"}}
    await collection.update_many({**chosen, "normalizacao": no_document}, {"$unset": {"normalizacao": ""}})
    no_number = {"$exists": True, "$not": {"$type": "number"}}
    await collection.update_many(
        {**chosen, "normalizacao.revisao": no_number}, {"$unset": {"normalizacao.revisao": ""}}
    )


def _sort_in(report: SaveReport, write: GuardedWrite, code: int | None, *, is_written: bool) -> None:
    if code is not None and is_of_the_row(code):
        report.refused[write.id] = f"MongoDB recusou o registro (código {code})"
    elif code is not None:
        report.failed.append(write.id)
    elif is_written:
        report.saved[write.id] = write.status
    else:
        report.conflicts.append(write.id)
