"""What queue tests share: a running `BatchWorker`, and a batch function whose behaviour the test writes down."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from arq.connections import ArqRedis
from redis.asyncio import Redis

from normalizer.queue.connection import open_pool, redis_settings
from normalizer.queue.group import BatchFunction, Done, Group, Settlement
from normalizer.queue.serializer import job_deserializer, job_serializer
from normalizer.queue.service import QUEUE_NAME, TASK_NAME
from normalizer.queue.worker import BatchWorker, batch_func

PATIENCE_S = 20.0


class Script:
    """A batch function that records its groups and ends each job as `ends` says (Done if it says nothing)."""

    def __init__(self, ends: Mapping[str, Settlement | list[Settlement]] | None = None) -> None:
        self.groups: list[list[str]] = []
        self.tries: list[tuple[str, int]] = []
        self.dead: list[tuple[str, str]] = []
        self.lost: set[str] = set()
        self._ends = {name: list(how) if isinstance(how, list) else [how] for name, how in (ends or {}).items()}

    async def __call__(self, _ctx: Mapping[str, Any], group: Group) -> None:
        names = self.note(group)
        self.lost |= await group.settle({job_id: self.ending(name) for job_id, name in names.items()})

    def note(self, group: Group) -> dict[str, str]:
        """Record the group. Returns the jobs' first arguments by job id."""
        names = {job.job_id: str(job.args[0]) for job in group.jobs}
        self.groups.append(sorted(names.values()))
        self.tries += [(names[job.job_id], job.try_) for job in group.jobs]
        return names

    def ending(self, name: str) -> Settlement:
        planned = self._ends.get(name)
        if not planned:
            return Done({"id": name})
        return planned.pop(0) if len(planned) > 1 else planned[0]

    async def on_dead(self, _ctx: Mapping[str, Any], dead: Any) -> None:
        self.dead += [(job.args[0], cause) for job, cause in dead]


def batch(script: Callable[..., Awaitable[None]], **options: Any) -> BatchFunction:
    """`script` as the batch function every producer enqueues."""

    async def body(ctx: Mapping[str, Any], group: Group) -> None:
        await script(ctx, group)

    on_dead = getattr(script, "on_dead", None)
    values = {"name": TASK_NAME, "on_dead": on_dead, **options}
    return batch_func(body, **values)


def make_worker(url: str, *functions: Any, **options: Any) -> BatchWorker:
    values: dict[str, Any] = {
        "queue_name": QUEUE_NAME,
        "redis_settings": redis_settings(url),
        "job_serializer": job_serializer,
        "job_deserializer": job_deserializer,
        "handle_signals": False,
        "poll_delay": 0.05,
        **options,
    }
    return BatchWorker(list(functions), **values)


@contextlib.asynccontextmanager
async def running(worker: BatchWorker) -> AsyncIterator[BatchWorker]:
    """The worker at work; closed, and its claims released, at the end."""
    main = asyncio.create_task(worker.async_run())
    try:
        yield worker
        if main.done():
            main.result()
    finally:
        main.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await main
        await worker.close()


async def ended(worker: BatchWorker, redis: Redis) -> None:
    """Return when the queue is empty and the worker has heard so: an empty queue alone says nothing of its counters."""

    async def is_over() -> bool:
        return not await redis.exists(*worker.queue_names) and not worker.groups

    await until(is_over)


@contextlib.asynccontextmanager
async def stock_pool(url: str, **options: Any) -> AsyncIterator[ArqRedis]:
    """What an unchanged backend has: arq's pool, pickle on the wire."""
    pool = await open_pool(redis_settings(url), queue_name=QUEUE_NAME, **options)
    try:
        yield pool
    finally:
        await pool.aclose(close_connection_pool=True)


async def until(condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> None:
    """Return as soon as `condition()` (plain or awaitable) holds; polls, because what it asks is in Redis."""
    async with asyncio.timeout(patience_s):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.01)
