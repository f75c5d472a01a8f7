"""Appointments back into the queue, to be read afresh: earlier answers to their texts are forgotten first."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from normalizer.domain.appointment import Kind, Status

if TYPE_CHECKING:
    from normalizer.cache import Cache
    from normalizer.queue.service import TaskService
    from normalizer.store import AppointmentStore


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
