"""Single-flight across replicas: who asks about a text holds a short lease on it; the others wait for that answer.

The answer travels through the shared cache. A lease is renewed while its text is in flight and lapses with its process,
so no replica waits longer than `lease_s` for a dead one. Without Redis each replica asks for its own texts, except
those it has seen leased elsewhere: such a lease gets one lease length to be renewed after the outage.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import structlog

from normalizer.domain.appointment import Kind
from normalizer.queue.connection import OUTAGE
from normalizer.queue.waiting import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from redis.asyncio import Redis

    from normalizer.cache import Cache
    from normalizer.domain.address import Address
    from normalizer.domain.decision import Decision
    from normalizer.llm.single_flight import PendingText

log = structlog.get_logger(__name__)


class SharedSingleFlight:
    """The leases of one process, and the texts that others are asking about.

    Args:
        redis: shared by all replicas.
        cache: where the answers of other replicas arrive; it names texts by a keyed hash, since none is a Redis key.
        lease_s: a dead replica's texts are asked by another after this long.
        poll_s: how often the cache is looked up for what others are asking about.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        cache: Cache,
        lease_s: float = 15.0,
        poll_s: float = 0.25,
    ) -> None:
        self._redis, self._cache = redis, cache
        self._lease_s, self._poll_s = lease_s, poll_s
        self._token = secrets.token_hex(8)
        self._held: dict[PendingText, str] = {}
        self._parked: list[PendingText] = []
        self._not_before = 0.0  # until then others may not have been able to renew
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def attach(
        self,
        *,
        alive: Callable[[PendingText], bool],
        ours: Callable[[list[PendingText]], None],
        answered: Callable[[list[tuple[PendingText, Decision[Address]]]], None],
    ) -> None:
        """Say who uses this: whether a text is still in flight, what to do once it is ours to ask, or answered."""
        self._alive, self._ours, self._answered = alive, ours, answered

    async def take(self, entries: Sequence[PendingText]) -> list[PendingText]:
        """Return what is ours to ask now; what another replica asks is parked until its answer or its end."""
        new = [entry for entry in entries if entry not in self._held]
        lost = await self._claim(new)
        self._parked.extend(lost)
        if lost:
            self._keep_running("wait", self._wait_for_others)
        gone = {*lost, *await self._answer([entry for entry in new if entry not in lost])}
        return [entry for entry in entries if entry not in gone]

    async def release(self, entries: Iterable[PendingText]) -> None:
        """Give leases back; the answer, if any, is in the cache by now. A duplicate question is the worst case."""
        marks = [mark for entry in entries if (mark := self._held.pop(entry, None)) is not None]
        if marks:
            try:
                await self._redis.unlink(*map(_key, marks))
            except OUTAGE as error:
                log.warning("llm.shared_single_flight.redis_away", error=type(error).__name__)

    async def close(self) -> None:
        """Stop waiting, and let others ask what we did not finish."""
        await cancel_and_wait(*self._tasks.values())
        await self.release(list(self._held))

    async def _claim(self, entries: Sequence[PendingText]) -> list[PendingText]:
        """Take the leases that are free, in one round trip; return the entries whose lease another holds."""
        marks = {entry: self._cache.mark(Kind.ADDRESS, entry.text) for entry in entries}
        known = {mark: entry for entry, mark in self._held.items()}
        for entry, mark in marks.items():
            if (earlier := known.get(mark)) is not None:  # this process asked before, and gave up
                self._held[entry] = self._held.pop(earlier)
        wanted = [entry for entry in entries if entry not in self._held]
        if not wanted:
            return []
        pipe = self._redis.pipeline(transaction=False)
        for entry in wanted:
            pipe.set(_key(marks[entry]), self._token, nx=True, px=int(1000 * self._lease_s))
        try:
            taken = await pipe.execute()
        except OUTAGE as error:
            log.warning("llm.shared_single_flight.redis_away", error=type(error).__name__)
            return []
        self._held |= {entry: marks[entry] for entry, ours in zip(wanted, taken, strict=True) if ours}
        self._keep_running("renew", self._renew)
        return [entry for entry, ours in zip(wanted, taken, strict=True) if not ours]

    async def _answer(self, entries: Sequence[PendingText]) -> list[PendingText]:
        """End what the cache knows by now: another replica may have answered since this one looked."""
        texts = [entry.text for entry in entries]
        known = await self._cache.get_many(Kind.ADDRESS, texts, again=True) if entries else {}
        answered = [(entry, known[entry.text].decision) for entry in entries if entry.text in known]
        found = [entry for entry, _ in answered]
        await self.release(found)
        if answered:
            self._answered(answered)
        return found

    async def _wait_for_others(self) -> None:
        while self._parked:
            await asyncio.sleep(self._poll_s)
            waiting = [entry for entry in self._parked if self._alive(entry)]
            answered = set(await self._answer(waiting))
            waiting = [entry for entry in waiting if entry not in answered]
            lost = set(await self._claim(waiting) if await self._steady() else waiting)
            free = [entry for entry in waiting if entry not in lost]
            answered |= set(await self._answer(free))  # remembered just before the lease was given back
            self._parked = [entry for entry in self._parked if self._alive(entry) and entry not in {*free, *answered}]
            if ours := [entry for entry in free if entry not in answered]:
                self._ours(ours)

    async def _steady(self) -> bool:
        """Whether Redis has answered promptly for the length of a lease: who lives could renew."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        try:
            await self._redis.ping()
            prompt = loop.time() - asked_at < self._lease_s / 3
        except OUTAGE as error:
            log.warning("llm.shared_single_flight.redis_away", error=type(error).__name__)
            prompt = False
        if not prompt:
            self._not_before = loop.time() + self._lease_s
        return loop.time() >= self._not_before

    async def _renew(self) -> None:
        while self._held:
            await asyncio.sleep(self._lease_s / 3)
            await self.release([entry for entry in self._held if not self._alive(entry)])
            pipe = self._redis.pipeline(transaction=False)
            for mark in self._held.values():
                pipe.set(_key(mark), self._token, nx=True, px=int(1000 * self._lease_s))  # it lapsed in an outage
                pipe.pexpire(_key(mark), int(1000 * self._lease_s))
            try:
                await pipe.execute()
            except OUTAGE as error:
                log.warning("llm.shared_single_flight.redis_away", error=type(error).__name__)

    def _keep_running(self, name: str, work: Callable[[], Coroutine[None, None, None]]) -> None:
        task = self._tasks.get(name)
        if task is None or task.done():
            self._tasks[name] = asyncio.create_task(work(), name=f"llm-shared-{name}")


def _key(mark: str) -> str:
    return f"norm:asking:{mark}"
