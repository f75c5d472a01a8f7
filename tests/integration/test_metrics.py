"""What Prometheus gets: from a real worker process over HTTP, and from the exposition alone."""

from __future__ import annotations

import asyncio
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from normalizer.cache import Cache
from normalizer.llm.pricing import Ledger
from normalizer.observability.prometheus import Exposition, Sources
from normalizer.queue.service import TaskService
from normalizer.simulation import embedded
from tests.acceptance.harness import Deployment, make_rows, until, write_labels


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Every sample: (name, *label values) to value."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def deployment(
    tmp_path: Path,
    redis_url: str,
    mongo_url: str,
    database: str,
    start_provider: Callable[..., embedded.ProviderService],
) -> Any:
    rows = make_rows(60, hard=0.3)
    provider = start_provider(write_labels(tmp_path / "known" / "labels.jsonl", rows))
    made = Deployment(tmp_path, redis_url, mongo_url, database, provider)
    yield made, rows
    made.close()


def test_a_worker_tells_what_it_did_and_names_no_patient(deployment: Any) -> None:
    running, rows = deployment
    port = free_port()

    def scrape() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            return str(answer.read().decode())

    running.start_ready_worker(METRICS_PORT=str(port))
    running.put(rows)
    running.wait_until_all_ended()
    hard = sum(row.hard for row in rows)
    counted = f"normalizer_job_latency_seconds_count {len(rows)}.0"
    until(lambda: counted in scrape(), timeout_s=10, what="every job is counted", words=scrape)
    text = scrape()
    found = samples(text)

    assert found["normalizer_redis_up",] == 1
    assert found["normalizer_workers",] == 1
    assert found["normalizer_queue_jobs", "due"] == found["normalizer_queue_jobs", "running"] == 0
    assert found["normalizer_queue_state", "running"] == 1
    statuses = running.statuses()
    for status in ("concluido", "revisar"):
        assert found.get(("normalizer_appointments_total", status), 0) == statuses[status]
    assert found["normalizer_texts_total", "documento", "regras", "normalizado"] == len(rows)
    assert found["normalizer_jobs_total", "complete"] >= len(rows)  # cron jobs are jobs as well
    assert found["normalizer_group_jobs_sum", "normal"] == len(rows)
    assert found["normalizer_model_records_total",] == hard
    assert found["normalizer_model_calls_total",] == found["normalizer_model_call_duration_seconds_count",] > 0
    assert found["normalizer_model_tokens_total", "out"] > 0
    assert found["normalizer_model_lane_stopped",] == 0
    assert found["normalizer_cache_lookups_total", "miss"] == len(rows)
    assert found["normalizer_cache_writes_total",] == hard
    assert found["process_resident_memory_bytes",] > 10_000_000
    for row in rows:
        assert row.cpf not in text
        assert row.key not in text


def test_a_worker_serves_nothing_unless_asked(deployment: Any) -> None:
    running, _ = deployment
    worker = running.start_ready_worker()

    assert "metrics.serving" not in worker.output()


def test_a_taken_port_stops_no_worker(deployment: Any) -> None:
    running, rows = deployment
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        worker = running.start_ready_worker(METRICS_PORT=str(taken.getsockname()[1]))
        running.put(rows[:5])
        running.wait_until_all_ended()

    assert "metrics.port_unavailable" in worker.output()


async def test_the_money_and_the_cache_are_read_at_the_scrape(redis_url: str, redis: Any) -> None:
    cache = Cache(redis, secret=b"s" * 32, model="m", prompt_version="1", rules_version=1)
    ledger = Ledger(redis, model="gpt-6-luna", daily_budget_usd=2.0)
    await redis.hset(f"norm:usage:{ledger._today()}", mapping={"usd": "0.25", "calls": 3, "records": 60})

    async with TaskService(redis_url) as tasks:
        await tasks.pause()
        await tasks.enqueue("1")
        exposition = Exposition(Sources(tasks, cache=cache, ledger=ledger, daily_budget_usd=2.0))
        await cache.get_many("endereco", ["Rua A, 1"])
        found = samples((await exposition.render()).decode())

    assert found["normalizer_cost_today_usd",] == 0.25
    assert found["normalizer_budget_usd",] == 2.0
    assert found["normalizer_model_records_today",] == 60
    assert found["normalizer_queue_state", "paused"] == 1
    assert found["normalizer_queue_jobs", "due"] == 1
    assert found["normalizer_cache_lookups_total", "miss"] == 1


async def test_an_outage_of_redis_is_said_and_breaks_no_scrape() -> None:
    async with TaskService("redis://127.0.0.1:1", attempts=1) as tasks:
        text = (await asyncio.wait_for(Exposition(Sources(tasks)).render(), 10)).decode()

    found = samples(text)
    assert found["normalizer_redis_up",] == 0
    assert ("normalizer_queue_jobs", "due") not in found
