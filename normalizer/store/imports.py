"""Repositories of what is kept of imports: their records, the rows no appointment was made of, and column titles."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, Unpack

from bson import ObjectId

from normalizer.domain.appointment import Status
from normalizer.store.connection import BULK, Collection, Record, batched, by_native_id, translated
from normalizer.store.import_record import (
    PROBLEMS_KEPT,
    ImportNotes,
    ImportRecord,
    ImportState,
    ProblemRow,
    stored_notes,
)
from normalizer.store.overview import ProgressCounts, progress_of_import

#: Headers and brands whose titles are remembered, the last ones told.
_MOST_SCOPES: Final = 5_000


class Imports:
    """Records of imports, `normalizer_imports`. Every method may raise `StoreUnavailable`."""

    def __init__(
        self,
        imports: Collection,
        appointments: Collection,
        *,
        secret: Callable[[], Awaitable[bytes]],
        clock: Callable[[], datetime],
    ) -> None:
        self._imports, self._appointments, self._secret, self._clock = imports, appointments, secret, clock

    async def id_of(self, key: str | None) -> str:
        """The id of the import that a client calls by this key, whenever it asks; without a key a new one."""
        if key is None:
            return str(ObjectId())
        return hashlib.blake2b(key.encode(), key=await self._secret(), digest_size=12).hexdigest()

    async def announce(self, import_id: str, **known: Unpack[ImportNotes]) -> bool:
        """Note that an import was received and is being read; False when it was before."""
        now, running = self._clock(), stored_notes(state=ImportState.RUNNING)
        record = {**stored_notes(**known), **running, "fase": "lendo", "created_at": now, "atualizado_em": now}
        with translated():
            made = await self._imports.update_one({"_id": ObjectId(import_id)}, {"$setOnInsert": record}, upsert=True)
        return made.upserted_id is not None

    async def forget(self, import_id: str) -> None:
        """Take back an announced import that was refused before it wrote anything."""
        with translated():
            await self._imports.delete_one({"_id": ObjectId(import_id), "fase": "lendo"})

    async def begin(self, import_id: str | None = None, **known: Unpack[ImportNotes]) -> str:
        """Note that an import begins to write, under its id where it was announced; returns the id."""
        native, now = ObjectId(import_id), self._clock()
        fields = {**stored_notes(**known), **stored_notes(state=ImportState.RUNNING), "atualizado_em": now}
        change = {"$set": fields, "$setOnInsert": {"created_at": now}, "$unset": {"fase": ""}}
        with translated():
            await self._imports.update_one({"_id": native}, change, upsert=True)
        return str(native)

    async def note(self, import_id: str, **known: Unpack[ImportNotes]) -> None:
        """Note how far it is: counts, names, a state; never a patient's text."""
        fields = {**stored_notes(**known), "atualizado_em": self._clock()}
        with translated():
            await self._imports.update_one(by_native_id(import_id), {"$set": fields})

    async def end(self, import_id: str, **known: Unpack[ImportNotes]) -> None:
        """Note how it ended."""
        ended: ImportNotes = {**known, "finished_at": self._clock()}
        await self.note(import_id, **ended)

    async def get(self, import_id: str) -> ImportRecord | None:
        """What is known of an import; None when there is no such import."""
        with translated():
            found: Record | None = await self._imports.find_one(by_native_id(import_id))
        return None if found is None else ImportRecord.of(found)

    async def recent(self, limit: int = 20, *, since: datetime | None = None) -> list[ImportRecord]:
        """The last imports, newest first."""
        chosen = {} if since is None else {"created_at": {"$gte": since}}
        with translated():
            cursor = self._imports.find(chosen).sort("created_at", -1).limit(limit)
            return [ImportRecord.of(record) async for record in cursor]

    async def progress(self, import_id: str) -> ProgressCounts:
        """How far an import's appointments are. Figures are kept once none of them waits any more."""
        with translated():
            about = await self._imports.find_one(by_native_id(import_id), {"figuras": 1})
            if about and (kept := about.get("figuras")):
                return ProgressCounts(
                    Counter(kept["estados"]), Counter(kept["origens"]), Counter(kept.get("pareceres") or {})
                )
            counted = await progress_of_import(self._appointments, import_id)
            if counted.total and not counted.by_status[Status.PENDING]:
                figures = {
                    "estados": dict(counted.by_status),
                    "origens": dict(counted.by_origin),
                    "pareceres": dict(counted.by_evidence),
                }
                over = {**by_native_id(import_id), "status": {"$ne": ImportState.RUNNING.value}}
                await self._imports.update_one(over, {"$set": {"figuras": figures}})
        return counted

    async def recount(self, import_ids: Iterable[str | None]) -> None:
        """Appointments of imports that were over have changed: `progress` counts them anew."""
        if names := set(import_ids) - {None}:
            chosen = {"_id": {"$in": [by_native_id(str(name))["_id"] for name in names]}, "figuras": {"$exists": True}}
            with translated():
                await self._imports.update_many(chosen, {"$unset": {"figuras": ""}})

    async def recount_all(self) -> None:
        """Appointments of any import may have changed."""
        with translated():
            await self._imports.update_many({"figuras": {"$exists": True}}, {"$unset": {"figuras": ""}})


class ProblemRows:
    """Rows of sheets that could not be used whole, for some days: `normalizer_problems`."""

    def __init__(self, problems: Collection, *, clock: Callable[[], datetime]) -> None:
        self._problems, self._clock = problems, clock

    async def keep(self, import_id: str, rows: Sequence[ProblemRow], *, first: int = 0) -> None:
        """Keep the rows of an import, the first as number `first`. StoreUnavailable on an outage, as in all methods."""
        about = {"import_id": import_id, "expira_em": self._clock() + PROBLEMS_KEPT}
        with translated():
            for chunk in batched(enumerate(rows, first), BULK):
                documents = [{**row.as_stored(), **about, "ordem": position} for position, row in chunk]
                await self._problems.insert_many(documents, ordered=True)

    async def of(self, import_id: str, *, skip: int = 0, limit: int = 0) -> list[ProblemRow]:
        """The rows kept, in the sheet's order; `limit` 0 gives all."""
        cursor = self._problems.find({"import_id": import_id}).sort("ordem", 1).skip(skip).limit(limit)
        with translated():
            return [ProblemRow.of(record) async for record in cursor]

    async def forget(self, import_id: str) -> None:
        """The import was undone."""
        with translated():
            await self._problems.delete_many({"import_id": import_id})


class ColumnTitles:
    """What operators said of column titles, by scope (a header as a whole, a brand): `normalizer_columns`."""

    def __init__(self, columns: Collection, *, clock: Callable[[], datetime]) -> None:
        self._columns, self._clock = columns, clock

    async def known(self) -> dict[str, dict[str, str]]:
        """By scope: title to stored field. StoreUnavailable on an outage, as in all methods."""
        with translated():
            found = self._columns.find({}).sort("atualizado_em", -1).limit(_MOST_SCOPES)
            return {record["_id"]: dict(record.get("titulos") or {}) async for record in found}

    async def remember(self, learned: Mapping[str, Mapping[str, str]]) -> None:
        """Remember what was said of titles; what was said of the same title before is replaced."""
        with translated():
            for scope, meanings in learned.items():
                fields = {f"titulos.{title}": name for title, name in meanings.items()}
                change = {"$set": {**fields, "atualizado_em": self._clock()}}
                await self._columns.update_one({"_id": scope}, change, upsert=True)
