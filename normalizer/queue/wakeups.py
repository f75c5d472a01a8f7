"""Wake-ups: what tells an idle worker that a job came, so that it need not ask.

Our producer publishes on the queue's channel. A stock producer publishes nothing; where the server sends key-space
events for sorted sets (`notify-keyspace-events Kz`), those wake as well. Polling is the net under both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import structlog
from redis.exceptions import ResponseError

from normalizer.queue.connection import OUTAGE
from normalizer.queue.waiting import raise_if_cancelled

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from normalizer.queue.leases import Keys

log = structlog.get_logger(__name__)

_LISTEN_S: Final = 10.0  # then redis-py looks whether the connection still lives
_RETRY_S: Final = 1.0
_REFUSED_RETRY_S: Final = 300.0  # the user may not subscribe: polling has to do
#: The first event wakes at once; further ones, e.g. of other workers' claims, at most so often.
_APART_S: Final = 0.02
_ADDS: Final = frozenset({b"zadd", b"zincr"})


class Wakeups:
    """Calls `wake` when something may have come into one of the queues."""

    def __init__(self, redis: Redis, queues: Sequence[Keys], wake: Callable[[], None]) -> None:
        self._redis, self._wake = redis, wake
        database = redis.connection_pool.connection_kwargs.get("db", 0)
        self._channels = [keys.wake for keys in queues]
        self._channels += [f"__keyspace@{database}__:{keys.queue}" for keys in queues]
        self._not_before = 0.0
        self._planned = False

    async def listen(self) -> None:
        """Listen until cancelled."""
        while True:
            raise_if_cancelled()
            try:
                await self._listen()
            except ResponseError as error:
                log.info("queue.wakeups.refused", error=type(error).__name__)
                await asyncio.sleep(_REFUSED_RETRY_S)
            except OUTAGE:
                await asyncio.sleep(_RETRY_S)

    async def _listen(self) -> None:
        async with self._redis.pubsub() as events:
            await events.subscribe(*self._channels)
            while True:
                raise_if_cancelled()
                message = await events.get_message(ignore_subscribe_messages=True, timeout=_LISTEN_S)
                if message and (message["channel"].endswith(b":wake") or message["data"] in _ADDS):
                    self._heard()

    def _heard(self) -> None:
        loop = asyncio.get_running_loop()
        if self._planned:
            return
        if loop.time() >= self._not_before:
            self._now()
        else:
            self._planned = True
            loop.call_at(self._not_before, self._now)

    def _now(self) -> None:
        self._planned = False
        self._not_before = asyncio.get_running_loop().time() + _APART_S
        self._wake()
