"""Keep leases alive from a thread of its own, so that a group that keeps the event loop busy does not lose its jobs.

The thread runs its own event loop and its own connection (behind Redis Sentinel, whose pools belong to one loop, a task
on the worker's loop does it). It renews every third of a lease. It stops renewing when the
worker's loop has not moved for `STALL_LIMIT_LEASES` leases: a hung process must not hold its jobs for ever.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.sentinel import SentinelConnectionPool

from normalizer.queue.connection import OUTAGE
from normalizer.queue.leases import Keys, Leases
from normalizer.queue.loops import end, pause

if TYPE_CHECKING:
    from normalizer.queue.group import Group

log = structlog.get_logger(__name__)

STALL_LIMIT_LEASES = 4
_RETRY_S = 0.5


class LeaseKeeper:
    """Renews the leases of every group added to it, until the group is removed.

    Args:
        redis: the worker's client; its settings are copied for a connection of the keeper's own.
        keys: of the queue.
        lease_s: length of a lease.
        clock: monotonic seconds.
    """

    def __init__(
        self, redis: Redis, keys: Keys, *, lease_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pool, self._keys, self._lease_s, self._clock = redis.connection_pool, keys, lease_s, clock
        self._groups: dict[str, Group] = {}
        self._home = asyncio.get_running_loop()
        self._moved = clock()
        self._gave_up = False
        self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._halt: asyncio.Event | None = None
        self._ready = threading.Event()

    def start(self) -> None:
        """Start renewing."""
        if isinstance(self._pool, SentinelConnectionPool):
            self._task = self._home.create_task(self._keep(Redis(connection_pool=self._pool)))
            return
        self._thread.start()
        self._ready.wait()

    async def stop(self) -> None:
        """Stop renewing and wait for the thread, without blocking the loop."""
        if self._task is not None:
            await end(self._task)
        if self._loop is not None and self._halt is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._halt.set)
            await asyncio.to_thread(self._thread.join)

    def add(self, key: str, group: Group) -> None:
        """Renew this group's leases from now on."""
        self._groups[key] = group

    def remove(self, key: str) -> None:
        """This group is over."""
        self._groups.pop(key, None)

    def loop_moved(self) -> None:
        """The worker's loop lives; called from it at every beat."""
        self._moved = self._clock()

    def _run(self) -> None:
        asyncio.run(self._keep_apart())

    async def _keep_apart(self) -> None:
        redis = _twin(self._pool)
        try:
            await self._keep(redis)
        finally:
            await redis.aclose(close_connection_pool=True)

    async def _keep(self, redis: Redis) -> None:
        self._loop, self._halt = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        leases = Leases(redis, self._keys)
        while not self._halt.is_set():
            failed = await self._round(leases)
            await pause(self._halt, _RETRY_S if failed else self._lease_s / 3)

    async def _round(self, leases: Leases) -> bool:
        """Renew every group once. Returns whether Redis failed."""
        if not self._home_moves():
            return False
        for group in list(self._groups.values()):
            ids = list(group.unsettled)
            if not ids:
                continue
            try:
                lost = await leases.renew(group.token, ids, lease_ms=int(self._lease_s * 1000))
            except OUTAGE as error:
                log.warning("queue.lease.renewal_failed", error=type(error).__name__)
                return True
            if lost:
                self._tell(group, lost)
        return False

    def _home_moves(self) -> bool:
        stalled = self._clock() - self._moved
        moves = stalled < STALL_LIMIT_LEASES * self._lease_s
        if moves == self._gave_up:
            self._gave_up = not moves
            if not moves:
                log.error("queue.loop.hangs", seconds=round(stalled, 1), groups=len(self._groups))
        return moves

    def _tell(self, group: Group, lost: set[str]) -> None:
        def forget() -> None:
            known = (lost & group.unsettled.keys()) - group.settling  # a settle under way is no loss
            if known:
                log.warning("queue.lease.lost", jobs=len(known), token=group.token)
                group.forget(known)

        self._home.call_soon_threadsafe(forget)


def _twin(pool: ConnectionPool) -> Redis:
    """A client with the same settings on connections of its own."""
    return Redis(connection_pool=ConnectionPool(connection_class=pool.connection_class, **pool.connection_kwargs))
