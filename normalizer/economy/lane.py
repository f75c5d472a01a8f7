"""Who may wait for a batch, and a turn: carry on with every batch under way, then send what waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import structlog

from normalizer.domain.appointment import Appointment, Economy, Kind, Status
from normalizer.errors import BatchRejected, NoBatchLane, ProviderRefused, TransientError
from normalizer.llm.batch_file import MAX_TEXTS
from normalizer.store import Batch, SaveReport, Turn

if TYPE_CHECKING:
    from normalizer.economy.journey import Journey
    from normalizer.economy.seating import Seating
    from normalizer.llm.limits import Gate
    from normalizer.queue.service import TaskService
    from normalizer.store import Batches, WaitingRoom

log = structlog.get_logger(__name__)

_LONGEST_GATHERING: Final = timedelta(minutes=15)
_AFTER_FULL: Final = timedelta(minutes=15)
_CLOSED_S: Final = 3_600.0
_MOST_REMEMBERED: Final = 1_000


class Lane:
    """The economy lane of one process.

    Args:
        room, batches: what waits, and what is under way.
        tasks: the queue that appointments go back to.
        seating, journey, gate: how batches are put together, how they travel, and where a refusal is shown; None
            without a key: nothing is sent then, and what has not left is given to the other lane.
        min_rows: an import of at least so many rows goes this way; None: none does, but what is under way is read.
        quiet_s: a batch leaves once nothing was parked for so long (or the first has waited for 15 minutes).
        clock: UTC.
    """

    def __init__(
        self,
        room: WaitingRoom,
        batches: Batches,
        tasks: TaskService,
        *,
        seating: Seating | None,
        journey: Journey | None,
        gate: Gate | None,
        min_rows: int | None,
        quiet_s: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._room, self._batches, self._tasks = room, batches, tasks
        self._seating, self._journey, self._gate = seating, journey, gate
        self._min_rows, self._quiet, self._clock = min_rows, timedelta(seconds=quiet_s), clock
        self._closed_until = 0.0
        self._is_large: dict[str, bool] = {}

    async def patient(self, appointments: Sequence[Appointment]) -> frozenset[str]:
        """The ids of those that may wait: of a large import, as it brought them, and not yet back from a batch."""
        if not self._is_open:
            return frozenset()
        unedited = await self._room.as_imported(appointments)
        may = {
            each.id: each.import_id
            for each in unedited
            if each.import_id and each.economy is Economy.NONE and Kind.ADDRESS not in each.by_hand
        }
        large = await self._large({*may.values()})
        return frozenset(id_ for id_, import_id in may.items() if import_id in large)

    async def park(self, appointments: Sequence[Appointment], *, fence: int) -> SaveReport:
        """Let them wait; those that wait already stay as they are."""
        new = [each for each in appointments if each.economy is not Economy.WAITING]
        report = await self._room.park(new, fence=fence)
        report.saved |= {each.id: Status.PENDING for each in appointments if each.economy is Economy.WAITING}
        if new:
            log.info("economy.parked", appointments=len(new))
        return report

    async def turn(self) -> None:
        """Go on with every batch, and send what waits; nothing while another process does. Raises TransientError."""
        async with self._batches.turn() as turn:
            if turn is None:
                return
            under_way = await self._batches.open()
            await self._give_back(await self._room.strays([batch.id for batch in under_way]))
            if self._journey is not None:
                await self._work(self._journey, under_way, turn)
            if not self._is_open:
                await self._give_all_back()

    async def _work(self, journey: Journey, under_way: Sequence[Batch], turn: Turn) -> None:
        for batch in under_way:
            await self._go_on(journey, batch, turn)
        while self._is_open and await self._may_send():
            if (seated := await self._seat()) is None:
                return
            await self._go_on(journey, seated, turn)

    @property
    def _is_open(self) -> bool:
        return self._min_rows is not None and self._journey is not None and time.monotonic() >= self._closed_until

    async def _large(self, import_ids: Collection[str | None]) -> set[str]:
        wanted = {import_id for import_id in import_ids if import_id is not None}
        if unknown := wanted - self._is_large.keys():
            if len(self._is_large) > _MOST_REMEMBERED:
                self._is_large.clear()
            large = await self._room.large_imports(unknown, min_rows=self._min_rows or 0)
            self._is_large |= {import_id: import_id in large for import_id in unknown}
        return {import_id for import_id in wanted if self._is_large.get(import_id)}

    async def _may_send(self) -> bool:
        """Whether a batch should leave now: nobody new is coming, nobody has stopped the queue, there is room."""
        queue = await self._room.queue()
        if queue.oldest is None or queue.newest is None:
            return False
        now = self._clock()
        gathered = now - queue.newest >= self._quiet or now - queue.oldest >= _LONGEST_GATHERING
        if not gathered and queue.number < MAX_TEXTS:
            return False
        if await self._batches.ended_full(within=_AFTER_FULL):
            return False
        return (await self._tasks.status()).state == "running"

    async def _seat(self) -> Batch | None:
        return None if self._seating is None else await self._seating.seat()

    async def _go_on(self, journey: Journey, batch: Batch, turn: Turn) -> None:
        """Bring a batch as far as it gets; an error leaves it where it is, for the next turn."""
        try:
            await journey.go_on(batch, turn)
        except NoBatchLane as error:
            self._closed_until = time.monotonic() + _CLOSED_S
            log.error("economy.not_offered", problem=str(error))
            await journey.give_up(batch)
        except ProviderRefused as error:
            log.error("economy.refused", problem=error.problem)
            if self._gate is not None:
                await self._gate.refused(error)
        except (TransientError, BatchRejected) as error:
            log.warning("economy.batch.waits", batch=batch.id, error=type(error).__name__)

    async def _give_all_back(self) -> None:
        """What has not left goes to the other lane."""
        async for chunk in self._room.unseated(limit=MAX_TEXTS):
            await self._give_back([each.id for each in chunk])

    async def _give_back(self, appointment_ids: Sequence[str]) -> None:
        released = await self._room.release(appointment_ids)
        if released:
            fingerprints = {item.id: item.fingerprint for item in released}
            await self._tasks.enqueue_many(list(fingerprints), fingerprints=fingerprints)
