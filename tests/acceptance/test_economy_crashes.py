"""A worker dies at each step of a batch's way; another goes on. Nothing is asked twice, nothing is lost or left behind.

What a step's end would have told is in MongoDB or can be found at the provider: see docs/decisions/009.
"""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta

import pytest

from normalizer.economy.reading import LINES
from tests.acceptance.harness import make_rows

ROWS = 60
ECONOMY = {
    "LLM_LANE": "batch",
    "BATCH_API_MIN_ROWS": "10",
    "BATCH_API_POLL_S": "1",
    "LLM_RECORDS_PER_CALL": "1",
}
STEPS = {
    "uploaded": "the file is uploaded, and its id not written down",
    "cached": "half of the results are in the cache, and nobody is let go",
}
MORE_STEPS = {
    "created": "the batch is made, and its id not written down",
    "released": "appointments are let go, and not enqueued",
    "parked": "appointments are parked, and their jobs not settled",
    "seated": "a batch is put together, and nothing is uploaded",
    "counted": "the cost of results is counted, and nobody is let go",
    "read": "all results are read, and the files not deleted",
}


def die_and_be_replaced(deploy, step: str, hit: int):
    rows = make_rows(ROWS, hard=0.6)
    hard = sum(row.hard for row in rows)
    assert hard > LINES, "no results would be half read"
    deployment = deploy(rows=ROWS, hard=0.6, settings=ECONOMY, batch_s=0.5)
    database = deployment.client[deployment.database]
    database.normalizer_imports.insert_one({"_id": "import", "linhas": ROWS})
    deployment.put(rows)
    victim = deployment.start_worker(**deployment.sabotage(point=step, hit=hit))
    assert victim.wait(90) == -signal.SIGKILL, deployment.last_words()
    assert [event.what for event in deployment.journal()].count("died") == 1

    # The clock, moved on: the dead process's turn is over, and what waits has waited long enough for reconcile.
    past = datetime.now(UTC) - timedelta(hours=1)
    database.normalizer_batches.update_one({"_id": "turno"}, {"$set": {"ate": past}})
    deployment.age_pending()
    heir = deployment.start_worker(**deployment.sabotage())
    deployment.wait(lambda: deployment.beats(heir), "the heir beats")
    deployment.wait_until_all_ended()
    deployment.wait(lambda: deployment.stats()["files"] == 0, "nothing is left at the provider")

    # On a slow machine the import may be parked in more than one piece, and leave in as many batches.
    stats = deployment.stats()
    known = database.normalizer_batches.count_documents({"etapa": {"$exists": True}})
    assert stats["batches"] == known, "a batch was made twice"
    assert stats["requests"] == 0, "something was asked at the full price"
    assert (stats["batched"], stats["records"]) == (hard, hard)
    assert deployment.statuses() == {"concluido": ROWS}
    days = list(deployment.redis.scan_iter("norm:usage:20??-??-??"))  # two, around midnight
    counted = sum(int(deployment.redis.hget(day, "records") or 0) for day in days)
    assert counted == hard, "the cost was counted twice, or not at all"
    assert database.normalizer_batches.distinct("etapa") == ["encerrado"]
    assert not deployment.appointments.count_documents({"normalizacao.lote": {"$exists": True}})
    # Each hard row is written when it is parked, let go and saved; again only where a process died in between.
    deployment.check(rewritten=3 * hard, results_kept=False)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("step", STEPS, ids=STEPS.values())
def test_a_process_dies_on_a_batchs_way(deploy, step):
    die_and_be_replaced(deploy, step, hit=2 if step == "cached" else 1)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("step", "hit"), [*((step, 1) for step in MORE_STEPS), ("cached", 1), ("counted", 2), ("released", 2)]
)
def test_a_process_dies_on_the_rest_of_a_batchs_way(deploy, step, hit):
    die_and_be_replaced(deploy, step, hit)
