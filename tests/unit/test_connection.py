"""Redis settings: what a URL says, decoded; what is wrong with it, in one sentence; the password, never."""

from __future__ import annotations

import contextlib

import pytest
from arq.connections import RedisSettings
from hypothesis import given
from hypothesis import strategies as st

from normalizer.errors import Misconfigured, QueueUnavailable
from normalizer.queue.connection import describe, open_pool, redis_settings

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


async def test_an_unreachable_redis_is_named() -> None:
    with pytest.raises(QueueUnavailable, match=r"O Redis em 127.0.0.1:1 não responde") as told:
        await open_pool(redis_settings(f"redis://:{ENCODED}@127.0.0.1:1"), queue_name="q", attempts=1)

    assert SECRET not in str(told.value)
