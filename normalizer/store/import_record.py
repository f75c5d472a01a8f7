"""The record of one import: what it brought, how far it is, and whether it can still be undone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Self

from normalizer.store.connection import utc
from normalizer.store.undo import WINDOW

#: An import or an undo that has not moved for so long has lost its process.
_SILENT: Final = timedelta(minutes=2)
#: What counts of an import are stored as; earlier versions stored them under the first names.
STORED_AS: Final = {
    "new": "novas",
    "changed": "alteradas",
    "refreshed": "atualizadas",
    "equal": "iguais",
    "rows": "usadas",
}


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
        titles: per sheet, `{planilha, titulos}`.
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
    titles: Sequence[Mapping[str, Any]] = field(default=(), repr=False)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """From the stored document, of this version or an earlier one."""
        read = {STORED_AS.get(name, name): value for name, value in stored.items()}
        created_at, status = utc(read.get("created_at")), _state(read.get("status"))
        return cls(
            id=str(read["_id"]),
            file=str(read.get("arquivo") or ""),
            stored_state=status,
            created_at=created_at,
            moved_at=utc(read.get("atualizado_em")) or created_at,
            rows=_number(read.get("linhas")),
            written=_number(read.get("usadas") if status is ImportState.FINISHED else read.get("feitas")),
            read=_number(read.get("lidas")),
            refusal=read.get("recusa"),
            content=read.get("conteudo"),
            new=_number(read.get("novas")),
            changed=_number(read.get("alteradas")),
            refreshed=_number(read.get("atualizadas")),
            equal=_number(read.get("iguais")),
            problems=_number(read.get("problemas")),
            removed=_number(read.get("removidos")),
            restored=_number(read.get("restaurados")),
            kept=_number(read.get("mantidos")),
            hidden_sheets=tuple(map(str, read.get("ocultas") or ())),
            ignored_sheets=tuple(map(str, read.get("ignoradas") or ())),
            titles=tuple(read.get("titulos") or ()),
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


def _state(value: object) -> ImportState:
    return next((state for state in ImportState if state.value == value), ImportState.BROKEN)


def _number(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0
