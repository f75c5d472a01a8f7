"""Orders of an operator: pause, resume and drain; what is to be read afresh; rows of earlier versions in today's forms.

What holds the queue is told to Redis, where workers see it, and kept in MongoDB, which outlives an emptied Redis. A
migration is counted first, then written, and undone like an import.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import structlog

from normalizer.domain.appointment import Kind, Status
from normalizer.errors import NormalizerError
from normalizer.store import ImportNotes, ImportState

if TYPE_CHECKING:
    from normalizer.cache import Cache
    from normalizer.queue.service import TaskService
    from normalizer.store import AppointmentStore, DurableState, Migrated


log = structlog.get_logger(__name__)


class Order(StrEnum):
    """What one may tell the queue; each is a method of `TaskService`."""

    PAUSE = "pause"
    RESUME = "resume"
    DRAIN = "drain"


async def steer(order: Order, *, tasks: TaskService, state: DurableState) -> None:
    """Obeyed also where MongoDB is away: an operator who pauses may do so because of that. QueueUnavailable.

    Redis hears of a pause first, and of its end last: a worker that refills Redis meanwhile brings no old pause back.
    """
    if order is not Order.RESUME:
        await getattr(tasks, order.value)()
    await _keep(order, state)
    if order is Order.RESUME:
        await tasks.resume()


async def _keep(order: Order, state: DurableState) -> None:
    try:
        await state.keep_pause(None if order is Order.RESUME else order.value)
    except NormalizerError as error:
        log.warning("queue.order.not_kept", order=order.value, error=type(error).__name__)


async def requeue(
    statuses: Collection[Status],
    *,
    store: AppointmentStore,
    tasks: TaskService,
    cache: Cache,
    reasons: Collection[str] | None = None,
    again: bool = False,
) -> int:
    """Make appointments `pendente` again and enqueue them; returns how many.

    Args:
        statuses: which to take up, e.g. `{Status.REVIEW}`.
        store: where they are kept.
        tasks: the queue they go back to.
        cache: machine answers to their texts leave it before the queue has them; corrections by people stay.
        reasons: only those with one of these as `motivo` or `erro`; None takes all.
        again: replace results, too, that the backend stored or a person corrected.

    Raises StoreUnavailable or QueueUnavailable; what was put back until then stays so.
    """
    queued = 0
    async for chunk in store.requeue(statuses, reasons=reasons, again=again):
        fingerprints = {item.id: item.fingerprint for item in chunk}
        texts = {appointment.text(Kind.ADDRESS) for appointment in (await store.load(list(fingerprints))).values()}
        await cache.forget_many(Kind.ADDRESS, sorted(texts - {""}))
        await tasks.enqueue_many(list(fingerprints), fingerprints=fingerprints)
        queued += len(chunk)
    return queued


#: What each change is called where people read it.
CHANGES: Final = {
    "id": "sem id (o backend não os abre)",
    "tags": "sem a lista tags",
    "nomes": "sem nome de marca, unidade ou paciente",
    "formas": "data, hora, telefone ou situação em forma que o backend não lê",
    "ausente": "em revisão só porque não há texto",
    "falta": "sem o endereço que a sua marca ou unidade pede",
    "acompanhamento": "sem normalization_status em dia",
}


async def migrate(store: AppointmentStore, *, apply: bool) -> tuple[str | None, Migrated]:
    """Mend what needs it, or only count; returns the id it can be undone by, for a day. Raises StoreUnavailable."""
    if not apply:
        return None, await store.migrate(None)
    import_id = await begun(store)
    return import_id, await carry_out(store, import_id)


async def begun(store: AppointmentStore) -> str:
    """Note that a migration begins; returns the id it is followed and undone by."""
    return await store.imports.begin(file="migração", format="migrate")


async def carry_out(store: AppointmentStore, import_id: str) -> Migrated:
    """Mend what needs it under this id, and note how far it is."""

    async def noted(so_far: Migrated) -> None:
        await store.imports.note(import_id, rows=so_far.seen, written=so_far.changed)

    migrated = await store.migrate(import_id, moved=noted)
    ended = ImportNotes(state=ImportState.FINISHED, rows=migrated.seen, used=migrated.seen, refreshed=migrated.changed)
    ended["changes"] = migrated.by_change
    await store.imports.end(import_id, **ended)
    return migrated


def as_dict(import_id: str | None, migrated: Migrated) -> dict[str, Any]:
    """For JSON."""
    counts = {"vistos": migrated.seen, "mudados": migrated.changed, "pulados": migrated.skipped}
    return {"import_id": import_id, "ensaio": import_id is None, **counts, "mudancas": dict(migrated.by_change)}
