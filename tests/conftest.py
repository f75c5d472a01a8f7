"""Real services for every test: one Valkey and one MongoDB-protocol server per session, fresh spaces per test.

`TEST_REDIS_URL` and `TEST_MONGODB_URL` point the same tests at servers of yours. The Redis database named there must be
empty, and is emptied between tests.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymongo
import pytest
import pytest_asyncio
import structlog
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from normalizer.simulation import embedded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

# A loaded machine is no failing law: bounds on time are measured in benchmarks, not here.
hypothesis_settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("any-machine")

_DATABASES = 512
_redis_numbers = itertools.cycle(range(1, _DATABASES))
_database_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A command or a worker that configures logging does so for its test alone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.RedisService]:
    """The session's own Valkey (AOF on). A test that stops or kills it starts it again before it ends."""
    service = embedded.start_valkey(tmp_path_factory.mktemp("valkey"), databases=_DATABASES)
    yield service
    service.kill()


@pytest.fixture(scope="session")
def secantus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.MongoService]:
    """The session's own MongoDB-protocol server. A test that stops it starts it again before it ends."""
    service = embedded.start_mongo(tmp_path_factory.mktemp("mongo"), fail_points=True)
    yield service
    service.kill()


@pytest.fixture(scope="session")
def _given_redis() -> str | None:
    url = os.environ.get("TEST_REDIS_URL")
    if url and (keys := Redis.from_url(url).dbsize()):
        pytest.exit(f"TEST_REDIS_URL holds {keys} keys; the tests would delete them. Name an empty database.", 2)
    return url


@pytest.fixture
def redis_url(request: pytest.FixtureRequest, _given_redis: str | None) -> Iterator[str]:
    """A Redis database of this test's own, empty at the start."""
    url = _given_redis or request.getfixturevalue("valkey").database(next(_redis_numbers))
    with Redis.from_url(url) as client:
        client.flushdb()
    yield url
    if _given_redis:
        with Redis.from_url(url) as client:
            client.flushdb()


@pytest_asyncio.fixture
async def redis(redis_url: str) -> AsyncIterator[AsyncRedis]:
    """A client on `redis_url`; answers are bytes."""
    async with AsyncRedis.from_url(redis_url) as client:
        yield client


@pytest.fixture(scope="session")
def mongo_url(request: pytest.FixtureRequest) -> str:
    """The MongoDB server of the session; use `database` for a name of the test's own."""
    return os.environ.get("TEST_MONGODB_URL") or request.getfixturevalue("secantus").url


@pytest.fixture
def database(mongo_url: str) -> Iterator[str]:
    """A database name no other test uses; dropped afterwards where the server is not the session's own."""
    name = f"normalizer_test_{os.getpid()}_{next(_database_numbers)}"
    yield name
    if "TEST_MONGODB_URL" in os.environ:
        with pymongo.MongoClient(mongo_url) as client:
            client.drop_database(name)


@pytest.fixture
def mongo(mongo_url: str, database: str) -> Iterator[pymongo.database.Database[dict[str, Any]]]:
    """A plain synchronous handle on `database`, for arranging and for looking behind the store's back."""
    with pymongo.MongoClient(mongo_url) as client:
        yield client[database]


@pytest.fixture
def start_provider(tmp_path: Path) -> Iterator[Callable[..., embedded.ProviderService]]:
    """Start a simulated provider: `start_provider({text: expected}, latency_ms=50)`; stopped after the test."""
    started: list[embedded.ProviderService] = []

    def start(labels: Mapping[str, Any] | Path | None = None, **options: object) -> embedded.ProviderService:
        directory = tmp_path / f"provider-{len(started)}"
        directory.mkdir()
        file = labels if isinstance(labels, Path) or labels is None else _write_labels(directory, labels)
        started.append(embedded.start_provider(file, directory=directory, **options))
        return started[-1]

    yield start
    for service in started:
        service.stop()


@pytest.fixture
def provider(start_provider: Callable[..., embedded.ProviderService]) -> embedded.ProviderService:
    """A simulated provider without labels: it knows no text and answers each record with nulls."""
    return start_provider()


def _write_labels(directory: Path, labels: Mapping[str, Any]) -> Path:
    path = directory / "labels.jsonl"
    lines = (json.dumps({"text": text, "expected": expected}, ensure_ascii=False) for text, expected in labels.items())
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
