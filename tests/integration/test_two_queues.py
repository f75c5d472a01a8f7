"""Several queues, one set of slots: none starves, and each job is its own queue's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.jobs import Job, JobStatus
from arq.worker import Retry, Worker, func
from redis.asyncio import Redis

from normalizer.queue.group import Done, Group
from normalizer.queue.leases import Keys
from normalizer.queue.service import QUEUE_NAMES, TASK_NAME, TaskService
from normalizer.queue.worker import BatchWorker
from tests.integration.queue_lab import Script, batch, ended, make_worker, running, stock_pool, until

FIRST, SECOND = QUEUE_NAMES


@pytest.fixture
async def pool(redis_url: str) -> AsyncIterator[ArqRedis]:
    async with stock_pool(redis_url) as found:
        yield found


def make(url: str, *functions: Any, **options: Any) -> BatchWorker:
    return make_worker(url, *functions, queue_names=QUEUE_NAMES, **options)


async def put(pool: ArqRedis, queue: str, *names: str, function: str = TASK_NAME) -> list[Job]:
    jobs = [await pool.enqueue_job(function, name, _queue_name=queue) for name in names]
    return [job for job in jobs if job is not None]


async def test_both_queues_are_served_in_turn(redis_url: str, redis: Redis, pool: ArqRedis) -> None:
    await put(pool, FIRST, *(f"a{n}" for n in range(40)))
    await put(pool, SECOND, *(f"b{n}" for n in range(40)))
    script = Script()

    async with running(make(redis_url, batch(script, max_items=10), max_jobs=1)) as worker:
        await ended(worker, redis)

    assert [group[0][0] for group in script.groups] == ["a", "b"] * 4


async def test_a_queue_that_never_empties_does_not_starve_the_other(
    redis_url: str, redis: Redis, pool: ArqRedis
) -> None:
    class Refilled(Script):
        async def __call__(self, ctx: Mapping[str, Any], group: Group) -> None:
            await super().__call__(ctx, group)
            if len(self.groups) < 20:
                await put(pool, FIRST, f"a{len(self.groups)}")

    await put(pool, FIRST, "a")
    await put(pool, SECOND, "b")
    script = Refilled()

    async with running(make(redis_url, batch(script, max_items=1), max_jobs=1)) as worker:
        await ended(worker, redis)

    assert script.groups.index(["b"]) <= 1


async def test_slots_are_one_set_over_all_queues(redis_url: str, redis: Redis, pool: ArqRedis) -> None:
    now = most = 0
    full = asyncio.Event()

    async def count(_ctx: Mapping[str, Any], group: Group) -> None:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        if now == 3:
            full.set()
        await full.wait()
        await group.settle({job.job_id: Done() for job in group.jobs})
        now -= 1

    for queue in QUEUE_NAMES:
        await put(pool, queue, *(f"{queue}{n}" for n in range(10)))
    async with running(make(redis_url, batch(count, max_items=1), max_jobs=3)) as worker:
        await ended(worker, redis)

    assert most == 3


async def test_jobs_of_other_functions_end_in_their_own_queue(redis_url: str, redis: Redis, pool: ArqRedis) -> None:
    async def plain(ctx: dict[Any, Any], name: str) -> str:
        if ctx["job_try"] == 1:
            raise Retry(defer=0.01)
        return name

    jobs = [*await put(pool, FIRST, "a", function="plain"), *await put(pool, SECOND, "b", function="plain")]
    async with running(make(redis_url, batch(Script()), func(plain, name="plain"))) as worker:
        results = [await job.result(timeout=20, poll_delay=0.01) for job in jobs]
        await ended(worker, redis)
    infos = [await job.result_info() for job in jobs]

    assert results == ["a", "b"]
    assert [info.queue_name for info in infos if info] == [FIRST, SECOND]


async def test_results_and_aborts_are_the_jobs_queues(redis_url: str, redis: Redis, pool: ArqRedis) -> None:
    started = asyncio.Event()

    async def hold(_ctx: Mapping[str, Any], group: Group) -> None:
        started.set()
        await group.until_cancelled()

    (job,) = await put(pool, SECOND, "b")
    async with running(make(redis_url, batch(hold), allow_abort_jobs=True)) as worker:
        await started.wait()
        assert await job.status() is JobStatus.in_progress
        assert await redis.exists(Keys.of(SECOND).leases)
        assert await job.abort(timeout=10, poll_delay=0.01)
        await until(lambda: not worker.groups[next(iter(worker.groups))].open)

    info = await job.result_info()
    assert info is not None
    assert (info.queue_name, info.success) == (SECOND, False)


async def test_a_dead_workers_jobs_come_back_in_each_queue(redis_url: str, redis: Redis, pool: ArqRedis) -> None:
    for queue in QUEUE_NAMES:
        await put(pool, queue, f"{queue} row")
    hung, started = asyncio.Event(), asyncio.Event()

    async def hangs(_ctx: Mapping[str, Any], _group: Group) -> None:
        started.set()
        await hung.wait()

    dead = make(redis_url, batch(hangs), lease_s=0.5)
    async with running(dead):
        await until(lambda: len(dead.groups) == 2)
        assert dead._renewer is not None
        await dead._renewer.stop()  # from here on it is as good as dead
        script = Script()
        async with running(make(redis_url, batch(script), lease_s=0.5)):
            await until(lambda: len(script.groups) == 2)
        hung.set()

    assert sorted(script.groups) == [[f"{FIRST} row"], [f"{SECOND} row"]]


async def test_pause_holds_all_queues(redis_url: str, redis: Redis, pool: ArqRedis) -> None:
    async with TaskService(redis_url) as tasks:
        await tasks.pause()
        for queue in QUEUE_NAMES:
            await put(pool, queue, queue)
        script = Script()
        async with running(make(redis_url, batch(script))) as worker:
            await until(lambda: worker._opened and worker._claimer.paused)
            held = await tasks.status()
            await tasks.resume()
            await ended(worker, redis)

    assert (held.state, held.due) == ("paused", 2)
    assert sorted(script.groups) == [[FIRST], [SECOND]]


async def test_a_queue_of_a_wrong_type_leaves_the_other_alone(redis_url: str, redis: Redis, pool: ArqRedis) -> None:
    await redis.set(FIRST, "no sorted set")
    await put(pool, SECOND, "b")
    script = Script()

    async with running(make(redis_url, batch(script))) as worker:
        await until(lambda: worker.jobs_complete == 1)
        problem = worker._replica().last_error

    assert script.groups == [["b"]]
    assert problem == f"{FIRST}: WRONGTYPE"


# -- old workers and ours on one queue --------------------------------------------------------------------------------


def stock_worker(url: str, ran: list[str], *, gate: asyncio.Event | None = None, **options: Any) -> Worker:
    """The deployed system's old worker: stock arq, pickle, its own default queue."""

    async def normalize_appointment(_ctx: dict[Any, Any], appointment_id: str) -> dict[str, Any]:
        ran.append(appointment_id)
        if gate is not None:
            await gate.wait()
        return {"success": True, "appointment_id": appointment_id}

    values = {"burst": True, "poll_delay": 0.01, "handle_signals": False, **options}
    return Worker([func(normalize_appointment, name=TASK_NAME)], redis_settings=RedisSettings.from_dsn(url), **values)


async def test_a_rollback_loses_nothing_that_our_producer_enqueued(redis_url: str, redis: Redis) -> None:
    names = [f"a{n}" for n in range(100)]
    async with TaskService(redis_url) as tasks:
        await tasks.enqueue_many(names)
        await tasks.enqueue("single")
    ran: list[str] = []
    old = stock_worker(redis_url, ran)
    await old.main()
    await old.close()

    assert sorted(ran) == sorted([*names, "single"])
    assert (old.jobs_complete, old.jobs_failed) == (101, 0)


async def test_a_rollback_in_mid_work_loses_nothing_either(redis_url: str, redis: Redis) -> None:
    """Ours is stopped while it holds a group: what it hands back, the old worker takes."""
    started = asyncio.Event()

    async def hold(_ctx: Mapping[str, Any], group: Group) -> None:
        started.set()
        await group.until_cancelled()

    async with TaskService(redis_url) as tasks:
        await tasks.enqueue_many([f"a{n}" for n in range(50)])
    async with running(make(redis_url, batch(hold, max_items=20), max_jobs=2)):
        await started.wait()
    ran: list[str] = []
    old = stock_worker(redis_url, ran)
    await old.main()
    await old.close()

    assert sorted(ran) == sorted(f"a{n}" for n in range(50))
    assert old.jobs_failed == 0


async def test_old_workers_and_ours_share_a_queue_and_run_each_job_once(
    redis_url: str, redis: Redis, pool: ArqRedis
) -> None:
    names = [f"a{n}" for n in range(120)]
    jobs = await put(pool, FIRST, *names)
    ran: list[str] = []
    gate = asyncio.Event()
    script = Script()
    old = stock_worker(redis_url, ran, gate=gate, burst=False, max_jobs=10)
    old_main = asyncio.create_task(old.async_run())
    await until(lambda: len(ran) == 10)
    async with running(make(redis_url, batch(script, max_items=25))) as ours:
        await until(lambda: ours.jobs_complete == 110)  # all but what the old one holds
        assert len(ran) == 10
        gate.set()
        await ended(ours, redis)
    results = [await job.result(timeout=60) for job in jobs]
    old_main.cancel()
    await asyncio.gather(old_main, return_exceptions=True)
    await old.close()

    assert sorted([*ran, *(name for group in script.groups for name in group)]) == sorted(names)
    assert all(results)


async def test_an_old_worker_keeps_off_what_ours_holds_and_takes_it_when_ours_is_gone(
    redis_url: str, redis: Redis, pool: ArqRedis
) -> None:
    await put(pool, FIRST, "a")
    started = asyncio.Event()

    async def hold(_ctx: Mapping[str, Any], group: Group) -> None:
        started.set()
        await group.until_cancelled()

    ran: list[str] = []
    async with running(make(redis_url, batch(hold))):
        await started.wait()
        old = stock_worker(redis_url, ran, burst=False)
        await _polls(old, 3)
        assert ran == []
    await until(lambda: _taken(old, ran))
    await old.close()

    assert ran == ["a"]


async def _polls(worker: Worker, times: int) -> None:
    worker._pool = await create_pool(worker.redis_settings)
    for _ in range(times):
        await worker._poll_iteration()


async def _taken(worker: Worker, ran: list[str]) -> bool:
    await worker._poll_iteration()
    return bool(ran)
