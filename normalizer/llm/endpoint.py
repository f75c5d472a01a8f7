"""Endpoint capabilities: what one endpoint and model was found to take, and whether its half-price tier is refused.

Found out by asking (`client.LlmClient`), remembered in Redis for all replicas and restarts, and forgotten after a week,
because endpoints learn.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

from normalizer.queue.connection import OUTAGE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

log = structlog.get_logger(__name__)

_KEPT_S: Final = 7 * 86_400
_REDIS_S: Final = 2.0
_FLEX_PAUSE_S: Final = 1.0  # after two refusals in a row, doubled by each more: one alone is a short shortage
_LONGEST_FLEX_PAUSE_S: Final = 600.0


class Mode(StrEnum):
    """How the endpoint is told the shape of an answer, best first."""

    STRICT = "json_schema"
    JSON = "json_object"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class EndpointCapabilities:
    """How one endpoint and model must be asked.

    Attributes:
        mode: how it is told the shape of an answer.
        without: the options it does not take.
        renamed: it takes the other name of the token limit (`max_tokens`, `max_completion_tokens`) than is usual there.
    """

    mode: Mode = Mode.STRICT
    without: frozenset[str] = frozenset()
    renamed: bool = False


class CapabilityStore:
    """The capabilities of one endpoint and model, in Redis. Redis being away raises nothing: they are found out anew.

    Args:
        redis: shared by all replicas.
        name: endpoint and model. Never the key.
    """

    def __init__(self, redis: Redis, name: str) -> None:
        self._redis, self._key, self._flex_key = redis, f"norm:endpoint:{name}", f"norm:flex:{name}"

    async def recall(self) -> EndpointCapabilities | None:
        """Return what is known, or None."""
        stored = await self._try(lambda: self._redis.get(self._key))
        try:
            known = orjson.loads(stored) if stored else None
            if known is None:
                return None
            without = frozenset(map(str, known["without"]))
            return EndpointCapabilities(Mode(known["mode"]), without, bool(known.get("renamed")))
        except (ValueError, KeyError, TypeError):
            return None

    async def remember(self, capabilities: EndpointCapabilities) -> None:
        """Keep what was found out."""
        found = {"mode": capabilities.mode, "without": sorted(capabilities.without), "renamed": capabilities.renamed}
        value = orjson.dumps(found)
        await self._try(lambda: self._redis.set(self._key, value, ex=_KEPT_S))

    async def refuse_flex(self, for_s: float) -> None:
        """Keep for all replicas that the half-price tier is refused for now."""
        await self._try(lambda: self._redis.set(self._flex_key, b"1", px=int(1000 * for_s)))

    async def flex_is_refused(self) -> bool:
        """Tell whether any replica was refused the half-price tier a short while ago."""
        return bool(await self._try(lambda: self._redis.exists(self._flex_key)))

    async def _try(self, command: Callable[[], Awaitable[Any]]) -> Any:
        """The reply, or None when Redis is away."""
        try:
            async with asyncio.timeout(_REDIS_S):
                return await command()
        except OUTAGE as error:
            log.warning("llm.endpoint.redis_away", error=type(error).__name__)
            return None


class FlexTier:
    """Whether the half-price tier may be asked for: not for a while after refusals in a row."""

    def __init__(self, store: CapabilityStore | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self._refusals, self._not_before = 0, 0.0

    async def may_ask(self) -> bool:
        """Tell whether this endpoint may be tried, by what all replicas know."""
        if self._clock() < self._not_before:
            return False
        return self._store is None or not await self._store.flex_is_refused()

    async def refused(self) -> None:
        """It was refused, or too slow."""
        self._refusals += 1
        if self._refusals == 1:
            return
        pause_s = min(_LONGEST_FLEX_PAUSE_S, _FLEX_PAUSE_S * 2.0 ** min(self._refusals - 2, 10))
        self._not_before = self._clock() + pause_s
        log.info("llm.flex.refused", pause_s=pause_s)
        if self._store is not None:
            await self._store.refuse_flex(pause_s)

    def served(self) -> None:
        """It answered."""
        self._refusals = 0
