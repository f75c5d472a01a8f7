"""The provider really goes away, hangs and comes back; Redis really forgets: nobody waits for nothing."""

import asyncio

import httpx2
import pytest

from normalizer.domain.decision import Settled
from normalizer.errors import ProviderUnavailable, TransientError
from normalizer.llm import tokens
from normalizer.llm.client import LlmClient
from normalizer.llm.coalescer import Coalescer
from normalizer.llm.limits import SharedGate
from tests.unit.test_coalescer import LABELS, TEXTS, expect_right


class Lane:
    def __init__(self, provider, redis, *, timeout_s=60.0, open_s=0.3, **limits):
        self.client = LlmClient(api_key="test", model="simulated", base_url=provider.url)
        gate = SharedGate(redis, name="test", failures_to_open=2, open_s=open_s, **limits)
        self.remembered = {}
        self.coalescer = Coalescer(
            self.client,
            cache=self,
            count=tokens.counter("gpt-6-luna"),
            gate=gate,
            linger_ms=0,
            call_timeout_s=timeout_s,
        )

    async def put_many(self, _kind, entries):
        self.remembered |= {text: entry.decision for text, entry in entries.items()}

    async def ask(self, texts, for_s=20.0):
        outcomes = {}
        deadline = asyncio.get_running_loop().time() + for_s
        async for arrived in self.coalescer.resolve_many(texts, deadline=deadline):
            outcomes |= arrived
        return outcomes

    async def until_answered(self, texts):
        """Ask as jobs do that are tried again after the wait they were told."""
        while True:
            outcomes = await self.ask(texts)
            waits = [outcome.retry_after_s for outcome in outcomes.values() if isinstance(outcome, TransientError)]
            if not waits:
                return outcomes
            await asyncio.sleep(max(wait or 0.1 for wait in waits))


@pytest.fixture
async def lane(redis):
    made = []

    def make(provider, **options):
        made.append(Lane(provider, redis, **options))
        return made[-1]

    async with asyncio.timeout(60):
        yield make
        for each in made:
            await each.coalescer.close()
            await each.client.close()


def all_are(outcomes, kind):
    return {type(outcome) for outcome in outcomes.values()} == {kind}


async def test_a_provider_that_dies_and_returns_is_taken_up_without_a_hand(lane, start_provider):
    provider = start_provider(LABELS)
    it = lane(provider)
    expect_right(await it.ask(TEXTS[:5]), TEXTS[:5])

    provider.kill()
    down = await it.ask(TEXTS[5:10])
    loop = asyncio.get_running_loop()
    started = loop.time()
    still_down = await it.ask(TEXTS[10:15])
    at_once = loop.time() - started
    await asyncio.to_thread(provider.start)

    assert all_are(down, ProviderUnavailable)
    assert all_are(still_down, ProviderUnavailable)
    assert at_once < 1.0, "with the breaker open nobody waits"
    expect_right(await it.until_answered(TEXTS[5:15]), TEXTS[5:15])
    assert all(isinstance(decision, Settled) for decision in it.remembered.values())


async def test_a_provider_that_freezes_costs_one_timeout_not_the_job(lane, start_provider):
    provider = start_provider(LABELS)
    it = lane(provider, timeout_s=0.3)
    provider.freeze()

    frozen = await it.ask(TEXTS[:5])
    provider.thaw()

    assert all_are(frozen, ProviderUnavailable)
    expect_right(await it.until_answered(TEXTS[:5]), TEXTS[:5])


async def test_connections_that_break_in_mid_answer_are_tried_again(lane, start_provider):
    provider = start_provider(LABELS)
    it = lane(provider)
    async with httpx2.AsyncClient() as http:
        await http.post(f"{provider.root_url}/faults", json=[{"kind": "drop_connection"}])

    expect_right(await it.ask(TEXTS[:5]), TEXTS[:5])


async def test_a_redis_that_forgets_everything_stops_nobody(lane, start_provider, redis):
    provider = start_provider(LABELS, latency_ms=20)
    it = lane(provider, rpm=1_000)
    asking = asyncio.create_task(it.ask(TEXTS))
    await asyncio.sleep(0.03)

    await redis.flushdb()

    expect_right(await asking, TEXTS)


async def test_errors_at_random_lose_nothing(lane, start_provider):
    provider = start_provider(LABELS)
    it = lane(provider, open_s=0.05)
    async with httpx2.AsyncClient() as http:
        faults = [
            {"kind": "status", "status": 503, "retry_after_s": 0.01, "rate": 0.15},
            {"kind": "truncate", "rate": 0.15},
            {"kind": "swap", "rate": 0.15},
            {"kind": "prose", "rate": 0.2},
        ]
        await http.post(f"{provider.root_url}/faults", json=faults)

    outcomes = await it.until_answered(TEXTS)

    assert outcomes.keys() == set(TEXTS)
    right = [text for text in TEXTS if isinstance(outcomes[text], Settled)]
    assert len(right) >= 0.9 * len(TEXTS), "the rest was cut even when alone"
    expect_right({text: outcomes[text] for text in right}, right)
