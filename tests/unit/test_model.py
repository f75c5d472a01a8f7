"""The queueing model's laws: no part is passed, more never makes it slower, and a day loses no row."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.model import Costs, Deployment, Model, Way, Workload

COSTS = Costs(
    ways={"rules": Way(500e-6, 50e-6, 2.5), "cached": Way(300e-6, 60e-6, 3.0), "model": Way(1e-3, 100e-6, 5.0)},
    idle_redis_s=1e-3,
    reconcile_s=70e-6,
    reconcile_rows=20_000,
)
LOADS = st.builds(
    Workload,
    residual=st.floats(0, 1),
    known=st.floats(0, 0.99),
    tokens_in=st.floats(1, 200),
    tokens_out=st.floats(1, 200),
    tokens_call=st.floats(0, 1_000),
)
DEPLOYMENTS = st.builds(
    Deployment,
    replicas=st.integers(1, 50),
    max_jobs=st.integers(1, 40),
    batch_items=st.integers(1, 1_000),
    records_per_call=st.integers(1, 50),
    concurrency=st.integers(1, 32),
    rpm=st.one_of(st.just(0.0), st.floats(1, 10_000)),
    tpm=st.one_of(st.just(0.0), st.floats(10_000, 5_000_000)),
    latency_s=st.floats(0, 10),
    tokens_per_s=st.floats(5, 500),
    updates_per_s=st.one_of(st.just(0.0), st.floats(1, 20_000)),
)


def model(**changes: float) -> Model:
    return Model(COSTS, Workload(), replace(Deployment(), **changes))


@given(LOADS, DEPLOYMENTS)
def test_no_part_is_passed_and_the_least_is_the_limit(load: Workload, at: Deployment) -> None:
    made = Model(COSTS, load, at)
    rows_per_s, limit = made.throughput()
    capacities = made.capacities()
    assert rows_per_s == capacities[limit] == min(capacities.values()) > 0


@given(LOADS, DEPLOYMENTS, st.integers(1, 1_000_000))
def test_a_larger_sheet_never_takes_less_and_never_beats_the_throughput(
    load: Workload, at: Deployment, rows: int
) -> None:
    made = Model(COSTS, load, at)
    assert made.seconds(rows) <= made.seconds(2 * rows) + 1e-6
    paced = {name: value for name, value in made.capacities().items() if name not in {"rpm", "tpm"}}
    assert made.seconds(rows) * (1 + 1e-9) >= rows / min(paced.values())
    assert made.parts(rows).keys() == made.capacities().keys()


@given(LOADS, DEPLOYMENTS)
def test_calls_hold_every_record_and_no_more_than_fifty(load: Workload, at: Deployment) -> None:
    made = Model(COSTS, load, at)
    assert 1 <= made.records <= 50
    assert made.calls(0) == 0
    records = 1_000 * load.asked
    assert records / made.records <= made.calls(1_000) + 1e-6
    assert made.calls(1_000) <= math.ceil(records)


def test_one_replicas_calls_grow_by_rounds_and_a_short_sheet_stays_with_few() -> None:
    asked = Workload(residual=1, known=0, tokens_out=30)
    alone = Model(COSTS, asked, Deployment(replicas=1, records_per_call=10))
    # 4 of 10, 5 of 15, 6 of 20, 7 of 25, 8 of 30: 650 records
    assert alone.calls(650) == 4 + 5 + 6 + 7 + 8
    many = Model(COSTS, asked, Deployment(replicas=4, records_per_call=10))
    assert alone.calls(2_000) < many.calls(2_000) < 4 * alone.calls(500)


@given(LOADS, DEPLOYMENTS)
def test_waits_grow_with_the_load_and_have_no_end_past_the_throughput(load: Workload, at: Deployment) -> None:
    made = Model(COSTS, load, at)
    most, _ = made.throughput()
    waits = [made.wait_s(most * share) for share in (0.1, 0.5, 0.9, 0.99)]
    assert waits == sorted(waits)
    assert made.wait_s(most * 1.01) == math.inf


@settings(max_examples=25)
@given(LOADS, DEPLOYMENTS, st.integers(1, 10**8))
def test_a_day_loses_no_row(load: Workload, at: Deployment, rows: int) -> None:
    made = Model(COSTS, load, at)
    day = made.day(rows, [1, 3, 0, 2] * 6)
    done = day.busy * 86_400 * day.rows_per_s
    assert done + day.left_over == pytest.approx(rows, rel=1e-6)
    assert day.longest_queue >= day.left_over - 1e-6
    assert day.busy <= 1 + 1e-9


def test_a_minute_of_the_limit_may_be_spent_at_once() -> None:
    quick = model(rpm=40.0, tpm=0.0, replicas=1, tokens_per_s=0.0, latency_s=0.1)
    few, more = round(39 * 40 / Workload().asked), round(200 * 50 / Workload().asked)
    assert quick.seconds(few) < 61
    assert quick.seconds(more) >= 4 * 61


def test_replicas_do_not_raise_what_the_provider_allows() -> None:
    slow = {"rpm": 10.0, "tpm": 0.0}
    assert model(replicas=2, **slow).throughput() == model(replicas=20, **slow).throughput()
    assert model(replicas=2, **slow).throughput()[1] == "rpm"


def test_each_part_can_be_the_limit() -> None:
    free = {"rpm": 0.0, "tpm": 0.0, "tokens_per_s": 0.0, "latency_s": 0.01}
    assert model(**free).throughput()[1] == "cpu"
    assert model(**free, updates_per_s=100.0).throughput()[1] == "mongodb"
    assert model(**free, replicas=500).throughput()[1] == "redis"
    assert model(rpm=0.0, tpm=5_000.0).throughput()[1] == "tpm"
    assert model(rpm=0.0, tpm=0.0, latency_s=60.0, concurrency=1, max_jobs=40).throughput()[1] == "calls"
    assert model(rpm=0.0, tpm=0.0, latency_s=60.0, concurrency=32, max_jobs=1).throughput()[1] == "groups"


def test_looking_for_lost_rows_takes_its_share_of_one_replica() -> None:
    assert model().reconcile_share(0) == 0
    assert model().reconcile_share(5_000) == pytest.approx(5_000 * 70e-6 / 300)
    assert model().reconcile_share(10_000_000) == pytest.approx(20_000 * 70e-6 / 300)
