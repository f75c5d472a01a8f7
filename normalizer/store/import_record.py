"""The record of one import: what it brought, how far it is, and whether it can still be undone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Self, TypedDict, Unpack

from normalizer.store.connection import utc
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


class ImportNotes(TypedDict, total=False):
    """What may be noted of an import, by the names of `ImportRecord`; `used` and `changes` when it has ended."""

    state: ImportState
    file: str
    format: str
    content: str
    rows: int
    read: int
    written: int
    used: int
    new: int
    changed: int
    refreshed: int
    equal: int
    unqueued: int
    problems: int
    removed: int
    restored: int
    kept: int
    refusal: str
    hidden_sheets: Sequence[str]
    ignored_sheets: Sequence[str]
    titles: Sequence[SheetTitles]
    changes: Mapping[str, int]
    finished_at: datetime


#: The stored names; those not named here are stored as they are.
_STORED: Final = {
    "state": "status",
    "file": "arquivo",
    "format": "formato",
    "content": "conteudo",
    "rows": "linhas",
    "read": "lidas",
    "written": "feitas",
    "used": "usadas",
    "new": "novas",
    "changed": "alteradas",
    "refreshed": "atualizadas",
    "equal": "iguais",
    "problems": "problemas",
    "removed": "removidos",
    "restored": "restaurados",
    "kept": "mantidos",
    "refusal": "recusa",
    "hidden_sheets": "ocultas",
    "ignored_sheets": "ignoradas",
    "titles": "titulos",
    "changes": "mudancas",
}
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
class SheetTitles:
    """The header of one sheet of an imported file."""

    sheet: str
    titles: Sequence[str]

    def as_stored(self) -> dict[str, Any]:
        """The document."""
        return {"planilha": self.sheet, "titulos": list(self.titles)}


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
        if self.created_at is None or self.state(now) not in ended or now > self.created_at + WINDOW:
            return None
        return self.created_at + WINDOW

    def problems_until(self, now: datetime) -> datetime | None:
        """Until when the rows it could not use can be had; None when there are none, or not any more."""
        if self.created_at is None or not self.problems or now > self.created_at + PROBLEMS_KEPT:
            return None
        return self.created_at + PROBLEMS_KEPT


def _state(value: object) -> ImportState:
    return next((state for state in ImportState if state.value == value), ImportState.BROKEN)


def _number(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0
