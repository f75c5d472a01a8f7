"""The import on a real store and a real queue: once, twice, changed, dry, and with Redis away."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Any

import bson
import pytest
import pytest_asyncio

from normalizer.domain.appointment import Status
from normalizer.errors import InvalidInput
from normalizer.imports.importing import import_sheet
from normalizer.queue.service import TaskService
from normalizer.simulation.sheets import DEMO_ROWS, demo_scenario, generate, write_sheet
from normalizer.store import AppointmentStore, Filter, ImportRow, ImportState
from normalizer.store.connection import now_utc
from normalizer.store.records import NO_CAUSE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HEADER = "Id do agendamento;Nome do Paciente;Endereço Coleta;Documento(s) do Paciente"


@pytest_asyncio.fixture
async def store(mongo_url: str, database: str) -> AsyncIterator[AppointmentStore]:
    async with AppointmentStore.connect(mongo_url, database) as store:
        await store.ensure_indexes()
        yield store


@pytest_asyncio.fixture
async def tasks(redis_url: str) -> AsyncIterator[TaskService]:
    async with TaskService(redis_url) as tasks:
        yield tasks


async def test_the_demo_sheet_arrives_whole_and_only_once(store, tasks, mongo, tmp_path: Path) -> None:
    sheet, _ = demo_scenario(tmp_path)

    report = await import_sheet(sheet, store=store, enqueue=tasks.enqueue_many)

    assert (report.rows, report.new, report.errors) == (DEMO_ROWS, DEMO_ROWS, [])
    assert report.sheets == ("Agendamentos",)
    assert report.hidden_sheets == ("Parâmetros",)
    assert (await store.imports.progress(report.import_id)).by_status[Status.PENDING] == DEMO_ROWS
    assert (await tasks.status()).due == DEMO_ROWS
    before = list(mongo.appointments.find().sort("_id", 1))

    again = await import_sheet(sheet, store=store, enqueue=tasks.enqueue_many)

    assert (again.new, again.changed, again.refreshed, again.equal) == (0, 0, 0, DEMO_ROWS)
    assert list(mongo.appointments.find().sort("_id", 1)) == before
    assert (await tasks.status()).due == DEMO_ROWS


async def test_stored_texts_are_those_of_the_sheet(store, tasks, mongo, tmp_path: Path) -> None:
    rows = list(islice(generate(seed=3), 40))
    write_sheet(tmp_path / "agenda.xlsx", rows)
    await import_sheet(tmp_path / "agenda.xlsx", store=store, enqueue=tasks.enqueue_many)
    stored = {record["id_agendamento"]: record for record in mongo.appointments.find()}
    for row in rows:
        record = stored[row.cells[4]]
        assert record["endereco_coleta"] == (row.address.text if row.address else None)
        assert record["documento_completo"] == (row.document.text if row.document else None)


async def test_a_longer_sheet_of_the_same_appointments_brings_only_the_rest(store, tasks, tmp_path: Path) -> None:
    rows = list(islice(generate(seed=4), 60))
    write_sheet(tmp_path / "first.xlsx", rows[:40])
    write_sheet(tmp_path / "second.xlsx", rows)
    await import_sheet(tmp_path / "first.xlsx", store=store, enqueue=tasks.enqueue_many)
    preview = await import_sheet(tmp_path / "second.xlsx", store=store, enqueue=tasks.enqueue_many, dry_run=True)
    assert (preview.new, preview.equal) == (20, 40)
    assert (await tasks.status()).due == 40
    report = await import_sheet(tmp_path / "second.xlsx", store=store, enqueue=tasks.enqueue_many)
    assert (report.new, report.equal) == (20, 40)
    assert (await tasks.status()).due == 60


async def test_only_changed_texts_are_normalized_again(store, tasks, mongo) -> None:
    first = f"{HEADER}\na;Ana;rua x, 1;RG 1234567\nb;Olga;rua y, 2;RG 7654321\n".encode()
    second = f"{HEADER}\na;Ana Maria;rua x, 1;RG 1234567\nb;Olga;;RG 7654321\n".encode()
    await import_sheet(first, store=store, enqueue=tasks.enqueue_many)
    report = await import_sheet(second, store=store, enqueue=tasks.enqueue_many, emptying=True)
    assert (report.new, report.changed, report.refreshed, report.equal) == (0, 1, 1, 0)
    assert mongo.appointments.find_one({"id_agendamento": "a"})["nome_paciente"] == "Ana Maria"
    assert mongo.appointments.find_one({"id_agendamento": "b"})["endereco_coleta"] is None


async def test_an_empty_cell_asks_before_it_empties(store, tasks, mongo) -> None:
    first = f"{HEADER}\na;Ana;rua x, 1;RG 1234567\n".encode()
    second = f"{HEADER}\na;Ana Maria;;RG 1234567\n".encode()
    await import_sheet(first, store=store, enqueue=tasks.enqueue_many)
    preview = await import_sheet(second, store=store, enqueue=tasks.enqueue_many, dry_run=True)
    assert preview.as_dict()["emptied"] == {"endereco_coleta": 1}
    for refreshed in (1, 0):
        report = await import_sheet(second, store=store, enqueue=tasks.enqueue_many)
        assert (report.changed, report.refreshed, dict(report.emptied)) == (0, refreshed, {"endereco_coleta": 1})
        assert mongo.appointments.find_one({"id_agendamento": "a"})["endereco_coleta"] == "rua x, 1"
    report = await import_sheet(second, store=store, enqueue=tasks.enqueue_many, emptying=True)
    assert report.changed == 1
    assert mongo.appointments.find_one({"id_agendamento": "a"})["endereco_coleta"] is None


async def test_a_cell_that_cannot_be_read_empties_nothing(store, tasks, mongo) -> None:
    await import_sheet(f"{HEADER}\na;Ana;rua x, 1;RG 1234567\n".encode(), store=store, enqueue=tasks.enqueue_many)
    import_id = await store.imports.begin()
    unread = frozenset({"endereco_coleta", "documento_completo"})
    report = await store.upsert_rows([ImportRow("a", {"nome_paciente": "Ana Maria"}, unread)], import_id)
    assert (report.changed, report.refreshed, dict(report.emptied)) == ({}, 1, {})
    record = mongo.appointments.find_one({"id_agendamento": "a"})
    assert (record["endereco_coleta"], record["documento_completo"]) == ("rua x, 1", "RG 1234567")


async def test_a_row_that_is_too_large_to_be_stored_is_a_problem_of_its_own(store, tasks, mongo) -> None:
    """Sixteen megabytes are MongoDB's limit: a record that fills them to the last kilobyte takes no longer text."""
    other = {"id_agendamento": "b", "nome_paciente": "Olga", "anexo": "x" * (16 * 2**20 - 8_192)}
    mongo.appointments.insert_one(other)
    content = f"{HEADER}\na;Ana;rua x, 1;RG 1234567\nb;Olga;{'y' * 30_000};RG 7654321\nc;Bia;rua z, 3;RG 7654321\n"

    report = await import_sheet(content.encode(), store=store, enqueue=tasks.enqueue_many)

    assert (report.rows, report.new, report.changed, report.refreshed) == (2, 2, 0, 0)
    [problem] = report.errors
    assert (problem.row, problem.found) == (3, "um registro de mais de 16 MB")
    record = await store.imports.get(report.import_id)
    assert record is not None
    assert (record.stored_state, record.problems) == (ImportState.FINISHED, 1)
    [kept] = await store.problems.of(report.import_id)
    assert (kept.number, kept.cells[0], kept.key) == (3, "b", "b")
    assert (await tasks.status()).due == 2
    assert "endereco_coleta" not in mongo.appointments.find_one({"id_agendamento": "b"}, {"anexo": 0})


async def test_a_record_with_no_room_for_a_cause_ends_all_the_same(store, mongo) -> None:
    """Filled to the last byte of MongoDB's 16 MB: the cause of its failure does not fit in, but that it failed does."""
    waiting = {"normalization_status": "pending", "updated_at": now_utc()}
    full: dict[str, Any] = {"_id": 1, "id": "full", **waiting, "endereco_completo": "rua x, 1", "anexo": ""}
    full["anexo"] = "x" * (16 * 2**20 - len(bson.encode(full)))
    mongo.appointments.insert_many([full, {"_id": 2, "id": "beside", **waiting, "endereco_completo": "rua y, 2"}])

    report = await store.mark_failed(dict.fromkeys(("full", "beside"), ("derrubou o processo", 1)))

    assert report.saved == dict.fromkeys(("full", "beside"), Status.FAILED)
    assert [chunk async for chunk in store.pending()] == []
    assert (await store.totals.counts()).by_error == {"derrubou o processo": 1, NO_CAUSE: 1}
    page = await store.browse(Filter(status=Status.FAILED))
    assert {each.id: each.error for each in page.appointments} == {"full": NO_CAUSE, "beside": "derrubou o processo"}
    assert [len(chunk) async for chunk in store.requeue({Status.FAILED})] == [2]
    assert mongo.appointments.find_one({"_id": 2})["normalizacao"]["status"] == "pendente"


async def test_rows_against_a_rule_of_the_collection_are_problems_beside_the_others(store, tasks, mongo) -> None:
    only_ana = {"$jsonSchema": {"properties": {"nome_paciente": {"enum": ["Ana"]}}}}
    mongo.command("collMod", "appointments", validator=only_ana)
    rows = ["a;Ana;rua x, 1;RG 1234567", "b;Olga;rua y, 2;RG 1", "a;Bia;rua z, 3;RG 2", "c;Ana;rua w, 4;RG 3"]
    content = "\n".join([HEADER, *rows]).encode()

    report = await import_sheet(content, store=store, enqueue=tasks.enqueue_many)

    assert (report.rows, report.new) == (2, 2)
    refused = [problem.row for problem in report.errors if "regra de validação" in problem.found]
    assert refused == [3, 4]
    assert {row.number: bool(row.cells) for row in await store.problems.of(report.import_id)} == {3: True, 4: True}
    assert (await tasks.status()).due == 2


async def test_two_imports_of_one_sheet_at_once_store_each_row_once(store, tasks, mongo, tmp_path: Path) -> None:
    write_sheet(tmp_path / "agenda.xlsx", list(islice(generate(seed=5), 300)))
    reports = await asyncio.gather(
        *(import_sheet(tmp_path / "agenda.xlsx", store=store, enqueue=tasks.enqueue_many) for _ in range(2))
    )
    assert sum(report.new for report in reports) == 300
    assert sum(report.new + report.equal for report in reports) == 600
    assert mongo.appointments.count_documents({}) == 300


async def test_redis_away_leaves_rows_for_reconcile(store, unused_tcp_port: int, tmp_path: Path) -> None:
    write_sheet(tmp_path / "agenda.xlsx", list(islice(generate(seed=6), 5)))
    async with TaskService(f"redis://127.0.0.1:{unused_tcp_port}/0", attempts=1) as away:
        report = await import_sheet(tmp_path / "agenda.xlsx", store=store, enqueue=away.enqueue_many)
    assert (report.new, report.unqueued) == (5, 5)
    assert sum([len(chunk) async for chunk in store.pending()]) == 5


async def test_a_file_that_breaks_off_leaves_nothing(store, tasks, mongo, tmp_path: Path) -> None:
    write_sheet(tmp_path / "agenda.xlsx", list(islice(generate(seed=6), 1_500)))
    with pytest.raises(InvalidInput, match="cortado"):
        await import_sheet((tmp_path / "agenda.xlsx").read_bytes()[:-500], store=store, enqueue=tasks.enqueue_many)
    assert mongo.appointments.count_documents({}) == 0
    assert mongo.normalizer_imports.count_documents({}) == 0
    assert (await tasks.status()).due == 0
