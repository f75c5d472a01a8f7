"""Appointments whose address waits for a batch (the economy lane): how they are parked, placed and let go.

On an appointment, under `normalizacao.lote`: `desde`, since when it waits; `de`, the address fields it waits with;
`id`, `pedido` and `posicao`, its place in a batch of ours once it has one; `pagou`, whether it stands for all that
share its text; `acabou`, when that batch was over for it. The batches themselves: `normalizer.store.batches`.

What is asked and how an answer is read depends on what is written here alone, so any process can go on from any point.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from pymongo import UpdateOne

from normalizer.domain.appointment import ADDRESS_SOURCES, PRIVATE_FIELDS, Appointment, Status
from normalizer.store.connection import Collection as Records
from normalizer.store.connection import Record, batched, by_id, by_ids, chunks_of, settled, translated, utc
from normalizer.store.records import (
    ALL_SOURCES,
    Pending,
    address_sources,
    appointment_of,
    not_fenced_off,
    ours,
    pending_of,
    sources_hash,
)
from normalizer.store.writes import GuardedWrite, SaveReport

_LOT: Final = "normalizacao.lote"
#: Waits, for a batch to leave or to come back.
OPEN: Final = {f"{_LOT}.desde": {"$exists": True}, f"{_LOT}.acabou": None}
_UNSENT: Final = {**OPEN, f"{_LOT}.id": None, "normalizacao.status": Status.PENDING.value}
#: What reconcile may enqueue: everything but what waits.
NOT_WAITING: Final = {"$or": [{_LOT: None}, {f"{_LOT}.acabou": {"$ne": None}}]}
_FIELDS: Final = dict.fromkeys([*ALL_SOURCES, *PRIVATE_FIELDS, "normalizacao"], 1)


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits without a batch: how many, and since when the first and the last of them (None: nobody)."""

    number: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None


@dataclass(frozen=True, slots=True)
class Seat:
    """An appointment's place in a batch; `pays` for the first of those that share a text."""

    request: int
    slot: int
    pays: bool


@dataclass(frozen=True, slots=True)
class Seated:
    """An appointment, with the address it was seated with, and its place."""

    appointment: Appointment
    batch_id: str
    request: int
    slot: int


class WaitingRoom:
    """What the economy lane asks of the appointments and writes on them. Every method may raise `StoreUnavailable`."""

    def __init__(
        self,
        appointments: Records,
        imports: Records,
        *,
        write: Callable[[Sequence[Callable[[datetime], GuardedWrite]]], Awaitable[SaveReport]],
        secret: Callable[[], Awaitable[bytes]],
        clock: Callable[[], datetime],
    ) -> None:
        self._appointments, self._imports, self._write = appointments, imports, write
        self._secret, self._clock = secret, clock

    async def as_imported(self, appointments: Sequence[Appointment]) -> list[Appointment]:
        """Those whose texts are still the ones their import brought; an edited one has somebody waiting for it."""
        secret = await self._secret()
        return [each for each in appointments if each.imported_as == sources_hash(each.sources, secret=secret)]

    async def large_imports(self, import_ids: Collection[str], *, min_rows: int) -> set[str]:
        """Those of the imports whose sheet has at least `min_rows`."""
        if not import_ids:
            return set()
        chosen = {**by_ids(list(import_ids)), "linhas": {"$gte": min_rows}}
        with translated():
            return {str(record["_id"]) async for record in self._imports.find(chosen, {"_id": 1})}

    async def park(self, appointments: Sequence[Appointment], *, fence: int) -> SaveReport:
        """Let appointments wait for a batch, unless their texts have changed or a newer claim has written."""
        return await self._write([partial(_parking, appointment, fence) for appointment in appointments])

    async def queue(self) -> Queue:
        """What waits without a batch."""
        since = f"${_LOT}.desde"
        group = {"_id": None, "n": {"$sum": 1}, "oldest": {"$min": since}, "newest": {"$max": since}}
        with translated():
            cursor = await settled(self._appointments.aggregate([{"$match": _UNSENT}, {"$group": group}]))
            async for found in cursor:
                return Queue(found["n"], utc(found["oldest"]), utc(found["newest"]))
        return Queue()

    async def seated_number(self, batch_id: str | None = None) -> int:
        """How many wait for a batch to come back, or for this one."""
        chosen = {**OPEN, f"{_LOT}.id": batch_id or {"$ne": None}, "normalizacao.status": Status.PENDING.value}
        with translated():
            return int(await self._appointments.count_documents(chosen))

    async def unseated(self, limit: int) -> AsyncIterator[list[Appointment]]:
        """What waits without a batch, the longest first, as it reads now."""
        cursor = self._appointments.find(_UNSENT, _FIELDS).sort(f"{_LOT}.desde", 1).limit(limit)
        with translated():
            async for chunk in chunks_of(cursor):
                yield [appointment_of(record) for record in chunk]

    async def seat(self, batch_id: str, seats: Mapping[str, Seat]) -> None:
        """Give appointments (by id) their places; one that has a place, or waits no longer, is left alone."""
        free = {**OPEN, f"{_LOT}.id": None}
        writes = [
            UpdateOne(
                {**by_id(appointment_id), **free},
                {
                    "$set": {
                        f"{_LOT}.id": batch_id,
                        f"{_LOT}.pedido": seat.request,
                        f"{_LOT}.posicao": seat.slot,
                        f"{_LOT}.pagou": seat.pays,
                    }
                },
            )
            for appointment_id, seat in seats.items()
        ]
        with translated():
            for chunk in batched(writes):
                await self._appointments.bulk_write(chunk, ordered=False)

    async def unseat(self, batch_id: str) -> None:
        """Take back every place in a batch that never left."""
        places = dict.fromkeys([f"{_LOT}.{name}" for name in ("id", "pedido", "posicao", "pagou")], "")
        with translated():
            await self._appointments.update_many({f"{_LOT}.id": batch_id}, {"$unset": places})

    async def seated(
        self, batch_id: str | None = None, requests: Collection[int] | None = None
    ) -> AsyncIterator[list[Seated]]:
        """What waits for a batch to come back, of one batch, or of some of its requests.

        In the order of the places; of those who share one, whoever pays first.
        """
        chosen: dict[str, Any] = {**OPEN, f"{_LOT}.id": {"$ne": None} if batch_id is None else batch_id}
        if requests is not None:
            chosen[f"{_LOT}.pedido"] = {"$in": list(requests)}
        cursor = self._appointments.find(chosen, _FIELDS).sort(
            [(f"{_LOT}.pedido", 1), (f"{_LOT}.posicao", 1), (f"{_LOT}.pagou", -1)]
        )
        with translated():
            async for chunk in chunks_of(cursor):
                yield [_seated(record) for record in chunk]

    async def strays(self, batch_ids: Collection[str]) -> list[str]:
        """Appointments with a place in a batch other than these, which are all that are under way."""
        chosen = {**OPEN, f"{_LOT}.id": {"$nin": [None, *batch_ids]}}
        with translated():
            return [str(record["_id"]) async for record in self._appointments.find(chosen, {"_id": 1})]

    async def release(self, appointment_ids: Sequence[str]) -> list[Pending]:
        """End the waiting of these; returns what of them is to be enqueued, with the fingerprints it has now.

        Whoever dies before enqueueing leaves them `pendente`: reconcile takes them up.
        """
        found: list[Pending] = []
        with translated():
            for chunk in batched(appointment_ids):
                found += await self._release(chunk)
        return found

    async def release_batch(self, batch_id: str) -> AsyncIterator[list[Pending]]:
        """End the waiting of everything that a batch has left over."""
        async for chunk in self.seated(batch_id):
            yield await self.release([item.appointment.id for item in chunk])

    async def _release(self, appointment_ids: Sequence[str]) -> list[Pending]:
        now, ids = self._clock(), by_ids(appointment_ids)
        over = {f"{_LOT}.acabou": now, "normalizacao.atualizado_em": now}
        await self._appointments.update_many({**ids, **OPEN}, {"$set": over, "$inc": {"normalizacao.revisao": 1}})
        pending = {**ids, "normalizacao.status": Status.PENDING.value, **NOT_WAITING}
        secret = await self._secret()
        return [pending_of(record, secret=secret) async for record in self._appointments.find(pending, _FIELDS)]


def _parking(appointment: Appointment, fence: int, now: datetime) -> GuardedWrite:
    seen = {name: {"$eq": appointment.sources.get(name)} for name in ADDRESS_SOURCES}
    lot = {"desde": now, "de": address_sources(appointment.sources)}
    change = {
        "$set": {_LOT: lot, "normalizacao.fence": fence, "normalizacao.atualizado_em": now},
        "$inc": {"normalizacao.revisao": 1},
    }
    return GuardedWrite(appointment.id, {**seen, **not_fenced_off(fence)}, change, Status.PENDING, fence)


def _seated(record: Record) -> Seated:
    lot = ours(record)["lote"]
    return Seated(appointment_of({**record, **lot["de"]}), lot["id"], int(lot["pedido"]), int(lot["posicao"]))
