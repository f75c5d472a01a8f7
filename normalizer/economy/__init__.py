"""The economy lane: what only a model can settle of a large import leaves by the provider's Batch API, at half price.

`build` makes a `Lane`, which is the whole interface. Appointments wait in MongoDB, batches are sent and read by a cron
task, answers go into the shared cache, and the appointments back into the queue, where the ordinary path finds them
answered. Why it is built so: docs/decisions/009.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from normalizer.economy.journey import Journey
from normalizer.economy.lane import Lane
from normalizer.economy.reading import Reading
from normalizer.economy.seating import Seating
from normalizer.llm.pricing import price

if TYPE_CHECKING:
    from normalizer.cache import Cache
    from normalizer.llm.batches import BatchApi
    from normalizer.llm.client import LlmClient
    from normalizer.llm.limits import Gate
    from normalizer.llm.pricing import Ledger
    from normalizer.queue.service import TaskService
    from normalizer.store import AppointmentStore

__all__ = ["Lane", "build"]


def _now() -> datetime:
    return datetime.now(UTC)


def build(
    store: AppointmentStore,
    tasks: TaskService,
    *,
    cache: Cache,
    ledger: Ledger,
    api: BatchApi | None,
    client: LlmClient | None,
    gate: Gate,
    count: Callable[[str], int],
    items: int,
    min_rows: int | None,
    quiet_s: float,
    clock: Callable[[], datetime] = _now,
) -> Lane:
    """The lane of one process.

    Args:
        store, tasks, cache, ledger: what it shares with the other lane.
        api, client: how the provider is asked; None without a key: nothing is sent then.
        gate: where a refusal is shown.
        count: tokens of a text.
        items: records in a request at most.
        min_rows, quiet_s: see `Lane`.
        clock: UTC.
    """
    room, batches = store.waiting_room(), store.batches()
    seating = journey = None
    if api is not None and client is not None:
        reading = Reading(room, batches, tasks, cache=cache, ledger=ledger)
        journey = Journey(room, batches, api=api, client=client, reading=reading, count=count, clock=clock)
        seating = Seating(
            room, batches, tasks, cache=cache, ledger=ledger, price=price(client.model), count=count, items=items
        )
    return Lane(
        room,
        batches,
        tasks,
        seating=seating,
        journey=journey,
        gate=gate,
        min_rows=min_rows,
        quiet_s=quiet_s,
        clock=clock,
    )
