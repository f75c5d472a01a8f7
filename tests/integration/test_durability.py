"""What a crash or a failover takes, and who repairs it: lines of docs/COOLIFY_REDIS.md that one machine can make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pydantic import SecretStr
from pymongo.monitoring import CommandListener
from redis import Redis

from normalizer.domain.address import Address
from normalizer.domain.appointment import Kind
from normalizer.domain.decision import Reason, Undecided
from normalizer.queue.service import QUEUE_NAME, TaskService
from normalizer.runtime import build_worker
from normalizer.settings import Settings, settings_of
from normalizer.simulation import embedded
from normalizer.store import AppointmentStore, ImportRow, ImportState
from normalizer.worker import pipeline

TEXT = "Rua das Flores, 10, Centro, Campinas, SP"
LABEL = {"rua": "Rua das Flores", "numero": "10", "bairro": "Centro", "cidade": "Campinas", "estado": "SP"}
ADDRESS = Address(rua="Rua da Igreja", numero="7", cidade="Itu", estado="SP")


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[embedded.RedisService]:
    with embedded.start_valkey(tmp_path / "primary") as service:
        yield service


@pytest.fixture
def names(mongo: Any) -> list[str]:
    """Appointments that have waited for long."""
    long_ago, found = datetime(2026, 1, 1, tzinfo=UTC), [f"a{number}" for number in range(6)]
    waits = {"normalization_status": "pending", "updated_at": long_ago, "normalizacao": {"status": "pendente"}}
    mongo.appointments.insert_many([{"_id": name, "id": name, "endereco_completo": TEXT, **waits} for name in found])
    return found


@pytest.fixture
def settings_for(mongo_url: str, database: str) -> Callable[[str], Settings]:
    def given(redis_url: str) -> Settings:
        where = {"REDIS_URL": redis_url, "MONGODB_URL": mongo_url, "DATABASE_NAME": database}
        return settings_of({**where, "BATCH_LINGER_MS": "20"})

    return given


async def enqueue(settings: Settings, names: list[str]) -> None:
    async with TaskService(settings.redis_url.get_secret_value()) as tasks:
        await tasks.enqueue_many(names)


async def run(settings: Settings) -> None:
    worker = build_worker(settings, burst=True, handle_signals=False, poll_delay=0.05)
    await worker.async_run()
    await worker.close()


def statuses(mongo: Any) -> list[str]:
    return [row["normalizacao"]["status"] for row in mongo.appointments.find()]


def on_disk(url: str) -> None:
    """Wait until all that was written so far is in the log: a busy machine puts its writes off while it syncs."""
    with Redis.from_url(url) as redis:
        redis.set("written", 1)
        assert redis.execute_command("WAITAOF", 1, 0, 10_000) == [1, 0]


async def test_an_aof_cut_by_its_last_second_loses_jobs_that_reconcile_puts_back(
    primary: embedded.RedisService, settings_for: Callable[[str], Settings], names: list[str], mongo: Any
) -> None:
    settings = settings_for(primary.url)
    await enqueue(settings, names[:3])
    on_disk(primary.url)
    log = max(primary.directory.glob("appendonlydir/*.incr.aof"))
    kept = log.stat().st_size
    await enqueue(settings, names[3:])
    on_disk(primary.url)
    primary.kill()
    with log.open("r+b") as file:
        file.truncate(kept + 7)  # in the middle of a command
    primary.start()
    with Redis.from_url(primary.url) as redis:
        assert redis.zcard(QUEUE_NAME) == 3

    await run(settings_for(primary.url))  # reconciles as it starts

    assert statuses(mongo) == ["concluido"] * 6


async def test_a_replica_promoted_without_the_last_writes_does_them_again_and_ends_everything(
    primary: embedded.RedisService,
    tmp_path: Path,
    settings_for: Callable[[str], Settings],
    names: list[str],
    mongo: Any,
) -> None:
    with embedded.start_valkey(tmp_path / "replica") as replica, Redis.from_url(replica.url) as promoted:
        promoted.execute_command("REPLICAOF", "127.0.0.1", str(primary.port))
        await enqueue(settings_for(primary.url), names[:4])
        with Redis.from_url(primary.url) as redis:
            assert redis.execute_command("WAIT", "1", "10000") == 1
        promoted.execute_command("REPLICAOF", "NO", "ONE")
        await enqueue(settings_for(primary.url), names[4:])
        await run(settings_for(primary.url))  # worked off, and the replica knows nothing of it
        before = {row["_id"]: row for row in mongo.appointments.find()}
        assert statuses(mongo) == ["concluido"] * 6
        primary.kill()

        await run(settings_for(replica.url))

        assert promoted.zcard(QUEUE_NAME) == 0
    for row in mongo.appointments.find():
        assert row["endereco_normalizado"] == before[row["_id"]]["endereco_normalizado"]
        assert row["normalizacao"]["fence"] >= before[row["_id"]]["normalizacao"]["fence"]


async def test_a_result_that_a_failover_of_mongodb_took_back_is_read_again_and_not_paid_again(
    redis_url: str,
    settings_for: Callable[[str], Settings],
    names: list[str],
    mongo: Any,
    start_provider: Callable[..., embedded.ProviderService],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "parse_address", lambda *_, **__: Undecided(Reason.ADDRESS_AMBIGUOUS))
    model = {
        "openai_base_url": start_provider({TEXT: LABEL}).url,
        "openai_model": "simulated-model",
        "openai_api_key": SecretStr("k"),
    }
    settings = settings_for(redis_url).model_copy(update=model)
    as_before = list(mongo.appointments.find())
    await run(settings)
    assert statuses(mongo) == ["concluido"] * 6
    for row in as_before:  # what a rollback leaves
        mongo.appointments.replace_one({"_id": row["_id"]}, row)

    await run(settings)

    assert statuses(mongo) == ["concluido"] * 6
    assert {row["normalizacao"]["endereco"]["origem"] for row in mongo.appointments.find()} == {"cache"}


async def test_a_killed_mongodb_has_all_that_it_acknowledged(tmp_path: Path) -> None:
    with embedded.start_mongo(tmp_path, durable=True) as service:
        async with AppointmentStore.connect(service.url, "clinic") as store:
            await store.ensure_indexes()
            secret = await store.secret.get()
            import_id = await store.imports.begin(file="agenda.csv", rows=1)
            report = await store.upsert_rows([ImportRow("a", {"endereco_completo": TEXT})], import_id)
            seen = await store.one(next(iter(report.new)))
            assert seen is not None
            assert await store.correct(seen, {Kind.ADDRESS: ADDRESS})
            await store.imports.end(import_id, state=ImportState.FINISHED)
            await store.durable_state.keep_pause("pause")
            service.restart(kill=True)

        async with AppointmentStore.connect(service.url, "clinic") as store:
            assert await store.secret.get() == secret
            after = await store.one(seen.id)
            assert after is not None
            assert after.texts[Kind.ADDRESS].value == ADDRESS.as_dict()
            found = await store.imports.get(import_id)
            assert found is not None
            assert found.stored_state is ImportState.FINISHED
            assert await store.durable_state.pause() == "pause"


class Writes(CommandListener):
    """The write concern of each write, by collection."""

    def __init__(self) -> None:
        self.asked: dict[str, list[Any]] = {}

    def started(self, event: Any) -> None:
        if event.command_name in {"insert", "update", "delete"}:
            collection = event.command[event.command_name]
            self.asked.setdefault(collection, []).append(event.command.get("writeConcern"))

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


async def test_what_nobody_could_repeat_is_acknowledged_by_a_majority_and_its_journal(
    mongo_url: str, database: str
) -> None:
    writes = Writes()
    async with AppointmentStore(AsyncIOMotorClient(mongo_url, event_listeners=[writes]), database, owned=True) as store:
        first, second = [await store.imports.begin(file="agenda.csv") for _ in range(2)]
        report = await store.upsert_rows([ImportRow("a", {"endereco_completo": TEXT})], first)
        await store.upsert_rows([ImportRow("a", {"endereco_completo": f"{TEXT}, casa 2"})], second)
        seen = await store.one(next(iter(report.new)))
        assert seen is not None
        assert await store.correct(seen, {Kind.ADDRESS: ADDRESS})
        await store.columns.remember({"a header": {"Coluna": "cpf"}})
        await store.durable_state.keep_pause("pause")
        await store.durable_state.add_spending("2026-11-27", {"usd": 0.5})
        await store.undo(second)

    lasting = {"w": "majority", "j": True}
    assert {name for name, asked in writes.asked.items() if all(each == lasting for each in asked)} == {
        "appointments",
        *(f"normalizer_{name}" for name in ("imports", "undo", "columns", "secrets", "state", "problems")),
    }
