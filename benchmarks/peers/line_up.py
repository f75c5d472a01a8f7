"""The peers by name: how each is started, when it is ready, and how rows get to it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from redis import Redis

from benchmarks.peers import arq_batched, celery_tasks, fan_out
from normalizer.queue.service import QUEUE_NAME, TaskService

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OURS: Final = "normalizer"
SEED: Final = "seed"


@dataclass(frozen=True, slots=True)
class Peer:
    """One way of working.

    Attributes:
        what: in one line, for the reader of a table.
        arguments: of the Python interpreter that becomes its worker.
        ready_key: a key its worker puts into Redis once it can take work.
        enqueue: hands ids to it; (Redis URL, ids).
    """

    what: str
    arguments: tuple[str, ...]
    ready_key: str
    enqueue: Callable[[str, Sequence[str]], None]

    def ready(self, redis: Redis) -> bool:
        """Whether its worker can take work."""
        return bool(redis.exists(self.ready_key))


def _one_job_each(redis_url: str, ids: Sequence[str]) -> None:
    async def enqueue() -> None:
        async with TaskService(redis_url) as tasks:
            await tasks.enqueue_many(ids)

    asyncio.run(enqueue())


def _chunks(redis_url: str, ids: Sequence[str]) -> None:
    asyncio.run(arq_batched.enqueue(redis_url, ids))


def _go(redis_url: str, _ids: Sequence[str]) -> None:
    with Redis.from_url(redis_url) as redis:
        client: Any = redis  # redis-py's own types mix both kinds of client
        client.rpush(fan_out.GO, 1)


_ARQ_HEALTH: Final = f"{QUEUE_NAME}:health-check"
_CELERY: Final = ("-m", "celery", "-A", "benchmarks.peers.celery_tasks", "worker", "--pool", "threads")
_QUIET: Final = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING")

PEERS: Final = {
    SEED: Peer(
        "stock arq.Worker, max_jobs=10, one job per appointment, one call per field, no cache",
        ("-m", "benchmarks.peers.seed"),
        _ARQ_HEALTH,
        _one_job_each,
    ),
    "arq-batched": Peer(
        f"stock arq.Worker, max_jobs=10, {arq_batched.CHUNK} ids per job, one call per chunk and field",
        ("-m", "benchmarks.peers.arq_batched"),
        _ARQ_HEALTH,
        _chunks,
    ),
    "celery-batches": Peer(
        f"Celery, {celery_tasks.THREADS} threads, {celery_tasks.FLUSH_EVERY} ids a batch, one call per batch and field",
        (*_CELERY, "--concurrency", str(celery_tasks.THREADS), *_QUIET),
        "_kombu.binding.celery-bench",
        celery_tasks.enqueue,
    ),
    "fan-out": Peer(
        f"asyncio script, one call per record, a semaphore of {fan_out.AT_ONCE}",
        ("-m", "benchmarks.peers.fan_out"),
        fan_out.READY,
        _go,
    ),
    OURS: Peer(
        "this worker, ARQ_MAX_JOBS=10: cache, rules, batched calls, every value grounded",
        ("-m", "workers"),
        f"{QUEUE_NAME}:replicas",
        _one_job_each,
    ),
}
