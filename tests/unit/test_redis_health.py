"""The connection to Redis: told once that it broke, reminded, told once that it is back; ever longer waits."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from normalizer.queue import connection as connection_module
from normalizer.queue.connection import RedisHealth

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
def health(clock: Clock) -> RedisHealth:
    return RedisHealth("clinic-redis:6379", clock=clock)


async def answered() -> None:
    """Redis answers at once."""


async def test_waits_grow_to_two_seconds_and_start_over_after_a_success(health: RedisHealth) -> None:
    waits = [health.failed(AWAY) for _ in range(7)]
    await health.call(answered)

    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert health.failed(AWAY) == 0.1


async def test_a_break_is_told_once_then_every_half_minute_then_its_end(health: RedisHealth, clock: Clock) -> None:
    with structlog.testing.capture_logs() as logs:
        for _ in range(70):
            health.failed(AWAY)
            clock.now += 1
        await health.call(answered)
        await health.call(answered)

    assert [(entry["event"], entry.get("seconds")) for entry in logs] == [
        ("queue.redis.waiting", None),
        ("queue.redis.waiting", 30.0),
        ("queue.redis.waiting", 60.0),
        ("queue.redis.back", 70.0),
    ]
    assert all(entry["redis"] == "clinic-redis:6379" for entry in logs)
    assert "secret detail" not in str(logs)


async def test_it_is_up_only_some_time_after_it_came_back(health: RedisHealth, clock: Clock) -> None:
    before = health.up_for(6)
    health.opened()
    at_start = health.up_for(6)
    clock.now += 6
    later = health.up_for(6)
    health.failed(AWAY)
    broken = health.up_for(0)
    await health.call(answered)
    just_back = health.up_for(6)

    assert (before, at_start, later, broken, just_back) == (True, False, True, False, False)


@pytest.mark.parametrize(("took_s", "steady"), [(4.9, True), (5.1, False)])
async def test_an_answer_that_took_long_counts_as_a_break(clock: Clock, took_s: float, steady: bool) -> None:
    health = RedisHealth("clinic-redis:6379", silence_s=5, clock=clock)
    health.opened()
    clock.now += 100

    async def late() -> None:
        clock.now += took_s

    with structlog.testing.capture_logs() as logs:
        await health.call(late)

    assert health.up_for(6) is steady
    assert [entry["event"] for entry in logs] == ([] if steady else ["queue.redis.stood_still"])


async def test_it_calls_until_redis_takes_it(health: RedisHealth, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(connection_module, "_LONGEST_WAIT_S", 0.0)
    outcomes = [AWAY, OSError("x"), TimeoutError(), "taken"]

    async def call() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return str(outcome)

    assert await health.retry_forever(call) == "taken"
    assert health.down_since is None
    assert health.last_error == "TimeoutError"


@pytest.mark.parametrize("text", ["WRONGTYPE Operation against a key", "ERR user_script:3: attempt to index"])
async def test_what_waiting_cannot_mend_is_raised_at_once(health: RedisHealth, text: str) -> None:
    async def damaged() -> None:
        raise ResponseError(text)

    with pytest.raises(ResponseError):
        await health.retry_forever(damaged)

    assert health.down_since is None


async def test_it_lets_other_errors_and_cancellation_through(health: RedisHealth) -> None:
    async def bug() -> None:
        raise ValueError("a bug")

    async def away() -> None:
        raise AWAY

    with pytest.raises(ValueError, match="a bug"):
        await health.retry_forever(bug)
    waiting = asyncio.create_task(health.retry_forever(away))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
