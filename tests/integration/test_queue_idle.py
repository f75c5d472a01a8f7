"""An idle replica asks next to nothing, and starts a lone job at once."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis.asyncio import Redis

from normalizer.queue.service import QUEUE_NAMES, TASK_NAME, TaskService
from tests.integration.queue_lab import Script, batch, make_worker, running, stock_pool, until

_NEVER_S = 3_600.0  # what starts before that was woken, not polled


async def test_our_producer_wakes_an_idle_worker(redis_url: str) -> None:
    script = Script()
    async with (
        TaskService(redis_url) as tasks,
        running(make_worker(redis_url, batch(script), queue_names=QUEUE_NAMES, poll_delay=_NEVER_S)) as worker,
    ):
        await until(lambda: _listens(tasks))
        await until(lambda: worker._opened and worker._claimer.empty)
        await tasks.enqueue("a")
        await until(lambda: script.groups)

    assert script.groups == [["a"]]


@pytest.mark.parametrize("queue", QUEUE_NAMES)
async def test_key_space_events_wake_it_for_a_stock_producer(redis_url: str, queue: str) -> None:
    script = Script()
    async with (
        TaskService(redis_url) as tasks,
        stock_pool(redis_url) as pool,
        running(make_worker(redis_url, batch(script), queue_names=QUEUE_NAMES, poll_delay=_NEVER_S)) as worker,
    ):
        await until(lambda: _listens(tasks))
        await until(lambda: worker._opened and worker._claimer.empty)
        await pool.enqueue_job(TASK_NAME, "a", _queue_name=queue)
        await until(lambda: script.groups)

    assert script.groups == [["a"]]


async def test_an_idle_replica_sends_no_more_than_two_commands_a_second(redis_url: str, redis: Redis) -> None:
    polls = 30
    async with running(make_worker(redis_url, batch(Script()), queue_names=QUEUE_NAMES, poll_delay=0.1)) as worker:
        await until(lambda: worker._opened and worker._claimer.empty)
        await redis.config_resetstat()
        started = time.monotonic()
        await until(lambda: _calls(redis, "exists", polls))
        seconds = time.monotonic() - started
        stats = await redis.info("commandstats")

    calls = {name.removeprefix("cmdstat_"): entry["calls"] for name, entry in stats.items()}
    others = sum(count for name, count in calls.items() if name not in {"info", "config|resetstat", "exists"})
    assert others <= seconds + 15  # to start listening, and a beat; a look at everything took 20 a second


async def _calls(redis: Redis, name: str, count: int) -> bool:
    stats = await redis.info("commandstats")
    await asyncio.sleep(0.02)
    return bool(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] >= count)


async def _listens(tasks: TaskService) -> bool:
    pool = await tasks.get_pool()
    return all(number for _, number in await pool.pubsub_numsub(*(f"{queue}:wake" for queue in QUEUE_NAMES)))
