"""Worker processes and real signals: kills, freezes, deploys, rows that kill. Every job ends, and ends once."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from normalizer.queue.leases import Keys
from normalizer.queue.serializer import job_deserializer
from normalizer.queue.service import QUEUE_NAME, TaskService, job_id_of
from tests.integration.queue_lab import until

KEYS = Keys.of(QUEUE_NAME)
ROOT = Path(__file__).resolve().parents[2]
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start a worker process; what is left of them is killed after the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def spawn(**options: object) -> subprocess.Popen[bytes]:
        arguments = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
        with (tmp_path / f"worker{len(processes)}.log").open("wb") as log:
            command = [sys.executable, "-m", "tests.integration.queue_program", redis_url, *arguments]
            processes.append(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log))
        return processes[-1]

    yield spawn
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()


@pytest.fixture
async def tasks(redis_url: str) -> object:
    async with TaskService(redis_url) as service:
        yield service


async def drained(redis: Redis) -> bool:
    return await redis.zcard(QUEUE_NAME) == 0


async def groups(redis: Redis) -> list[dict[str, object]]:
    return [json.loads(line) for line in await redis.lrange("lab:groups", 0, -1)]


async def ended(redis: Redis) -> dict[str, int]:
    return {name.decode(): int(count) for name, count in (await redis.hgetall("lab:ended")).items()}


async def assert_each_ended_once(redis: Redis, names: Collection[str]) -> None:
    """Every job has a good result, none was settled twice."""
    results = await redis.mget([f"arq:result:{job_id_of(name)}" for name in names])
    good = [bool(result) and job_deserializer(result)["s"] for result in results]
    assert [name for name, ended_well in zip(names, good, strict=True) if not ended_well] == []
    assert {name: count for name, count in (await ended(redis)).items() if count != 1} == {}


async def test_a_killed_workers_jobs_restart_elsewhere_within_a_lease_and_end_once(
    redis: Redis, tasks: TaskService, start: Start
) -> None:
    names = [f"a{number}" for number in range(400)]
    victim = start(hold=60, lease=2)
    await tasks.enqueue_many(names)
    await until(lambda: redis.llen("lab:groups"))
    victim.kill()
    victim.wait()
    killed_at = time.monotonic()
    start(lease=2)

    await until(lambda: redis.hlen("lab:ended"))
    recovered_s = time.monotonic() - killed_at
    await until(lambda: drained(redis))

    assert recovered_s < 2 + 5
    await assert_each_ended_once(redis, names)
    assert await redis.exists(KEYS.claims, KEYS.leases, KEYS.sizes, KEYS.suspects) == 0


async def test_a_frozen_worker_that_wakes_up_past_its_lease_changes_nothing(
    redis: Redis, tasks: TaskService, start: Start
) -> None:
    frozen = start(hold=1.5)
    await tasks.enqueue_many(["a", "b"])
    await until(lambda: redis.llen("lab:groups"))
    frozen.send_signal(signal.SIGSTOP)
    start()
    await until(lambda: drained(redis))
    before = await redis.get(f"arq:result:{job_id_of('a')}")
    frozen.send_signal(signal.SIGCONT)
    await until(lambda: redis.hlen("lab:lost"))
    for name in ("a", "b"):  # told after the settle that drained the queue
        await until(lambda name=name: redis.hexists("lab:ended", name))

    assert await ended(redis) == {"a": 1, "b": 1}
    assert await redis.get(f"arq:result:{job_id_of('a')}") == before
    assert await redis.exists("lab:dead") == 0


async def test_a_row_that_kills_the_process_is_isolated_and_buried_and_its_neighbours_end_well(
    redis: Redis, tasks: TaskService, start: Start
) -> None:
    neighbours = [f"a{number}" for number in range(11)]
    await tasks.enqueue_many([*neighbours, "poison"])

    async def supervise() -> None:
        while True:
            process = start()
            await asyncio.to_thread(process.wait)

    supervisor = asyncio.create_task(supervise())
    await until(lambda: drained(redis), patience_s=60)
    supervisor.cancel()

    sizes = [group["size"] for group in await groups(redis) if "poison" in group["names"]]  # type: ignore[operator]
    assert sizes == [12, 6, 3, 1]
    await assert_each_ended_once(redis, neighbours)
    assert await redis.hgetall("lab:dead") == {b"poison": b"derrubou o processo"}
    result = job_deserializer(await redis.get(f"arq:result:{job_id_of('poison')}"))
    assert (result["s"], repr(result["r"])) == (False, "JobExecutionFailed('derrubou o processo')")


async def test_ten_deploys_in_mid_import_fail_nothing_and_count_no_try(
    redis: Redis, tasks: TaskService, start: Start
) -> None:
    names = [f"a{number}" for number in range(300)]
    await tasks.enqueue_many(names)
    for _ in range(10):
        seen = await redis.llen("lab:groups")
        process = start(hold=0.4, grace=0.1, max_items=10)
        await until(lambda seen=seen: _more_groups(redis, seen))
        process.terminate()
        assert await asyncio.to_thread(process.wait) == 0

    assert await redis.keys("arq:retry:*") == []
    assert await redis.exists(KEYS.claims, KEYS.leases, KEYS.sizes, KEYS.suspects) == 0
    start(max_items=50)
    await until(lambda: drained(redis))

    await assert_each_ended_once(redis, names)


async def test_sigterm_finishes_what_runs(redis: Redis, tasks: TaskService, start: Start) -> None:
    process = start(hold=0.5)
    await tasks.enqueue_many(["a", "b"])
    await until(lambda: redis.llen("lab:groups"))
    process.terminate()
    await asyncio.to_thread(process.wait)

    assert await ended(redis) == {"a": 1, "b": 1}


@pytest.mark.slow
async def test_twenty_kills_in_a_row_lose_nothing_and_condemn_nobody(
    redis: Redis, tasks: TaskService, start: Start
) -> None:
    names = [f"a{number}" for number in range(10_000)]
    await tasks.enqueue_many(names)
    workers = [start(hold=0.05, max_items=20) for _ in range(2)]
    for number in range(20):
        await asyncio.sleep(random.uniform(0.3, 1.2))  # not for anything: the moment of a kill is meant to be arbitrary
        os.kill(workers[number % 2].pid, signal.SIGKILL)
        await asyncio.to_thread(workers[number % 2].wait)
        workers[number % 2] = start(hold=0.05, max_items=20)
    await until(lambda: drained(redis), patience_s=60)

    await assert_each_ended_once(redis, names)


async def _more_groups(redis: Redis, seen: int) -> bool:
    return await redis.llen("lab:groups") > seen
