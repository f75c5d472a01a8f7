"""Redis restarts, pauses, goes away, turns read-only, or the link swallows bytes: the worker waits and goes on.

Leases are one second here and every outage is longer: what is proved is that nobody takes the living for dead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from normalizer.errors import QueueUnavailable
from normalizer.queue import connection
from normalizer.queue import group as group_module
from normalizer.queue.group import Group
from normalizer.queue.leases import Keys
from normalizer.queue.leases import script as lua
from normalizer.queue.service import QUEUE_NAME, TaskService
from normalizer.queue.worker import BatchWorker
from normalizer.simulation import embedded
from tests.integration.queue_lab import Script, batch, make_worker, running, until
from tests.proxy import TcpProxy

KEYS = Keys.of(QUEUE_NAME)
AWAY_S = 2.5


@pytest.fixture(autouse=True)
def _quick_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SOCKET_TIMEOUT_S", 0.5)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[embedded.RedisService]:
    """A Redis of the test's own, to be mistreated."""
    with embedded.start_valkey(tmp_path) as service:
        yield service


@pytest.fixture
def proxy(server: embedded.RedisService) -> Iterator[TcpProxy]:
    with TcpProxy(urlsplit(server.url).port or 0) as between:
        yield between


@pytest.fixture
async def redis(server: embedded.RedisService) -> AsyncIterator[Redis]:
    async with Redis.from_url(server.url, retry_on_error=[RedisError], socket_timeout=5) as client:
        yield client


class Held(Script):
    """Holds its first group until the test lets go."""

    def __init__(self) -> None:
        super().__init__()
        self.started, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, ctx: Mapping[str, Any], group: Group) -> None:
        self.started.set()
        await self.go_on.wait()
        await super().__call__(ctx, group)


async def enqueue(url: str, count: int) -> list[str]:
    names = [f"a{number}" for number in range(count)]
    async with TaskService(url) as tasks:
        await tasks.enqueue_many(names)
    return names


async def assert_ended_once(redis: Redis, script: Script, names: list[str], worker: BatchWorker) -> None:
    await until(lambda: _drained(redis))
    await until(lambda: not worker.groups)
    assert sorted(name for group in script.groups for name in group) == sorted(names)
    assert {try_ for _, try_ in script.tries} == {1}
    assert len(await redis.keys("arq:result:*")) == len(names)
    assert await redis.exists(KEYS.claims, KEYS.leases, KEYS.sizes, KEYS.suspects) == 0
    assert worker.jobs_complete == len(names)


async def _drained(redis: Redis) -> bool:
    try:
        return await redis.zcard(QUEUE_NAME) == 0
    except RedisError:
        return False


@pytest.mark.parametrize("kill", [False, True], ids=["restarted", "killed"])
async def test_a_restart_of_redis_in_mid_group(server: embedded.RedisService, redis: Redis, kill: bool) -> None:
    script = Held()
    names = await enqueue(server.url, 30)
    async with running(make_worker(server.url, batch(script, max_items=10), lease_s=1, max_jobs=2)) as worker:
        await script.started.wait()
        await asyncio.to_thread(server.restart, kill=kill)
        script.go_on.set()
        await assert_ended_once(redis, script, names, worker)


async def test_a_paused_redis(server: embedded.RedisService, redis: Redis) -> None:
    script = Held()
    names = await enqueue(server.url, 30)
    async with running(make_worker(server.url, batch(script, max_items=10), lease_s=1, max_jobs=2)) as worker:
        await script.started.wait()
        await redis.execute_command("CLIENT", "PAUSE", int(AWAY_S * 1000), "ALL")
        script.go_on.set()
        await assert_ended_once(redis, script, names, worker)


async def test_a_pause_that_no_call_fails_for_makes_nobody_take_the_living_for_dead(
    server: embedded.RedisService, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than the lease, shorter than any time-out: every worker only waits, and no error tells it why."""
    monkeypatch.setattr(connection, "SOCKET_TIMEOUT_S", 20.0)
    holder, other = Held(), Held()
    names = await enqueue(server.url, 10)
    async with running(make_worker(server.url, batch(holder, max_items=10), lease_s=1)) as held:
        await holder.started.wait()
        async with running(make_worker(server.url, batch(other, max_items=10), lease_s=1)) as neighbour:
            await until(lambda: neighbour._opened and neighbour._health.up_for(1))  # it takes over orphans from now on
            await redis.execute_command("CLIENT", "PAUSE", int(AWAY_S * 1000), "ALL")
            await redis.ping()  # answered when the pause is over, as every call is
            await until(lambda: _a_lease_stands(redis))
            holder.go_on.set()
            await assert_ended_once(redis, holder, names, held)

    assert not other.started.is_set()


async def test_a_redis_that_is_away_longer_than_the_lease(
    server: embedded.RedisService, redis: Redis, proxy: TcpProxy
) -> None:
    script = Held()
    names = await enqueue(server.url, 30)
    url = f"redis://127.0.0.1:{proxy.port}"
    async with running(make_worker(url, batch(script, max_items=10), lease_s=1, max_jobs=2)) as worker:
        await script.started.wait()
        proxy.cut()
        script.go_on.set()
        await until(lambda: _all_leases_ran_out(redis))
        proxy.heal()
        await assert_ended_once(redis, script, names, worker)


async def test_a_half_open_link(server: embedded.RedisService, redis: Redis, proxy: TcpProxy) -> None:
    script = Held()
    names = await enqueue(server.url, 30)
    url = f"redis://127.0.0.1:{proxy.port}"
    async with running(make_worker(url, batch(script, max_items=10), lease_s=1, max_jobs=2)) as worker:
        await script.started.wait()
        proxy.swallow()
        script.go_on.set()
        await until(lambda: worker._health.down_since is not None)
        await until(lambda: _all_leases_ran_out(redis))
        proxy.heal()
        await assert_ended_once(redis, script, names, worker)


async def test_a_claim_whose_answer_was_swallowed_costs_no_try_and_no_crash(
    server: embedded.RedisService, redis: Redis, proxy: TcpProxy
) -> None:
    script = Script()
    names = await enqueue(server.url, 5)
    proxy.swallow_answer_to((await redis.script_load(lua("claim"))).encode())
    url = f"redis://127.0.0.1:{proxy.port}"
    async with running(make_worker(url, batch(script), lease_s=60)) as worker:
        await until(lambda: redis.exists(KEYS.claims))  # claimed on the server; the worker does not know
        await until(lambda: worker._claimer._doubtful)
        proxy.heal()
        await assert_ended_once(redis, script, names, worker)


async def test_a_settle_whose_answer_was_swallowed_is_done_once(
    server: embedded.RedisService, redis: Redis, proxy: TcpProxy
) -> None:
    script = Held()
    names = await enqueue(server.url, 5)
    url = f"redis://127.0.0.1:{proxy.port}"
    async with running(make_worker(url, batch(script), lease_s=60, max_jobs=1)) as worker:
        await script.started.wait()
        proxy.swallow_answer_to((await redis.script_load(lua("settle"))).encode())
        script.go_on.set()
        await until(lambda: _drained(redis))
        proxy.heal()
        await until(lambda: worker.jobs_complete)
        await assert_ended_once(redis, script, names, worker)

    assert script.lost == set()


async def test_a_redis_that_turned_into_a_read_only_replica(server: embedded.RedisService, redis: Redis) -> None:
    script = Held()
    names = await enqueue(server.url, 30)
    async with running(make_worker(server.url, batch(script, max_items=10), lease_s=1, max_jobs=2)) as worker:
        await script.started.wait()
        await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        script.go_on.set()
        await until(lambda: worker._health.last_error == "ReadOnlyError")
        await redis.execute_command("REPLICAOF", "NO", "ONE")
        await assert_ended_once(redis, script, names, worker)


async def test_a_flushed_redis_loses_the_claims_and_the_worker_goes_on(
    server: embedded.RedisService, redis: Redis
) -> None:
    script = Held()
    await enqueue(server.url, 5)
    async with running(make_worker(server.url, batch(script), lease_s=1)) as worker:
        await script.started.wait()
        await redis.flushall()
        script.go_on.set()
        await until(lambda: script.lost)
        names = await enqueue(server.url, 5)  # what reconcile does
        await until(lambda: worker.jobs_complete == 5)

    assert sorted(script.groups[-1]) == sorted(names)


async def test_stopping_while_redis_is_away_does_not_hang(
    server: embedded.RedisService, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many groups are in work: one after another, ten would take longer than a container is given to stop."""
    monkeypatch.setattr(group_module, "_RELEASE_S", 2.0)
    await enqueue(server.url, 10)
    url, one_each = f"redis://127.0.0.1:{proxy.port}", batch(Held(), max_items=1)
    async with running(make_worker(url, one_each, lease_s=60, max_jobs=10, shutdown_grace_s=0.1)) as worker:
        await until(lambda: len(worker.groups) == 10)
        proxy.cut()
        stopping_at = time.monotonic()

    assert time.monotonic() - stopping_at < 15


CALLS: Sequence[Callable[[TaskService], Awaitable[Any]]] = (
    lambda tasks: tasks.enqueue("a"),
    lambda tasks: tasks.enqueue_many(["a", "b"]),
    lambda tasks: tasks.get_job_status("norm:a:00000000"),
    lambda tasks: tasks.status(),
    lambda tasks: tasks.dismiss("host:1:aa"),
    lambda tasks: tasks.server_problem(),
    lambda tasks: tasks.other_queues(),
    lambda tasks: tasks.pause(),
    lambda tasks: tasks.drain(),
    lambda tasks: tasks.resume(),
)


@pytest.mark.parametrize("connected", [False, True], ids=["never reached", "gone since"])
async def test_a_producer_is_told_in_one_sentence_whatever_it_asks(
    server: embedded.RedisService, proxy: TcpProxy, connected: bool
) -> None:
    said = rf"127.0.0.1:{proxy.port} {'não respondeu' if connected else 'não responde'} \("
    password = "" if connected else ":s3cret@"
    async with TaskService(f"redis://{password}127.0.0.1:{proxy.port}", attempts=1) as tasks:
        if connected:
            await tasks.get_pool()
        proxy.cut()
        for call in CALLS:
            with pytest.raises(QueueUnavailable, match=said) as told:
                await call(tasks)
            assert "s3cret" not in str(told.value)


async def _all_leases_ran_out(redis: Redis) -> bool:
    expiries = await redis.zrange(KEYS.leases, 0, -1, withscores=True)
    now_s, _ = await redis.time()
    return bool(expiries) and all(ends / 1000 < now_s for _, ends in expiries)


async def _a_lease_stands(redis: Redis) -> bool:
    now_s, micros = await redis.time()
    return bool(await redis.zcount(KEYS.leases, now_s * 1000 + micros // 1000, "+inf"))
