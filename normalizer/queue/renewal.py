"""Renewal of a worker's leases, and the sweep that puts back the jobs of replicas that renew theirs no more.

Leases are renewed from a thread of its own, so that a group that keeps the event loop busy does not lose its jobs. The
thread runs its own event loop and its own connection (behind Redis Sentinel, whose pools belong to one loop, a task on
the worker's loop does it). It renews every third of a lease, and stops when the worker's loop has not moved for
`STALL_LIMIT_LEASES` leases: a hung process must not hold its jobs for ever. The sweep is a task, so that no claim
starves it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.sentinel import SentinelConnectionPool

from normalizer.queue.connection import OUTAGE, SOCKET_TIMEOUT_S
from normalizer.queue.leases import Keys, Leases
from normalizer.queue.waiting import cancel_and_wait, wait_for_event

if TYPE_CHECKING:
    from normalizer.queue.connection import RedisHealth
    from normalizer.queue.group import GroupState

log = structlog.get_logger(__name__)

STALL_LIMIT_LEASES: Final = 4
_RETRY_S: Final = 0.5
_LAG_PROBE_S: Final = 0.25
_SWEEP_S: Final = 1.0
#: Grace period after start-up or an outage: live workers get this long to renew before expired leases are reclaimed.
_GRACE_S: Final = SOCKET_TIMEOUT_S + 1.0


class LeaseRenewer:
    """Renews the lease of every group added to it, until the group is removed.

    Args:
        redis: the worker's client; its settings are copied for a connection of the renewer's own.
        lease_s: length of a lease.
        hold_ms: how long stock arq workers keep off a group's jobs.
        clock: monotonic seconds.
    """

    def __init__(
        self, redis: Redis, *, lease_s: float, hold_ms: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pool, self._lease_s, self._hold_ms, self._clock = redis.connection_pool, lease_s, hold_ms, clock
        self._groups: dict[str, GroupState] = {}  # by key
        self._home = asyncio.get_running_loop()
        self._moved, self._lag_s = clock(), 0.0
        self._gave_up = False
        self._task: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start renewing."""
        self._halt = asyncio.Event()
        if isinstance(self._pool, SentinelConnectionPool):
            self._task = self._home.create_task(self._renew_always(Redis(connection_pool=self._pool)))
            return
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="lease-renewer", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Stop renewing and wait for the thread, without blocking the loop."""
        if self._task is not None:
            await cancel_and_wait(self._task)
        if self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._halt.set)
            await asyncio.to_thread(self._thread.join)

    def add(self, group: GroupState) -> None:
        """Renew this group's lease from now on."""
        self._groups[group.key] = group

    def remove(self, group: GroupState) -> None:
        """This group is over."""
        self._groups.pop(group.key, None)

    def loop_moved(self) -> None:
        """The worker's loop lives."""
        self._moved = self._clock()

    async def watch_loop(self) -> None:
        """Show from the worker's loop that it lives, and measure how late it wakes a sleeper, until cancelled."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(_LAG_PROBE_S)
            self._lag_s = max(self._lag_s, time.monotonic() - before - _LAG_PROBE_S)
            self.loop_moved()

    def worst_lag_ms(self) -> int:
        """The longest delay since the last call, in ms: what every other coroutine waits, too."""
        worst_s, self._lag_s = self._lag_s, 0.0
        return int(worst_s * 1000)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._renew_apart())

    async def _renew_apart(self) -> None:
        own = ConnectionPool(connection_class=self._pool.connection_class, **self._pool.connection_kwargs)
        async with Redis.from_pool(own) as redis:
            await self._renew_always(redis)

    async def _renew_always(self, redis: Redis) -> None:
        while not self._halt.is_set():
            failed = await self._round(redis)
            await wait_for_event(self._halt, _RETRY_S if failed else self._lease_s / 3)

    async def _round(self, redis: Redis) -> bool:
        """Renew every group once: one call a queue. Returns whether Redis failed."""
        groups = [group for group in list(self._groups.values()) if group.open]
        if not groups or not self._home_moves():
            return False
        try:
            for keys in dict.fromkeys(group.keys for group in groups):
                await self._renew(redis, keys, [group for group in groups if group.keys == keys])
        except OUTAGE as error:
            log.warning("queue.lease.renewal_failed", error=type(error).__name__)
            return True
        return False

    async def _renew(self, redis: Redis, keys: Keys, groups: list[GroupState]) -> None:
        leases, tokens = Leases(redis, keys), list(dict.fromkeys(group.token for group in groups))
        lost = await leases.renew(tokens, lease_ms=int(self._lease_s * 1000), hold_ms=self._hold_ms)
        for group in groups:
            if group.token in lost:
                await leases.pardon(group.token, list(group.open))
                self._home.call_soon_threadsafe(_mark_lost, group)

    def _home_moves(self) -> bool:
        stalled = self._clock() - self._moved
        moves = stalled < STALL_LIMIT_LEASES * self._lease_s
        if moves == self._gave_up:
            self._gave_up = not moves
            if not moves:
                log.error("queue.loop.hangs", seconds=round(stalled, 1), groups=len(self._groups))
        return moves


def _mark_lost(group: GroupState) -> None:
    lost = group.open.keys() - group.settling  # a settle under way is no loss
    if lost:
        log.warning("queue.lease.lost", jobs=len(lost), token=group.token)
        group.mark_lost(lost)


@dataclass(slots=True)
class Sweeper:
    """Sweeps the queues of one worker every second, unless they are `idle`: a leased job stands in its queue."""

    queues: Collection[Leases]
    health: RedisHealth
    lease_s: float
    idle: Callable[[], bool]

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            if self.idle():
                continue
            for leases in self.queues:
                try:
                    await self._sweep(leases)
                except OUTAGE as error:
                    log.debug("queue.sweep.failed", error=type(error).__name__)

    async def _sweep(self, leases: Leases) -> None:
        """Sweep one queue; not right after an outage, when live workers could not renew either."""
        while True:
            now_ms = await self.health.call(leases.clock_ms)
            if not self.health.up_for(min(self.lease_s, _GRACE_S)):
                return
            sweeping = partial(leases.sweep, before_ms=now_ms + self.lease_s * 1000 / 3)
            swept = await self.health.call(sweeping)
            for token, jobs in swept.items():
                if jobs:
                    log.warning("queue.orphans.put_back", worker=token.rpartition(":")[0], jobs=jobs)
            if not swept:
                return
