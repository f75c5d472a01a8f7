"""What an endpoint was found to take: schema, JSON mode or neither, and which options it does not know.

Found out by asking (`client.LlmClient`), remembered in Redis for all replicas and restarts, and forgotten after a week,
because endpoints learn.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import orjson
import structlog
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger(__name__)

_KEPT_S: Final = 7 * 86_400
_REDIS_S: Final = 2.0
_AWAY: Final = (RedisError, OSError, TimeoutError)


class Mode(StrEnum):
    """How the endpoint is told the shape of an answer, best first."""

    STRICT = "json_schema"
    JSON = "json_object"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class EndpointCapabilities:
    """How one endpoint and model must be asked; `without` names the options it does not take."""

    mode: Mode = Mode.STRICT
    without: frozenset[str] = frozenset()


class CapabilityStore:
    """The capabilities of one endpoint and model, in Redis. Redis being away raises nothing: it is asked anew.

    Args:
        redis: shared by all replicas.
        name: endpoint and model. Never the key.
    """

    def __init__(self, redis: Redis, name: str) -> None:
        self._redis, self._key = redis, f"norm:endpoint:{name}"

    async def recall(self) -> EndpointCapabilities | None:
        """Return what is known, or None."""
        try:
            async with asyncio.timeout(_REDIS_S):
                stored = await self._redis.get(self._key)
        except _AWAY as error:
            log.warning("llm.endpoint.redis_away", error=type(error).__name__)
            return None
        try:
            known = orjson.loads(stored) if stored else None
            return EndpointCapabilities(Mode(known["mode"]), frozenset(map(str, known["without"]))) if known else None
        except (ValueError, KeyError, TypeError):
            return None

    async def remember(self, capabilities: EndpointCapabilities) -> None:
        """Keep what was found out."""
        try:
            value = orjson.dumps({"mode": capabilities.mode, "without": sorted(capabilities.without)})
            async with asyncio.timeout(_REDIS_S):
                await self._redis.set(self._key, value, ex=_KEPT_S)
        except _AWAY as error:
            log.warning("llm.endpoint.redis_away", error=type(error).__name__)
