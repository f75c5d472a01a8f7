"""A sheet in, two worker processes, normalized appointments out; and what an operator and a backend do around it."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from arq import create_pool
from arq.connections import RedisSettings
from arq.jobs import Job
from arq.worker import JobExecutionFailed
from bson import ObjectId

from normalizer.queue.serializer import job_deserializer, job_serializer
from normalizer.queue.service import QUEUE_NAME
from normalizer.simulation.sheets import write_scenario
from tests.acceptance.harness import make_rows

NULLS = {"cpf": None, "rg": None, "cpf_formatted": None, "rg_formatted": None}


def labels_of(path):
    """Expected values by kind and text."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {(row["kind"], row["text"]): row["expected"] for row in rows}


def test_a_sheet_in_and_normalized_appointments_out(deploy, tmp_path):
    sheet, labels = write_scenario(tmp_path / "scenario", rows=500, seed=11)
    deployment = deploy(labels=labels, latency_ms=50)
    workers = [deployment.start_ready_worker() for _ in range(2)]

    imported = deployment.cli("import", str(sheet), "--json")
    assert imported.returncode == 0, imported.stderr
    report = json.loads(imported.stdout)
    deployment.wait_until_all_ended(rows=report["rows"])

    assert report["rows"] == report["new"] == 500
    assert all(worker.running for worker in workers)
    statuses = deployment.statuses()
    assert statuses["falhou"] == 0
    expected = labels_of(labels)
    usable = done = 0
    for record in deployment.appointments.find():
        address = expected.get(("endereco", record.get("endereco_coleta") or record.get("endereco_completo") or ""))
        document = expected.get(("documento", record.get("documento_completo") or ""))
        if address and document:
            usable += 1
            done += record["normalizacao"]["status"] == "concluido"
        else:
            assert record["normalizacao"]["status"] in {"revisar", "concluido"}
        if record["normalizacao"]["status"] == "revisar":
            assert any(record["normalizacao"][kind].get("motivo") for kind in ("endereco", "documento"))
        # Nothing is invented: what is stored is what the label says, or nothing is stored.
        stored = record["documento_normalizado"]
        if stored is not None and document:
            assert (stored["cpf"], stored["rg"]) == (document["cpf"], document["rg"])
    assert usable >= 400
    assert done >= 0.97 * usable, f"{done} of {usable}"
    assert deployment.stats()["requests"] <= 40

    again = json.loads(deployment.cli("import", str(sheet), "--json").stdout)
    assert (again["equal"], again["new"], again["changed"]) == (500, 0, 0)
    assert deployment.statuses() == statuses


def test_the_same_sheet_imported_twice_at_once_is_done_once(deploy, tmp_path):
    sheet, labels = write_scenario(tmp_path / "scenario", rows=200, seed=5)
    deployment = deploy(labels=labels)
    with ThreadPoolExecutor(2) as both:
        imports = list(both.map(lambda _: deployment.cli("import", str(sheet), "--json"), range(2)))
    reports = [json.loads(done.stdout) for done in imports]
    for _ in range(2):
        deployment.start_ready_worker()
    deployment.wait_until_all_ended(rows=200)

    assert sorted(report["new"] + report["equal"] for report in reports) == [200, 200]
    assert sum(report["new"] for report in reports) == 200
    assert {record["normalizacao"]["revisao"] for record in deployment.appointments.find()} == {2}
    asked = deployment.asked_records()
    assert len(asked) == len(set(asked)), "a text was asked twice"


def test_a_dry_run_writes_nothing(deploy, tmp_path):
    sheet, labels = write_scenario(tmp_path / "scenario", rows=20)
    deployment = deploy(labels=labels)
    told = json.loads(deployment.cli("import", str(sheet), "--dry-run", "--json").stdout)
    assert (told["new"], told["dry_run"]) == (20, True)
    assert deployment.appointments.count_documents({}) == 0
    assert deployment.redis.dbsize() == 0


@pytest.mark.parametrize("serializer", ["pickle", "json"])
def test_a_stock_arq_backend_enqueues_one_id_at_a_time_and_reads_results(deploy, serializer):
    """The backend knows nothing of us: its own records, arq's own producer, one job each."""
    deployment = deploy(rows=60)
    rows = make_rows(60)
    ids = [ObjectId() for _ in rows]
    deployment.appointments.insert_many([{"_id": id_, **row.fields} for id_, row in zip(ids, rows, strict=True)])
    formats = {"pickle": {}, "json": {"job_serializer": job_serializer, "job_deserializer": job_deserializer}}
    deployment.start_ready_worker()

    async def enqueue_and_read():
        pool = await create_pool(
            RedisSettings.from_dsn(deployment.redis_url), default_queue_name=QUEUE_NAME, **formats[serializer]
        )
        jobs = [await pool.enqueue_job("normalize_appointment", str(id_)) for id_ in ids]
        results = [await job.result(timeout=30, poll_delay=0.02) for job in jobs]
        await pool.aclose()
        return results

    results = asyncio.run(enqueue_and_read())

    assert [result["id"] for result in results] == [str(id_) for id_ in ids]
    stored = {record["_id"]: record for record in deployment.appointments.find()}
    for id_, row, result in zip(ids, rows, results, strict=True):
        assert result["status"] == stored[id_]["normalizacao"]["status"]
        assert stored[id_]["documento_normalizado"]["cpf"] == row.cpf
    assert deployment.stats()["requests"] < 20, "sixty single jobs were not grouped"


def outcome_of(deployment, appointment_id):
    """What a stock backend gets for one id: the result, or the error."""

    async def ask():
        pool = await create_pool(RedisSettings.from_dsn(deployment.redis_url), default_queue_name=QUEUE_NAME)
        job = await pool.enqueue_job("normalize_appointment", appointment_id)
        try:
            return await Job(job.job_id, pool, _queue_name=QUEUE_NAME).result(timeout=30, poll_delay=0.02)
        except JobExecutionFailed as error:
            return error
        finally:
            await pool.aclose()

    return asyncio.run(ask())


def test_an_id_that_does_not_exist_ends_quietly(deploy):
    deployment = deploy(rows=10)
    deployment.start_ready_worker()
    deployment.put(make_rows(10))
    assert outcome_of(deployment, str(ObjectId())) == {"success": False, "error": "Appointment not found"}
    deployment.wait_until_all_ended()
    deployment.check()


def test_a_record_whose_account_is_no_document_is_put_right(deploy):
    deployment = deploy(rows=10)
    deployment.start_ready_worker()
    deployment.put(make_rows(10))
    deployment.wait_until_all_ended()
    deployment.appointments.insert_one({"_id": "odd", **make_rows(1)[0].fields, "normalizacao": "not a document"})
    assert outcome_of(deployment, "odd")["status"] == "concluido"
    assert deployment.appointments.find_one({"_id": "odd"})["normalizacao"]["status"] == "concluido"
    deployment.appointments.delete_one({"_id": "odd"})
    deployment.check()


def test_an_edit_while_the_model_works_wins_and_is_normalized(deploy):
    deployment = deploy(rows=10, hard=1.0, latency_ms=1_500)
    rows = make_rows(10, hard=1.0)
    deployment.start_ready_worker()
    deployment.put(rows)
    deployment.wait(lambda: deployment.asked() > 0, "the model is asked")

    edited = rows[0]
    new_text = "Rua das Flores,77,Centro,Campinas,SP,13010-000"
    deployment.appointments.update_one({"id_agendamento": edited.key}, {"$set": {"endereco_completo": new_text}})
    deployment.wait_until_all_ended()

    stored = deployment.appointments.find_one({"id_agendamento": edited.key})
    assert stored["endereco_normalizado"]["numero"] == "77"
    assert stored["normalizacao"]["endereco"]["origem"] == "regras"
    assert deployment.statuses()["falhou"] == 0


def test_a_kind_that_is_switched_off_is_never_touched(deploy):
    deployment = deploy(rows=30, settings={"ADDRESS_NORMALIZATION_ENABLED": "false"})
    deployment.start_ready_worker()
    deployment.put(make_rows(30))
    deployment.wait_until_all_ended()
    for record in deployment.appointments.find():
        assert "endereco_normalizado" not in record
        assert "endereco" not in record["normalizacao"]
        assert record["documento_normalizado"]["cpf"]
    assert deployment.statuses() == {"concluido": 30}
    assert deployment.asked() == 0


def test_without_a_key_the_rest_waits_in_review_until_one_is_there(deploy):
    deployment = deploy(rows=40, hard=0.5)
    rows = make_rows(40, hard=0.5)
    keyless = deployment.start_ready_worker(OPENAI_API_KEY="")
    deployment.put(rows)
    deployment.wait_until_all_ended()
    hard = sum(row.hard for row in rows)
    in_review = list(deployment.appointments.find({"normalizacao.status": "revisar"}))
    assert len(in_review) == hard
    assert {record["normalizacao"]["endereco"]["motivo"] for record in in_review} == {"sem chave de IA configurada"}
    assert deployment.asked() == 0
    keyless.stop()

    deployment.start_ready_worker()
    told = deployment.cli("retry", "--review")
    assert told.returncode == 0, told.stderr
    deployment.wait_until_all_ended()

    assert deployment.asked() > 0
    assert deployment.statuses() == {"concluido": 40}


def test_paused_replicas_claim_nothing_until_resumed(deploy):
    deployment = deploy(rows=20)
    deployment.start_ready_worker()
    assert deployment.cli("pause").returncode == 0
    deployment.put(make_rows(20))
    told = json.loads(deployment.cli("status", "--json").stdout)
    assert told is not None
    assert deployment.ended() == 0
    assert deployment.cli("resume").returncode == 0
    deployment.wait_until_all_ended()
    deployment.check()
