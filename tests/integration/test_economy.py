"""The economy lane end to end: real Redis and MongoDB, real worker, the provider's files and batches over a socket."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from normalizer import embedded
from normalizer.settings import settings_of
from normalizer.store import Batch, Stage
from tests.acceptance.harness import make_rows, write_labels
from tests.integration.economy_lab import MODEL, EconomyLab, hard_rows, twin


@pytest.fixture(scope="module")
def shared_provider(tmp_path_factory):
    """One provider for all tests of this file: it knows every row they use, and ends no batch by itself."""
    directory = tmp_path_factory.mktemp("provider")
    labels = write_labels(directory / "labels.jsonl", [*hard_rows(30), *make_rows(60, hard=0.5, seed=2)])
    running = embedded.start_provider(labels, directory=directory, batch_s=-1)
    yield running
    running.stop()


@pytest.fixture
def lab(redis_url, mongo_url, database, mongo, shared_provider):
    def start(*, provider=shared_provider, **settings):
        given = {
            "REDIS_URL": redis_url,
            "MONGODB_URL": mongo_url,
            "DATABASE_NAME": database,
            "OPENAI_API_KEY": "simulated",
            "OPENAI_BASE_URL": provider.url,
            "OPENAI_MODEL": MODEL,
            "BATCH_LINGER_MS": "20",
            "LLM_LANE": "batch",
            "BATCH_API_MIN_ROWS": "10",
        }
        clinic = EconomyLab(settings_of(given | settings), provider, mongo)
        clinic.reset_provider()
        return clinic

    return start


async def test_a_large_import_is_answered_by_batch_at_half_price(lab):
    rows = make_rows(60, hard=0.5, seed=2)
    hard = [row for row in rows if row.hard]
    clinic = lab()
    import_id = await clinic.put(rows)

    await clinic.work()
    assert clinic.statuses() == {"concluido": 60 - len(hard), "pendente": len(hard)}, "rules settle theirs at once"
    assert clinic.asked() == {}, "asked at the full price"
    async with clinic.tasks() as tasks:
        status = await tasks.status()
    assert (status.due, status.running, status.deferred) == (0, 0, 0), "what waits for a batch is in no queue"

    await clinic.turn(minutes=2)
    assert clinic.stats()["batches"] == 1
    clinic.end_batches()
    await clinic.turn()
    await clinic.work()

    assert clinic.statuses() == {"concluido": 60}
    assert clinic.origins() == {"regras": 60 - len(hard), "llm": len(hard)}
    assert set(clinic.asked().values()) == {1}
    assert clinic.stats()["requests"] == 0, "nothing was left to the other lane"
    assert clinic.appointments.count_documents({"normalizacao.lote": {"$exists": True}}) == 0
    assert clinic.appointments.distinct("normalizacao.tentativas") == [1]
    assert {record["endereco_normalizado"]["numero"] for record in clinic.appointments.find()} == {
        row.address["numero"] for row in rows
    }
    assert clinic.stats()["files"] == 0, "a file of patients' texts was left at the provider"
    assert [batch["etapa"] for batch in clinic.batches] == ["encerrado"]

    stats = clinic.stats()
    full_usd = (0.10 * stats["tokens_in"] + 0.50 * stats["tokens_out"]) / 1e6
    async with clinic.ledger() as ledger:
        month, of_import = await ledger.month(), await ledger.of_import(import_id)
    assert month.usd == pytest.approx(full_usd / 2)
    assert (month.records, month.calls) == (len(hard), stats["batched"])
    assert of_import.usd == pytest.approx(month.usd)


async def test_a_small_import_and_a_lone_row_do_not_wait(lab):
    rows = hard_rows(12)
    clinic = lab()
    await clinic.put(rows[:8])
    await clinic.work()
    assert clinic.statuses() == {"concluido": 8}

    await clinic.put(rows[8:], sheet_rows=500)
    edited = clinic.appointments.find_one({"id_agendamento": rows[8].key})
    clinic.appointments.update_one({"_id": edited["_id"]}, {"$set": {"endereco_completo": hard_rows(30)[20].text}})
    await clinic.work()
    assert clinic.statuses()["pendente"] == 3, "an edited row has somebody waiting for it"


async def test_reconcile_leaves_alone_what_waits_for_a_batch(lab):
    rows = hard_rows(12)
    clinic = lab()
    await clinic.put(rows)
    await clinic.work()
    assert await clinic.reconcile() == 0, "parked, and enqueued again"
    await clinic.turn(minutes=2)
    assert await clinic.reconcile() == 0, "out in a batch, and enqueued again"

    clinic.end_batches()
    async with clinic.lane(queue_away=True) as lane:
        await lane.turn()
    assert clinic.appointments.count_documents({"normalizacao.lote.acabou": {"$ne": None}}) == 12
    assert await clinic.reconcile() == 12, "what came back and could not be enqueued is lost"
    await clinic.work()
    assert clinic.statuses() == {"concluido": 12}
    assert set(clinic.asked().values()) == {1}


async def test_leftovers_go_to_the_other_lane(lab):
    rows = hard_rows(30)
    clinic = lab(LLM_RECORDS_PER_CALL="5")
    await clinic.put(rows)
    await clinic.work()
    await clinic.turn(minutes=2)
    clinic.fault({"kind": "missing"}, {"kind": "invent"}, {"kind": "status", "status": 400}, {"kind": "refusal"})
    clinic.end_batches(status="expired", answered=5)
    await clinic.turn()
    # Of six requests: one lacks a record, one invents, one fails, one refuses, one is whole, one expired.
    assert await clinic.known() == 4 + 4 + 0 + 0 + 5 + 0
    clinic.fault()
    await clinic.work()

    assert clinic.statuses() == {"concluido": 30}
    asked = clinic.asked()
    again = {text: times for text, times in asked.items() if times > 1}
    assert len(again) == 1 + 1 + 5 + 5, "whoever was answered was asked again"
    assert clinic.stats()["records"] == 20 + 17, "answered in the batch, then by calls"


async def test_texts_that_many_carry_are_asked_once_also_while_their_batch_is_out(lab):
    rows = hard_rows(12)
    clinic = lab()
    await clinic.put(rows)
    twins = [twin(row) for row in rows[:4]]
    await clinic.put(twins, sheet_rows=500)
    await clinic.work()
    await clinic.turn(minutes=2)
    late = [twin(row) for row in twins]
    await clinic.put(late, sheet_rows=500)
    await clinic.work()
    await clinic.turn(minutes=2)
    assert clinic.stats()["batches"] == 1, "asked again what is being asked"
    clinic.end_batches()
    await clinic.turn()
    await clinic.work()

    assert clinic.statuses() == {"concluido": 20}
    assert set(clinic.asked().values()) == {1}
    assert clinic.origins() == {"llm": 12, "cache": 8}


async def test_what_the_other_lane_has_answered_meanwhile_leaves_in_no_batch(lab):
    rows = hard_rows(12)
    clinic = lab()
    await clinic.put(rows)
    await clinic.work()
    await clinic.put([twin(rows[0])], sheet_rows=1)
    await clinic.work()
    await clinic.turn(minutes=2)
    clinic.end_batches()
    await clinic.turn()
    await clinic.work()
    assert clinic.statuses() == {"concluido": 13}
    assert set(clinic.asked().values()) == {1}


async def test_a_batch_leaves_only_once_nobody_new_comes(lab):
    clinic = lab()
    await clinic.put(hard_rows(12))
    await clinic.work()
    await clinic.turn(seconds=30)
    assert clinic.stats()["batches"] == 0
    await clinic.put(hard_rows(30)[12:], sheet_rows=500)
    await clinic.work()
    await clinic.turn(seconds=20)
    assert clinic.stats()["batches"] == 0, "the second sheet has just come"
    await clinic.turn(seconds=50)
    assert clinic.stats()["batches"] == 1


async def test_a_paused_queue_sends_nothing(lab):
    clinic = lab()
    await clinic.put(hard_rows(12))
    await clinic.work()
    async with clinic.tasks() as tasks:
        await tasks.pause()
        await clinic.turn(minutes=2)
        assert clinic.stats()["batches"] == 0
        await tasks.resume()
    await clinic.turn()
    assert clinic.stats()["batches"] == 1


async def test_a_batch_takes_what_the_day_can_pay_and_the_rest_waits(lab):
    rows = hard_rows(30)
    clinic = lab(LLM_RECORDS_PER_CALL="5")
    await clinic.put(rows)
    await clinic.work()
    clinic.budget_usd = 1e-9
    await clinic.turn(minutes=2)
    assert clinic.stats()["batches"] == 0

    clinic.budget_usd = 0.00012
    await clinic.turn()
    seated = clinic.appointments.count_documents({"normalizacao.lote.id": {"$exists": True}})
    assert 0 < seated < 30
    await clinic.turn()
    assert clinic.stats()["batches"] == 1, "what is under way counts as spent"
    clinic.end_batches()
    await clinic.turn()
    async with clinic.ledger() as ledger:
        assert 0 < (await ledger.month()).usd <= clinic.budget_usd
    await clinic.work()
    assert clinic.statuses() == {"concluido": seated, "pendente": 30 - seated}


async def test_an_endpoint_without_batches_costs_a_turn_and_the_full_price(lab, start_provider):
    rows = hard_rows(12)
    clinic = lab(provider=start_provider({row.text: row.address for row in rows}, no_batches=True))
    await clinic.put(rows)
    await clinic.work()
    clinic.later = timedelta(minutes=2)
    async with clinic.lane() as lane:
        assert await clinic.patient(lane) == frozenset(), "they have waited already"
        await lane.turn()
        assert await clinic.patient(lane) == frozenset(), "the lane is still thought to be there"
    await clinic.work()
    assert clinic.statuses() == {"concluido": 12}
    assert clinic.stats()["requests"] > 0


async def test_a_model_that_takes_no_batches_leaves_no_file_behind(lab):
    clinic = lab()
    await clinic.put(hard_rows(12))
    await clinic.work()
    clinic.fault({"kind": "status", "path": "batches", "status": 400})
    await clinic.turn(minutes=2)
    await clinic.work()
    assert clinic.statuses() == {"concluido": 12}
    assert (clinic.stats()["batches"], clinic.stats()["files"]) == (0, 0)
    assert [batch["fim"] for batch in clinic.batches] == ["recusado"]


async def test_a_full_account_is_tried_again_later(lab):
    rows = hard_rows(12)
    clinic = lab()
    await clinic.put(rows)
    await clinic.work()
    await clinic.turn(minutes=2)
    clinic.end_batches(status="failed", code="token_limit_exceeded")
    await clinic.turn()
    await clinic.turn(minutes=5)
    assert clinic.stats()["batches"] == 1
    await clinic.turn(minutes=12)
    assert clinic.stats()["batches"] == 2
    clinic.end_batches()
    await clinic.turn()
    await clinic.work()
    assert clinic.statuses() == {"concluido": 12}
    assert set(clinic.asked().values()) == {1}


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_a_batch_that_ends_without_answers_is_left_to_the_other_lane(lab, status):
    rows = hard_rows(12)
    clinic = lab()
    await clinic.put(rows)
    await clinic.work()
    await clinic.turn(minutes=2)
    clinic.end_batches(status=status, answered=0)
    await clinic.turn()
    await clinic.work()
    assert clinic.statuses() == {"concluido": 12}
    assert set(clinic.asked().values()) == {1}


@pytest.mark.parametrize("path", ["files", "batches"])
async def test_an_answer_lost_on_its_way_is_found_by_listing(lab, path):
    rows = hard_rows(12)
    clinic = lab()
    await clinic.put(rows)
    await clinic.work()
    clinic.fault({"kind": "drop_connection", "path": path})
    await clinic.turn(minutes=2)
    await clinic.turn()
    assert clinic.stats()["batches"] == 1
    assert clinic.stats()["files"] == 1, "uploaded twice"
    clinic.end_batches()
    await clinic.turn()
    await clinic.work()
    assert clinic.statuses() == {"concluido": 12}
    assert set(clinic.asked().values()) == {1}


@pytest.mark.parametrize("path", ["files", "batches"])
async def test_a_request_that_never_arrived_is_made_again_after_a_while(lab, path):
    clinic = lab()
    await clinic.put(hard_rows(12))
    await clinic.work()
    clinic.fault({"kind": "status", "path": path, "status": 503})
    await clinic.turn(minutes=2)
    await clinic.turn(seconds=30)
    assert clinic.stats()["batches"] == 0, "it may still be under way"
    await clinic.turn(minutes=3)
    assert clinic.stats()["batches"] == 1


async def test_a_refused_key_is_shown_and_everything_waits(lab):
    clinic = lab()
    await clinic.put(hard_rows(12))
    await clinic.work()
    clinic.fault({"kind": "status", "path": "files", "status": 401})
    await clinic.turn(minutes=2)
    assert clinic.statuses() == {"pendente": 12}
    await clinic.turn(minutes=3)
    assert clinic.stats()["batches"] == 1


async def test_two_turns_at_once_are_one(lab):
    clinic = lab()
    await clinic.put(hard_rows(12))
    await clinic.work()
    await clinic.turns_at_once(3, minutes=2)
    assert clinic.stats()["batches"] == 1


async def test_without_redis_no_answer_is_let_go(lab):
    rows = hard_rows(12)
    clinic = lab()
    await clinic.put(rows)
    await clinic.work()
    await clinic.turn(minutes=2)
    clinic.end_batches()
    async with clinic.lane(cache_away=True) as lane:
        await lane.turn()
    assert clinic.appointments.count_documents({"normalizacao.lote.acabou": {"$ne": None}}) == 0
    await clinic.turn()
    await clinic.work()
    assert clinic.statuses() == {"concluido": 12}
    assert set(clinic.asked().values()) == {1}


async def test_a_lane_switched_off_reads_what_is_out_and_gives_back_what_has_not_left(lab):
    rows = hard_rows(30)
    clinic = lab()
    await clinic.put(rows[:12])
    await clinic.work()
    await clinic.turn(minutes=2)
    await clinic.put(rows[12:], sheet_rows=500)
    await clinic.work()
    clinic.min_rows = None
    await clinic.turn()
    await clinic.work(llm_lane="sync")
    assert clinic.statuses() == {"concluido": 18, "pendente": 12}
    clinic.end_batches()
    await clinic.turn()
    await clinic.work(llm_lane="sync")
    assert clinic.statuses() == {"concluido": 30}
    assert set(clinic.asked().values()) == {1}


async def test_without_a_key_what_has_not_left_waits_in_review(lab):
    clinic = lab()
    await clinic.put(hard_rows(12))
    await clinic.work()
    async with clinic.lane(key=False) as lane:
        await lane.turn()
    await clinic.work(openai_api_key=None)
    assert clinic.statuses() == {"revisar": 12}
    assert clinic.appointments.distinct("normalizacao.endereco.motivo") == ["sem chave de IA configurada"]


async def test_a_process_frozen_until_another_has_made_its_batch_takes_its_own_back(lab):
    rows = hard_rows(12)
    clinic = lab()
    await clinic.put(rows)
    await clinic.work()
    await clinic.turn(minutes=2)
    [record] = clinic.batches
    as_it_was = Batch(str(record["_id"]), Stage.UPLOADED, record["criado_em"], file_id=record["arquivo"])
    async with clinic.lane() as lane, lane._batches.turn() as turn:
        await lane._journey.go_on(as_it_was, turn)
    assert clinic.stats()["batches"] == 2
    clinic.end_batches()
    await clinic.turn()
    await clinic.work()
    assert clinic.statuses() == {"concluido": 12}
    assert set(clinic.asked().values()) == {1}, "the second batch was worked off"


async def test_an_import_undone_takes_its_batch_back(lab):
    clinic = lab()
    await clinic.put(hard_rows(12))
    await clinic.work()
    await clinic.turn(minutes=2)
    clinic.appointments.delete_many({})
    await clinic.turn()
    await clinic.turn()
    assert [batch["fim"] for batch in clinic.batches] == ["cancelled"]
    assert clinic.stats()["files"] == 0


async def test_a_row_edited_while_its_batch_is_out_gets_the_new_texts_answer(lab):
    rows = hard_rows(13)
    clinic = lab()
    await clinic.put(rows[:12])
    await clinic.work()
    await clinic.turn(minutes=2)
    first = clinic.appointments.find_one({"id_agendamento": rows[0].key})
    clinic.appointments.update_one({"_id": first["_id"]}, {"$set": {"endereco_completo": rows[12].text}})
    clinic.end_batches()
    await clinic.turn()
    await clinic.work()
    assert clinic.statuses() == {"concluido": 12}
    edited = clinic.appointments.find_one({"_id": first["_id"]})
    assert edited["endereco_normalizado"]["numero"] == rows[12].address["numero"]
    assert set(clinic.asked().values()) == {1}


async def test_no_document_phone_or_name_is_in_the_file(lab):
    rows = hard_rows(12)
    clinic = lab()
    private = {"nome_paciente": "Maria Aparecida Lima", "telefone": "(11) 98765-4321"}
    burdened = [replace(row, text=f"{row.text}, Maria Aparecida Lima, 98765 4321, {row.cpf} {row.rg}") for row in rows]
    await clinic.put(burdened, more=private)
    await clinic.work()
    await clinic.turn(minutes=2)
    clinic.end_batches()

    sent = str(clinic.look("requests")["requests"]).casefold()
    assert all(f"{row.address['numero']}" in sent for row in rows)
    assert "aparecida" not in sent
    assert "4321" not in sent
    assert not [row.key for row in rows if row.cpf in sent or row.rg in sent]
    stored = str(list(clinic.mongo["normalizer_batches"].find())).casefold()
    assert "rua" not in stored, "a patient's text outside the appointment"
