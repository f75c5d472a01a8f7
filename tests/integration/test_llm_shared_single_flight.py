"""The same texts at several replicas at once: asked by one, answered to all, and by another when the first one dies."""

import asyncio
from unittest.mock import AsyncMock

import httpx2
import pytest
from redis.asyncio import Redis

from normalizer.cache import Cache
from normalizer.llm import tokens
from normalizer.llm.client import LlmClient
from normalizer.llm.coalescer import Coalescer
from normalizer.llm.single_flight import SharedSingleFlight
from normalizer.simulation.provider import Options, build_app
from tests.integration.queue_lab import until
from tests.unit.test_coalescer import LABELS, TEXTS, expect_right

KIND = "endereco"


class Replica:
    """A coalescer with its own connection and first tier, as another process would have them."""

    def __init__(self, app, redis, *, lease_s=2.0):
        self.cache = Cache(redis, secret=b"s", model="m", prompt_version="a", rules_version=1)
        http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app))
        self.client = LlmClient(api_key="test", model="simulated", base_url="http://simulated/v1", http_client=http)
        self.go = asyncio.Event()
        self.go.set()
        self.asked = asyncio.Event()
        self.shared_flight = SharedSingleFlight(redis, cache=self.cache, lease_s=lease_s, poll_s=0.02)
        self.coalescer = Coalescer(
            self,
            cache=self.cache,
            count=tokens.counter("gpt-6-luna"),
            shared_flight=self.shared_flight,
            linger_ms=0,
        )

    def keys(self, texts):
        return [f"norm:asking:{self.cache.mark(KIND, text)}" for text in texts]

    async def complete(self, records, **options):
        self.asked.set()
        await self.go.wait()
        return await self.client.complete(records, **options)

    async def ask(self, texts, for_s=20.0):
        outcomes = {}
        deadline = asyncio.get_running_loop().time() + for_s
        async for arrived in self.coalescer.resolve_many(texts, deadline=deadline):
            outcomes |= arrived
        return outcomes

    async def close(self):
        await self.coalescer.close()
        await self.client.close()


async def renewed(redis, keys, *, longer_than_ms):
    return all([await redis.pttl(key) > longer_than_ms for key in keys])


@pytest.fixture
async def replicas(redis_url):
    app = build_app(LABELS, Options(latency_ms=20))
    made, connections = [], []

    def make(**options):
        connections.append(Redis.from_url(redis_url))
        made.append(Replica(app, connections[-1], **options))
        return made[-1]

    make.provider = app.state.provider
    async with asyncio.timeout(100):
        yield make
        for each in made:
            await each.close()
    for connection in connections:
        await connection.aclose()


async def test_the_same_sheet_at_three_replicas_is_asked_once(replicas):
    three = [replicas() for _ in range(3)]

    answers = await asyncio.gather(*(replica.ask(TEXTS[:100]) for replica in three))

    for outcomes in answers:
        expect_right(outcomes, TEXTS[:100])
    assert replicas.provider.stats()["records"] == 100


async def test_the_second_waits_for_the_first_ones_answer(replicas):
    first, second = replicas(), replicas()
    first.go.clear()
    asking = asyncio.create_task(first.ask(TEXTS[:3]))
    await first.asked.wait()
    waiting = asyncio.create_task(second.ask(TEXTS[:5]))
    await second.asked.wait()

    first.go.set()

    expect_right(await waiting, TEXTS[:5])
    expect_right(await asking, TEXTS[:3])
    assert replicas.provider.stats()["records"] == 5


async def test_a_dead_replicas_texts_are_asked_by_another(replicas, redis):
    dead, living = replicas(lease_s=0.3), replicas()
    dead.go.clear()
    asking = asyncio.create_task(dead.ask(TEXTS[:3]))
    await dead.asked.wait()
    for task in dead.shared_flight._tasks.values():
        task.cancel()  # a killed process renews nothing and gives nothing back

    expect_right(await living.ask(TEXTS[:3]), TEXTS[:3])
    asking.cancel()


async def test_a_lease_lives_as_long_as_its_call(replicas, redis):
    slow, other = replicas(lease_s=3), replicas(lease_s=3)
    slow.go.clear()
    asking = asyncio.create_task(slow.ask(TEXTS[:3]))
    await slow.asked.wait()
    for key in slow.keys(TEXTS[:3]):
        await redis.pexpire(key, 2_000)

    await until(lambda: renewed(redis, slow.keys(TEXTS[:3]), longer_than_ms=2_000))
    impatient = await other.ask(TEXTS[:3], for_s=0.6)
    slow.go.set()

    assert not other.asked.is_set()
    assert len(impatient) == 3
    expect_right(await asking, TEXTS[:3])


async def test_what_nobody_waited_for_any_more_can_be_asked_again(replicas):
    dead, living = replicas(lease_s=60), replicas()
    dead.go.clear()
    asking = asyncio.create_task(dead.ask(TEXTS[:3]))
    await dead.asked.wait()
    assert len(await living.ask(TEXTS[:3], for_s=0.1)) == 3
    await until(lambda: not living.shared_flight._parked)
    await dead.shared_flight.close()  # its leases are free

    expect_right(await living.ask(TEXTS[:3]), TEXTS[:3])
    asking.cancel()


async def test_what_another_replica_answered_since_the_lookup_is_not_asked(replicas):
    first, second = replicas(), replicas()
    expect_right(await first.ask(TEXTS[:3]), TEXTS[:3])

    expect_right(await second.ask(TEXTS[:3]), TEXTS[:3])

    assert not second.asked.is_set()


async def test_a_replica_that_gave_up_may_ask_again_at_once(replicas):
    only = replicas(lease_s=60)
    only.go.clear()
    assert len(await only.ask(TEXTS[:2], for_s=0.05)) == 2
    only.go.set()

    expect_right(await only.ask(TEXTS[:4]), TEXTS[:4])


async def test_leases_are_given_back_and_hold_no_text(replicas, redis):
    replica = replicas(lease_s=60)
    replica.go.clear()
    asking = asyncio.create_task(replica.ask(TEXTS[:2]))
    await replica.asked.wait()
    keys = [key async for key in redis.scan_iter(match="norm:asking:*")]
    replica.go.set()
    await asking
    await replica.close()

    assert len(keys) == 2
    assert b"flores" not in b" ".join(keys).lower()
    assert [key async for key in redis.scan_iter(match="norm:asking:*")] == []


async def test_a_pause_of_redis_makes_nobody_take_the_asking_one_for_dead(replicas, redis, monkeypatch):
    first, second = replicas(lease_s=2.4), replicas(lease_s=2.4)
    first.go.clear()
    asking = asyncio.create_task(first.ask(TEXTS[:3]))
    await first.asked.wait()
    waiting = asyncio.create_task(second.ask(TEXTS[:3]))
    await until(lambda: second.shared_flight._parked)
    ping, paused = second.shared_flight._redis.ping, asyncio.Event()

    async def ping_in_a_pause():
        if paused.is_set():
            return await ping()
        await redis.execute_command("CLIENT", "PAUSE", 1000, "ALL")
        answer = await ping()
        await redis.delete(*first.keys(TEXTS[:3]))  # as if they had lapsed in a pause of their length
        paused.set()
        return answer

    monkeypatch.setattr(second.shared_flight._redis, "ping", ping_in_a_pause)
    await paused.wait()
    await until(lambda: renewed(redis, first.keys(TEXTS[:3]), longer_than_ms=0))
    first.go.set()

    expect_right(await waiting, TEXTS[:3])
    expect_right(await asking, TEXTS[:3])
    assert not second.asked.is_set()


async def test_an_outage_at_the_claim_takes_nothing_from_the_asking_one(replicas, redis, monkeypatch):
    first, second = replicas(lease_s=2.4), replicas(lease_s=2.4)
    first.go.clear()
    asking = asyncio.create_task(first.ask(TEXTS[:3]))
    await first.asked.wait()
    waiting = asyncio.create_task(second.ask(TEXTS[:3]))
    await until(lambda: second.shared_flight._parked)
    pipeline = second.shared_flight._redis.pipeline

    def cut_off(**options):
        pipe = pipeline(**options)
        pipe.execute = AsyncMock(side_effect=ConnectionError)
        return pipe

    monkeypatch.setattr(second.shared_flight._redis, "pipeline", cut_off)
    await until(lambda: second.shared_flight._not_before)
    first.go.set()

    expect_right(await waiting, TEXTS[:3])
    expect_right(await asking, TEXTS[:3])
    assert not second.asked.is_set()


async def test_without_redis_everyone_asks_for_themselves():
    nowhere = Redis(host="127.0.0.1", port=1)
    app = build_app(LABELS, Options())
    replica = Replica(app, nowhere)

    expect_right(await replica.ask(TEXTS[:3]), TEXTS[:3])
    await replica.close()
    await nowhere.aclose()
