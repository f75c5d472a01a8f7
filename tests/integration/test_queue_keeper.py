"""The lease keeper: renews from its own thread, tells what was lost, and lets a hung process lose its jobs."""

from __future__ import annotations

import threading
import time

import structlog
from redis.asyncio import Redis

from normalizer.queue.group import ClaimedJob, Group, batch_func
from normalizer.queue.keeper import STALL_LIMIT_LEASES, LeaseKeeper
from normalizer.queue.leases import ClaimTerms, Keys, Kind, Leases
from tests.integration.queue_lab import until
from tests.integration.test_queue_leases import QUEUE, Bench

KEYS = Keys.of(QUEUE)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class NoOwner:
    async def settle(self, group: Group, settlements: object) -> set[str]:
        raise AssertionError

    async def renew(self, group: Group) -> set[str]:
        raise AssertionError


async def claimed(redis: Redis, *job_ids: str, lease_ms: int = 15_000) -> Group:
    bench = Bench(redis)
    await bench.put(*job_ids)
    terms = ClaimTerms("w", ["batch"], 250, 0, lease_ms, 310_000, heed_aborts=False)
    claim = await bench.leases.claim(terms, token=terms.token(), now_ms=bench.now, slots=1, alone=True)

    async def body(_ctx: object, _group: Group) -> None:
        return None

    jobs = [ClaimedJob(job.job_id, "batch", (), {}, 1, 0, claim.fence, claim.token) for job in claim.group]
    return Group(
        batch_func(body),
        jobs,
        token=claim.token,
        fence=claim.fence,
        kind=Kind.NORMAL,
        deadline=0,
        started_ms=0,
        owner=NoOwner(),
    )


async def test_it_renews_while_the_loop_is_blocked(redis: Redis) -> None:
    group = await claimed(redis, "a", lease_ms=500)
    keeper = LeaseKeeper(redis, KEYS, lease_s=0.5)
    keeper.add("g", group)
    keeper.start()
    time.sleep(1.5)  # noqa: ASYNC251 — the loop is busy for three leases

    assert await redis.get("arq:in-progress:a") == group.token.encode()
    await keeper.stop()
    assert group.lost == frozenset()


async def test_it_tells_what_others_took(redis: Redis) -> None:
    group = await claimed(redis, "a", "b")
    await redis.set("arq:in-progress:b", b"somebody else")
    keeper = LeaseKeeper(redis, KEYS, lease_s=0.3)
    keeper.add("g", group)
    keeper.start()

    await until(lambda: group.lost)

    await keeper.stop()
    assert (group.lost, set(group.unsettled)) == ({"b"}, {"a"})


async def test_a_settle_under_way_is_not_told_as_lost(redis: Redis) -> None:
    group = await claimed(redis, "a", "b")
    await redis.delete("arq:in-progress:a", "arq:in-progress:b", QUEUE)  # settled on the server, answer on its way
    group.settling = {"a"}
    keeper = LeaseKeeper(redis, KEYS, lease_s=0.3)
    keeper.add("g", group)
    keeper.start()

    await until(lambda: group.lost)

    await keeper.stop()
    assert group.lost == {"b"}


async def test_a_hung_loop_loses_its_jobs_after_some_leases(redis: Redis) -> None:
    clock = Clock()
    group = await claimed(redis, "a")
    keeper = LeaseKeeper(redis, KEYS, lease_s=15, clock=clock)
    keeper.add("g", group)
    leases = Leases(redis, KEYS)
    await redis.pexpire("arq:in-progress:a", 1_000)

    with structlog.testing.capture_logs() as logs:
        clock.now = STALL_LIMIT_LEASES * 15.0
        assert not await keeper._round(leases)
        hung_ttl = await redis.pttl("arq:in-progress:a")
        keeper.loop_moved()
        assert not await keeper._round(leases)

    assert hung_ttl <= 1_000
    assert await redis.pttl("arq:in-progress:a") > 1_000
    assert [entry["event"] for entry in logs] == ["queue.loop.hangs"]


async def test_it_stops_with_its_thread(redis: Redis) -> None:
    keeper = LeaseKeeper(redis, KEYS, lease_s=15)
    keeper.start()

    await keeper.stop()

    assert "lease-keeper" not in {thread.name for thread in threading.enumerate()}
