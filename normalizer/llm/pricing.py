"""Prices of calls, the ledger of tokens and money in Redis, and the status of the model lane an operator reads.

Prices are a dated data file, `prices.json`. Where the provider names the cost itself (OpenRouter), that counts.
"""

from __future__ import annotations

import asyncio
import json
import operator
from dataclasses import asdict, astuple, dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import structlog

from normalizer.domain.wording import many, money
from normalizer.errors import TransientError
from normalizer.llm.client import CapabilityStore, EndpointCapabilities
from normalizer.llm.limits import GateState, read_gate
from normalizer.queue.connection import OUTAGE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

    from normalizer.llm.answer import Usage

log = structlog.get_logger(__name__)

_KEPT: Final = timedelta(days=92)
_KEPT_IMPORTS: Final = 100
_REDIS_S: Final = 2.0
_KEEPING_S: Final = 5.0
_PRICES: Final[dict[str, Any]] = json.loads((files("normalizer.llm") / "prices.json").read_text(encoding="utf-8"))
_IMPORTS_KEY: Final = "norm:usage:imports"
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
        full = fresh * self.tokens_in + usage.cached_in * self.cached_in + usage.tokens_out * self.tokens_out
        return tier_share(usage.tier) * full / 1e6


def tier_share(tier: str | None) -> float:
    """Return which part of the listed price a call costs that this service tier answered."""
    return float(_PRICES["tiers"].get(tier, 1.0))


def prices_as_of() -> str:
    """Return the date of the price table, ISO 8601."""
    return str(_PRICES["as_of"])


def price(model: str) -> Price:
    """Return the price of `model`, found also behind a vendor prefix or before a date suffix.

    A model that is not listed costs as much as the dearest listed one: a budget must not be passed for want of a price.
    """
    name, rows = model.rsplit("/", 1)[-1], _PRICES["models"]
    known = [row for listed, row in rows.items() if name == listed or name.startswith(f"{listed}-20")]
    row = known[0] if known else max(rows.values(), key=lambda each: each["out"])
    return Price(row["in"], row["cached_in"], row["out"], listed=bool(known))


@dataclass(frozen=True, slots=True)
class Spending:
    """What the model lane used, over all replicas, on some days (UTC) or for one import.

    An import shares calls with others: `calls` are those it had a part in, tokens and US$ are its part by records.
    """

    calls: int = 0
    records: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0

    @classmethod
    def read(cls, stored: Mapping[Any, Any]) -> Spending:
        """Read a Redis hash; a count that is absent is 0."""
        found = {(key.decode() if isinstance(key, bytes) else key): value for key, value in stored.items()}
        return cls(**{name: int(found.get(name, 0)) for name in _COUNTS}, usd=float(found.get("usd", 0.0)))

    def part(self, records: int) -> Spending:
        """Return what so many of its records cost."""
        share = records / max(1, self.records)
        tokens_in, tokens_out = round(self.tokens_in * share), round(self.tokens_out * share)
        return Spending(self.calls, records, tokens_in, tokens_out, self.usd * share)

    def __add__(self, other: Spending) -> Spending:
        return Spending(*map(operator.add, astuple(self), astuple(other)))


_COUNTS: Final = ("calls", "records", "tokens_in", "tokens_out")


class Ledger:
    """Counts calls, tokens and US$ per day and import, and says when the day's budget is used up.

    Counting raises nothing when Redis is away; reading does.

    Args:
        model: whose prices count.
        daily_budget_usd: 0 = no budget. At 80 % a warning is logged, once a day and process; at 100 % `spent` is true.
        keep: counts a call into its day where no emptied Redis loses it; see `restore`.
        clock: the current time, UTC.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        model: str,
        daily_budget_usd: float = 0.0,
        keep: Callable[[str, Mapping[str, float]], Awaitable[None]] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._redis, self._price, self._budget_usd, self._clock = redis, price(model), daily_budget_usd, clock
        self._keep = keep
        self._usd: dict[str, float] = {}  # of the last day seen
        self._warned: str | None = None

    async def record(self, usage: Usage, records: int, *, imports: Mapping[str, int] | None = None) -> None:
        """Count one answered call of `records`; `imports` says how many of them each import brought."""
        day, cost_usd = self._today(), self._price.of(usage)
        whole = Spending(usage.calls, records, usage.tokens_in, usage.tokens_out, cost_usd)
        pipe = self._redis.pipeline(transaction=False)
        self._count(pipe, day, whole, imports or {})
        try:
            async with asyncio.timeout(_REDIS_S):
                total_usd = float((await pipe.execute())[len(_COUNTS)])
        except OUTAGE:
            total_usd = cost_usd + self._usd.get(day, 0.0)
        self._usd = {day: total_usd}
        self._warn(day, total_usd)
        await self._keep_call(day, whole)

    async def spent(self) -> bool:
        """Tell whether today's budget is used up, by all replicas together."""
        if not self._budget_usd:
            return False
        day = self._today()
        try:
            async with asyncio.timeout(_REDIS_S):
                found = await self._redis.hget(_day_key(day), "usd")  # type: ignore[misc] # redis-py's own union
            self._usd = {day: float(found or 0.0)}
        except OUTAGE:
            pass  # what this process knows is the best there is
        return self._usd.get(day, 0.0) >= self._budget_usd

    async def day(self, date: str | None = None) -> Spending:
        """Return the counts of `date` (YYYY-MM-DD, UTC; today by default). Raises RedisError."""
        return (await self._read([_day_key(date or self._today())]))[0]

    async def month(self) -> Spending:
        """Return the counts of this month so far (UTC). Raises RedisError."""
        today = self._clock().date()
        days = [today.replace(day=number).isoformat() for number in range(1, today.day + 1)]
        return sum(await self._read([_day_key(day) for day in days]), Spending())

    async def newest_imports(self, number: int = 5) -> dict[str, Spending]:
        """Return what the imports used that a call was last made for, newest first. Raises RedisError."""
        found: list[Any] = await self._redis.zrevrange(_IMPORTS_KEY, 0, number - 1)
        ids = [name.decode() if isinstance(name, bytes) else str(name) for name in found]
        return dict(zip(ids, await self._read(list(map(_import_key, ids))), strict=True))

    async def restore(self, kept: Mapping[str, Mapping[str, float]]) -> None:
        """Bring the days of an emptied Redis back to what was kept of them. Raises RedisError."""
        found = dict(zip(kept, await self._read(list(map(_day_key, kept))), strict=True))
        pipe = self._redis.pipeline(transaction=False)
        for day, counts in kept.items():
            if found[day].usd < counts.get("usd", 0.0) or found[day].calls < counts.get("calls", 0):
                pipe.hset(_day_key(day), mapping={name: repr(number) for name, number in counts.items()})
                pipe.expire(_day_key(day), _KEPT)
        await pipe.execute()

    async def _read(self, keys: Sequence[str]) -> list[Spending]:
        pipe = self._redis.pipeline(transaction=False)
        for key in keys:
            pipe.hgetall(key)
        return [Spending.read(stored) for stored in await pipe.execute()] if keys else []

    async def _keep_call(self, day: str, whole: Spending) -> None:
        if self._keep is None:
            return
        try:
            async with asyncio.timeout(_KEEPING_S):
                await self._keep(day, asdict(whole))
        except (TransientError, TimeoutError) as error:
            log.warning("llm.spending.not_kept", error=type(error).__name__)

    def _count(self, pipe: Pipeline, day: str, whole: Spending, imports: Mapping[str, int]) -> None:
        """Queue the commands that count one call: first the day's counts and its US$, then those of each import."""
        parts = {_import_key(import_id): whole.part(brought) for import_id, brought in imports.items()}
        for key, spent in ({_day_key(day): whole} | parts).items():
            for name in _COUNTS:
                pipe.hincrby(key, name, getattr(spent, name))
            pipe.hincrbyfloat(key, "usd", spent.usd)
            pipe.expire(key, _KEPT)
        if imports:
            pipe.zadd(_IMPORTS_KEY, dict.fromkeys(imports, self._clock().timestamp()))
            pipe.expire(_IMPORTS_KEY, _KEPT)
            pipe.zremrangebyrank(_IMPORTS_KEY, 0, -_KEPT_IMPORTS - 1)

    def _today(self) -> str:
        return self._clock().date().isoformat()

    def _warn(self, day: str, total_usd: float) -> None:
        if self._budget_usd and total_usd >= _WARN_AT * self._budget_usd and self._warned != day:
            self._warned = day
            log.warning("llm.budget.nearly_spent", usd=round(total_usd, 4), budget_usd=self._budget_usd)


def _day_key(day: str) -> str:
    return f"norm:usage:{day}"


def _import_key(import_id: str) -> str:
    return f"norm:usage:import:{import_id}"


#: As the industry calls a breaker: closed lets calls through.
_BREAKER: Final = {"open": "closed", "paused": "closed", "closed": "open", "probing": "half-open"}
_STATES: Final = {
    "open": "livre",
    "paused": "em pausa a pedido do provedor; o que precisa dela espera na fila",
    "closed": "provedor fora do ar",
    "probing": "provedor fora do ar, tentando de novo",
}


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The lane of one model at one moment, over all replicas.

    Attributes:
        model: as configured.
        has_key: without one nothing is asked.
        gate: rate limit, breaker, and why the provider refuses, if it does.
        capabilities: how the endpoint is asked, as far as it is known; None before the first answer.
        today, month: UTC.
        imports: what the newest imports used, newest first.
        daily_budget_usd: 0 = none.
    """

    model: str
    has_key: bool
    gate: GateState = field(default_factory=GateState)
    capabilities: EndpointCapabilities | None = None
    today: Spending = field(default_factory=Spending)
    month: Spending = field(default_factory=Spending)
    imports: Mapping[str, Spending] = field(default_factory=dict)
    daily_budget_usd: float = 0.0

    @property
    def stopped(self) -> str | None:
        """Why no call goes out until somebody acts or the day is over; None while calls may go."""
        if not self.has_key:
            return "sem OPENAI_API_KEY: só regras e cache"
        if self.gate.refused is not None:
            return self.gate.refused
        if 0 < self.daily_budget_usd <= self.today.usd:
            return "DAILY_BUDGET_USD esgotado até amanhã (UTC)"
        return None

    @property
    def again_at(self) -> str | None:
        """When a call is tried again, HH:MM:SS on this machine's clock; None where calls go, or nobody knows."""
        if not self.gate.wait_s or not self.has_key:
            return None
        return (datetime.now(UTC) + timedelta(seconds=self.gate.wait_s)).astimezone().strftime("%H:%M:%S")

    def as_dict(self) -> dict[str, Any]:
        """For `status --json`."""
        return {
            "modelo": self.model,
            "parada_por": self.stopped,
            "disjuntor": _BREAKER[self.gate.state],
            "em_pausa": self.gate.state == "paused",
            "espera_s": round(self.gate.wait_s, 1),
            "pedido_do_provedor": self.gate.asked,
            "modo": None if self.capabilities is None else self.capabilities.mode.value,
            "hoje": _spending(self.today),
            "mes": _spending(self.month),
            "orcamento_diario_usd": self.daily_budget_usd or None,
            "por_importacao": {import_id: _spending(spent) for import_id, spent in self.imports.items()},
        }

    def lines(self) -> Iterator[str]:
        """The same for people."""
        again = f" Tenta de novo às {self.again_at}; já: normalizer resume." if self.again_at else ""
        if (stopped := self.stopped) is not None:
            yield f"IA ({self.model}) parada: {stopped}{again}"
        else:
            asked = f" ({self.gate.asked})" if self.gate.asked else ""
            yield f"IA ({self.model}): {_STATES[self.gate.state]}{asked}.{again}"
        budget = ""
        if self.daily_budget_usd:
            share = self.today.usd / self.daily_budget_usd
            budget = f" ({share:.0%} de DAILY_BUDGET_USD={self.daily_budget_usd:g})"
        yield f"  hoje {_words(self.today)}{budget}"
        yield f"  no mês {_words(self.month)}"
        for import_id, spent in self.imports.items():
            yield f"  importação {import_id}: {_words(spent)}"


async def read_model_status(
    redis: Redis, *, name: str, model: str, has_key: bool, daily_budget_usd: float
) -> ModelStatus | None:
    """Read how the lane `name` (see `SharedGate`) stands; None when Redis is away."""
    ledger = Ledger(redis, model=model, daily_budget_usd=daily_budget_usd)
    try:
        return ModelStatus(
            model,
            has_key,
            await read_gate(redis, name),
            await CapabilityStore(redis, name).recall(),
            await ledger.day(),
            await ledger.month(),
            await ledger.newest_imports(),
            daily_budget_usd,
        )
    except OUTAGE:
        return None


def _spending(spent: Spending) -> dict[str, Any]:
    """Under its names, and for one release under the English ones."""
    names = {
        "chamadas": spent.calls,
        "textos": spent.records,
        "tokens_entrada": spent.tokens_in,
        "tokens_saida": spent.tokens_out,
    }
    return asdict(spent) | names | {"usd": round(spent.usd, 6)}


def _words(spent: Spending) -> str:
    return f"{many(spent.calls, 'chamada')}, {many(spent.tokens_in + spent.tokens_out, 'token')}, {money(spent.usd)}"
