"""The lease renewer: renews from its own thread, tells what was lost, and lets a hung process lose its jobs."""

from __future__ import annotations

import threading
import time
from typing import Any

import structlog
from redis.asyncio import Redis

from normalizer.queue.group import GroupState, batch_func
from normalizer.queue.leases import ClaimedJob, GroupKind, Keys, Leases
from normalizer.queue.renewal import STALL_LIMIT_LEASES, LeaseRenewer
from tests.integration.queue_lab import until
from tests.integration.test_queue_leases import HOLD_MS, QUEUE, Bench, ids

KEYS = Keys.of(QUEUE)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def claimed(redis: Redis, *job_ids: str, lease_ms: int = 15_000) -> GroupState:
    bench = Bench(redis)
    await bench.put(*job_ids)
    claim = await bench.claim(lease_ms=lease_ms)

    async def body(_ctx: object, _group: object) -> None:
        return None

    jobs = [ClaimedJob(job_id, "batch", (), {}, 1, 0, claim.fence, claim.token) for job_id in ids(claim)]
    return GroupState(batch_func(body), jobs, KEYS, claim.token, claim.fence, GroupKind.NORMAL, 0, 0)


def renewer_of(redis: Redis, lease_s: float, **options: Any) -> LeaseRenewer:
    return LeaseRenewer(redis, lease_s=lease_s, hold_ms=HOLD_MS, **options)


async def lease_end(redis: Redis, group: GroupState) -> float:
    return float(await redis.zscore(KEYS.leases, group.token) or 0)


async def test_it_renews_while_the_loop_is_blocked(redis: Redis) -> None:
    group = await claimed(redis, "a", lease_ms=500)
    renewer = renewer_of(redis, 0.5)
    renewer.add(group)
    renewer.start()
    before = await lease_end(redis, group)
    time.sleep(1.5)  # noqa: ASYNC251 — the loop is busy for three leases

    assert await lease_end(redis, group) >= before + 1_000
    await renewer.stop()
    assert group.lost == set()


async def test_it_tells_what_another_worker_swept(redis: Redis) -> None:
    group = await claimed(redis, "a", "b")
    await redis.zadd(KEYS.leases, {group.token: 1})
    await Leases(redis, KEYS).sweep()
    renewer = renewer_of(redis, 0.3)
    renewer.add(group)
    renewer.start()

    await until(lambda: group.lost)

    await renewer.stop()
    assert (group.lost, group.open) == ({"a", "b"}, {})
    assert not await redis.exists(KEYS.suspects)  # it lives: what was booked as a crash was none


async def test_a_settle_under_way_is_not_told_as_lost(redis: Redis) -> None:
    group = await claimed(redis, "a", "b")
    await redis.flushdb()  # settled on the server, answer on its way
    group.settling = {"a"}
    renewer = renewer_of(redis, 0.3)
    renewer.add(group)
    renewer.start()

    await until(lambda: group.lost)

    await renewer.stop()
    assert group.lost == {"b"}


async def test_a_hung_loop_loses_its_jobs_after_some_leases(redis: Redis) -> None:
    clock = Clock()
    group = await claimed(redis, "a")
    renewer = renewer_of(redis, 15, clock=clock)
    renewer.add(group)
    await redis.zadd(KEYS.leases, {group.token: 1})

    with structlog.testing.capture_logs() as logs:
        clock.now = STALL_LIMIT_LEASES * 15.0
        assert not await renewer._round(redis)
        hung = await lease_end(redis, group)
        renewer.loop_moved()
        assert not await renewer._round(redis)

    assert hung == 1
    assert await lease_end(redis, group) > 1
    assert [entry["event"] for entry in logs] == ["queue.loop.hangs"]


async def test_it_stops_with_its_thread(redis: Redis) -> None:
    renewer = renewer_of(redis, 15)
    renewer.start()

    await renewer.stop()

    assert "lease-renewer" not in {thread.name for thread in threading.enumerate()}
