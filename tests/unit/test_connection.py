"""Redis settings: what a URL says, decoded; what is wrong with it, in one sentence; the password, never.

The connection's health: told once that it broke, reminded, told once that it is back; ever longer waits.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import structlog
from arq.connections import RedisSettings
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from normalizer.errors import Misconfigured, QueueUnavailable
from normalizer.queue import connection as connection_module
from normalizer.queue.connection import RedisHealth, describe, open_pool, redis_settings

SECRET = "s3nh@ secreta"
ENCODED = "s3nh%40%20secreta"


def test_a_plain_url() -> None:
    settings = redis_settings("redis://clinic-redis:6380/2")

    assert isinstance(settings, RedisSettings)
    assert (settings.host, settings.port, settings.database, settings.ssl) == ("clinic-redis", 6380, 2, False)
    assert describe(settings) == "clinic-redis:6380"


@pytest.mark.parametrize(
    ("url", "password", "expected"),
    [
        (f"redis://:{ENCODED}@host", None, SECRET),
        (f"redis://:{ENCODED}@host", "other", SECRET),
        ("redis://host", SECRET, SECRET),
        ("redis://host", "", None),
        ("redis://host", None, None),
    ],
)
def test_the_password_of_the_url_is_decoded_and_wins_over_the_separate_one(
    url: str, password: str | None, expected: str | None
) -> None:
    assert redis_settings(url, password).password == expected


def test_user_tls_socket_and_database_in_the_query() -> None:
    assert redis_settings("redis://us%3Aer:x@host").username == "us:er"
    assert redis_settings("rediss://host").ssl
    private = redis_settings("rediss://host?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=none")
    assert (private.ssl_ca_certs, private.ssl_cert_reqs) == ("/etc/ca.pem", "none")
    assert redis_settings("redis://host?db=3").database == 3
    assert redis_settings("redis://host", database=4).database == 4
    assert redis_settings("redis://host/0", database=4).database == 0
    assert redis_settings("unix:///run/redis.sock?db=1").unix_socket_path == "/run/redis.sock"
    assert describe(redis_settings("unix:///run/redis.sock")) == "/run/redis.sock"
    assert redis_settings("redis://[::1]:7000").host == "::1"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "clinic-redis:6379",
        "http://host",
        "redis://",
        "redis://:p4ss@",
        "redis://:p4ss@host:abc",
        "redis://:p4ss@host:99999",
        "redis://:p4ss@host/zero",
        "redis://:p4ss@host?db=-1",
        "unix://",
        "redis://:p4ss@[host",
        "rediss+sentinel://:p4ss@one:26379/mymaster",
    ],
)
def test_a_malformed_url_is_told_in_one_sentence_with_the_mend_and_without_the_password(url: str) -> None:
    with pytest.raises(Misconfigured, match="REDIS_URL") as told:
        redis_settings(url)

    assert "p4ss" not in str(told.value)
    assert "\n" not in str(told.value)
    assert "redis://clinic-redis:6379/0" in told.value.fix


def test_sentinels_are_several_hosts_and_the_name_of_what_they_watch() -> None:
    settings = redis_settings("redis+sentinel://u:p%40s@one,two:26380/clinic/3")

    assert (settings.host, settings.sentinel_master) == ([("one", 26379), ("two", 26380)], "clinic")
    assert (settings.username, settings.password, settings.database) == ("u", "p@s", 3)
    assert describe(settings) == "clinic de one:26379,two:26380"
    assert redis_settings("redis+sentinel://one/clinic", "separate").password == "separate"


@pytest.mark.parametrize("url", ["redis+sentinel://:p4ss@one:26379", "redis+sentinel:///m", "redis+sentinel://a,,b/m"])
def test_sentinels_without_hosts_or_name_are_told_how_to_write_it(url: str) -> None:
    with pytest.raises(Misconfigured, match=r"precisa dos sentinelas e do nome .*:26379/mymaster/0") as told:
        redis_settings(url)

    assert "p4ss" not in str(told.value)


@given(st.text(max_size=60))
def test_any_text_is_either_settings_or_misconfigured(url: str) -> None:
    with contextlib.suppress(Misconfigured):
        assert redis_settings(url).host


def test_the_password_is_never_printed() -> None:
    settings = redis_settings(f"redis://:{ENCODED}@host", None)

    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert "password='***'" in repr(settings)


@pytest.mark.parametrize("attempts", [1, 0])
async def test_an_unreachable_redis_is_named(attempts: int) -> None:
    with pytest.raises(QueueUnavailable, match=r"O Redis em 127.0.0.1:1 não responde") as told:
        await open_pool(redis_settings(f"redis://:{ENCODED}@127.0.0.1:1"), queue_name="q", attempts=attempts)

    assert SECRET not in str(told.value)


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
