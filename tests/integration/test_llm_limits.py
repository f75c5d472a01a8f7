"""Three replicas, one provider that enforces its limits: hardly a 429, and hardly a place left unused."""

import asyncio

import httpx2
import pytest
from redis.asyncio import Redis

from normalizer.errors import TransientError
from normalizer.llm import tokens
from normalizer.llm.client import LlmClient
from normalizer.llm.coalescer import Coalescer
from normalizer.llm.limits import SharedGate
from normalizer.llm.packing import BatchSize

WINDOW_S = 2.5
WINDOWS = 4.9  # just before the sixth window's worth may go


def addresses(n):
    return [f"Rua das Flores {number} apto {number}, Centro, Itu SP" for number in range(1, n + 1)]


async def replica(url, redis_url, texts, limits, answered):
    async with Redis.from_url(redis_url) as redis:
        client = LlmClient(api_key="test", model="simulated", base_url=url)
        coalescer = Coalescer(
            client,
            count=tokens.counter("gpt-6-luna"),
            gate=SharedGate(redis, name="test", window_s=WINDOW_S, **limits),
            size=BatchSize(start=10, largest=10),
            linger_ms=20,
        )
        deadline = asyncio.get_running_loop().time() + WINDOWS * WINDOW_S
        async for outcomes in coalescer.resolve_many(texts, deadline=deadline):
            answered.update(text for text, outcome in outcomes.items() if not isinstance(outcome, TransientError))
        await coalescer.close()
        await client.close()


@pytest.mark.slow
@pytest.mark.parametrize("limits", [{"rpm": 60, "tpm": 0}, {"rpm": 60, "tpm": 30_000}])
async def test_three_replicas_keep_the_limit_and_use_it(start_provider, redis_url, limits):
    provider = start_provider(window_s=WINDOW_S, latency_ms=100, **limits)
    texts = addresses(6_000)
    answered = set()

    await asyncio.gather(*(replica(provider.url, redis_url, texts[part::3], limits, answered) for part in range(3)))

    async with httpx2.AsyncClient() as http:
        stats = (await http.get(f"{provider.root_url}/stats")).json()
    assert stats["by_status"].get("429", 0) <= 0.01 * stats["requests"], stats
    used = stats["by_status"]["200"] / (limits["rpm"] * WINDOWS)
    if limits["tpm"]:
        used = (stats["tokens_in"] + stats["tokens_out"]) / (limits["tpm"] * WINDOWS)
    assert used >= 0.85, (used, stats)
    assert len(answered) >= 0.95 * stats["records"]
