"""Health of the connection to Redis: says once that it broke and once that it is back, and spaces the tries between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from redis.exceptions import ResponseError

from normalizer.queue.connection import OUTAGE
from normalizer.queue.waiting import raise_if_cancelled

log = structlog.get_logger(__name__)

T = TypeVar("T")

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 2.0
_REMIND_S = 30.0
#: What a server says that works but is full, a replica, or cannot save: it passes, unlike a key of a wrong type.
_PASSING = ("OOM", "READONLY", "MISCONF", "LOADING", "BUSY", "MASTERDOWN", "NOREPLICAS")


def is_damage(error: BaseException) -> bool:
    """Whether Redis answered that a key is of a wrong type or a script fails: no waiting mends that."""
    text = str(error)
    return type(error) is ResponseError and not any(word in text for word in _PASSING)


class RedisHealth:
    """What the worker knows about its connection to Redis.

    Args:
        where: `host:port`, for logs.
        silence_s: a reply slower than this is treated as an outage, because other workers' renewals were probably
            delayed too.
        clock: monotonic seconds.
    """

    def __init__(
        self, where: str, *, silence_s: float = float("inf"), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.where, self._silence_s, self._clock = where, silence_s, clock
        self.last_error: str | None = None
        self.down_since: float | None = None
        self.back_at: float | None = None
        self._wait_s, self._told_at = _FIRST_WAIT_S, 0.0

    def opened(self) -> None:
        """The connection is up for the first time."""
        self.back_at = self._clock()

    def failed(self, error: BaseException) -> float:
        """Note a failure. Returns the seconds to wait before the next try (0.1 doubling to 2)."""
        now = self._clock()
        self.last_error = type(error).__name__
        if self.down_since is None:
            self.down_since, self._wait_s, self._told_at = now, _FIRST_WAIT_S, now
            log.warning("queue.redis.waiting", redis=self.where, error=self.last_error)
        elif now - self._told_at >= _REMIND_S:
            self._told_at = now
            log.warning("queue.redis.waiting", redis=self.where, error=self.last_error, seconds=self._away())
        wait = self._wait_s
        self._wait_s = min(_LONGEST_WAIT_S, wait * 2)
        return wait

    async def call(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call once, and note the answer and how long it took. Raises what `call` raises; that is noted by `failed`."""
        asked_at = self._clock()
        answer = await call()
        self._heard(self._clock() - asked_at)
        return answer

    def _heard(self, waited_s: float) -> None:
        if self.down_since is not None:
            log.info("queue.redis.back", redis=self.where, seconds=self._away())
            self.down_since, self.back_at = None, self._clock()
        elif waited_s > self._silence_s:
            log.warning("queue.redis.stood_still", redis=self.where, seconds=round(waited_s, 1))
            self.back_at = self._clock()

    def up_for(self, seconds: float) -> bool:
        """Whether the connection has been up for so long since its last break."""
        if self.down_since is not None:
            return False
        return self.back_at is None or self._clock() - self.back_at >= seconds

    async def retry_forever(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until Redis takes it, however long that is. For calls that may be repeated.

        Raises:
            ResponseError: Redis works, and this call can never succeed (see `is_damage`).
        """
        while True:
            raise_if_cancelled()
            try:
                return await self.call(call)
            except OUTAGE as error:
                if is_damage(error):
                    raise
                await asyncio.sleep(self.failed(error))

    def _away(self) -> float:
        return round(self._clock() - (self.down_since or self._clock()), 1)
