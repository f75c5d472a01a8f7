"""Orders to the queue, told to Redis, where workers see them, and kept in MongoDB, which outlives an emptied Redis."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import structlog

from normalizer.errors import NormalizerError

if TYPE_CHECKING:
    from normalizer.queue.service import TaskService
    from normalizer.store import DurableState

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
