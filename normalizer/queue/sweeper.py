"""Sweeper: puts the jobs of dead replicas back into their queues, in a task of its own, so that no claim starves it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from normalizer.queue.connection import OUTAGE, SOCKET_TIMEOUT_S

if TYPE_CHECKING:
    from normalizer.queue.connection import RedisHealth
    from normalizer.queue.leases import Leases

log = structlog.get_logger(__name__)

_SWEEP_S: Final = 1.0
#: Grace period after start-up or an outage: live workers get this long to renew before expired leases are reclaimed.
_GRACE_S: Final = SOCKET_TIMEOUT_S + 1.0


class Sweeper:
    """Sweeps the queues of one worker every second, unless they are `idle`: a leased job stands in its queue."""

    def __init__(
        self, queues: Collection[Leases], health: RedisHealth, *, lease_s: float, idle: Callable[[], bool]
    ) -> None:
        self._queues, self._health, self._lease_s, self._idle = queues, health, lease_s, idle

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            if self._idle():
                continue
            for leases in self._queues:
                try:
                    await self._sweep(leases)
                except OUTAGE as error:
                    log.debug("queue.sweep.failed", error=type(error).__name__)

    async def _sweep(self, leases: Leases) -> None:
        """Sweep one queue; not right after an outage, when live workers could not renew either."""
        while True:
            now_ms = await self._health.call(leases.clock_ms)
            if not self._health.up_for(min(self._lease_s, _GRACE_S)):
                return
            sweeping = partial(leases.sweep, before_ms=now_ms + self._lease_s * 1000 / 3)
            swept = await self._health.call(sweeping)
            for token, jobs in swept.items():
                if jobs:
                    log.warning("queue.orphans.put_back", worker=token.rpartition(":")[0], jobs=jobs)
            if not swept:
                return
