"""The link to Redis: told once that it broke, reminded, told once that it is back; ever longer waits."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError

from normalizer.queue import link as link_module
from normalizer.queue.link import Link

AWAY = RedisConnectionError("secret detail")


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def link(clock: Clock) -> Link:
    return Link("clinic-redis:6379", clock=clock)


async def answered() -> None:
    """Redis answers at once."""


async def test_waits_grow_to_two_seconds_and_start_over_after_a_success(link: Link) -> None:
    waits = [link.failed(AWAY) for _ in range(7)]
    await link.ask(answered)

    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert link.failed(AWAY) == 0.1


async def test_a_break_is_told_once_then_every_half_minute_then_its_end(link: Link, clock: Clock) -> None:
    with structlog.testing.capture_logs() as logs:
        for _ in range(70):
            link.failed(AWAY)
            clock.now += 1
        await link.ask(answered)
        await link.ask(answered)

    assert [(entry["event"], entry.get("seconds")) for entry in logs] == [
        ("queue.redis.waiting", None),
        ("queue.redis.waiting", 30.0),
        ("queue.redis.waiting", 60.0),
        ("queue.redis.back", 70.0),
    ]
    assert all(entry["redis"] == "clinic-redis:6379" for entry in logs)
    assert "secret detail" not in str(logs)


async def test_it_is_steady_only_some_time_after_it_came_back(link: Link, clock: Clock) -> None:
    before = link.steady_for(6)
    link.opened()
    at_start = link.steady_for(6)
    clock.now += 6
    later = link.steady_for(6)
    link.failed(AWAY)
    broken = link.steady_for(0)
    await link.ask(answered)
    just_back = link.steady_for(6)

    assert (before, at_start, later, broken, just_back) == (True, False, True, False, False)


@pytest.mark.parametrize(("took_s", "steady"), [(4.9, True), (5.1, False)])
async def test_an_answer_that_took_long_counts_as_a_break(clock: Clock, took_s: float, steady: bool) -> None:
    link = Link("clinic-redis:6379", silence_s=5, clock=clock)
    link.opened()
    clock.now += 100

    async def late() -> None:
        clock.now += took_s

    with structlog.testing.capture_logs() as logs:
        await link.ask(late)

    assert link.steady_for(6) is steady
    assert [entry["event"] for entry in logs] == ([] if steady else ["queue.redis.stood_still"])


async def test_insist_calls_until_redis_takes_it(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "_FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(link_module, "_LONGEST_WAIT_S", 0.0)
    outcomes = [AWAY, OSError("x"), TimeoutError(), "taken"]

    async def call() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return str(outcome)

    assert await link.insist(call) == "taken"
    assert link.down_since is None
    assert link.last_error == "TimeoutError"


async def test_insist_lets_other_errors_and_cancellation_through(link: Link) -> None:
    async def bug() -> None:
        raise ValueError("a bug")

    async def away() -> None:
        raise AWAY

    with pytest.raises(ValueError, match="a bug"):
        await link.insist(bug)
    waiting = asyncio.create_task(link.insist(away))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
