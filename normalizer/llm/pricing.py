"""What calls cost, and the day's ledger of them: tokens and money in Redis, shared by all replicas.

Prices are a dated data file, `prices.json`. Where the provider names the cost itself (OpenRouter), that counts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import structlog
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from normalizer.llm.client import Answer, Usage

log = structlog.get_logger(__name__)

_KEPT_DAYS: Final = 92
_WARN_AT: Final = 0.8


@dataclass(frozen=True, slots=True)
class Price:
    """US$ per million tokens."""

    tokens_in: float
    cached_in: float
    tokens_out: float
    listed: bool = True

    def of(self, usage: Usage) -> float:
        """Return the cost of a call in US$; what the provider itself says wins."""
        if usage.cost_usd is not None:
            return usage.cost_usd
        fresh = max(0, usage.tokens_in - usage.cached_in)
        return (fresh * self.tokens_in + usage.cached_in * self.cached_in + usage.tokens_out * self.tokens_out) / 1e6


@cache
def _table() -> tuple[str, dict[str, Price]]:
    raw = json.loads((files("normalizer.llm") / "prices.json").read_text(encoding="utf-8"))
    prices = {name: Price(row["in"], row["cached_in"], row["out"]) for name, row in raw["models"].items()}
    return raw["as_of"], prices


def prices_as_of() -> str:
    """Return the date of the price table, ISO 8601."""
    return _table()[0]


def price(model: str) -> Price:
    """Return the price of `model`, found also behind a vendor prefix or before a date suffix.

    A model that is not listed costs as much as the dearest listed one: a budget must not be passed for want of a price.
    """
    _, prices = _table()
    name = model.rsplit("/", 1)[-1]
    known = [listed for listed in prices if name == listed or name.startswith(f"{listed}-20")]
    if known:
        return prices[known[0]]
    dearest = max(prices.values(), key=lambda each: each.tokens_out)
    return Price(dearest.tokens_in, dearest.cached_in, dearest.tokens_out, listed=False)


@dataclass(frozen=True, slots=True)
class Day:
    """What the model lane used on one day (UTC), over all replicas."""

    calls: int = 0
    records: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0


class Ledger:
    """Counts calls, tokens and US$ per day, and says when the day's budget is used up. Redis being away raises nothing.

    Args:
        model: whose prices count.
        daily_budget_usd: 0 = no budget. At 80 % a warning is logged, once a day and process; at 100 % `spent` is true.
        clock: the current time, UTC.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        model: str,
        daily_budget_usd: float = 0.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._redis, self._price, self._budget_usd, self._clock = redis, price(model), daily_budget_usd, clock
        self._known: tuple[str, float] = ("", 0.0)
        self._warned: str | None = None

    async def record(self, answer: Answer, records: int) -> None:
        """Count one answered call."""
        usage, day = answer.usage, self._today()
        cost_usd = self._price.of(usage)
        key = f"norm:usage:{day}"
        pipe = self._redis.pipeline(transaction=False)
        counts = {"calls": 1, "records": records, "tokens_in": usage.tokens_in, "tokens_out": usage.tokens_out}
        for name, amount in counts.items():
            pipe.hincrby(key, name, amount)
        pipe.hincrbyfloat(key, "usd", cost_usd)
        pipe.expire(key, timedelta(days=_KEPT_DAYS))
        try:
            total_usd = float((await pipe.execute())[len(counts)])
        except (RedisError, OSError, TimeoutError):
            known_day, known_usd = self._known
            total_usd = cost_usd + (known_usd if known_day == day else 0.0)
        self._known = (day, total_usd)
        self._warn(day, total_usd)

    async def spent(self) -> bool:
        """Tell whether today's budget is used up, by all replicas together."""
        if not self._budget_usd:
            return False
        day = self._today()
        try:
            found = await self._redis.hget(f"norm:usage:{day}", "usd")  # type: ignore[misc] # redis-py's own union
            self._known = (day, float(found or 0.0))
        except (RedisError, OSError, TimeoutError):
            pass  # what this process knows is the best there is
        known_day, known_usd = self._known
        return known_day == day and known_usd >= self._budget_usd

    async def day(self, date: str | None = None) -> Day:
        """Return the counts of `date` (YYYY-MM-DD, UTC; today by default). Raises RedisError."""
        stored: dict[Any, Any] = await self._redis.hgetall(  # type: ignore[misc] # redis-py's own union
            f"norm:usage:{date or self._today()}"
        )
        found = {(key.decode() if isinstance(key, bytes) else key): value for key, value in stored.items()}
        return Day(
            calls=int(found.get("calls", 0)),
            records=int(found.get("records", 0)),
            tokens_in=int(found.get("tokens_in", 0)),
            tokens_out=int(found.get("tokens_out", 0)),
            usd=float(found.get("usd", 0.0)),
        )

    def _today(self) -> str:
        return self._clock().date().isoformat()

    def _warn(self, day: str, total_usd: float) -> None:
        if self._budget_usd and total_usd >= _WARN_AT * self._budget_usd and self._warned != day:
            self._warned = day
            log.warning("llm.budget.nearly_spent", usd=round(total_usd, 4), budget_usd=self._budget_usd)
