"""The batches of the economy lane, in `normalizer_batches`, and whose turn it is to work on them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from normalizer.errors import StoreUnavailable
from normalizer.store.connection import Collection as Records
from normalizer.store.connection import Record, translated, utc

_TURN_ID: Final = "turno"
_KEPT: Final = timedelta(days=90)


class Stage(StrEnum):
    """How far a batch has come. Each is written after what it says was done."""

    SEATING = "montando"
    SEATED = "montado"
    UPLOADED = "enviado"
    OUT = "no provedor"
    READ = "lido"
    ENDED = "encerrado"


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch as it is stored.

    Attributes:
        id: ours; the provider knows it as metadata, and as part of the file's name.
        made_at: UTC.
        file_id, provider_id: the provider's names for file and batch, once they are known.
        tried_at: when upload or creation was last begun without its end being written down.
        lines: lines of the results that are dealt with.
        usd: what it is expected to cost.
    """

    id: str
    stage: Stage
    made_at: datetime
    file_id: str | None = None
    provider_id: str | None = None
    tried_at: datetime | None = None
    lines: int = 0
    usd: float = 0.0


class Turn:
    """The right to work on the batches: one process at a time has it, and loses it by not renewing it."""

    def __init__(self, take: Callable[[str], Any]) -> None:
        self._take, self._owner = take, secrets.token_hex(8)

    async def held(self) -> bool:
        """Renew it; False when another process has it (by now)."""
        return bool(await self._take(self._owner))

    @property
    def owner(self) -> str:
        """Who has it, as it is written down."""
        return self._owner


class Batches:
    """What is known of batches. Every method may raise `StoreUnavailable`."""

    def __init__(self, collection: Records, *, clock: Callable[[], datetime], turn_s: float = 30.0) -> None:
        self._collection, self._clock, self._turn_s = collection, clock, turn_s

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn | None]:
        """The turn, kept while the block runs; None when another process has it."""
        turn = Turn(self._take)
        if not await turn.held():
            yield None
            return
        renewal = asyncio.create_task(self._renew(turn))
        try:
            yield turn
        finally:
            renewal.cancel()
            with suppress(StoreUnavailable), translated():
                await self._collection.delete_one({"_id": _TURN_ID, "dono": turn.owner})

    async def begin(self) -> Batch:
        """Note that a batch is being put together."""
        record = {"_id": ObjectId(), "etapa": Stage.SEATING.value, "criado_em": self._clock()}
        with translated():
            await self._collection.insert_one(record)
        return _batch(record)

    async def note(self, batch: Batch, *, stage: Stage | None = None, **fields: Any) -> None:
        """Write down how far it is: `arquivo`, `tentado_em`, `linhas`, `usd`, `fim`, `cheio_em`."""
        if stage is not None:
            fields["etapa"] = stage.value
        if stage is Stage.ENDED:
            fields["expira_em"] = self._clock() + _KEPT
        with translated():
            await self._collection.update_one({"_id": ObjectId(batch.id)}, {"$set": fields})

    async def adopt(self, batch: Batch, provider_id: str) -> bool:
        """Write down the provider's id; False when another process has written another one."""
        mine = {"_id": ObjectId(batch.id), "provedor": {"$in": [None, provider_id]}}
        with translated():
            change = {"$set": {"provedor": provider_id, "etapa": Stage.OUT.value}}
            return int((await self._collection.update_one(mine, change)).matched_count) == 1

    async def drop(self, batch: Batch) -> None:
        """Forget a batch that never left."""
        with translated():
            await self._collection.delete_one({"_id": ObjectId(batch.id)})

    async def open(self) -> list[Batch]:
        """Every batch that is not over, oldest first."""
        under_way = [stage.value for stage in Stage if stage is not Stage.ENDED]
        with translated():
            return [
                _batch(record) async for record in self._collection.find({"etapa": {"$in": under_way}}).sort("_id", 1)
            ]

    async def ended_full(self, *, within: timedelta) -> bool:
        """Tell whether the provider took a batch back lately, because too much of ours was waiting there."""
        chosen = {"cheio_em": {"$gt": self._clock() - within}}
        with translated():
            return await self._collection.find_one(chosen, {"_id": 1}) is not None

    async def _take(self, owner: str) -> bool:
        now = self._clock()
        free = {"_id": _TURN_ID, "$or": [{"ate": {"$lt": now}}, {"dono": owner}]}
        change = {"$set": {"dono": owner, "ate": now + timedelta(seconds=self._turn_s)}}
        with translated():
            try:
                await self._collection.update_one(free, change, upsert=True)
            except DuplicateKeyError:
                return False
        return True

    async def _renew(self, turn: Turn) -> None:
        while True:
            await asyncio.sleep(self._turn_s / 3)
            with suppress(StoreUnavailable):
                await turn.held()


def _batch(record: Record) -> Batch:
    return Batch(
        id=str(record["_id"]),
        stage=Stage(record["etapa"]),
        made_at=utc(record["criado_em"]) or record["criado_em"],
        file_id=record.get("arquivo"),
        provider_id=record.get("provedor"),
        tried_at=utc(record.get("tentado_em")),
        lines=int(record.get("linhas") or 0),
        usd=float(record.get("usd") or 0.0),
    )
