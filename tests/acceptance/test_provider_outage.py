"""The model provider hangs or is away while real workers run: nothing piles up, and nothing needs a hand afterwards."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.harness import make_rows

ROWS = 120


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_provider_that_is_away_delays_only_what_needs_it_and_counts_no_try(deploy):
    rows = make_rows(ROWS, hard=0.3)
    hard = sum(row.hard for row in rows)
    deployment = deploy(rows=ROWS, hard=0.3)
    deployment.provider.kill()
    deployment.put(rows)
    deployment.start_ready_worker()
    deployment.start_ready_worker()

    deployment.wait(lambda: deployment.ended() == ROWS - hard, "what rules settle ends all the same")
    deployment.wait(lambda: not deployment.claimed(), "nobody holds on to a provider that is away")
    assert deployment.queue_state()["queued"] == hard
    lane = json.loads(deployment.cli("status", "--json").stdout)["ia"]
    assert lane["disjuntor"] in {"open", "half-open"} or lane["em_pausa"], lane

    deployment.provider.start()
    deployment.wait_until_all_ended(timeout_s=180)
    assert deployment.statuses() == {"concluido": ROWS}
    assert deployment.appointments.distinct("normalizacao.tentativas") == [1], "an outage was counted against a row"
    deployment.check()


def test_a_provider_that_hangs_bounds_what_is_claimed(deploy):
    groups, size = 2, 10
    rows = make_rows(60, hard=1.0)
    deployment = deploy(rows=60, hard=1.0, settings={"ARQ_MAX_JOBS": str(groups), "BATCH_MAX_ITEMS": str(size)})
    deployment.put(rows)
    deployment.fault({"kind": "hang", "times": 1_000})
    worker = deployment.start_ready_worker()
    deployment.wait(lambda: deployment.claimed() == groups * size, "as many groups as may be are waiting")
    seen = deployment.beats(worker)
    deployment.wait(lambda: deployment.beats(worker) > seen, "the worker goes on living")

    assert deployment.claimed() == groups * size, "claimed beyond what may wait for the model"
    assert len(set(deployment.asked_records())) <= groups * size
    assert deployment.statuses() == {"pendente": 60}
