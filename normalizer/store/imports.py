"""Imports: what each brought, how far it is, whether it can be undone; and the rows it could not use."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Self, TypedDict, Unpack

from bson import ObjectId

from normalizer.domain.appointment import Status
from normalizer.store.clinic import ProgressCounts, progress_of_import
from normalizer.store.connection import BULK, Database, Record, batched, by_native_id, stored_names, translating, utc
from normalizer.store.undo import WINDOW

#: How long the rows a sheet's import could not use are kept, with their cells.
PROBLEMS_KEPT: Final = timedelta(days=7)
#: An import or an undo that has not moved for so long has lost its process.
_SILENT: Final = timedelta(minutes=2)
_COUNTS: Final = (
    *("rows", "read", "new", "changed", "refreshed", "equal", "problems"),
    *("removed", "restored", "kept"),
)


class ImportState(StrEnum):
    """Where an import stands. `BROKEN` and `HALF_UNDONE` are seen, not stored: the process went silent."""

    RUNNING = "em andamento"
    FINISHED = "concluida"
    BROKEN = "interrompida"
    REFUSED = "recusada"
    UNDOING = "desfazendo"
    HALF_UNDONE = "desfeita em parte"
    UNDONE = "desfeita"


@dataclass(frozen=True, slots=True)
class SheetTitles:
    """The header of one sheet of an imported file."""

    sheet: str
    titles: Sequence[str]

    def as_stored(self) -> dict[str, Any]:
        """The document."""
        return {"planilha": self.sheet, "titulos": list(self.titles)}


class ImportNotes(TypedDict, total=False):
    """What may be noted of an import, by the names of `ImportRecord`, each with its stored name where that is another.

    `used` and `changes` are known when it has ended.
    """

    state: Annotated[ImportState, "status"]
    file: Annotated[str, "arquivo"]
    format: Annotated[str, "formato"]
    content: Annotated[str, "conteudo"]
    rows: Annotated[int, "linhas"]
    read: Annotated[int, "lidas"]
    written: Annotated[int, "feitas"]
    used: Annotated[int, "usadas"]
    new: Annotated[int, "novas"]
    changed: Annotated[int, "alteradas"]
    refreshed: Annotated[int, "atualizadas"]
    equal: Annotated[int, "iguais"]
    unqueued: int
    problems: Annotated[int, "problemas"]
    removed: Annotated[int, "removidos"]
    restored: Annotated[int, "restaurados"]
    kept: Annotated[int, "mantidos"]
    refusal: Annotated[str, "recusa"]
    hidden_sheets: Annotated[Sequence[str], "ocultas"]
    ignored_sheets: Annotated[Sequence[str], "ignoradas"]
    titles: Annotated[Sequence[SheetTitles], "titulos"]
    changes: Annotated[Mapping[str, int], "mudancas"]
    lessons: Annotated[Sequence[Mapping[str, Any]], "licoes"]
    finished_at: datetime


_STORED: Final = stored_names(ImportNotes)
#: As earlier versions stored counts.
_EARLIER: Final = {name: _STORED[name] for name in ("new", "changed", "refreshed", "equal")} | {"rows": "usadas"}


def stored_notes(**known: Unpack[ImportNotes]) -> dict[str, Any]:
    """Notes as they are stored."""
    return {_STORED.get(name, name): _plain(value) for name, value in known.items()}


def _plain(value: object) -> object:
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [each.as_stored() if isinstance(each, SheetTitles) else each for each in value]
    return dict(value) if isinstance(value, Mapping) else value


@dataclass(frozen=True, slots=True)
class CellProblem:
    """One thing of a row that cannot be used; `found` is masked."""

    column: str | None
    expected: str
    found: str
    fix: str


@dataclass(frozen=True, slots=True)
class ProblemRow:
    """A row that could not be used whole; `key` is its appointment's. Without cells it is told, not to be corrected."""

    sheet: str
    number: int | None
    problems: Sequence[CellProblem]
    cells: Sequence[str] = field(default=(), repr=False)
    key: str | None = None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """From the stored document."""
        problems = [CellProblem(*[one.get(name) for name in _PROBLEM]) for one in stored.get("problemas") or ()]
        return cls(
            stored["planilha"], stored.get("linha"), problems, tuple(stored.get("celulas") or ()), stored.get("chave")
        )

    def as_stored(self) -> dict[str, Any]:
        """The document."""
        problems = [dict(zip(_PROBLEM, astuple(one), strict=True)) for one in self.problems]
        place = {"planilha": self.sheet, "linha": self.number, "chave": self.key}
        return {**place, "problemas": problems, "celulas": list(self.cells)}


_PROBLEM: Final = ("coluna", "esperado", "encontrado", "corrigir")


@dataclass(frozen=True, slots=True)
class ImportRecord:
    """One import as it is stored; counts and names, no patient's data.

    Attributes:
        stored_state: as last written; ask `state`.
        rows: usable rows of the sheet.
        written: rows written so far.
        read: rows read so far, before any is written.
        refusal: why nothing of the sheet can be used, where that was seen after the request was answered.
        content: a hash of the file, for a request that is told twice.
        new, changed, refreshed, equal: what became of them.
        removed, restored, kept: appointments, when it was undone.
        titles: per sheet.
    """

    id: str
    file: str
    stored_state: ImportState
    created_at: datetime | None
    moved_at: datetime | None = None
    rows: int = 0
    written: int = 0
    read: int = 0
    refusal: str | None = None
    content: str | None = None
    new: int = 0
    changed: int = 0
    refreshed: int = 0
    equal: int = 0
    problems: int = 0
    removed: int = 0
    restored: int = 0
    kept: int = 0
    hidden_sheets: Sequence[str] = ()
    ignored_sheets: Sequence[str] = ()
    titles: Sequence[SheetTitles] = field(default=(), repr=False)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """From the stored document, of this version or an earlier one."""
        read = {_EARLIER.get(name, name): value for name, value in stored.items()}
        created_at, state = utc(read.get("created_at")), _state(read.get("status"))
        counts = {name: _number(read.get(_STORED[name])) for name in _COUNTS}
        return cls(
            id=str(read["_id"]),
            file=str(read.get("arquivo") or ""),
            stored_state=state,
            created_at=created_at,
            moved_at=utc(read.get("atualizado_em")) or created_at,
            written=_number(read.get("usadas") if state is ImportState.FINISHED else read.get("feitas")),
            refusal=read.get("recusa"),
            content=read.get("conteudo"),
            hidden_sheets=tuple(map(str, read.get("ocultas") or ())),
            ignored_sheets=tuple(map(str, read.get("ignoradas") or ())),
            titles=tuple(SheetTitles(str(one["planilha"]), tuple(one["titulos"])) for one in read.get("titulos") or ()),
            **counts,
        )

    def state(self, now: datetime) -> ImportState:
        """Where it stands; one that has been silent for too long was broken off."""
        if self.moved_at is not None and now - self.moved_at > _SILENT:
            broken = {ImportState.RUNNING: ImportState.BROKEN, ImportState.UNDOING: ImportState.HALF_UNDONE}
            return broken.get(self.stored_state, self.stored_state)
        return self.stored_state

    def undo_until(self, now: datetime) -> datetime | None:
        """Until when it can be undone; None when it cannot."""
        ended = {ImportState.FINISHED, ImportState.BROKEN, ImportState.HALF_UNDONE}
        return self._until(now, WINDOW) if self.state(now) in ended else None

    def problems_until(self, now: datetime) -> datetime | None:
        """Until when the rows it could not use can be had; None when there are none, or not any more."""
        return self._until(now, PROBLEMS_KEPT) if self.problems else None

    def _until(self, now: datetime, kept: timedelta) -> datetime | None:
        end = None if self.created_at is None else self.created_at + kept
        return None if end is None or now > end else end


def _state(value: object) -> ImportState:
    return next((state for state in ImportState if state.value == value), ImportState.BROKEN)


def _number(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0


_FIGURES: Final = ("estados", "origens", "pareceres")  # the counts of `ProgressCounts`


@translating
class Imports:
    """Records of imports, `normalizer_imports`. Every method may raise `StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._imports, self._appointments = database.lasting("normalizer_imports"), database.appointments
        self._secret, self._clock = database.secret, database.clock

    async def id_of(self, key: str | None) -> str:
        """The id of the import that a client calls by this key, whenever it asks; without a key a new one."""
        if key is None:
            return str(ObjectId())
        return hashlib.blake2b(key.encode(), key=await self._secret.get(), digest_size=12).hexdigest()

    async def announce(self, import_id: str, **known: Unpack[ImportNotes]) -> bool:
        """Note that an import was received and is being read; False when it was before."""
        now, running = self._clock(), stored_notes(state=ImportState.RUNNING)
        record = {**stored_notes(**known), **running, "fase": "lendo", "created_at": now, "atualizado_em": now}
        made = await self._imports.update_one({"_id": ObjectId(import_id)}, {"$setOnInsert": record}, upsert=True)
        return made.upserted_id is not None

    async def forget(self, import_id: str) -> None:
        """Take back an announced import that was refused before it wrote anything."""
        await self._imports.delete_one({"_id": ObjectId(import_id), "fase": "lendo"})

    async def begin(self, import_id: str | None = None, **known: Unpack[ImportNotes]) -> str:
        """Note that an import begins to write, under its id where it was announced; returns the id."""
        native, now = ObjectId(import_id), self._clock()
        fields = {**stored_notes(**known), **stored_notes(state=ImportState.RUNNING), "atualizado_em": now}
        change = {"$set": fields, "$setOnInsert": {"created_at": now}, "$unset": {"fase": ""}}
        await self._imports.update_one({"_id": native}, change, upsert=True)
        return str(native)

    async def note(self, import_id: str, **known: Unpack[ImportNotes]) -> None:
        """Note how far it is: counts, names, a state; never a patient's text."""
        fields = {**stored_notes(**known), "atualizado_em": self._clock()}
        await self._imports.update_one(by_native_id(import_id), {"$set": fields})

    async def end(self, import_id: str, **known: Unpack[ImportNotes]) -> None:
        """Note how it ended."""
        ended: ImportNotes = {**known, "finished_at": self._clock()}
        await self.note(import_id, **ended)

    async def lessons(self) -> list[Mapping[str, Any]]:
        """What the corrections of many that stand say of districts' short names, as `Questions.learned` noted it."""
        standing = {"licoes": {"$exists": True}, "status": ImportState.FINISHED.value}
        return [each async for record in self._imports.find(standing, {"licoes": 1}) for each in record["licoes"]]

    async def get(self, import_id: str) -> ImportRecord | None:
        """What is known of an import; None when there is no such import."""
        found: Record | None = await self._imports.find_one(by_native_id(import_id))
        return None if found is None else ImportRecord.of(found)

    async def recent(self, limit: int = 20, *, since: datetime | None = None) -> list[ImportRecord]:
        """The last imports, newest first."""
        chosen = {} if since is None else {"created_at": {"$gte": since}}
        cursor = self._imports.find(chosen).sort("created_at", -1).limit(limit)
        return [ImportRecord.of(record) async for record in cursor]

    async def progress(self, import_id: str) -> ProgressCounts:
        """How far an import's appointments are. Figures are kept once none of them waits any more."""
        about = await self._imports.find_one(by_native_id(import_id), {"figuras": 1})
        if about and (kept := about.get("figuras")):
            return ProgressCounts(*[Counter(kept.get(name) or {}) for name in _FIGURES])
        counted = await progress_of_import(self._appointments, import_id)
        if counted.total and not counted.by_status[Status.PENDING]:
            counts = (counted.by_status, counted.by_origin, counted.by_evidence)
            figures = {name: dict(count) for name, count in zip(_FIGURES, counts, strict=True)}
            over = {**by_native_id(import_id), "status": {"$ne": ImportState.RUNNING.value}}
            await self._imports.update_one(over, {"$set": {"figuras": figures}})
        return counted

    async def recount(self, import_ids: Iterable[str | None]) -> None:
        """Appointments of imports that were over have changed: `progress` counts them anew."""
        if names := set(import_ids) - {None}:
            chosen = {"_id": {"$in": [by_native_id(str(name))["_id"] for name in names]}, "figuras": {"$exists": True}}
            await self._imports.update_many(chosen, {"$unset": {"figuras": ""}})

    async def recount_all(self) -> None:
        """Appointments of any import may have changed."""
        await self._imports.update_many({"figuras": {"$exists": True}}, {"$unset": {"figuras": ""}})


@translating
class ProblemRows:
    """Rows of sheets that could not be used whole, for some days: `normalizer_problems`."""

    def __init__(self, database: Database) -> None:
        self._problems, self._clock = database.lasting("normalizer_problems"), database.clock

    async def keep(self, import_id: str, rows: Sequence[ProblemRow], *, first: int = 0) -> None:
        """Keep the rows of an import, the first as number `first`. StoreUnavailable on an outage, as in all methods."""
        about = {"import_id": import_id, "expira_em": self._clock() + PROBLEMS_KEPT}
        for chunk in batched(enumerate(rows, first), BULK):
            documents = [{**row.as_stored(), **about, "ordem": position} for position, row in chunk]
            await self._problems.insert_many(documents, ordered=True)

    async def of(self, import_id: str, *, skip: int = 0, limit: int = 0) -> list[ProblemRow]:
        """The rows kept, in the sheet's order; `limit` 0 gives all."""
        cursor = self._problems.find({"import_id": import_id}).sort("ordem", 1).skip(skip).limit(limit)
        return [ProblemRow.of(record) async for record in cursor]

    async def forget(self, import_id: str) -> None:
        """The import was undone."""
        await self._problems.delete_many({"import_id": import_id})
