"""Guarded bulk writes: which rows were written, which had changed, which must be tried again, which never will."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from normalizer.domain.appointment import Status
from normalizer.errors import StoreUnavailable
from normalizer.store.connection import Collection, by_id, by_ids, translated, utc
from normalizer.store.pressure import Stride, Turns
from normalizer.store.records import ours

# Refusals that lie in the row: no later try will end differently.
# 2 BadValue, 28 PathNotViable, 121 DocumentValidationFailure, 10334 and 17419 too large, 17280 KeyTooLong.
_ROW_IS_REFUSED = frozenset({2, 28, 121, 10334, 17280, 17419})


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


@dataclass(frozen=True, slots=True)
class GuardedWrite:
    """One row's conditional update."""

    id: str
    condition: Mapping[str, Any]
    change: Mapping[str, Any]
    status: Status
    fence: int


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
    errors: dict[int, int] = {}
    with translated():
        try:
            outcome = await collection.bulk_write(
                [UpdateOne({**by_id(write.id), **write.condition}, write.change) for write in writes], ordered=False
            )
        except BulkWriteError as partial:
            details = partial.details or {}
            if details.get("writeConcernErrors"):
                # Written here, but perhaps not where it would survive: the same write again changes nothing.
                raise StoreUnavailable("MongoDB não confirmou a escrita.") from None
            errors = {error["index"]: error.get("code", 0) for error in details.get("writeErrors", ())}
        else:
            if outcome.matched_count == len(writes):
                report.saved |= {write.id: write.status for write in writes}
                return
        attempted = [write for index, write in enumerate(writes) if index not in errors]
        written = await _written(collection, attempted, now)
    _sort_in(report, writes, errors, written)


async def _written(collection: Collection, writes: Sequence[GuardedWrite], now: datetime) -> set[str]:
    """Which of these the bulk wrote. The server answers with a count only, so the rows are asked for our mark."""
    wanted = {"normalizacao.fence": 1, "normalizacao.atualizado_em": 1}
    marks = {write.id: write.fence for write in writes}
    found: set[str] = set()
    async for record in collection.find(by_ids(list(marks)), wanted):
        mine = ours(record).get("fence") == marks.get(str(record["_id"]))
        if mine and utc(ours(record).get("atualizado_em")) == now:
            found.add(str(record["_id"]))
    return found


def _sort_in(report: SaveReport, writes: Sequence[GuardedWrite], errors: Mapping[int, int], written: set[str]) -> None:
    for index, write in enumerate(writes):
        code = errors.get(index)
        if code in _ROW_IS_REFUSED:
            report.refused[write.id] = f"MongoDB recusou o registro (código {code})"
        elif code is not None:
            report.failed.append(write.id)
        elif write.id in written:
            report.saved[write.id] = write.status
        else:
            report.conflicts.append(write.id)
