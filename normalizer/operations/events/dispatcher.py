"""Dispatcher: tells the backend what happened. One of the replicas does it at a time; any may die at any moment.

Three things go on side by side, so that none waits for another: marks become events, changes that no write carries
(an import's end, the model lane, the budget) are observed, and each destination is sent its events one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import structlog
from redis.exceptions import RedisError

from normalizer.errors import NormalizerError
from normalizer.operations.events.senders import Refused, Sender

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from normalizer.llm.model_status import ModelStatus
    from normalizer.store import ImportRecord
    from normalizer.store.outbox import Delivery, Outbox

log = structlog.get_logger(__name__)

LEADER: Final = "norm:events:leader"
_LANE: Final = "norm:events:lane"
_LEASE_S: Final = 15.0
_FIRST_AGAIN_S: Final = 5.0
_LONGEST_AGAIN_S: Final = 3600.0
_GIVE_UP_AFTER: Final = timedelta(hours=24)
_WARN_AT: Final = 0.8  # as the ledger's own warning
_TRANSIENT: Final = (NormalizerError, RedisError, OSError, TimeoutError)  # LockError is a RedisError


class Dispatcher:
    """Collects, observes and sends, while it leads.

    Args:
        outbox: marks and events.
        senders: destinations by name; the names are stored with each event.
        redis: says who leads; where it is away nobody does, and events wait.
        read_lane: how the model lane stands; None where that is not known.
        every_s: seconds between two looks.
    """

    def __init__(
        self,
        outbox: Outbox,
        senders: Mapping[str, Sender],
        redis: Redis,
        *,
        read_lane: Callable[[], Awaitable[ModelStatus | None]],
        every_s: float = 1.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._outbox, self._senders, self._redis, self._read_lane = outbox, dict(senders), redis, read_lane
        self._every_s, self._clock = every_s, clock
        self._lock = redis.lock(LEADER, timeout=_LEASE_S, thread_local=False)
        self._led_until = 0.0
        self._names = list(self._senders)
        self._gone: set[str] = set()  # asked not to be sent anything more; tried anew by the next process

    async def run(self) -> None:
        """Go on until cancelled; an outage only delays."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever(self._lead))
            group.create_task(self._forever(self.collect))
            group.create_task(self._forever(self.observe))
            for name in self._names:
                group.create_task(self._forever(lambda name=name: self.send_next(name)))  # type: ignore[misc]

    async def close(self) -> None:
        """Let another replica lead at once."""
        with contextlib.suppress(*_TRANSIENT):
            await self._lock.release()

    async def collect(self) -> bool:
        """Make events of what is marked; whether there may be more."""
        return await self._outbox.collect(self._names) > 0

    async def observe(self) -> bool:
        """Tell of imports that ended and of the model lane's changes; whether there may be more."""
        for record in await self._outbox.finished_imports():
            await self._tell_import(record, "import.completed")
        for record in await self._outbox.undone_imports():
            await self._tell_import(record, "import.undone")
        await self._observe_lane()
        return False

    async def send_next(self, name: str) -> bool:
        """Send a destination its oldest event, if it is due; whether the next may follow at once."""
        delivery = None if name in self._gone else await self._outbox.next_for(name)
        if delivery is None or delivery.due_at > self._clock():
            return False
        answer = await self._senders[name].send(delivery.event)
        if not isinstance(answer, Refused):
            await self._outbox.taken(delivery.event.id, name)
            return True
        await self._refused(delivery, name, answer)
        return False

    async def _refused(self, delivery: Delivery, name: str, answer: Refused) -> None:
        event, now = delivery.event, self._clock()
        wait_s = min(_FIRST_AGAIN_S * 2**delivery.tries, _LONGEST_AGAIN_S) * random.uniform(0.8, 1.2)
        due_at = now + timedelta(seconds=wait_s)
        if answer.for_good or due_at - delivery.since > _GIVE_UP_AFTER:
            log.error("event.failed", destination=name, event_id=event.id, type=event.type, reason=answer.reason)
            await self._outbox.give_up(event.id, name, answer.reason)
            self._gone |= {name} if answer.for_good else set()
            return
        tries = delivery.tries + 1
        log.warning("event.delayed", destination=name, event_id=event.id, tries=tries, reason=answer.reason)
        await self._outbox.later(event.id, name, due_at, answer.reason)

    async def _tell_import(self, record: ImportRecord, kind: str) -> None:
        data = {name: getattr(record, name) for name in ("rows", "new", "changed", "problems")}
        await self._outbox.add(kind, {"import_id": record.id, **data}, self._names, once=f"{kind}:{record.id}")
        await self._outbox.told(record.id, kind)

    async def _observe_lane(self) -> None:
        """Compare with what was told last. A replica that leads anew tells a change it did not see begin."""
        lane = await self._read_lane()
        if lane is None or not lane.has_key:
            return
        now, today = self._clock(), f"{self._clock():%Y-%m-%d}"
        spent = {"usd": round(lane.today.usd, 4), "budget_usd": lane.daily_budget_usd}
        share = lane.today.usd / lane.daily_budget_usd if lane.daily_budget_usd else 0.0
        for reached, kind in ((share >= _WARN_AT, "budget.warned"), (share >= 1.0, "budget.paused")):
            if reached:
                await self._outbox.add(kind, {"day": today, **spent}, self._names, once=f"{kind}:{today}")
        stopped = lane.stopped or ""
        before = (await self._redis.get(_LANE) or b"").decode()
        if stopped != before:
            kind = "lane.stopped" if stopped else "lane.resumed"
            data = {"model": lane.model, "reason": stopped or None}
            await self._outbox.add(kind, data, self._names, once=f"{kind}:{now.isoformat(timespec='seconds')}")
            await self._redis.set(_LANE, stopped)

    async def _lead(self) -> bool:
        """Take or renew the lease."""
        began = time.monotonic()
        if self._leads:
            await self._lock.extend(_LEASE_S, replace_ttl=True)
        elif not await self._lock.acquire(blocking=False):
            return False
        self._led_until = began + _LEASE_S
        return False

    async def _forever(self, step: Callable[[], Awaitable[bool]]) -> None:
        leading = step == self._lead
        while True:
            again = False
            try:
                if leading or self._leads:
                    again = await step()
            except _TRANSIENT as error:
                log.warning("events.delayed", error=type(error).__name__)
            except Exception:  # a bug in one step must not end the others, which nobody would start again
                log.exception("events.broke")
            if not again:
                await asyncio.sleep(_LEASE_S / 3 if leading and self._leads else self._every_s)

    @property
    def _leads(self) -> bool:
        return time.monotonic() < self._led_until
