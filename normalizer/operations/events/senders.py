"""Destinations of events: what each is given, and what its answer means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from normalizer.store.outbox import Event

STREAM_EVENTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Taken:
    """The destination has the event."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It has not. `reason` is for operators; `for_good`: it asked not to be sent anything more."""

    reason: str
    for_good: bool = False


class Sender(Protocol):
    """One destination: a webhook, a stream."""

    async def send(self, event: Event) -> Taken | Refused:
        """Send one event; its id is the same every time it is sent. Raises nothing but cancellation."""
        ...


def body_of(event: Event) -> bytes:
    """The JSON that is sent: type, when, data. The same bytes each time."""
    at = event.at.isoformat(timespec="milliseconds")
    return orjson.dumps({"type": event.type, "timestamp": at, "data": event.data}, default=_plain)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


class StreamSender:
    """A Redis Stream of the newest events: `XREAD` or a consumer group of the backend reads it.

    Args:
        redis: a client; an outage is a refusal, tried again later.
        name: the stream's key.
        length: how many events it keeps, about.
    """

    def __init__(self, redis: Redis, name: str, *, length: int = STREAM_EVENTS) -> None:
        self._redis, self._name, self._length = redis, name, length

    async def send(self, event: Event) -> Taken | Refused:
        """Append it; fields `id` (for telling repeats) and `body`."""
        fields: Mapping[Any, Any] = {"id": event.id, "type": event.type, "body": body_of(event)}
        try:
            await self._redis.xadd(self._name, dict(fields), maxlen=self._length, approximate=True)
        except Exception as error:  # noqa: BLE001 — whatever Redis has against it, it is tried again
            return Refused(f"Redis: {type(error).__name__}")
        return Taken()
