"""A live endpoint, measured with a few calls of synthetic addresses, never past a given amount of money."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from benchmarks.supply import hard_rows
from normalizer.errors import InvalidInput, ProviderTooSlow, RateLimited
from normalizer.llm.answer import RateLimitHeaders
from normalizer.llm.client import Answer, Usage
from normalizer.llm.packing import cost_of, prompt_tokens
from normalizer.llm.pricing import Price
from normalizer.llm.prompt import Record
from normalizer.llm.tokens import counter

_SIZES: Final = (5, 25, 50, 5, 25, 50)
_PATIENCE_S: Final = 120.0  # an endpoint that needs longer for a call would not be used


class Endpoint(Protocol):
    """What `LlmClient` does."""

    async def complete(
        self, records: Sequence[Record], *, max_tokens_out: int, timeout_s: float | None = None
    ) -> Answer:
        """Ask about records in one call."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What an endpoint was found to be. Limits are as its headers say, 0 where they say nothing."""

    calls: int
    usd: float
    latency_s: float
    tokens_per_s: float
    rpm: int
    tpm: int
    answered: float
    """Share of the records that came back whole."""


async def probe(endpoint: Endpoint, *, model: str, price: Price, max_usd: float) -> Probed:
    """Ask up to six times. Before each call what it could cost at most is set against what is left.

    Raises InvalidInput where the money does not suffice for one call or none is answered in time; the client's other
    errors where the first call fails.
    """
    count = counter(model)
    timed: list[tuple[float, float]] = []
    spent_usd, calls, asked, whole, stated = 0.0, 0, 0, 0, RateLimitHeaders()
    for size, records in zip(_SIZES, _records(), strict=True):
        costs = [cost_of(record, count) for record in records]
        most_out = 2 * sum(cost.tokens_out for cost in costs) + 100
        most_in = 2 * (prompt_tokens(count) + sum(cost.tokens_in for cost in costs))
        if spent_usd + price.of(Usage(most_in, most_out)) > max_usd:
            break
        try:
            answer = await endpoint.complete(records, max_tokens_out=most_out, timeout_s=_PATIENCE_S)
        except (RateLimited, ProviderTooSlow) as problem:  # what was measured before says enough
            if calls:
                break
            if isinstance(problem, RateLimited):
                raise
            raise InvalidInput(
                where="--endpoint",
                expected=f"uma resposta sobre {size} endereços em {_PATIENCE_S:.0f} s",
                found="nenhuma",
                fix="Confira o endereço e o modelo, ou diga a velocidade com --latency-s e --tokens-per-s.",
            ) from None
        calls, asked = calls + 1, asked + size
        whole += sum(slot is not None for slot in answer.slots)
        spent_usd += price.of(answer.usage)
        timed.append((float(answer.usage.tokens_out), answer.seconds))
        stated = RateLimitHeaders.read(answer.headers)
    if not calls:
        raise InvalidInput(
            where="--max-usd",
            expected="dinheiro para ao menos uma chamada",
            found=f"US$ {max_usd:g}",
            fix="Aumente --max-usd.",
        )
    latency_s, tokens_per_s = _line(timed)
    return Probed(calls, spent_usd, latency_s, tokens_per_s, stated.limit_requests, stated.limit_tokens, whole / asked)


def _line(timed: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Seconds until the answer begins and tokens a second, by least squares; of one call, all its time is writing."""
    tokens, seconds = zip(*timed, strict=True)
    if len(set(tokens)) > 1:
        slope, begin = statistics.linear_regression(tokens, seconds)
        if slope > 0 and begin >= 0:
            return begin, 1 / slope
    return 0.0, sum(tokens) / max(1e-3, sum(seconds))


def _records() -> list[list[Record]]:
    rows = iter(hard_rows(sum(_SIZES)))
    return [[Record.of(next(rows).address or "") for _ in range(size)] for size in _SIZES]
