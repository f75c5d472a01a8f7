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
from prometheus_client.core import CounterMetricFamily as Counter
from prometheus_client.core import GaugeMetricFamily as Gauge
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
    """Where the numbers come from; what is None is left out."""

    tasks: TaskService  # the queue and its replicas
    worker: BatchWorker | None = None  # worker, coalescer and cache: this process's own
    coalescer: Coalescer | None = None
    cache: Cache | None = None
    ledger: Ledger | None = None  # the day's money, over all replicas
    daily_budget_usd: float = 0.0  # 0 = no budget


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
        yield Gauge("normalizer_redis_up", "Whether the queue answered.", float(queue is not None))
        if queue is not None:
            yield from _queue(queue)
        if sources.worker is not None:
            yield from _jobs(sources.worker)
        if sources.coalescer is not None:
            yield from _model(sources.coalescer)
        if sources.cache is not None:
            yield from _cache(sources.cache.stats())
        yield Gauge("normalizer_budget_usd", "DAILY_BUDGET_USD; 0 is none.", sources.daily_budget_usd)
        if sources.ledger is not None and (day := self._ask(sources.ledger.day)) is not None:
            yield from _cost(day)
        if (limit := _memory_limit()) is not None:
            yield Gauge("normalizer_memory_limit_bytes", "Memory this container may use.", limit)

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
    jobs = {"due": queue.due, "running": queue.running, "deferred": queue.deferred}
    yield _labelled(Gauge, "normalizer_queue_jobs", "Jobs in the queue.", "state", jobs)
    yield Gauge(
        "normalizer_queue_oldest_job_age_seconds", "Since when the first due job waits.", queue.oldest_age_s or 0
    )
    states = {state: float(queue.state == state) for state in _STATES}
    yield _labelled(Gauge, "normalizer_queue_state", "1 for the state the queue is in.", "state", states)
    yield Gauge("normalizer_workers", "Replicas that beat.", len(queue.replicas))
    now_ms, last, lags = time.time() * 1000, dict[str, int](), dict[str, float]()
    for replica in sorted(queue.replicas, key=lambda replica: replica.host):
        last[replica.host] = max(replica.beat_at_ms, last.get(replica.host, 0))
        lags[replica.host] = max(replica.loop_lag_ms / 1000, lags.get(replica.host, 0.0))
    ages = {host: max(0.0, now_ms - beat_at_ms) / 1000 for host, beat_at_ms in last.items()}
    yield _labelled(Gauge, "normalizer_worker_last_beat_age_seconds", "Since a replica's last beat.", "host", ages)
    yield _labelled(Gauge, "normalizer_worker_loop_lag_seconds", "Delay of a replica's event loop.", "host", lags)


def _jobs(worker: BatchWorker) -> Iterator[Metric]:
    ended = {"complete": worker.jobs_complete, "failed": worker.jobs_failed, "retried": worker.jobs_retried}
    yield _labelled(Counter, "normalizer_jobs", "Jobs this process ended, by how.", "outcome", ended)
    yield Gauge("normalizer_groups_in_work", "Groups in work in this process.", len(worker.groups))
    yield Gauge("normalizer_groups_limit", "ARQ_MAX_JOBS.", worker.max_jobs)


def _model(coalescer: Coalescer) -> Iterator[Metric]:
    stats = coalescer.stats
    yield Counter("normalizer_model_calls", "Model calls answered.", stats.calls)
    yield Counter("normalizer_model_records", "Texts asked in answered calls.", stats.records)
    yield Counter("normalizer_model_records_asked_again", "Texts asked once more.", stats.asked_again)
    tokens = {"in": stats.tokens_in, "out": stats.tokens_out}
    yield _labelled(Counter, "normalizer_model_tokens", "Tokens of answered calls.", "direction", tokens)
    stopped = float(coalescer.refused is not None)
    yield Gauge("normalizer_model_lane_stopped", "1 while the provider refuses key or account.", stopped)


def _cache(stats: Mapping[str, int]) -> Iterator[Metric]:
    found = {"l1": stats["l1_hits"], "l2": stats["l2_hits"], "miss": stats["misses"]}
    yield _labelled(Counter, "normalizer_cache_lookups", "Texts looked up, by where found.", "result", found)
    yield Counter("normalizer_cache_writes", "Answers written to Redis.", stats["writes"])
    yield Counter("normalizer_cache_outages", "Times Redis was away for the cache.", stats["outages"])
    yield Counter("normalizer_cache_rejected", "Stored answers not used.", stats["rejected"])
    yield Gauge("normalizer_cache_l1_bytes", "First tier, roughly.", stats["l1_bytes"])
    yield Gauge("normalizer_cache_l1_entries", "Answers in the first tier.", stats["l1_entries"])


def _cost(day: Spending) -> Iterator[Metric]:
    yield Gauge("normalizer_cost_today_usd", "US$ spent today (UTC), by all replicas.", day.usd)
    yield Gauge("normalizer_model_calls_today", "Model calls today (UTC), by all replicas.", day.calls)
    yield Gauge("normalizer_model_records_today", "Texts asked today (UTC), by all replicas.", day.records)


def _labelled(
    family: type[Counter] | type[Gauge], name: str, text: str, label: str, values: Mapping[str, float]
) -> Metric:
    metric = family(name, text, labels=[label])
    for value, number in values.items():
        metric.add_metric([value], number)
    return metric


def _memory_limit() -> float | None:
    """The container's limit (cgroup v2); None where there is none."""
    with contextlib.suppress(OSError, ValueError):
        return float(_MEMORY_LIMIT.read_text(encoding="ascii"))
    return None
