"""Connections: how many there are, and how long one may take to say what it wants.

uvicorn waits for ever for a request that never comes. A connection that has not sent its head in time is closed; where
there are too many, those that have asked for nothing yet make room for the new one, the longest waiting first.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any, ClassVar, Final

import structlog
from cachetools import TTLCache
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)

_HEAD_S: Final = 10.0  # a browser sends its head at once; a phone on a bad line within seconds
_MOST: Final = 2_000  # in all: a page open in 500 browsers holds 500
_MOST_OF_ONE: Final = 1_000  # of one address: those 500 browsers may all come through one proxy
_LOG_EVERY_S: Final = 60.0


def allow_open_files() -> None:
    """Let this process hold as many connections as it may, whatever the shell's soft limit is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * _MOST + 512  # sheets that are being received or read, clients, libraries
    if soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


class OnceAMinute(logging.Filter):
    """Lets each message of uvicorn's through once a minute: what strangers send does not fill the disk."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._told: TTLCache[str, None] = TTLCache(1_000, _LOG_EVERY_S, timer=clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this text was not logged within the minute."""
        is_new = str(record.msg) not in self._told
        if is_new:
            self._told[str(record.msg)] = None
        return is_new


class Waiting:
    """The connections that have asked for nothing yet, the longest waiting first; told of in the log once a minute."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: OrderedDict[asyncio.Transport, str] = OrderedDict()
        self._dropped = 0
        self._told_at = -_LOG_EVERY_S

    def add(self, transport: asyncio.Transport, address: str) -> None:
        """A connection that has to say what it wants."""
        self._waiting[transport] = address

    def discard(self, transport: asyncio.Transport) -> None:
        """It has asked for something, or is gone."""
        self._waiting.pop(transport, None)

    def drop(self, transport: asyncio.Transport) -> None:
        """Close one at once, without waiting for what it was sent to arrive."""
        self.discard(transport)
        transport.abort()
        self._dropped += 1
        if self._clock() - self._told_at >= _LOG_EVERY_S:
            log.warning("api.connections.dropped", connections=self._dropped)
            self._dropped, self._told_at = 0, self._clock()

    def drop_longest(self, address: str | None = None) -> bool:
        """Close the one that has waited longest (of `address` alone if given); whether there was one."""
        fitting = (one for one, its_address in self._waiting.items() if address in {None, its_address})
        longest = next(fitting, None)
        if longest is not None:
            self.drop(longest)
        return longest is not None


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with a time limit for a request's head and a limit of connections."""

    head_s: ClassVar[float] = _HEAD_S
    most: ClassVar[int] = _MOST
    most_of_one: ClassVar[int] = _MOST_OF_ONE
    waiting: ClassVar[Waiting] = Waiting()
    addresses: ClassVar[Counter[str]] = Counter()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room if there is none, and start the clock."""
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        self.addresses[self._address] += 1
        if self.addresses[self._address] > self.most_of_one:
            found_room = self.waiting.drop_longest(self._address)
        else:
            found_room = len(self.connections) <= self.most or self.waiting.drop_longest()
        if found_room:
            self._await_head()
        else:
            self.waiting.drop(transport)

    def data_received(self, data: bytes) -> None:
        """Stop the clock once a head is complete; it starts anew with what follows the answer."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._head_came()

    def on_response_complete(self) -> None:
        """Wait for the next head."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._head_came()
        self.addresses[self._address] -= 1
        if not self.addresses[self._address]:
            del self.addresses[self._address]
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_came()
        self.waiting.add(self.transport, self._address)
        self._deadline = self.loop.call_later(self.head_s, self.waiting.drop, self.transport)

    def _head_came(self) -> None:
        self.waiting.discard(self.transport)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
