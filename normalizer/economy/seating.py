"""Putting a batch together: which of what waits is asked about in it, and where."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import structlog
from redis.exceptions import RedisError

from normalizer.domain.appointment import Appointment, Economy, Kind
from normalizer.domain.text import canonical
from normalizer.errors import QueueUnavailable
from normalizer.llm.batch_file import MAX_TEXTS, plan
from normalizer.llm.estimate import cost_of
from normalizer.llm.packing import Cost
from normalizer.llm.pricing import batch_share
from normalizer.llm.privacy import Withheld
from normalizer.llm.prompt import MAX_RECORD_CHARS, Record
from normalizer.store import Batch, Seat, Stage

if TYPE_CHECKING:
    from normalizer.cache import Cache
    from normalizer.llm.pricing import Ledger, Price
    from normalizer.queue.service import TaskService
    from normalizer.store import Batches, WaitingRoom

log = structlog.get_logger(__name__)

REDIS_AWAY: Final = (RedisError, OSError, TimeoutError)
_RECORDS_PER_LOOP_TURN: Final = 20


class Seating:
    """Seats what waits.

    Args:
        room, batches, tasks: where it waits, what is under way, and where it goes back to.
        cache: what it knows by now needs no batch.
        ledger: the day's budget; batches under way count as spent.
        price: of the model, per call.
        count: tokens of a text.
        items: records in a request at most.
    """

    def __init__(
        self,
        room: WaitingRoom,
        batches: Batches,
        tasks: TaskService,
        *,
        cache: Cache,
        ledger: Ledger,
        price: Price,
        count: Callable[[str], int],
        items: int,
    ) -> None:
        self._room, self._batches, self._tasks = room, batches, tasks
        self._cache, self._ledger, self._price, self._count, self._items = cache, ledger, price, count, items

    async def seat(self) -> Batch | None:
        """A batch with everything seated that waits, may be asked and can be paid; None if there is nothing of it."""
        most_usd = await self._most_usd()
        sharing = await self._asked_nowhere(await self._worth_asking())
        costs = await self._costs(sharing)
        planned = plan(costs, items=self._items, count=self._count, price=self._price, most_usd=most_usd)
        if not planned.requests:
            if costs:
                log.warning("economy.budget.spent", texts=len(costs))
            return None
        batch = await self._batches.begin()
        await self._room.seat(
            batch.id,
            {
                appointment.id: Seat(place.request, place.slot, pays=position == 0)
                for text, place in planned.places.items()
                for position, appointment in enumerate(sharing[text])
            },
        )
        await self._batches.note(batch, stage=Stage.SEATED, usd=planned.usd * batch_share(), pedidos=planned.requests)
        log.info("economy.batch.seated", batch=batch.id, texts=len(planned.places), requests=planned.requests)
        return next((each for each in await self._batches.open() if each.id == batch.id), None)

    async def _most_usd(self) -> float | None:
        """What may be spent at the full price."""
        try:
            left_usd = await self._ledger.left_usd()
        except REDIS_AWAY as error:
            raise QueueUnavailable("Redis does not say what was spent today") from error
        if left_usd is None:
            return None
        promised_usd = sum(batch.usd for batch in await self._batches.open())
        return max(0.0, left_usd - promised_usd) / batch_share()

    async def _worth_asking(self) -> dict[str, list[Appointment]]:
        """What waits, by the identity of its text, without what needs no batch any more: that goes back at once."""
        waiting: dict[str, list[Appointment]] = {}
        async for chunk in self._room.unseated(limit=MAX_TEXTS):
            texts = [each.text(Kind.ADDRESS) for each in chunk]
            known = await self._cache.get_many(Kind.ADDRESS, texts, again=True)
            over = []
            for text, each in zip(texts, chunk, strict=True):
                if each.economy is not Economy.WAITING or text in known or not _askable(text):
                    over.append(each.id)
                else:
                    waiting.setdefault(canonical(text), []).append(each)
            released = {item.id: item.fingerprint for item in await self._room.release(over)}
            await self._tasks.enqueue_many(list(released), fingerprints=released)
        return waiting

    async def _asked_nowhere(self, waiting: dict[str, list[Appointment]]) -> dict[str, list[Appointment]]:
        """Without texts that a batch under way asks about: who carries one waits for that answer, too."""
        if not waiting:
            return waiting
        joined: dict[str, dict[str, Seat]] = {}
        async for chunk in self._room.seated():
            for item in chunk:
                for each in waiting.pop(canonical(item.appointment.text(Kind.ADDRESS)), ()):
                    joined.setdefault(item.batch_id, {})[each.id] = Seat(item.request, item.slot, pays=False)
        for batch_id, seats in joined.items():
            await self._room.seat(batch_id, seats)
        return waiting

    async def _costs(self, sharing: Mapping[str, Sequence[Appointment]]) -> dict[str, Cost]:
        costs = {}
        for turn, (text, appointments) in enumerate(sharing.items()):
            costs[text] = cost_of(record_of(appointments), self._count)
            if turn % _RECORDS_PER_LOOP_TURN == 0:
                await asyncio.sleep(0)
        return costs


def record_of(sharing: Sequence[Appointment]) -> Record:
    """What leaves of a text that these carry, without what any of them withholds."""
    return Record.of(sharing[0].text(Kind.ADDRESS), withheld=Withheld.of(_private(sharing)))


def _private(sharing: Iterable[Appointment]) -> Iterable[Sequence[str]]:
    return ((each.text(Kind.DOCUMENT), *each.private) for each in sharing)


def _askable(text: str) -> bool:
    record = Record.of(text)
    return bool(record.text) and len(record.text) <= MAX_RECORD_CHARS
