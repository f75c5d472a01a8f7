"""A fresh deployment per test, on services that may be killed: those of TEST_*_URL are never touched here."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from normalizer.simulation import embedded
from tests.acceptance.harness import Deployment, make_rows, write_labels
from tests.proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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


@pytest.fixture
def deploy(
    tmp_path: Path, breakable_valkey: embedded.RedisService, breakable_mongo: embedded.MongoService
) -> Iterator[Callable[..., Deployment]]:
    """Deploy without workers: `deploy(rows=300, hard=0.3, latency_ms=200, settings={...})`; rows are not yet put in."""
    running: list[tuple[Deployment, embedded.ProviderService]] = []

    def start(
        *,
        rows: int = 300,
        hard: float = 0.3,
        labels: Path | None = None,
        settings: dict[str, str] | None = None,
        **provider_options: object,
    ) -> Deployment:
        breakable_valkey.start()
        breakable_mongo.start()
        directory = tmp_path / f"deployment-{len(running) + 1}"
        labelled = labels or write_labels(directory / "labels.jsonl", make_rows(rows, hard=hard))
        provider = embedded.start_provider(labelled, directory=directory / "provider", **provider_options)
        deployment = Deployment(
            directory,
            redis_url=breakable_valkey.url,
            mongo_url=breakable_mongo.url,
            database=f"acceptance_{next(_databases)}",
            provider=provider,
            settings=settings or {},
        )
        running.append((deployment, provider))
        deployment.redis.flushall()
        return deployment

    yield start
    for deployment, provider in running:
        deployment.close()
        provider.kill()
