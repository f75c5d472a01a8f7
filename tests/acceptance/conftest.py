"""A fresh deployment per test, on services that may be killed: those of TEST_*_URL are never touched here."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Protocol

import pytest

from normalizer.simulation import embedded
from tests.acceptance.harness import Deployment, make_rows, write_labels
from tests.proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_databases = itertools.count(1)


@pytest.fixture(scope="session")
def breakable_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.RedisService]:
    service = embedded.start_valkey(tmp_path_factory.mktemp("valkey"))
    yield service
    service.kill()


@pytest.fixture(scope="session")
def breakable_mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.MongoService]:
    service = embedded.start_mongo(tmp_path_factory.mktemp("mongo"), durable=True, fail_points=True)
    yield service
    service.kill()


@pytest.fixture
def redis_link(breakable_valkey: embedded.RedisService) -> Iterator[TcpProxy]:
    """What stands between workers and Redis when they are told `redis_through(link)`."""
    with TcpProxy(breakable_valkey.start().port or 0) as link:
        yield link


@pytest.fixture
def mongo_link(breakable_mongo: embedded.MongoService) -> Iterator[TcpProxy]:
    """What stands between workers and MongoDB."""
    with TcpProxy(breakable_mongo.start().port or 0) as link:
        yield link


class Deploy(Protocol):
    """Deploys without workers, and puts no rows in: `deploy(rows=300, hard=0.3, latency_ms=200, settings={...})`."""

    def __call__(
        self,
        *,
        rows: int = 300,
        hard: float = 0.3,
        labels: Path | None = None,
        settings: dict[str, str] | None = None,
        **provider_options: object,
    ) -> Deployment: ...


@contextlib.contextmanager
def deploying(folder: Path, valkey: embedded.RedisService, mongo: embedded.MongoService) -> Iterator[Deploy]:
    """What `deploy` is; for a module that shares one deployment among its tests."""
    running: list[tuple[Deployment, embedded.ProviderService]] = []

    def start(
        *,
        rows: int = 300,
        hard: float = 0.3,
        labels: Path | None = None,
        settings: dict[str, str] | None = None,
        **provider_options: object,
    ) -> Deployment:
        valkey.start()
        mongo.start()
        directory = folder / f"deployment-{len(running) + 1}"
        labelled = labels or write_labels(directory / "labels.jsonl", make_rows(rows, hard=hard))
        provider = embedded.start_provider(labelled, directory=directory / "provider", **provider_options)
        deployment = Deployment(
            directory,
            redis_url=valkey.url,
            mongo_url=mongo.url,
            database=f"acceptance_{next(_databases)}",
            provider=provider,
            settings=settings or {},
        )
        running.append((deployment, provider))
        deployment.redis.flushall()
        return deployment

    try:
        yield start
    finally:
        for deployment, provider in running:
            deployment.close()
            provider.kill()


@pytest.fixture
def deploy(
    tmp_path: Path, breakable_valkey: embedded.RedisService, breakable_mongo: embedded.MongoService
) -> Iterator[Deploy]:
    """A fresh deployment for one test; see `Deploy`."""
    with deploying(tmp_path, breakable_valkey, breakable_mongo) as start:
        yield start
