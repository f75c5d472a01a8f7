"""The tasks in a real `BatchWorker` (burst), on real services: what a backend and an operator see of them."""

from __future__ import annotations

import asyncio
import json
import pickle
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import arq
import pytest
from arq.connections import ArqRedis
from arq.constants import job_key_prefix
from arq.jobs import Job, JobStatus
from pydantic import SecretStr

from normalizer.domain.decision import Reason, Undecided
from normalizer.llm.pricing import Ledger
from normalizer.queue.connection import redis_settings
from normalizer.queue.serializer import job_deserializer, job_serializer
from normalizer.queue.service import QUEUE_NAME, TaskService
from normalizer.runtime import build_worker
from normalizer.settings import Settings, settings_of
from normalizer.store import AppointmentStore
from normalizer.worker import pipeline
from normalizer.worker import tasks as normalization

ADDRESS = "rua maurício da costa faria,52,recreio dos bandeirantes,rio de janeiro,RJ,22790-285"
NORMALIZED = {
    "rua": "Rua Maurício da Costa Faria",
    "numero": "52",
    "complemento": None,
    "bairro": "Recreio dos Bandeirantes",
    "cidade": "Rio de Janeiro",
    "estado": "RJ",
    "cep": "22790-285",
}
DOCUMENT = "CPF: 11144477735, RG: 123456789"
HARD = "Rua das Acácias 12, Jardim Tal, Cidade Que Não Existe"  # no municipality: no rule may settle it


@pytest.fixture
def settings(redis_url: str, mongo_url: str, database: str) -> Settings:
    return settings_of(
        {"REDIS_URL": redis_url, "MONGODB_URL": mongo_url, "DATABASE_NAME": database, "BATCH_LINGER_MS": "20"}
    )


@pytest.fixture
def add(mongo: Any) -> Callable[..., str]:
    def insert(appointment_id: str, **fields: Any) -> str:
        row = {"endereco_completo": ADDRESS, "documento_completo": DOCUMENT} | fields
        mongo["appointments"].insert_one({"_id": appointment_id, "normalizacao": {"status": "pendente"}} | row)
        return appointment_id

    return insert


def done(appointment_id: str) -> dict[str, Any]:
    """A job's result: in the old worker's shape, and ours beside it."""
    fields = ["documento_normalizado", "endereco_normalizado"]
    theirs = {"success": True, "appointment_id": appointment_id, "fields_normalized": fields, "errors": None}
    return theirs | {"id": appointment_id, "status": "concluido"}


async def run(settings: Settings) -> Any:
    worker = build_worker(settings, burst=True, handle_signals=False, poll_delay=0.05)
    await worker.async_run()
    await worker.close()
    return worker


async def enqueue(settings: Settings, *ids: str) -> None:
    async with TaskService(settings.redis_url.get_secret_value()) as tasks:
        await tasks.enqueue_many(ids)


async def test_a_queued_appointment_gets_both_results_and_its_mirror(
    settings: Settings, mongo: Any, add: Callable[..., str]
) -> None:
    await enqueue(settings, add("a"))

    await run(settings)

    row = mongo["appointments"].find_one({"_id": "a"})
    assert row["endereco_normalizado"] == NORMALIZED
    assert row["documento_normalizado"] == {
        "cpf": "11144477735",
        "rg": "123456789",
        "cpf_formatted": "111.444.777-35",
        "rg_formatted": "123.456.789",
    }
    assert (row["cpf"], row["rg"]) == ("11144477735", "123456789")
    assert row["normalizacao"]["status"] == "concluido"
    assert row["normalizacao"]["endereco"]["origem"] == "regras"


@pytest.mark.parametrize(
    "producer",
    [{}, {"job_serializer": job_serializer, "job_deserializer": job_deserializer}],
    ids=["arq's default pickle", "our JSON"],
)
async def test_a_stock_producer_is_grouped_and_reads_its_results(
    settings: Settings, redis_url: str, add: Callable[..., str], producer: dict[str, Any]
) -> None:
    pool = await arq.create_pool(redis_settings(redis_url), default_queue_name=QUEUE_NAME, **producer)
    jobs = [await pool.enqueue_job("normalize_appointment", add(f"a{number}")) for number in range(5)]

    worker = await run(settings)

    results = [await job.result(timeout=60) for job in jobs if job]
    assert results == [done(f"a{number}") for number in range(5)]
    assert worker.jobs_complete >= 5
    await pool.aclose()


async def test_an_aborted_appointment_ends_with_its_cause_and_reconcile_lets_it_rest(
    settings: Settings, redis_url: str, mongo: Any, add: Callable[..., str]
) -> None:
    pool = await arq.create_pool(redis_settings(redis_url), default_queue_name=QUEUE_NAME)
    jobs = [await pool.enqueue_job("normalize_appointment", add(name)) for name in ("a", "b")]
    assert jobs[0] is not None
    with pytest.raises(TimeoutError):
        await jobs[0].abort(timeout=0, poll_delay=0)
    await pool.aclose()

    await run(settings)

    ended = {row["_id"]: row["normalizacao"] for row in mongo["appointments"].find()}
    assert (ended["a"]["status"], ended["a"]["erro"]) == ("falhou", "cancelado a pedido")
    assert ended["b"]["status"] == "concluido"


async def test_a_job_whose_tries_are_used_up_is_not_normalized_after_all(
    settings: Settings, redis_url: str, redis: Any, mongo: Any, add: Callable[..., str]
) -> None:
    pool = await arq.create_pool(redis_settings(redis_url), default_queue_name=QUEUE_NAME)
    for name in ("a", "b"):
        await pool.enqueue_job("normalize_appointment", add(name), _job_id=name)
    await redis.set("arq:retry:a", settings.max_tries)
    await pool.aclose()

    await run(settings)

    ended = {row["_id"]: row["normalizacao"]["status"] for row in mongo["appointments"].find()}
    assert ended == {"a": "falhou", "b": "concluido"}


async def test_a_job_for_an_appointment_that_does_not_exist_ends_quietly(
    settings: Settings, redis_url: str, mongo: Any, add: Callable[..., str]
) -> None:
    pool = await arq.create_pool(redis_settings(redis_url), default_queue_name=QUEUE_NAME)
    lost = await pool.enqueue_job("normalize_appointment", "nobody")
    found = await pool.enqueue_job("normalize_appointment", add("a"))
    assert lost is not None
    assert found is not None

    await run(settings)

    assert await lost.result(timeout=60) == {"success": False, "error": "Appointment not found"}
    assert await found.result(timeout=60) == done("a")
    await pool.aclose()


@pytest.mark.parametrize("arguments", [(), ("",), (None,), ([7],)])
async def test_a_job_without_an_id_says_what_was_expected(
    settings: Settings, redis_url: str, arguments: tuple[Any, ...]
) -> None:
    pool = await arq.create_pool(redis_settings(redis_url), default_queue_name=QUEUE_NAME)
    job = await pool.enqueue_job("normalize_appointment", *arguments)
    assert job is not None

    await run(settings)

    with pytest.raises(Exception, match="esperado o id do agendamento"):
        await job.result(timeout=60)
    await pool.aclose()


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("executed",))


async def test_a_payload_that_pickles_a_global_is_refused_and_runs_nothing(
    settings: Settings, redis_url: str, add: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    pool = await arq.create_pool(redis_settings(redis_url), default_queue_name=QUEUE_NAME)
    payload = pickle.dumps({"t": None, "f": "normalize_appointment", "a": (_Evil(),), "k": {}, "et": 1})
    await pool.set("arq:job:evil", payload)
    await pool.zadd(QUEUE_NAME, {"evil": 1})
    good = await pool.enqueue_job("normalize_appointment", add("a"))
    assert good is not None

    await run(settings)

    assert "executed" not in capfd.readouterr().out
    assert await good.result(timeout=60) == done("a")
    assert await Job("evil", pool, QUEUE_NAME).status() in {JobStatus.complete, JobStatus.not_found}
    assert await pool.zscore(QUEUE_NAME, "evil") is None
    await pool.aclose()


async def test_without_a_key_what_rules_cannot_settle_waits_in_review_with_that_reason(
    settings: Settings, mongo: Any, add: Callable[..., str]
) -> None:
    await enqueue(settings, add("hard", endereco_completo=HARD), add("easy"))

    await run(settings)

    hard, easy = (mongo["appointments"].find_one({"_id": name}) for name in ("hard", "easy"))
    assert hard["normalizacao"]["status"] == "revisar"
    assert hard["normalizacao"]["endereco"]["motivo"] == Reason.NO_MODEL_KEY
    assert hard["endereco_normalizado"] is None
    assert hard["documento_normalizado"]["cpf"] == "11144477735"
    assert easy["normalizacao"]["status"] == "concluido"


async def test_a_switched_off_field_is_never_touched(settings: Settings, mongo: Any, add: Callable[..., str]) -> None:
    off = settings.model_copy(update={"document_normalization_enabled": False})
    await enqueue(off, add("a", documento_normalizado="of the old worker"))

    await run(off)

    row = mongo["appointments"].find_one({"_id": "a"})
    assert row["documento_normalizado"] == "of the old worker"
    assert row["endereco_normalizado"] == NORMALIZED
    assert "documento" not in row["normalizacao"]


async def test_reconcile_takes_up_what_the_queue_has_lost(
    settings: Settings, mongo: Any, add: Callable[..., str]
) -> None:
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(3):
        add(f"a{number}", normalizacao={"status": "pendente", "atualizado_em": long_ago})

    await run(settings)  # nothing was enqueued: reconcile runs at start

    assert [row["normalizacao"]["status"] for row in mongo["appointments"].find()] == ["concluido"] * 3


async def test_reconcile_stops_at_what_the_queue_still_has_and_goes_on_where_it_has_lost(
    settings: Settings, mongo: Any, add: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(normalization, "_RECONCILE_CHUNK", 1)
    monkeypatch.setattr(normalization, "_RECONCILE_ENOUGH", 2)
    for day in (5, 1, 4, 2, 3):
        since = datetime(2026, 1, day, tzinfo=UTC)
        add(f"a{day}", normalizacao={"status": "pendente", "atualizado_em": since})
    store = AppointmentStore.connect(settings.mongodb_url.get_secret_value(), settings.database_name)
    async with store, TaskService(settings.redis_url.get_secret_value()) as queue:
        nothing: Any = None
        ctx = {normalization.CONTEXT_KEY: normalization.Normalization(store, nothing, queue)}
        pool = await queue.get_pool()

        assert await normalization.reconcile(ctx) == 5, "nothing is queued yet"
        assert await normalization.reconcile(ctx) == 2, "the two oldest are queued: nothing is lost"

        await lose(pool, *[job for job in await pool.zrange(QUEUE_NAME, 0, -1) if b":a2:" in job])
        assert await normalization.reconcile(ctx) == 4, "one was lost behind the oldest"
        assert await pool.zcard(QUEUE_NAME) == 5

        await pool.flushall()
        assert await normalization.reconcile(ctx) == 5, "all were lost"


async def lose(pool: ArqRedis, *job_ids: bytes) -> None:
    """As a Redis does that comes back without its last seconds."""
    await pool.zrem(QUEUE_NAME, *job_ids)
    await pool.delete(*[job_key_prefix + job_id.decode() for job_id in job_ids])


@pytest.fixture
def with_model(settings: Settings, start_provider: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Settings with a simulated provider that knows the answer, and rules that settle nothing."""
    monkeypatch.setattr(pipeline, "parse_address", lambda *_: Undecided(Reason.ADDRESS_AMBIGUOUS))
    provider = start_provider({ADDRESS: NORMALIZED, "Rua Inventada": NORMALIZED})
    model = {"openai_base_url": provider.url, "openai_model": "simulated-model", "openai_api_key": SecretStr("k")}
    return settings.model_copy(update=model), provider


async def test_repeated_texts_are_asked_of_the_model_once(with_model: Any, mongo: Any, add: Callable[..., str]) -> None:
    settings, provider = with_model
    await enqueue(settings, *(add(f"a{number}", endereco_completo=ADDRESS.upper()) for number in range(20)))

    await run(settings)

    rows = list(mongo["appointments"].find())
    origins = Counter(row["normalizacao"]["endereco"]["origem"] for row in rows)
    assert all(row["endereco_normalizado"] == NORMALIZED for row in rows)
    assert origins == {"llm": 1, "cache": 19}
    assert stats(provider)["requests"] == 1


async def test_an_answer_is_never_paid_twice_even_by_another_worker(
    with_model: Any, mongo: Any, add: Callable[..., str]
) -> None:
    settings, provider = with_model
    await enqueue(settings, add("first"))
    await run(settings)
    await enqueue(settings, add("second"))

    await run(settings)

    assert mongo["appointments"].find_one({"_id": "second"})["normalizacao"]["endereco"]["origem"] == "cache"
    assert stats(provider)["requests"] == 1


async def test_what_a_stopping_worker_has_not_started_is_due_for_another_at_once(
    settings: Settings, redis: Any, start_provider: Callable[..., Any], add: Callable[..., str]
) -> None:
    provider = start_provider({}, latency_ms=1_000)
    one_by_one = {"llm_records_per_call": 1, "llm_max_concurrency": 1, "openai_api_key": SecretStr("k")}
    given = settings.model_copy(update={"openai_base_url": provider.url, **one_by_one})
    await enqueue(settings, *(add(f"a{number}", endereco_completo=f"{HARD} {number}") for number in range(8)))
    worker = build_worker(given, handle_signals=False, poll_delay=0.05)
    running = asyncio.create_task(worker.async_run())
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(lambda: stats(provider)["max_under_way"]):  # noqa: ASYNC110 — another process
            await asyncio.sleep(0.02)

    worker.handle_sig_wait_for_completion(signal.SIGTERM)
    await asyncio.gather(running, return_exceptions=True)
    await worker.close()

    queued = await redis.zrange(QUEUE_NAME, 0, -1, withscores=True)
    waiting = {job_id: score for job_id, score in queued if job_id.startswith(b"norm:")}
    assert 0 < len(waiting) < 8, "what was asked is saved, the rest given back"
    assert max(waiting.values()) <= time.time() * 1000


async def test_what_an_import_used_of_the_model_is_counted_for_it(
    with_model: Any, redis: Any, add: Callable[..., str]
) -> None:
    settings, provider = with_model
    imported = {"status": "pendente", "import_id": "i1"}
    await enqueue(settings, add("a", normalizacao=imported), add("b", normalizacao=imported), add("c"))

    await run(settings)

    ledger = Ledger(redis, model="simulated-model")
    newest = await ledger.newest_imports()
    spent = newest["i1"]
    assert (spent.calls, spent.records) == (1, 1), "the text is the same three times: asked once, paid by its import"
    assert spent.tokens_in + spent.tokens_out == stats(provider)["tokens_in"] + stats(provider)["tokens_out"]
    assert list(newest) == ["i1"]


async def test_a_value_the_text_does_not_carry_is_never_stored(
    with_model: Any, mongo: Any, add: Callable[..., str]
) -> None:
    settings, _ = with_model
    await enqueue(settings, add("a", endereco_completo="Rua Inventada"))

    await run(settings)

    row = mongo["appointments"].find_one({"_id": "a"})
    assert row["endereco_normalizado"] is None
    assert row["normalizacao"]["status"] == "revisar"


def stats(provider: Any) -> dict[str, Any]:
    with urllib.request.urlopen(f"{provider.root_url}/stats", timeout=60) as answer:  # noqa: S310 — loopback
        found: dict[str, Any] = json.load(answer)
    return found
