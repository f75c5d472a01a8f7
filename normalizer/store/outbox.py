"""Outbox: what has to be told outside, kept until it is.

A result carries its mark (`normalizacao.evento`) in the write that stores it, so that no result is stored untold and
none is told that was not stored. Marks are collected into events, up to 500 at a time; an event keeps its id and its
content until every destination has taken it.

An event is inserted with `aberto` before its marks are removed: a collector that finds one open, after a crash, removes
the marks it was made of and makes no second one of them. A mark is removed only as it was read; a later result's stays.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from normalizer.domain.appointment import Status
from normalizer.store.connection import BULK, Database, Record, by_native_id, translating
from normalizer.store.imports import ImportRecord, ImportState
from normalizer.store.indexes import ENDS, index
from normalizer.store.records import RESULT_FIELD, identity_of
from normalizer.store.writes import GuardedWrite

MARK: Final = "normalizacao.evento"
#: Where events can go.
DESTINATIONS: Final = ("webhook", "stream")
_KEPT: Final = timedelta(days=7)  # an event that no destination took can be sent again for so long
_TOLD_FIELDS: Final = (*RESULT_FIELD.values(), "cpf", "rg")
_INDEXES: Final = [
    ENDS,
    index("normalizer_open", "aberto", sparse=True),
    index("normalizer_once", "uma_vez", unique=True, sparse=True),
    *[index(f"normalizer_{name}", f"destinos.{name}.estado", "_id") for name in DESTINATIONS],
]
_WAITING, _TAKEN, _FAILED = "pendente", "entregue", "falhou"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `data` holds ids, counts and names of fields."""

    id: str
    type: str
    at: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event on its way to one destination."""

    event: Event
    tries: int
    due_at: datetime
    since: datetime
    error: str | None = None


def marked(change: Mapping[str, Any], status: Status, now: datetime) -> dict[str, Any]:
    """The update of a result, with the mark it is told by: the event's type, which fields it changed, and when."""
    kind = "appointments.normalized" if status is Status.DONE else "appointments.review"
    fields = change["$set"]
    told = [name for name in _TOLD_FIELDS if fields.get(name) is not None]
    return {**change, "$set": {**fields, MARK: {"tipo": kind, "campos": told, "em": now}}}


def announced(row: Callable[[datetime], GuardedWrite], now: datetime) -> GuardedWrite:
    """The row's write, with its mark."""
    write = row(now)
    return write._replace(change=marked(write.change, write.status, now))


@translating
class Outbox:
    """Marks and events in MongoDB. Every method may raise `StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._appointments, self._clock = database.appointments, database.clock
        self._imports, self._events = database.lasting("normalizer_imports"), database.passing("normalizer_events")

    async def ensure_indexes(self) -> None:
        """Create what is missing. Called only where somebody collects marks: elsewhere nothing is indexed."""
        await self._appointments.create_indexes([index("normalizer_event", f"{MARK}.em", sparse=True)])
        await self._events.create_indexes(_INDEXES)

    async def collect(self, destinations: Sequence[str]) -> int:
        """Make events of the oldest marks; how many marks. One collector at a time keeps an appointment's order."""
        async for left in self._events.find({"aberto": True}):
            await self._close(left)
        wanted = {"id": 1, MARK: 1, "normalizacao.import_id": 1}
        cursor = self._appointments.find({f"{MARK}.em": {"$exists": True}}, wanted)
        marked = await cursor.sort(f"{MARK}.em", 1).limit(BULK).to_list(None)
        by_type: dict[str, list[Record]] = {}
        for record in marked:
            by_type.setdefault(str(record["normalizacao"]["evento"]["tipo"]), []).append(record)
        for kind, records in by_type.items():
            event = await self._event(kind, {"appointments": [_told(one) for one in records]}, destinations)
            event |= {
                "aberto": True,
                "marcas": [(one["_id"], one["normalizacao"]["evento"]["em"]) for one in records],
            }
            await self._events.insert_one(event)
            await self._close(event)
        return len(marked)

    async def add(self, kind: str, data: Mapping[str, Any], destinations: Sequence[str], *, once: str) -> bool:
        """An event that no result carries; `once` names it, so that several who saw it tell it once."""
        try:
            await self._events.insert_one(await self._event(kind, data, destinations) | {"uma_vez": once})
        except DuplicateKeyError:
            return False
        return True

    async def next_for(self, destination: str) -> Delivery | None:
        """The oldest event that this destination has not taken, due or not: later ones wait behind it."""
        found = await self._events.find_one({f"destinos.{destination}.estado": _WAITING}, sort=[("_id", 1)])
        return _delivery(found, destination) if found is not None else None

    async def taken(self, event_id: str, destination: str) -> None:
        """This destination has it; once all have, it is forgotten."""
        await self._events.update_one({"_id": event_id}, {"$set": {f"destinos.{destination}.estado": _TAKEN}})
        found = await self._events.find_one({"_id": event_id}, {"destinos": 1})
        if found and all(one["estado"] == _TAKEN for one in found["destinos"].values()):
            await self._events.delete_one({"_id": event_id, "uma_vez": {"$exists": False}})

    async def later(self, event_id: str, destination: str, due_at: datetime, error: str) -> None:
        """It was not taken: again at `due_at`."""
        await self._not_taken(event_id, destination, {"proxima_em": due_at, "erro": error})

    async def give_up(self, event_id: str, destination: str, error: str) -> None:
        """It was not taken in time: shown as failed, sent again on demand only."""
        await self._not_taken(event_id, destination, {"estado": _FAILED, "erro": error})

    async def _not_taken(self, event_id: str, destination: str, noted: Mapping[str, Any]) -> None:
        about = f"destinos.{destination}"
        fields = {f"{about}.{name}": value for name, value in noted.items()}
        await self._events.update_one({"_id": event_id}, {"$set": fields, "$inc": {f"{about}.tentativas": 1}})

    async def failed(self, destination: str, *, limit: int = 100) -> list[Delivery]:
        """Events that this destination did not take, oldest first."""
        cursor = self._events.find({f"destinos.{destination}.estado": _FAILED}).sort("_id", 1).limit(limit)
        return [_delivery(found, destination) async for found in cursor]

    async def count_failed(self) -> int:
        """How many events some destination did not take, up to 10,000."""
        query = {"$or": [{f"destinos.{name}.estado": _FAILED} for name in DESTINATIONS]}
        return int(await self._events.count_documents(query, limit=10_000))

    async def send_again(self, destination: str, event_id: str | None = None) -> int:
        """Let failed events (all, or one) be sent once more; how many."""
        about = f"destinos.{destination}"
        query = {f"{about}.estado": _FAILED} | ({"_id": event_id} if event_id else {})
        now = self._clock()
        change = {"$set": {about: _anew(now), "expira_em": now + _KEPT}}
        return int((await self._events.update_many(query, change)).modified_count)

    async def finished_imports(self) -> list[ImportRecord]:
        """Imports whose sheet is written, whose end nobody was told, and of which no appointment waits."""
        found = []
        async for record in self._untold(ImportState.FINISHED, {"$exists": False}):
            waits = {"normalizacao.import_id": str(record["_id"]), "normalizacao.status": "pendente"}
            if await self._appointments.find_one(waits, {"_id": 1}) is None:
                found.append(ImportRecord.of(record))
        return found

    async def undone_imports(self) -> list[ImportRecord]:
        """Imports that were undone, of which nobody was told."""
        return [ImportRecord.of(record) async for record in self._untold(ImportState.UNDONE, {"$ne": "import.undone"})]

    def _untold(self, state: ImportState, told: Mapping[str, Any]) -> AsyncIterator[Record]:
        query = {"status": state.value, "evento": told, "created_at": {"$gte": self._clock() - _KEPT}}
        found: AsyncIterator[Record] = self._imports.find(query).sort("created_at", 1).limit(50)
        return found

    async def told(self, import_id: str, kind: str) -> None:
        """Note on an import that its event exists."""
        await self._imports.update_one(by_native_id(import_id), {"$set": {"evento": kind}})

    async def _close(self, event: Record) -> None:
        keys: dict[datetime, list[Any]] = {}  # a group's results are written at one moment: few moments, few updates
        for key, at in event["marcas"]:
            keys.setdefault(at, []).append(key)
        for at, marked in keys.items():
            await self._appointments.update_many({"_id": {"$in": marked}, f"{MARK}.em": at}, {"$unset": {MARK: ""}})
        await self._events.update_one({"_id": event["_id"]}, {"$unset": {"aberto": "", "marcas": ""}})

    async def _new_id(self) -> str:
        """Greater than every event's: the order of telling, also where the one who told before had a faster clock."""
        newest = await self._events.find_one({}, {"_id": 1}, sort=[("_id", -1)])
        last, fresh = newest["_id"].removeprefix("msg_") if newest else "", str(ObjectId())
        if last >= fresh:
            fresh = f"{int(last[:16], 16) + 1:016x}{secrets.token_hex(4)}"
        return f"msg_{fresh}"

    async def _event(self, kind: str, data: Mapping[str, Any], destinations: Sequence[str]) -> dict[str, Any]:
        now = self._clock()
        return {
            "_id": await self._new_id(),
            "tipo": kind,
            "em": now,
            "dados": dict(data),
            "destinos": {name: _anew(now) for name in destinations},
            "expira_em": now + _KEPT,
        }


def _anew(now: datetime) -> dict[str, Any]:
    return {"estado": _WAITING, "tentativas": 0, "proxima_em": now, "desde": now, "erro": None}


def _told(record: Record) -> dict[str, Any]:
    ours = record["normalizacao"]
    return {"id": identity_of(record), "fields": list(ours["evento"]["campos"]), "import_id": ours.get("import_id")}


def _delivery(found: Record, destination: str) -> Delivery:
    about = found["destinos"][destination]
    event = Event(found["_id"], found["tipo"], found["em"], found["dados"])
    return Delivery(event, int(about["tentativas"]), about["proxima_em"], about["desde"], about.get("erro"))
