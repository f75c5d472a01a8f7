"""Undoing an import within a day: who may, and what has to go back into the queue."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from normalizer.errors import InvalidInput, NormalizerError
from normalizer.store.undo import WINDOW

if TYPE_CHECKING:
    from collections.abc import Mapping

    from normalizer.imports.importing import Enqueue
    from normalizer.store import Desk, Undone

RUNNING, FINISHED, BROKEN = "em andamento", "concluida", "interrompida"
UNDOING, HALF_UNDONE, UNDONE = "desfazendo", "desfeita em parte", "desfeita"
#: An import or an undo that has not moved for so long has lost its process.
_SILENT: Final = timedelta(minutes=2)
_ENQUEUED_AT_ONCE: Final = 1_000


def state_of(record: Mapping[str, Any], now: datetime) -> str:
    """`em andamento`, `concluida`, `interrompida`, `desfazendo`, `desfeita em parte` or `desfeita`."""
    status = str(record.get("status"))
    moved = _utc(record.get("atualizado_em") or record.get("created_at"))
    if moved is not None and now - moved > _SILENT:
        return {RUNNING: BROKEN, UNDOING: HALF_UNDONE}.get(status, status)
    return status


def undo_until(record: Mapping[str, Any], now: datetime) -> datetime | None:
    """Until when this import can be undone; None when it cannot."""
    began = _utc(record.get("created_at"))
    if began is None or state_of(record, now) not in {FINISHED, BROKEN, HALF_UNDONE} or now > began + WINDOW:
        return None
    return began + WINDOW


async def undo_import(
    record: Mapping[str, Any], *, desk: Desk, enqueue: Enqueue, now: datetime | None = None
) -> Undone:
    """Put back what the import wrote; rows that waited before wait again. How far it is, is noted as it goes.

    Args:
        record: the import, as the store gives it.
        desk: what restores.
        enqueue: puts appointment ids in the queue. Redis away raises QueueUnavailable after all is restored; the
            workers' reconcile then takes the rows up.
        now: the time, UTC.

    Raises:
        InvalidInput: it is running, being undone, undone already, or older than a day; nothing was changed.
        StoreUnavailable: MongoDB went away; what is left can be undone again.
    """
    now = now or datetime.now(UTC)
    if undo_until(record, now) is None:
        raise _refused(state_of(record, now))
    import_id = str(record["id"])

    async def noted(undone: Undone) -> None:
        await desk.note(import_id, counts_of(undone))

    await desk.note(import_id, {"status": UNDOING})
    try:
        undone = await desk.undo(import_id, moved=noted)
    except BaseException:
        with contextlib.suppress(NormalizerError):
            await desk.note(import_id, {"status": HALF_UNDONE})
        raise
    await desk.note(import_id, {"status": UNDONE, "desfeita_em": now, **counts_of(undone)})
    for start in range(0, len(undone.pending), _ENQUEUED_AT_ONCE):
        chunk = {item.id: item.fingerprint for item in undone.pending[start : start + _ENQUEUED_AT_ONCE]}
        await enqueue(list(chunk), fingerprints=chunk)
    return undone


def counts_of(undone: Undone) -> dict[str, int]:
    """As they are stored and shown."""
    return {"removidos": undone.removed, "restaurados": undone.restored, "mantidos": undone.kept}


def _refused(state: str) -> InvalidInput:
    if state == RUNNING:
        found, mend = "uma importação em andamento", "Espere que termine e desfaça depois."
    elif state == UNDOING:
        found, mend = "uma importação que já está sendo desfeita", "Espere que termine."
    elif state == UNDONE:
        found, mend = "uma importação já desfeita", "Nada mais a fazer."
    else:
        found, mend = "uma importação mais antiga", "Importe de novo a planilha anterior: só o que difere será mudado."
    hours = int(WINDOW.total_seconds() // 3600)
    return InvalidInput(where="desfazer", expected=f"uma importação das últimas {hours} horas", found=found, mend=mend)


def _utc(value: object) -> datetime | None:
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)
