"""Status of the model lane for an operator: usage of today and this month, and whether calls may go out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from normalizer.domain.wording import many, money
from normalizer.llm.endpoint import CapabilityStore, EndpointCapabilities
from normalizer.llm.limits import GateState, read_gate
from normalizer.llm.pricing import Ledger, Spending
from normalizer.queue.connection import OUTAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from redis.asyncio import Redis

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
