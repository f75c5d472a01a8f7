"""What a batch function is handed, and what it may declare."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from arq.worker import RetryJob

from normalizer.queue.group import BatchFunction, Done, Failed, Group, GroupState, Settlement, batch_func
from normalizer.queue.leases import ClaimedJob, GroupKind, Keys


async def normalize(_ctx: Mapping[str, Any], _group: Group) -> None:
    return None


class Runner:
    """Takes every settlement except of the jobs it was told are lost."""

    def __init__(self, *lost: str) -> None:
        self.lost, self.calls = set(lost), []

    async def settle(self, group: GroupState, settlements: Mapping[str, Settlement]) -> set[str]:
        self.calls.append(dict(settlements))
        lost = self.lost & settlements.keys()
        group.mark_lost(lost)
        group.mark_settled(settlements.keys() - lost)
        return lost


def state_of(*job_ids: str) -> GroupState:
    jobs = [ClaimedJob(job_id, "normalize", (job_id,), {}, 1, 0, 7, "w:1") for job_id in job_ids]
    return GroupState(batch_func(normalize), jobs, Keys.of("q"), "w:1", 7, GroupKind.NORMAL, 1.0, 0)


def test_a_batch_function_is_an_arq_function() -> None:
    function = batch_func(normalize, name="normalize_appointment", max_items=10, timeout_s=60, max_tries=3)

    assert isinstance(function, BatchFunction)
    assert (function.name, function.timeout_s, function.max_tries, function.max_items) == (
        "normalize_appointment",
        60,
        3,
        10,
    )
    assert batch_func(normalize).name == "normalize"


async def test_a_single_job_that_stock_arq_hands_over_is_sent_back_to_the_queue() -> None:
    body: Any = batch_func(normalize).coroutine

    with pytest.raises(RetryJob):
        await body({}, "65f0c0ffee")


@pytest.mark.parametrize("size", [0, 1_001])
def test_a_group_has_from_1_to_1000_jobs(size: int) -> None:
    with pytest.raises(ValueError, match=r"from 1 to 1,000"):
        batch_func(normalize, max_items=size)


def test_a_batch_function_is_a_coroutine_function() -> None:
    with pytest.raises(RuntimeError, match="is not a coroutine function"):
        batch_func(lambda ctx, group: None)  # type: ignore[arg-type, return-value]


async def test_each_job_is_settled_once() -> None:
    runner = Runner()
    group = Group(state_of("a", "b"), runner.settle)

    await group.settle({"a": Done(), "unknown": Done()})
    await group.settle({"a": Failed("late"), "b": Done()})
    await group.settle({"a": Done(), "b": Done()})

    assert runner.calls == [{"a": Done()}, {"b": Done()}]
    assert not group.unsettled


async def test_lost_jobs_are_told_each_time_and_asked_for_once() -> None:
    runner = Runner("b")
    group = Group(state_of("a", "b"), runner.settle)

    first = await group.settle({"a": Done(), "b": Done()})
    second = await group.settle({"b": Done()})

    assert (first, second) == ({"b"}, {"b"})
    assert len(runner.calls) == 1


async def test_what_was_aborted_is_told_apart_from_what_was_lost() -> None:
    state = state_of("a", "b", "c")
    group = Group(state, Runner().settle)
    state.mark_aborted(["a"])
    state.mark_lost(["b"])

    assert (group.aborted, set(group.unsettled), state.lost) == ({"a"}, {"c"}, {"a", "b"})


async def test_stopping_is_told_to_whoever_waits_or_looks() -> None:
    state = state_of("a")
    group = Group(state, Runner().settle)
    waiting = asyncio.create_task(group.until_cancelled())
    await asyncio.sleep(0)
    before = group.cancelled
    state.stopping.set()
    await waiting

    assert (before, group.cancelled) == (False, True)
