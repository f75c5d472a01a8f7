"""A provider that is slower than the jobs' time: no job ends as a time-out, no answered call is repeated."""

from __future__ import annotations

import pytest

from tests.acceptance.harness import make_rows


def import_on_a_slow_model(deploy, rows: int, *, hard: float, at_once: int, timeout_s: int, within_s: float):
    """`at_once` calls a replica keep the provider slower than the jobs' time allows."""
    settings = {"ARQ_JOB_TIMEOUT": str(timeout_s), "LLM_MAX_CONCURRENCY": str(at_once), "BATCH_MAX_ITEMS": "250"}
    deployment = deploy(rows=rows, hard=hard, tokens_per_s=15, settings=settings)
    workers = [deployment.start_worker(**deployment.sabotage()) for _ in range(2)]
    deployment.wait(lambda: all(map(deployment.beats, workers)), "both workers beat")
    deployment.put(make_rows(rows, hard=hard))
    deployment.wait_until_all_ended(timeout_s=within_s)

    assert all(worker.running for worker in workers)
    assert deployment.statuses()["falhou"] == 0
    assert deployment.said("queue.group.overran") == 0
    events = deployment.journal()
    asked = [event for event in events if event.what == "asked"]
    assert asked[-1].at - asked[0].at > timeout_s, "the provider was not slow enough to prove anything"
    answered: set[str] = set()
    for event in events:
        if event.what == "answered":
            answered |= event.items
        elif event.what == "asked":
            assert not answered & event.items, "an answered call was repeated"
    deployment.check()


@pytest.mark.timeout(360)
def test_a_provider_slower_than_a_jobs_time(deploy):
    import_on_a_slow_model(deploy, 30, hard=0.8, at_once=1, timeout_s=10, within_s=300)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_rows_at_15_tokens_a_second(deploy):
    import_on_a_slow_model(deploy, 1_000, hard=0.3, at_once=2, timeout_s=60, within_s=800)


def test_leases_outlive_the_stalls_of_full_groups(deploy):
    """Two full groups at a time and leases of two seconds: they are renewed while the event loop is busy with rules."""
    # Four full groups, all at once. The embedded store reads its whole collection for every guarded write: not its pace
    # is asked here, so a group has time for it.
    settings = {"ARQ_MAX_JOBS": "2", "BATCH_MAX_ITEMS": "250", "ARQ_JOB_TIMEOUT": "120"}
    deployment = deploy(rows=1_000, hard=0.1, latency_ms=2_500, settings=settings)
    deployment.put(make_rows(1_000, hard=0.1))
    workers = [deployment.start_worker() for _ in range(2)]
    deployment.wait_until_all_ended()

    lost = [deployment.said(f"queue.{event}") for event in ("lease.lost", "orphans.put_back", "loop.hangs")]
    assert lost == [0, 0, 0], deployment.last_words()
    assert all(worker.running for worker in workers)
    deployment.check()
