"""Beside the deployed backend, unchanged: every promise against a stand-in of it, on real services."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
import pytest_asyncio
from arq.worker import Worker, func
from bson import Binary

from normalizer.domain.appointment import Status
from normalizer.imports.importing import import_sheet
from normalizer.operations.steering import migrate, requeue
from normalizer.runtime import build_worker, open_producer
from normalizer.settings import Settings, settings_of
from normalizer.worker import tasks as normalization
from tests.acceptance.backend import Appointment, Repository, TaskService, now, old_normalize_appointment

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "rua maurício da costa faria,{},recreio dos bandeirantes,rio de janeiro,RJ,22790-285"
DOCUMENT = "CPF: 11144477735, RG: 123456789"
NAMES = {"nome_unidade": "Centro", "nome_marca": "Marca", "nome_paciente": "Fulano Fictício"}
DAY = datetime(2026, 10, 10)


def appointment(number: int = 52, **fields: Any) -> Appointment:
    texts = {"endereco_completo": ADDRESS.format(number), "documento_completo": DOCUMENT}
    return Appointment(**NAMES, data_agendamento=DAY, hora_agendamento="08:00", **(texts | fields))


@pytest.fixture
def environment(redis_url: str, mongo_url: str, database: str) -> dict[str, str]:
    """As the backend has it: the database's number apart."""
    parts = urlsplit(redis_url)
    redis = {"REDIS_URL": f"redis://{parts.hostname}:{parts.port}", "REDIS_DB": parts.path.strip("/")}
    return {**redis, "MONGODB_URL": mongo_url, "DATABASE_NAME": database, "BATCH_LINGER_MS": "20"}


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    return settings_of(environment)


@pytest_asyncio.fixture
async def repository(mongo_url: str, database: str) -> AsyncIterator[Repository]:
    repository = Repository(mongo_url, database)
    yield repository
    await repository.client.close()


@pytest_asyncio.fixture
async def tasks(redis_url: str) -> AsyncIterator[TaskService]:
    parts = urlsplit(redis_url)
    service = TaskService(str(parts.hostname), parts.port or 6379, int(parts.path.strip("/")))
    yield service
    await service.close()


async def work(settings: Settings) -> Any:
    """Our worker, until nothing waits."""
    worker = build_worker(settings, burst=True, handle_signals=False, poll_delay=0.05)
    await worker.async_run()
    await worker.close()
    return worker


async def old_worker(tasks: TaskService, repository: Repository, **options: Any) -> Worker:
    """Theirs: stock arq on arq's default queue, until nothing waits."""
    worker = Worker(
        [func(old_normalize_appointment, name="normalize_appointment")],
        redis_pool=await tasks.get_pool(),
        ctx={"repository": repository},
        burst=True,
        handle_signals=False,
        poll_delay=0.05,
        max_tries=3,
        **options,
    )
    await worker.async_run()
    return worker


async def tracked(repository: Repository) -> dict[str | None, int]:
    counted: dict[str | None, int] = {}
    async for found in repository.appointments.find({}, {"normalization_status": 1}):
        status = found.get("normalization_status")
        counted[status] = counted.get(status, 0) + 1
    return counted


async def age(repository: Repository, **by: float) -> None:
    """As if what is stored had been there for a while."""
    await repository.appointments.update_many({}, {"$set": {"updated_at": now() - timedelta(**by)}})


async def test_two_hundred_rows_enqueued_its_way_are_normalized_and_its_page_follows_them(
    settings: Settings, repository: Repository, tasks: TaskService
) -> None:
    ids = await repository.insert(*(appointment(number) for number in range(1, 201)))
    jobs = {each: await tasks.enqueue_normalization(each) for each in ids}
    for each, job_id in jobs.items():
        await repository.update(each, normalization_job_id=job_id)

    await work(settings)

    page = await repository.page()
    assert {each.normalization_status for each in page} == {"completed"}
    assert {each.normalization_job_id for each in page} == set(jobs.values())
    assert all(each.endereco_normalizado and each.documento_normalizado and each.cpf for each in page)
    for each in ids[:5]:
        told = await tasks.get_job_status(str(jobs[each]))
        assert told is not None
        assert (told["status"], told["error"]) == ("complete", None)
        assert told["result"]["success"] is True
        assert told["result"]["appointment_id"] == each
        assert set(told["result"]["fields_normalized"]) == {"endereco_normalizado", "documento_normalizado"}
        assert told["result"]["errors"] is None


async def test_each_row_ends_in_its_words(settings: Settings, repository: Repository, tasks: TaskService) -> None:
    here = {"rua": "Rua Corrigida", "cidade": "Campinas", "estado": "SP"}
    rows = {
        "all": appointment(),
        "no address": appointment(endereco_completo=None),
        "nothing": appointment(endereco_completo=None, documento_completo=None),
        "undecided": appointment(endereco_completo="perto da praça"),
        "corrected": appointment(endereco_normalizado=here),
    }
    for each in await repository.insert(*rows.values()):
        await tasks.enqueue_normalization(each)

    await work(settings)

    ended = {name: await repository.find(row.id) for name, row in rows.items()}
    assert {name: row.normalization_status for name, row in ended.items() if row} == {
        "all": "completed",
        "no address": "completed",
        "nothing": "skipped",
        "undecided": "failed",
        "corrected": "completed",
    }
    undecided, corrected = ended["undecided"], ended["corrected"]
    assert undecided is not None
    assert (undecided.normalization_error or "").startswith("endereço: ")
    assert undecided.documento_normalizado is not None, "what could be decided is stored all the same"
    assert corrected is not None
    assert corrected.endereco_normalizado == here
    assert corrected.documento_normalizado is not None


async def test_switched_off_is_skipped(environment: dict[str, str], repository: Repository, tasks: TaskService) -> None:
    (one,) = await repository.insert(appointment())
    await tasks.enqueue_normalization(one)
    off = {f"{kind}_NORMALIZATION_ENABLED": "false" for kind in ("ADDRESS", "DOCUMENT")}
    await work(settings_of(environment | off))
    assert await tracked(repository) == {"skipped": 1}


async def test_what_is_there_is_replaced_only_where_somebody_asks(
    settings: Settings, repository: Repository, tasks: TaskService
) -> None:
    here = {"rua": "Rua Corrigida", "cidade": "Campinas", "estado": "SP"}
    (one,) = await repository.insert(appointment(endereco_normalizado=here))
    await tasks.enqueue_normalization(one)
    await work(settings)
    async with open_producer(settings) as producer:
        parts: Any = {"store": producer.store, "tasks": producer.tasks, "cache": producer.cache}
        assert await requeue({Status.DONE}, **parts) == 1
    await work(settings)
    kept = await repository.find(one)
    assert kept is not None
    assert kept.endereco_normalizado == here

    async with open_producer(settings) as producer:
        parts = {"store": producer.store, "tasks": producer.tasks, "cache": producer.cache}
        assert await requeue({Status.DONE}, **parts, again=True) == 1
    await work(settings)
    asked = await repository.find(one)
    assert asked is not None
    assert (asked.endereco_normalizado or {})["rua"] == "Rua Maurício da Costa Faria"


@pytest.mark.parametrize("loss", ["flush", "evicted queue", "never enqueued"])
async def test_rows_of_the_backend_survive_the_loss_of_the_queue(
    settings: Settings, repository: Repository, tasks: TaskService, redis: Any, loss: str
) -> None:
    for each in await repository.insert(*(appointment(number) for number in range(1, 21))):
        if loss != "never enqueued":
            await tasks.enqueue_normalization(each)
    await (redis.flushdb() if loss == "flush" else redis.delete("arq:queue"))
    await age(repository, minutes=5)

    await work(settings)

    assert await tracked(repository) == {"completed": 20}


async def test_its_recipe_for_trying_again_works(
    settings: Settings, repository: Repository, tasks: TaskService, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = await repository.insert(appointment(endereco_completo="perto da praça"))
    await tasks.enqueue_normalization(one)
    await work(settings)
    assert await tracked(repository) == {"failed": 1}
    await repository.update(one, endereco_completo=ADDRESS.format(52))

    assert await repository.try_failed_again() == 1
    monkeypatch.setattr(normalization, "_RECONCILE_AGE_S", 0.0)
    await work(settings)

    assert await tracked(repository) == {"completed": 1}


async def test_jobs_for_replaced_appointments_end_quietly(
    settings: Settings, repository: Repository, tasks: TaskService
) -> None:
    old = [await tasks.enqueue_normalization(each) for each in await repository.insert(appointment(1), appointment(2))]
    for each in await repository.replace_unit("Centro", appointment(3)):
        await tasks.enqueue_normalization(each)

    worker = await work(settings)

    assert await tracked(repository) == {"completed": 1}
    assert worker.jobs_failed == 0
    for job_id in old:
        told = await tasks.get_job_status(str(job_id))
        assert told is not None
        assert told["result"] == {"success": False, "error": "Appointment not found"}


async def test_a_rollback_and_the_way_back_lose_nothing(
    settings: Settings, repository: Repository, tasks: TaskService
) -> None:
    ids = await repository.insert(*(appointment(number) for number in range(1, 41)))
    async with open_producer(settings) as producer:
        await producer.tasks.enqueue_many(ids[:20])

    back = await old_worker(tasks, repository)  # the old worker finds what our producers wrote

    assert (back.jobs_complete, back.jobs_failed) == (20, 0)
    for each in ids[20:]:
        await tasks.enqueue_normalization(each)
    await work(settings)
    assert await tracked(repository) == {"completed": 40}
    assert await repository.appointments.count_documents({"observacoes": "old worker"}) == 20
    assert await repository.appointments.count_documents({"normalizacao.status": "concluido"}) == 20


async def test_old_and_new_workers_side_by_side_lose_and_destroy_nothing(
    settings: Settings, repository: Repository, tasks: TaskService
) -> None:
    ids = await repository.insert(*(appointment(number) for number in range(1, 61)))
    jobs = [await tasks.enqueue_normalization(each) for each in ids[:30]]
    async with open_producer(settings) as producer:
        await producer.tasks.enqueue_many(ids[30:])

    theirs, ours = await asyncio.gather(old_worker(tasks, repository, max_jobs=3), work(settings))

    assert (theirs.jobs_failed, ours.jobs_failed) == (0, 0)
    assert await tracked(repository) == {"completed": 60}
    for job_id in jobs:
        told = await tasks.get_job_status(str(job_id))
        assert told is not None
        assert told["result"]["success"] is True


SHEET = (
    "Nome do Paciente;Nome da Unidade;Data/Hora Início Agendamento;Status Agendamento;Contato(s) do Paciente;"
    "Endereço Coleta;Documento(s) do Paciente\n"
    "Fulana Fictícia;Centro;10/10/2026 08:30:00;Agendamento de Encaixe;"
    "Celular: (11) 98888-7777 / Residencial: (11) 3333-4444 / fulana@example.org;{address};{document}\n"
    "Beltrano Fictício;Centro;11/10/2026;Situação Inédita;;;RG: 123456789\n"
    ";;12/10/2026 07:00;;sem telefone;;\n"
)


async def imported(settings: Settings) -> None:
    sheet = SHEET.format(address=ADDRESS.format(52), document=DOCUMENT)
    async with open_producer(settings) as producer:
        await import_sheet(sheet.encode(), name="agenda.csv", store=producer.store, enqueue=producer.tasks.enqueue_many)


async def test_every_imported_row_is_read_by_its_model_and_found_by_its_date_filter(
    settings: Settings, repository: Repository
) -> None:
    await imported(settings)
    before = await repository.page()
    await work(settings)

    page = await repository.page()
    assert len(page) == len(before) >= 2
    assert {each.id for each in page} == {each.id for each in before}
    assert [each.nome_paciente for each in await repository.page(begin=DAY, end=DAY)] == ["Fulana Fictícia"]
    (first,) = await repository.page(begin=DAY, end=DAY)
    assert (first.hora_agendamento, first.telefone, first.normalization_status) == ("08:30", "11988887777", "completed")
    assert await repository.find(first.id) == first
    assert await repository.update(first.id, observacoes="aberto e mudado")


async def test_rows_of_earlier_versions_are_mended_and_the_mending_is_undone(
    settings: Settings, repository: Repository
) -> None:
    await imported(settings)
    await work(settings)
    gone = ["id", "tags", "nome_marca", "normalization_status", "normalization_job_id", "normalization_error"]
    await repository.appointments.update_many({}, {"$unset": dict.fromkeys(gone, "")})
    review = {"origem": "regras", "versao": 1, "motivo": "endereço não informado"}
    await repository.appointments.update_many(
        {"nome_paciente": "Beltrano Fictício"},
        {"$set": {"normalizacao.endereco": review, "normalizacao.status": "revisar"}},
    )
    old = {"data_agendamento": "10/10/2026", "telefone": "Celular: (11) 98888-7777 / fulana@example.org"}
    await repository.appointments.update_one({"nome_paciente": "Fulana Fictícia"}, {"$set": old})
    before = [found async for found in repository.appointments.find()]
    with pytest.raises(ValueError, match="nome_marca"):
        await repository.page()

    async with open_producer(settings) as producer:
        _, rehearsed = await migrate(producer.store, apply=False)
        assert [found async for found in repository.appointments.find()] == before
        import_id, migrated = await migrate(producer.store, apply=True)
        _, again = await migrate(producer.store, apply=True)

    assert (rehearsed.changed, rehearsed.by_change) == (migrated.changed, migrated.by_change)
    assert (migrated.changed, again.changed) == (len(before), 0)
    page = await repository.page()
    assert {each.normalization_status for each in page} == {"completed"}
    (dated,) = await repository.page(begin=DAY, end=DAY)
    assert dated.telefone == "11988887777"
    absent = await repository.appointments.find_one({"nome_paciente": "Beltrano Fictício"})
    assert absent is not None
    assert (absent["normalizacao"]["status"], absent["normalizacao"]["endereco"]["origem"]) == ("concluido", "ausente")

    async with open_producer(settings) as producer:
        undone = await producer.store.undo(str(import_id))
    assert undone.restored == len(before)
    after = [found async for found in repository.appointments.find()]
    for row in (*before, *after):
        for name in ("updated_at", "normalizacao"):
            row.pop(name)
    assert after == before


STRANGE: list[Any] = [
    *[float("nan"), float("inf"), 11144477735.0, 11144477735, 0, -1, True, False, "", "   ", "nan", "None"],
    *[
        [],
        ["rua a"],
        [1],
        {},
        {"rua": "a"},
        {"$gt": ""},
        {"a": {"b": {"c": 1}}},
        b"bytes",
        Binary.from_uuid(UUID(int=7)),
        DAY,
    ],
    *["\x00", "\ufffd" * 10, "x" * 100_000, "=1+1", "<script>", "'; DROP"],
]


async def test_strange_fields_harm_nobody_beside_them(
    settings: Settings, repository: Repository, tasks: TaskService
) -> None:
    ids = await repository.insert(*(appointment(number) for number in range(1, len(STRANGE) * 2 + 1)))
    for number, value in enumerate(STRANGE):
        await repository.update(ids[number], endereco_completo=value, documento_completo=value)
        fallback = {"endereco_completo": float("nan"), "endereco_coleta": ADDRESS.format(7)}
        await repository.update(ids[len(STRANGE) + number], **fallback, documento_completo=value, cpf="11144477735")
    for each in ids:
        await tasks.enqueue_normalization(each)
    (good,) = await repository.insert(appointment(999))
    await tasks.enqueue_normalization(good)

    worker = await work(settings)

    assert worker.jobs_failed == 0
    assert "pending" not in await tracked(repository)
    assert (await repository.find(good) or appointment()).normalization_status == "completed"
    hidden = await repository.appointments.find({"endereco_coleta": ADDRESS.format(7)}).to_list(None)
    assert len(hidden) == len(STRANGE)
    assert {row["endereco_normalizado"]["numero"] for row in hidden} == {"7"}, "NaN hides no other field"
    async for row in repository.appointments.find({"normalization_status": "failed"}):
        assert row["normalization_error"]
        assert row["normalizacao"]["status"] in {"revisar", "falhou"}


def test_the_example_runs_as_it_stands(environment: dict[str, str]) -> None:
    given = {**os.environ, **environment}
    with subprocess.Popen([sys.executable, "workers.py"], cwd=ROOT, env=given, stdout=subprocess.DEVNULL) as worker:
        try:
            example = [sys.executable, str(ROOT / "docs" / "exemplos" / "backend.py")]
            ran = subprocess.run(example, env=given, capture_output=True, text=True, timeout=120, check=False)
        finally:
            worker.terminate()
    assert ran.returncode == 0, ran.stderr
    assert "completed {'rua': 'Rua das Flores'" in ran.stdout
