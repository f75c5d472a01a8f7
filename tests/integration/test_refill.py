"""FLUSHALL takes nothing that anybody decided or paid: MongoDB has the pause, people's answers, the day's spending."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from normalizer.domain.address import Address
from normalizer.domain.appointment import Kind
from normalizer.errors import StoreUnavailable
from normalizer.llm.answer import Usage
from normalizer.llm.pricing import Ledger
from normalizer.operations.corrections import correct
from normalizer.operations.steering import Order, steer
from normalizer.queue.leases import Keys
from normalizer.queue.service import QUEUE_NAMES
from normalizer.runtime import Producer, build_worker, open_cache, open_producer, steer_queue
from normalizer.settings import Settings, settings_of
from normalizer.store import AppointmentStore, DurableState, ImportRow
from normalizer.worker import tasks as normalization

TEXT = "casa da esquina, perto da igreja, Itu"
ADDRESS = Address(rua="Rua da Igreja", numero="7", cidade="Itu", estado="SP")
PAUSED = [Keys.of(name).paused for name in QUEUE_NAMES]


@pytest.fixture
def settings(redis_url: str, mongo_url: str, database: str) -> Settings:
    given = {"REDIS_URL": redis_url, "MONGODB_URL": mongo_url, "DATABASE_NAME": database, "BATCH_LINGER_MS": "20"}
    return settings_of({**given, "OPENAI_MODEL": "gpt-6-luna", "DAILY_BUDGET_USD": "1"})


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[Any]:
    worker = build_worker(settings, handle_signals=False, poll_delay=0.05)
    running = asyncio.ensure_future(worker.async_run())
    try:
        yield worker
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await worker.close()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 — neither service tells when it holds
            await asyncio.sleep(0.02)


async def put(producer: Producer, key: str, text: str) -> str:
    report = await producer.store.upsert_rows([ImportRow(key, {"endereco_completo": text})], "")
    return next(iter(report.new))


async def test_a_pause_holds_over_a_flushed_redis_until_somebody_resumes(settings: Settings, redis: Redis) -> None:
    async with open_producer(settings) as producer:
        await steer_queue(settings, Order.PAUSE)
        await redis.flushall()
        name = await put(producer, "a", "Rua das Flores, 10, Centro, Campinas, SP")
        await producer.tasks.enqueue_many([name])

        async with working(settings) as worker:
            await until(lambda: redis.exists(*PAUSED))
            assert await redis.exists(*PAUSED) == len(PAUSED)
            assert (await producer.tasks.status()).state == "paused"
            assert worker.jobs_complete == 0

            assert await steer_queue(settings, Order.RESUME) == "running"
            await until(lambda: done(producer.store, name))

        await redis.flushall()
        async with working(settings):
            await producer.tasks.enqueue_many([name])
            await until(lambda: redis.exists(Keys.of(QUEUE_NAMES[0]).fence))
            await until(lambda: emptied(redis))
        assert not await redis.exists(*PAUSED), "what was resumed stays so"


async def done(store: AppointmentStore, name: str) -> bool:
    return (await store.load([name]))[name].status == "concluido"


async def emptied(redis: Redis) -> bool:
    return not await redis.exists(*QUEUE_NAMES)


async def test_what_a_person_corrected_answers_equal_texts_after_a_flush(settings: Settings, redis: Redis) -> None:
    async with open_producer(settings) as producer:
        for key, address in (("a", Address(rua="Rua Velha", cidade="Itu", estado="SP")), ("b", ADDRESS)):
            record = await producer.store.one(await put(producer, key, TEXT))
            assert record is not None
            assert await correct(record, {Kind.ADDRESS: address}, store=producer.store, cache=producer.cache)
        await redis.flushall()
        async with open_cache(settings) as fresh:
            assert await fresh.get_many(Kind.ADDRESS, [TEXT]) == {}
        name = await put(producer, "c", TEXT)
        await producer.tasks.enqueue_many([name])

        async with working(settings):
            await until(lambda: done(producer.store, name))

        record = await producer.store.one(name)
        assert record is not None
        assert record.texts[Kind.ADDRESS].value == ADDRESS.as_dict(), "of two corrections the last one"
        assert await redis.exists(*[key async for key in redis.scan_iter("norm:manual:*")]) == 1


async def test_what_was_spent_today_counts_after_a_flush(settings: Settings, redis: Redis, mongo: Any) -> None:
    async with AppointmentStore.connect(settings.mongodb_url.get_secret_value(), settings.database_name) as store:
        state = store.durable_state
        await store.ensure_indexes()
        one, two = (Ledger(redis, model="gpt-6-luna", daily_budget_usd=1.0, keep=state.add_spending) for _ in range(2))
        await one.record(Usage(1_000, 100, cost_usd=0.75), 20)
        await two.record(Usage(2_000, 100, cost_usd=0.5), 20)
        before = await one.day()
        await redis.flushall()
        fresh = Ledger(redis, model="gpt-6-luna", daily_budget_usd=1.0)
        assert not await fresh.spent()

        nothing: Any = None
        work = normalization.Normalization(store, nothing, nothing, ledger=fresh)
        for _ in range(2):  # two replicas find it empty
            await normalization.refill({normalization.CONTEXT_KEY: work})

        assert await fresh.spent()
        assert await fresh.day() == before
        assert "normalizer_expiry" in mongo["normalizer_state"].index_information()


async def test_nothing_is_claimed_from_an_emptied_redis_while_mongodb_is_away(
    settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, pause = asyncio.Event(), DurableState.pause

    async def silent(self: DurableState) -> str | None:
        if not away.is_set():
            away.set()
            raise StoreUnavailable("away")
        return await pause(self)

    monkeypatch.setattr(DurableState, "pause", silent)
    async with open_producer(settings) as producer:
        name = await put(producer, "a", "Rua das Flores, 10, Centro, Campinas, SP")
        await producer.tasks.enqueue_many([name])
        async with working(settings) as worker:
            await away.wait()
            assert worker.jobs_complete == 0
            await until(lambda: done(producer.store, name))


async def test_an_order_is_obeyed_while_mongodb_is_away(settings: Settings) -> None:
    class Away:
        async def keep_pause(self, _order: str | None) -> None:
            raise StoreUnavailable("away")

    async with open_producer(settings) as producer:
        away: Any = Away()
        await steer(Order.PAUSE, tasks=producer.tasks, state=away)
        assert (await producer.tasks.status()).state == "paused"
