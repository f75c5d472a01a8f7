"""`Desk`: what an operator does with appointments and imports: look, correct, undo.

Records are given as stored: they hold patients' data, and whoever shows them masks them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from normalizer.domain.address import Address
from normalizer.domain.appointment import Kind, Status
from normalizer.domain.document import Document
from normalizer.store.connection import BULK, Collection, Record, batched, by_native_id, chunks_of, settled, translated
from normalizer.store.identity import named
from normalizer.store.import_record import ImportRecord, ImportState
from normalizer.store.outbox import marked
from normalizer.store.overview import PATIENCE_MS, Counts, stored_origins
from normalizer.store.queries import Filter
from normalizer.store.records import (
    RESULT_FIELD,
    SOURCES,
    Pending,
    corrected_change,
    ours,
    pending_of,
    revision_of,
    status_of,
    waiting_again,
)
from normalizer.store.totals import Totals, read_by
from normalizer.store.undo import Undone, put_back

#: How deep one may page; beyond it a filter finds more.
DEEPEST: Final = 10_000
#: How long the rows a sheet's import could not use are kept, with their cells.
_PROBLEMS_KEPT: Final = timedelta(days=7)
#: Headers and brands whose titles are remembered, the last ones told.
_MOST_SCOPES: Final = 5_000


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the appointments that were asked for, last touched first; `total` is cut at `DEEPEST` + 1."""

    records: Sequence[Record]
    total: int


@dataclass(slots=True)
class Portions:
    """How far appointments are, each counted once: by status, and the concluded ones by who read the address."""

    by_status: Counter[str] = field(default_factory=Counter)
    by_origin: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """All of them."""
        return self.by_status.total()


async def thaw(imports: Collection, records: Sequence[Record]) -> None:
    """Appointments of imports that were over have changed: the imports' figures are counted anew."""
    names = {str(import_id) for record in records if (import_id := ours(record).get("import_id"))}
    if names:
        chosen = {"_id": {"$in": [by_native_id(name)["_id"] for name in names]}, "figuras": {"$exists": True}}
        await imports.update_many(chosen, {"$unset": {"figuras": ""}})


class Desk:
    """Every method may raise `StoreUnavailable`. Made by `AppointmentStore.desk`."""

    def __init__(
        self,
        appointments: Collection,
        imports: Collection,
        images: Collection,
        problems: Collection,
        columns: Collection,
        *,
        totals: Totals,
        secret: Callable[[], Awaitable[bytes]],
        clock: Callable[[], datetime],
        announces: bool = False,
    ) -> None:
        self._announces = announces
        self._appointments, self._imports, self._images, self._problems = appointments, imports, images, problems
        self._columns, self._totals = columns, totals
        self._secret, self._clock = secret, clock

    # -- appointments -------------------------------------------------------------------------------------------------

    async def browse(self, chosen: Filter, *, skip: int = 0, limit: int = 50) -> Page:
        """Appointments that are ours, last touched first."""
        query = chosen.query(self._clock())
        with translated():
            # As the index has them: a further key would have MongoDB sort every appointment.
            cursor = self._appointments.find(query).sort("updated_at", -1)
            records = [record async for record in cursor.skip(min(skip, DEEPEST)).limit(limit)]
            total = await self._appointments.count_documents(query, limit=DEEPEST + 1, maxTimeMS=PATIENCE_MS)
        return Page(records, total)

    async def one(self, appointment_id: str) -> Record | None:
        """One appointment as stored; None when there is none, or it is not ours."""
        with translated():
            found: Record | None = await self._appointments.find_one(named([appointment_id]))
            found = found or await self._appointments.find_one(named([appointment_id], "_id"))
        return found if found is not None and status_of(found) is not None else None

    async def correct(self, record: Record, values: Mapping[Kind, Address | Document]) -> Record | None:
        """Write a person's results on the record that was read; None when somebody wrote on it since."""
        sources = [name for kind in values for name in SOURCES[kind]]
        unread = {
            "_id": record["_id"],
            "normalizacao.revisao": {"$eq": ours(record).get("revisao")},
            **{name: {"$eq": record.get(name)} for name in sources},
        }
        now = self._clock()
        change = corrected_change(record, values, now, secret=await self._secret())
        if self._announces:
            status = Status(change["$set"].get("normalizacao.status") or status_of(record) or Status.DONE)
            change = marked(change, status, now)
        with translated():
            outcome = await self._appointments.update_one(unread, change)
            if not outcome.modified_count:
                return None
            await thaw(self._imports, [record])
            after: Record | None = await self._appointments.find_one({"_id": record["_id"]})
        return after

    async def requeue_one(self, record: Record) -> Pending | None:
        """Put one back to `pendente`, all of it to be read anew; None when somebody wrote on it since."""
        revision = revision_of(record)
        unread = {"_id": record["_id"], "normalizacao.revisao": {"$eq": ours(record).get("revisao")}}
        again = {"normalizacao.revisao": revision + 1, "normalizacao.refazer": list(Kind)}
        change = {"$set": {**waiting_again(self._clock()), **again}}
        with translated():
            if not (await self._appointments.update_one(unread, change)).modified_count:
                return None
            await thaw(self._imports, [record])
        grown = {**record, "normalizacao": {"revisao": revision + 1}}
        return pending_of(grown, secret=await self._secret())

    async def portions_of_all(self, counts: Counts) -> Portions:
        """How far all appointments are, of whose `open_counts` these are."""
        return Portions(Counter(counts.by_status), await self._totals.by_origin(counts.by_status[Status.DONE]))

    async def portions(self, import_id: str) -> Portions:
        """How far an import's appointments are. Figures are kept once none of them waits any more."""
        with translated():
            about = await self._imports.find_one(by_native_id(import_id), {"figuras": 1})
            if about and (kept := about.get("figuras")):
                return Portions(Counter(kept["estados"]), Counter(kept["origens"]))
            portions = await self._portions_of(import_id)
            if portions.total and not portions.by_status[Status.PENDING]:
                figures = {"estados": dict(portions.by_status), "origens": dict(portions.by_origin)}
                over = {**by_native_id(import_id), "status": {"$ne": ImportState.RUNNING.value}}
                await self._imports.update_one(over, {"$set": {"figuras": figures}})
        return portions

    async def _portions_of(self, import_id: str) -> Portions:
        portions = Portions()
        steps = stored_origins({"normalizacao.import_id": import_id})
        async for chunk in chunks_of(await settled(self._appointments.aggregate(steps, maxTimeMS=PATIENCE_MS))):
            for row in chunk:
                found, number = row["_id"], row["n"]
                record = {"normalizacao": {"status": found.get("status")}, "normalization_status": found.get("deles")}
                status = status_of(record) or Status.PENDING
                portions.by_status[status.value] += number
                if status is Status.DONE:
                    portions.by_origin[read_by(found.get("endereco"), found.get("documento"))] += number
        return portions

    async def concluded_today(self) -> int:
        """How many became `concluido` since midnight in Brasília."""
        return await self._totals.concluded_today()

    # -- imports ------------------------------------------------------------------------------------------------------

    async def imports(self, limit: int = 20) -> list[ImportRecord]:
        """The last imports, newest first."""
        with translated():
            cursor = self._imports.find({}).sort("created_at", -1).limit(limit)
            return [ImportRecord.of(record) async for record in cursor]

    async def note(self, import_id: str, about: Mapping[str, Any]) -> None:
        """Note something about an import: counts, names, a state; never a patient's text."""
        with translated():
            await self._imports.update_one(by_native_id(import_id), {"$set": {**about, "atualizado_em": self._clock()}})

    async def keep_problems(self, import_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep rows of a sheet that could not be used whole, with their cells, for some days."""
        expires = self._clock() + _PROBLEMS_KEPT
        with translated():
            for chunk in batched(rows, BULK):
                await self._problems.insert_many(
                    [{**row, "import_id": import_id, "expira_em": expires} for row in chunk], ordered=True
                )

    async def problems(self, import_id: str, *, skip: int = 0, limit: int = 0) -> list[Record]:
        """The rows kept, in the sheet's order; `limit` 0 gives all."""
        cursor = self._problems.find({"import_id": import_id}, {"_id": 0, "import_id": 0, "expira_em": 0})
        with translated():
            return [record async for record in cursor.sort("ordem", 1).skip(skip).limit(limit)]

    async def columns(self) -> dict[str, dict[str, str]]:
        """What is remembered of column titles, by scope (a header as a whole, a brand): title to stored field."""
        with translated():
            found = self._columns.find({}).sort("atualizado_em", -1).limit(_MOST_SCOPES)
            return {record["_id"]: dict(record.get("titulos") or {}) async for record in found}

    async def remember_columns(self, learned: Mapping[str, Mapping[str, str]]) -> None:
        """Remember what was said of titles; what was said of the same title before is replaced."""
        with translated():
            for scope, meanings in learned.items():
                fields = {f"titulos.{title}": name for title, name in meanings.items()}
                change = {"$set": {**fields, "atualizado_em": self._clock()}}
                await self._columns.update_one({"_id": scope}, change, upsert=True)

    async def undo(self, import_id: str, *, moved: Callable[[Undone], Awaitable[None]] | None = None) -> Undone:
        """Put back what the import wrote, telling how far it is. Whether it may be undone is the caller's to judge."""
        secret = await self._secret()
        with translated():
            undone = await put_back(
                self._appointments, self._images, import_id, secret=secret, clock=self._clock, moved=moved
            )
            await self._problems.delete_many({"import_id": import_id})
        return undone


__all__ = ["DEEPEST", "RESULT_FIELD", "Desk", "Filter", "Page", "Portions"]
