"""Undo of an import within a day: its conditions, and what has to go back into the queue."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from normalizer.domain.appointment import Kind
from normalizer.errors import InvalidInput, NormalizerError
from normalizer.store import ImportNotes, ImportState
from normalizer.store.undo import WINDOW

if TYPE_CHECKING:
    from normalizer.cache import Cache
    from normalizer.imports.importing import Enqueue
    from normalizer.store import AppointmentStore, ImportRecord, Undone

_ENQUEUED_AT_ONCE: Final = 1_000


async def undo_import(
    record: ImportRecord,
    *,
    store: AppointmentStore,
    enqueue: Enqueue,
    cache: Cache | None = None,
    now: datetime | None = None,
) -> Undone:
    """Put back what the import wrote; rows that waited before wait again. How far it is, is noted as it goes.

    Args:
        record: the import, as the store gives it.
        store: what restores.
        enqueue: puts appointment ids in the queue. Redis away raises QueueUnavailable after all is restored; the
            workers' reconcile then takes the rows up.
        cache: what forgets a person's answers that are taken back.
        now: the time, UTC.

    Raises:
        InvalidInput: it is running, being undone, undone already, or older than a day; nothing was changed.
        StoreUnavailable: MongoDB went away; what is left can be undone again.
    """
    now = now or datetime.now(UTC)
    if record.undo_until(now) is None:
        raise _refused(record.state(now))
    import_id = record.id

    async def noted(undone: Undone) -> None:
        await store.imports.note(import_id, **_counts(undone))

    await store.imports.note(import_id, state=ImportState.UNDOING)
    try:
        undone = await store.undo(import_id, moved=noted)
    except BaseException:
        with contextlib.suppress(NormalizerError):
            await store.imports.note(import_id, state=ImportState.HALF_UNDONE)
        raise
    if cache is not None:
        await cache.forget_many(Kind.ADDRESS, undone.unsaid, manual=True)
    ended: ImportNotes = {**_counts(undone), "state": ImportState.UNDONE}
    await store.imports.end(import_id, **ended)
    for start in range(0, len(undone.pending), _ENQUEUED_AT_ONCE):
        chunk = {item.id: item.fingerprint for item in undone.pending[start : start + _ENQUEUED_AT_ONCE]}
        await enqueue(list(chunk), fingerprints=chunk)
    return undone


def _counts(undone: Undone) -> ImportNotes:
    return ImportNotes(removed=undone.removed, restored=undone.restored, kept=undone.kept)


def _refused(state: ImportState) -> InvalidInput:
    if state is ImportState.RUNNING:
        found, fix = "uma importação em andamento", "Espere que termine e desfaça depois."
    elif state is ImportState.UNDOING:
        found, fix = "uma importação que já está sendo desfeita", "Espere que termine."
    elif state is ImportState.UNDONE:
        found, fix = "uma importação já desfeita", "Nada mais a fazer."
    else:
        found, fix = "uma importação mais antiga", "Importe de novo a planilha anterior: só o que difere será mudado."
    hours = int(WINDOW.total_seconds() // 3600)
    return InvalidInput(where="desfazer", expected=f"uma importação das últimas {hours} horas", found=found, fix=fix)
