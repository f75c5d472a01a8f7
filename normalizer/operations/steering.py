"""Orders of an operator: pause, resume and drain, and what is to be read afresh.

What holds the queue is told to Redis, where workers see it, and kept in MongoDB, which outlives an emptied Redis.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog

from normalizer.domain.appointment import Kind, Status
from normalizer.errors import NormalizerError

if TYPE_CHECKING:
    from normalizer.cache import Cache
    from normalizer.queue.service import TaskService
    from normalizer.store import AppointmentStore, DurableState

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
