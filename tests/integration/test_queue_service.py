"""`TaskService`: one job per content, whatever became of an earlier one; what it tells of the queue; how it steers."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from arq.jobs import Job
from redis.asyncio import Redis

from normalizer.errors import InvalidInput, Misconfigured
from normalizer.queue.group import Done, Failed, Group, Snooze
from normalizer.queue.leases import HEAD_START_MS, Keys
from normalizer.queue.replicas import PAUSED, REPLICAS
from normalizer.queue.service import QUEUE_NAME, QUEUE_NAMES, TASK_NAME, Enqueued, TaskService, job_id_of
from tests.integration.queue_lab import Script, batch, make_worker, running, stock_pool, until

KEYS = Keys.of(QUEUE_NAME)


@pytest.fixture
async def tasks(redis_url: str) -> AsyncIterator[TaskService]:
    async with TaskService(redis_url) as service:
        yield service


async def _drained(redis: Redis) -> bool:
    return await redis.zcard(QUEUE_NAME) == 0


async def test_the_job_id_names_the_appointment_and_its_content(tasks: TaskService, redis: Redis) -> None:
    job_id = await tasks.enqueue("65f0", fingerprint="abcdef0123456789")

    assert job_id == "norm:65f0:abcdef01"
    assert await redis.zrange(QUEUE_NAME, 0, -1) == [b"norm:65f0:abcdef01"]
    assert job_id_of("65f0") == "norm:65f0:00000000"


async def test_a_stock_consumer_can_read_the_job(redis_url: str, tasks: TaskService) -> None:
    job_id = await tasks.enqueue("65f0")
    pool = await tasks.get_pool()

    info = await Job(job_id, pool, QUEUE_NAME, _deserializer=pool.job_deserializer).info()

    assert info is not None
    assert (info.function, info.args, info.kwargs, info.job_try) == (TASK_NAME, ("65f0",), {}, None)
    async with stock_pool(redis_url) as stock:
        unchanged = await Job(job_id, stock).info()  # arq's own pickle and its own queue
    assert unchanged is not None
    assert unchanged.args == ("65f0",)


async def test_queued_is_one_job(tasks: TaskService, redis: Redis) -> None:
    first = await tasks.enqueue_many(["a", "b", "a"])
    second = await tasks.enqueue_many(["a", "c"])

    assert first == Enqueued(new=2, already_queued=1)
    assert second == Enqueued(new=1, already_queued=1)
    assert await redis.zcard(QUEUE_NAME) == 3


async def test_new_content_is_a_new_job(tasks: TaskService, redis: Redis) -> None:
    await tasks.enqueue_many(["a"], fingerprints={"a": "11111111"})
    await tasks.enqueue_many(["a"], fingerprints={"a": "22222222"})

    assert await redis.zcard(QUEUE_NAME) == 2


async def test_a_kept_result_does_not_stand_in_the_way(redis_url: str, redis: Redis, tasks: TaskService) -> None:
    script = Script()
    async with running(make_worker(redis_url, batch(script))):
        for _ in range(2):
            assert await tasks.enqueue_many(["a"]) == Enqueued(new=1)
            await until(lambda: _drained(redis))

    assert script.groups == [["a"], ["a"]]


async def test_a_job_in_work_with_this_very_content_does_not_run_once_more(
    redis_url: str, redis: Redis, tasks: TaskService
) -> None:
    """As `reconcile` asks for it while a long import is in work."""
    started, go_on, script = asyncio.Event(), asyncio.Event(), Script()

    async def slow(ctx: Mapping[str, Any], group: Group) -> None:
        started.set()
        await go_on.wait()
        await script(ctx, group)

    await tasks.enqueue("a", fingerprint="0123abcd")
    async with running(make_worker(redis_url, batch(slow))):
        await started.wait()
        again = await tasks.enqueue_many(["a"], fingerprints={"a": "0123abcd"})
        other = await tasks.enqueue_many(["a"], fingerprints={"a": "4567abcd"})
        go_on.set()
        await until(lambda: _drained(redis))

    assert (again, other) == (Enqueued(already_queued=1), Enqueued(new=1))
    assert script.groups == [["a"], ["a"]]  # once for each content


async def test_a_job_enqueued_while_in_work_runs_once_more(redis_url: str, redis: Redis, tasks: TaskService) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()
    runs = 0

    async def slow(_ctx: Mapping[str, Any], group: Group) -> None:
        nonlocal runs
        runs += 1
        started.set()
        await go_on.wait()
        await group.settle({job.job_id: Done(runs) for job in group.jobs})

    await tasks.enqueue("a")
    async with running(make_worker(redis_url, batch(slow))):
        await started.wait()
        again = [await tasks.enqueue_many(["a"]) for _ in range(3)]
        go_on.set()
        await until(lambda: _drained(redis))

    assert again == [Enqueued(running_again=1)] * 3
    assert runs == 2
    pool = await tasks.get_pool()
    info = await Job(job_id_of("a"), pool, QUEUE_NAME, _deserializer=pool.job_deserializer).result_info()
    assert info is not None
    assert info.result == 2


async def test_a_job_enqueued_while_in_work_and_handed_back_runs_once(
    redis_url: str, redis: Redis, tasks: TaskService
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Script):
        async def __call__(self, ctx: Mapping[str, Any], group: Group) -> None:
            started.set()
            await go_on.wait()
            await super().__call__(ctx, group)

    script = Slow({"a": [Snooze(), Done()]})
    await tasks.enqueue("a")
    async with running(make_worker(redis_url, batch(script))):
        await started.wait()
        await tasks.enqueue("a")
        go_on.set()
        await until(lambda: _drained(redis))

    assert script.groups == [["a"], ["a"]]


async def test_a_single_job_overtakes_and_pulls_its_queued_twin_forward(redis: Redis, tasks: TaskService) -> None:
    await tasks.enqueue_many(["a", "b"])
    await tasks.enqueue("b")

    assert await redis.zrange(QUEUE_NAME, 0, 0) == [job_id_of("b").encode()]
    ahead = (await redis.zscore(QUEUE_NAME, job_id_of("a"))) - (await redis.zscore(QUEUE_NAME, job_id_of("b")))
    assert HEAD_START_MS - 1_000 <= ahead <= HEAD_START_MS


async def test_twenty_thousand_ids_are_twenty_round_trips(redis: Redis, tasks: TaskService) -> None:
    await tasks.enqueue("warm")
    await redis.config_resetstat()

    assert await tasks.enqueue_many([f"a{number}" for number in range(20_000)]) == Enqueued(new=20_000)

    assert (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"] == 20


@pytest.mark.parametrize("bad", ["", "x" * 201])
async def test_an_id_that_cannot_be_one_is_refused_and_nothing_is_enqueued(
    redis: Redis, tasks: TaskService, bad: str
) -> None:
    with pytest.raises(InvalidInput):
        await tasks.enqueue_many([*["a"] * 1_500, bad])

    assert await redis.zcard(QUEUE_NAME) == 0


async def test_a_job_is_polled_as_the_backend_polls_it(redis_url: str, tasks: TaskService) -> None:
    waiting, refused = await tasks.enqueue_normalization("good"), await tasks.enqueue_normalization("bad")
    assert waiting is not None
    assert refused is not None
    before = await tasks.get_job_status(waiting)
    async with running(make_worker(redis_url, batch(Script({"bad": Failed("sem conserto")})))):
        await until(lambda: _has_ended(tasks, waiting, refused))
    good, bad = await tasks.get_job_status(waiting), await tasks.get_job_status(refused)

    assert before is not None
    assert good is not None
    assert bad is not None
    assert list(before) == ["job_id", "status", "enqueue_time", "start_time", "finish_time", "result", "error"]
    assert (before["job_id"], before["status"], before["start_time"]) == (waiting, "queued", None)
    assert (good["status"], good["result"], good["error"]) == ("complete", {"id": "good"}, None)
    rounded = timedelta(milliseconds=1)  # one is rounded, the other cut
    assert good["enqueue_time"] - rounded <= good["start_time"] <= good["finish_time"]
    assert (bad["status"], bad["result"], bad["error"]) == ("complete", None, "sem conserto")
    assert await tasks.get_job_status("unknown") is None


async def _has_ended(tasks: TaskService, *job_ids: str) -> bool:
    found = [await tasks.get_job_status(job_id) for job_id in job_ids]
    return all(status is not None and status["status"] == "complete" for status in found)


@pytest.mark.parametrize("damage", [b"{}", b"\x80\x04junk", pickle.dumps({"s": 1, "r": exit}), b"\xff"], ids=repr)
async def test_a_damaged_result_is_told_not_raised(redis: Redis, tasks: TaskService, damage: bytes) -> None:
    await redis.set("arq:result:x", damage)

    status = await tasks.get_job_status("x")

    assert status is not None
    assert status["status"] == "complete"
    assert status["error"]


async def test_a_backend_without_redis_goes_on() -> None:
    async with TaskService("redis://127.0.0.1:1", attempts=1) as tasks:
        assert await tasks.enqueue_normalization("a") is None


async def test_any_shape_of_id_the_backend_has_is_taken(redis: Redis, tasks: TaskService) -> None:
    await tasks.enqueue_normalization(UUID(int=7))

    assert await redis.zrange(QUEUE_NAME, 0, -1) == [job_id_of(str(UUID(int=7))).encode()]


async def test_queues_of_other_names_are_found(redis_url: str, redis: Redis, tasks: TaskService) -> None:
    await tasks.enqueue("served")
    async with stock_pool(redis_url) as pool:
        await pool.enqueue_job(TASK_NAME, "a", _queue_name="clinic:jobs")
    await redis.zadd("ranking", {"somebody": 1})

    assert await tasks.other_queues() == {"clinic:jobs": 1}


async def test_settings_come_from_the_environment_at_first_use(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", redis_url)
    async with TaskService() as tasks:
        await tasks.enqueue("a")

    assert await redis.zcard(QUEUE_NAME) == 1


async def test_a_malformed_url_of_the_environment_is_told_at_first_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", "clinic-redis:6379")
    tasks = TaskService()

    with pytest.raises(Misconfigured, match="REDIS_URL"):
        await tasks.get_pool()


async def test_status_counts_what_is_due_what_waits_and_since_when_over_all_queues(
    redis: Redis, tasks: TaskService
) -> None:
    await tasks.enqueue_many(["a"])
    pool = await tasks.get_pool()
    await pool.enqueue_job(TASK_NAME, "b", _queue_name=QUEUE_NAMES[1])
    await pool.enqueue_job(TASK_NAME, "later", _defer_by=3_600)
    old = pickle.dumps({"t": None, "f": TASK_NAME, "a": ("c",), "k": {}, "et": int(time.time() * 1000) - 90_000})
    await redis.set("arq:job:c", old)
    await redis.zadd(QUEUE_NAMES[1], {"c": 1})
    status = await tasks.status()

    assert (status.due, status.running, status.deferred) == (3, 0, 1)
    assert status.oldest_age_s == pytest.approx(90, abs=5)
    assert status.replicas == []
    assert status.unserved == {}


async def test_the_age_is_the_jobs_own_not_its_head_start(tasks: TaskService) -> None:
    await tasks.enqueue("single")

    status = await tasks.status()

    assert status.oldest_age_s is not None
    assert status.oldest_age_s < 60


async def test_an_empty_queue_has_no_age(tasks: TaskService) -> None:
    status = await tasks.status()

    assert (status.state, status.due, status.running, status.deferred, status.oldest_age_s) == (
        "running",
        0,
        0,
        0,
        None,
    )


async def test_status_asks_nothing_that_grows_with_the_queue(redis: Redis, tasks: TaskService) -> None:
    await tasks.enqueue_many([f"a{number}" for number in range(2_000)])
    await redis.config_resetstat()

    await tasks.status()

    asked = {name.removeprefix("cmdstat_") for name in await redis.info("commandstats")}
    assert asked & {"keys", "scan", "hgetall", "smembers", "sort"} == set()


async def test_jobs_where_no_replica_looks_are_told(redis_url: str, tasks: TaskService) -> None:
    async with stock_pool(redis_url) as pool:
        await pool.enqueue_job(TASK_NAME, "a", _queue_name="clinic:jobs")
        await pool.enqueue_job(TASK_NAME, "b", _queue_name=QUEUE_NAMES[1])
        async with running(make_worker(redis_url, batch(Script()))):  # serves the first queue alone
            await until(lambda: _tells_of_two(tasks))
            status = await tasks.status()

    assert status.unserved == {"clinic:jobs": 1, QUEUE_NAMES[1]: 1}


async def _tells_of_two(tasks: TaskService) -> bool:
    return len((await tasks.status()).unserved) == 2


@pytest.mark.parametrize("name", QUEUE_NAMES)
async def test_a_queue_that_is_no_sorted_set_is_told_in_one_sentence(
    redis: Redis, tasks: TaskService, name: str
) -> None:
    await redis.set(name, "somebody's")

    status = await tasks.status()

    assert [problem.split(":", 1)[0] for problem in status.problems] == ["a fila arq"]
    assert name in status.problems[0]
    assert "WRONGTYPE" in status.problems[0]


async def test_forged_beats_are_ignored(redis: Redis, tasks: TaskService) -> None:
    for number, forged in enumerate([b"{}", b"[]", b"\xff", b'{"worker_id": 5}']):
        await redis.set(f"arq:replica:{number}", forged)
        await redis.zadd(REPLICAS, {f"{number}": time.time() * 1000})
    await redis.zadd(REPLICAS, {b"\xff\xfe": time.time() * 1000})

    assert (await tasks.status()).replicas == []


async def test_pause_and_resume_hold_for_all_replicas(redis: Redis, tasks: TaskService) -> None:
    await tasks.pause()
    paused = (await tasks.status()).state
    stored = await redis.get(KEYS.paused)
    await tasks.resume()

    assert (paused, stored, (await tasks.status()).state) == ("paused", PAUSED, "running")


async def test_drain_asks_groups_in_work_to_hand_back(redis_url: str, redis: Redis, tasks: TaskService) -> None:
    started = asyncio.Event()

    async def listens(_ctx: Mapping[str, Any], group: Group) -> None:
        started.set()
        await group.until_cancelled()

    await tasks.enqueue_many(["a", "b"])
    async with running(make_worker(redis_url, batch(listens))) as worker:
        await started.wait()
        await tasks.drain()
        worker._chores.append(asyncio.create_task(worker._beat()))  # the next beat, now
        await until(lambda: not worker.groups)
        status = await tasks.status()
        main_is_alive = not worker.main_task.done() if worker.main_task else False

    assert (status.state, status.due, status.running) == ("draining", 2, 0)
    assert main_is_alive
    assert await redis.keys("arq:retry:*") == []
