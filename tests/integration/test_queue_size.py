"""Cost follows the work: a claim looks at a bounded part of the queue, and a full Redis drains."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from normalizer.errors import QueueFull
from normalizer.queue.leases import GroupKind
from normalizer.queue.service import QUEUE_NAME, TaskService, job_id_of
from normalizer.simulation import embedded
from tests.integration.queue_lab import Script, batch, ended, make_worker, running
from tests.integration.test_queue_leases import QUEUE, Bench, ids, numbered

MANY = 20_000
_LONGEST_US = 20_000


async def fill(bench: Bench, prefix: str, count: int = MANY, *, function: str = "batch", locked: bool = False) -> None:
    payload = b'{"t":null,"f":"%s","a":["x"],"k":{},"et":1}' % function.encode()
    for start in range(0, count, 5_000):
        names = [f"{prefix}{n:06}" for n in range(start, min(count, start + 5_000))]
        async with bench.redis.pipeline(transaction=False) as pipe:
            pipe.mset({f"arq:job:{name}": payload for name in names})
            pipe.zadd(QUEUE, dict.fromkeys(names, bench.now - 1_000_000))
            if locked:
                pipe.mset({f"arq:in-progress:{name}": b"1" for name in names})
            await pipe.execute()


async def commands_of_a_claim(bench: Bench, **options: int) -> tuple[list[str], int]:
    """What a claim brings once claims had their turn at what is in the way, and the commands it takes."""
    await bench.redis.config_set("slowlog-log-slower-than", _LONGEST_US)
    await bench.redis.slowlog_reset()
    while (await bench.claim("other", slots=0)).status == "more":
        pass
    await bench.redis.config_resetstat()
    found = ids(await bench.claim("w1", max_items=250, **options))
    stats = await bench.redis.info("commandstats")
    return found, sum(entry["calls"] for name, entry in stats.items() if name != "cmdstat_config|resetstat")


@pytest.mark.parametrize("in_the_way", ["nothing", "foreign", "locked", "suspects", "orphans", "due"])
async def test_a_claim_costs_the_same_whatever_lies_in_the_queue(redis: Redis, in_the_way: str) -> None:
    bench = Bench(redis)
    if in_the_way == "foreign":
        await fill(bench, "f", function="other")
    elif in_the_way == "locked":
        await fill(bench, "l", locked=True)
    elif in_the_way == "due":
        await fill(bench, "d")
    elif in_the_way in {"suspects", "orphans"}:
        await fill(bench, "o")
        while (await bench.claim("dead", max_items=1_000)).group:
            pass
    if in_the_way == "suspects":
        for _ in range(2):  # two crashes each: they may only run alone
            claims = await redis.zrange(bench.keys.leases, 0, -1)
            await redis.zadd(bench.keys.leases, dict.fromkeys(claims, 1), xx=True)
            while await bench.leases.sweep():
                pass
            if _ == 0:
                while (await bench.claim("dead", max_items=1_000, slots=1)).group:
                    pass
        await redis.set(bench.keys.quarantine_owner, b"!somebody")
    await bench.put(*numbered(300))

    found, commands = await commands_of_a_claim(bench)

    assert len(found) == 250
    assert commands < 600  # two a job, and a handful


async def test_orphans_come_back_in_small_steps(redis: Redis) -> None:
    bench = Bench(redis)
    await fill(bench, "o", 10_000)
    while (await bench.claim("dead")).group:
        pass
    groups = await redis.zrange(bench.keys.leases, 0, -1)
    await redis.zadd(bench.keys.leases, dict.fromkeys(groups, 1), xx=True)
    steps = []
    while swept := await bench.leases.sweep():
        steps.append(sum(swept.values()))

    assert steps == [500] * 20
    assert (await bench.claim()).kind is GroupKind.SUSPECT


# -- a full Redis -----------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[embedded.RedisService]:
    with embedded.start_valkey(tmp_path) as service:
        yield service


@pytest.fixture
async def tasks(server: embedded.RedisService) -> AsyncIterator[TaskService]:
    async with TaskService(server.url) as service:
        yield service


async def test_a_full_redis_drains_to_empty(server: embedded.RedisService, tasks: TaskService) -> None:
    script = Script()
    async with Redis.from_url(server.url) as redis:
        await tasks.enqueue_many([f"a{n}" for n in range(5_000)])
        used = (await redis.info("memory"))["used_memory"]
        await redis.config_set("maxmemory", used - 100_000)
        with pytest.raises(QueueFull, match="está cheio"):
            await tasks.enqueue_many(["late"])
        with pytest.raises(QueueFull, match="ficam pendentes no MongoDB"):
            await tasks.enqueue("late")
        await tasks.pause()
        paused = (await tasks.status()).state
        await tasks.resume()
        async with running(make_worker(server.url, batch(script, max_items=250))) as worker:
            await ended(worker, redis)
            beats = await tasks.status()
        left = await redis.exists(*(f"arq:job:{job_id_of(f'a{n}')}" for n in range(5_000)))

    assert paused == "paused"
    assert sum(map(len, script.groups)) == worker.jobs_complete == 5_000
    assert left == 0
    assert len(beats.replicas) == 1


async def test_bulk_is_refused_before_redis_is_full_and_single_jobs_go_on(
    server: embedded.RedisService, tasks: TaskService
) -> None:
    async with Redis.from_url(server.url) as redis:
        await redis.setrange("ballast", 30_000_000, b"x")  # made there: what is sent stays in a buffer for a while
        used = (await redis.info("memory"))["used_memory"]
        await redis.config_set("maxmemory", int(used / 0.9))
        with pytest.raises(QueueFull, match="entram na fila quando houver lugar"):
            await tasks.enqueue_many(["a", "b"])
        await tasks.enqueue("single")
        await redis.config_set("maxmemory-policy", "allkeys-lru")  # keeps itself below its limit
        await tasks.enqueue_many(["a", "b"])

        assert await redis.zcard(QUEUE_NAME) == 3
