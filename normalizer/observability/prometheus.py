"""The `/metrics` page: queue, replicas, jobs, model, cache and cost at the moment of the scrape, and `metrics.py`.

Nothing here is counted twice: a scrape asks the objects that count anyway. Queue, replicas and cost are the whole
system's (every replica says the same: take `max`), the rest is this process's (take `sum`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from normalizer.errors import NormalizerError
from normalizer.observability import metrics
from normalizer.queue.connection import OUTAGE

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from normalizer.cache import Cache
    from normalizer.llm.coalescer import Coalescer
    from normalizer.llm.pricing import Ledger, Spending
    from normalizer.queue.service import QueueStatus, TaskService
    from normalizer.queue.worker import BatchWorker

log = structlog.get_logger(__name__)

__all__ = ["CONTENT_TYPE_LATEST", "Exposition", "Sources"]

_READ_S: Final = 4.0
_MEMORY_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")
_STATES: Final = ("running", "paused", "draining")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the numbers come from; what is None is left out.

    Attributes:
        tasks: the queue and its replicas.
        worker, coalescer, cache: this process's own.
        ledger: the day's money, over all replicas.
        daily_budget_usd: 0 = no budget.
    """

    tasks: TaskService
    worker: BatchWorker | None = None
    coalescer: Coalescer | None = None
    cache: Cache | None = None
    ledger: Ledger | None = None
    daily_budget_usd: float = 0.0


class Exposition:
    """The text Prometheus reads. Made inside the event loop that `sources` belong to."""

    def __init__(self, sources: Sources) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Reading(sources, asyncio.get_running_loop()))
        self._registry.register(metrics.REGISTRY)
        ProcessCollector(registry=self._registry)

    async def render(self) -> bytes:
        """The whole exposition, for a server that has the event loop (`CONTENT_TYPE_LATEST` is its content type)."""
        return await asyncio.to_thread(generate_latest, self._registry)

    def serve(self, port: int, host: str = "127.0.0.1") -> Callable[[], None]:
        """Answer `/metrics` on `port` of `host` from a thread; returns what ends it. A taken port stops no work."""
        try:
            server, thread = start_http_server(port, host, registry=self._registry)
        except OSError as error:
            log.warning("metrics.port_unavailable", port=port, error=type(error).__name__)
            return lambda: None
        log.info("metrics.serving", port=server.server_port)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join(timeout=1)

        return stop


class _Reading(Collector):
    """Reads the sources. Prometheus' server asks from a thread of its own, the answers are in the event loop."""

    def __init__(self, sources: Sources, loop: asyncio.AbstractEventLoop) -> None:
        self._sources, self._loop = sources, loop

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        sources = self._sources
        queue = self._ask(sources.tasks.status)
        yield GaugeMetricFamily("normalizer_redis_up", "Whether the queue answered.", float(queue is not None))
        if queue is not None:
            yield from _queue(queue)
        if sources.worker is not None:
            yield from _jobs(sources.worker)
        if sources.coalescer is not None:
            yield from _model(sources.coalescer)
        if sources.cache is not None:
            yield from _cache(sources.cache.stats())
        yield GaugeMetricFamily("normalizer_budget_usd", "DAILY_BUDGET_USD; 0 is none.", sources.daily_budget_usd)
        if sources.ledger is not None and (day := self._ask(sources.ledger.day)) is not None:
            yield from _cost(day)
        if (limit := _memory_limit()) is not None:
            yield GaugeMetricFamily("normalizer_memory_limit_bytes", "Memory this container may use.", limit)

    def _ask(self, question: Callable[[], Awaitable[Any]]) -> Any | None:
        """The answer from the event loop, or None if the loop hangs or Redis is away."""

        async def answer() -> Any:
            async with asyncio.timeout(_READ_S):
                return await question()

        try:
            asked = asyncio.run_coroutine_threadsafe(answer(), self._loop)
        except RuntimeError:  # the loop is closed: the process is on its way out
            return None
        try:
            return asked.result(_READ_S + 1)
        except (NormalizerError, *OUTAGE):
            asked.cancel()
            return None


def _queue(queue: QueueStatus) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("normalizer_queue_jobs", "Jobs in the queue.", labels=["state"])
    for state, number in (("due", queue.due), ("running", queue.running), ("deferred", queue.deferred)):
        jobs.add_metric([state], number)
    yield jobs
    yield GaugeMetricFamily(
        "normalizer_queue_oldest_job_age_seconds", "Since when the first due job waits.", queue.oldest_age_s or 0.0
    )
    states = GaugeMetricFamily("normalizer_queue_state", "1 for the state the queue is in.", labels=["state"])
    for state in _STATES:
        states.add_metric([state], float(queue.state == state))
    yield states
    yield GaugeMetricFamily("normalizer_workers", "Replicas that beat.", len(queue.replicas))
    now_ms = time.time() * 1000
    age = GaugeMetricFamily("normalizer_worker_last_beat_age_seconds", "Since a replica's last beat.", labels=["host"])
    lag = GaugeMetricFamily("normalizer_worker_loop_lag_seconds", "Delay of a replica's event loop.", labels=["host"])
    for host in sorted({replica.host for replica in queue.replicas}):
        here = [replica for replica in queue.replicas if replica.host == host]
        age.add_metric([host], max(0.0, now_ms - max(replica.beat_at_ms for replica in here)) / 1000)
        lag.add_metric([host], max(replica.loop_lag_ms for replica in here) / 1000)
    yield age
    yield lag


def _jobs(worker: BatchWorker) -> Iterator[Metric]:
    jobs = CounterMetricFamily("normalizer_jobs", "Jobs this process ended, by how.", labels=["outcome"])
    ended = {"complete": worker.jobs_complete, "failed": worker.jobs_failed, "retried": worker.jobs_retried}
    for outcome, number in ended.items():
        jobs.add_metric([outcome], number)
    yield jobs
    yield GaugeMetricFamily("normalizer_groups_in_work", "Groups in work in this process.", len(worker.groups))
    yield GaugeMetricFamily("normalizer_groups_limit", "ARQ_MAX_JOBS.", worker.max_jobs)


def _model(coalescer: Coalescer) -> Iterator[Metric]:
    stats = coalescer.stats
    yield CounterMetricFamily("normalizer_model_calls", "Model calls answered.", stats.calls)
    yield CounterMetricFamily("normalizer_model_records", "Texts asked in answered calls.", stats.records)
    yield CounterMetricFamily("normalizer_model_records_asked_again", "Texts asked once more.", stats.asked_again)
    tokens = CounterMetricFamily("normalizer_model_tokens", "Tokens of answered calls.", labels=["direction"])
    tokens.add_metric(["in"], stats.tokens_in)
    tokens.add_metric(["out"], stats.tokens_out)
    yield tokens
    stopped = float(coalescer.refused is not None)
    yield GaugeMetricFamily("normalizer_model_lane_stopped", "1 while the provider refuses key or account.", stopped)


def _cache(stats: Mapping[str, int]) -> Iterator[Metric]:
    lookups = CounterMetricFamily("normalizer_cache_lookups", "Texts looked up, by where found.", labels=["result"])
    for result, name in (("l1", "l1_hits"), ("l2", "l2_hits"), ("miss", "misses")):
        lookups.add_metric([result], stats[name])
    yield lookups
    yield CounterMetricFamily("normalizer_cache_writes", "Answers written to Redis.", stats["writes"])
    yield CounterMetricFamily("normalizer_cache_outages", "Times Redis was away for the cache.", stats["outages"])
    yield CounterMetricFamily("normalizer_cache_rejected", "Stored answers not used.", stats["rejected"])
    yield GaugeMetricFamily("normalizer_cache_l1_bytes", "First tier, roughly.", stats["l1_bytes"])
    yield GaugeMetricFamily("normalizer_cache_l1_entries", "Answers in the first tier.", stats["l1_entries"])


def _cost(day: Spending) -> Iterator[Metric]:
    yield GaugeMetricFamily("normalizer_cost_today_usd", "US$ spent today (UTC), by all replicas.", day.usd)
    yield GaugeMetricFamily("normalizer_model_calls_today", "Model calls today (UTC), by all replicas.", day.calls)
    yield GaugeMetricFamily("normalizer_model_records_today", "Texts asked today (UTC), by all replicas.", day.records)


def _memory_limit() -> float | None:
    """The container's limit (cgroup v2); None where there is none."""
    with contextlib.suppress(OSError, ValueError):
        return float(_MEMORY_LIMIT.read_text(encoding="ascii"))
    return None
