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
    assert lane["disjuntor"] in {"closed", "probing", "paused"}, lane

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


STANDING = {
    "a wrong model name": {"kind": "status", "status": 400, "message": "typo is not a valid model ID"},
    "a model that only reasons": {"kind": "reasoned"},
    "a pause of a day": {"kind": "status", "status": 429, "retry_after_s": 86_400},
}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", STANDING)
def test_a_fault_that_stands_sends_no_row_to_review_and_leaves_nothing_to_do_once_it_is_mended(deploy, name):
    rows = make_rows(ROWS, hard=0.3)
    hard = sum(row.hard for row in rows)
    deployment = deploy(rows=ROWS, hard=0.3)
    deployment.fault(STANDING[name] | {"times": 100_000})
    deployment.put(rows)
    deployment.start_ready_worker()

    deployment.wait(lambda: deployment.ended() == ROWS - hard, "what rules settle ends all the same")
    deployment.wait(lambda: not deployment.claimed(), "nobody holds on to a provider that refuses")
    people = " ".join(deployment.cli("status").stdout.split())
    asked = deployment.stats()["requests"]

    assert deployment.statuses() == {"concluido": ROWS - hard, "pendente": hard}
    assert asked <= 10
    assert "Tenta de novo às" in people
    assert {"a wrong model name": "typo is not a valid model ID", "a model that only reasons": "raciocínio"}.get(
        name, "Retry-After de 86400 s"
    ) in people

    deployment.fault()
    deployment.cli("resume")
    deployment.wait_until_all_ended(timeout_s=180)

    assert deployment.statuses() == {"concluido": ROWS}
    spent = json.loads(deployment.cli("status", "--json").stdout)["ia"]["hoje"]
    provider = deployment.stats()
    answered = provider["by_status"]["200"]
    assert (spent["calls"], spent["tokens_in"], spent["tokens_out"]) == (
        answered,
        provider["tokens_in"],
        provider["tokens_out"],
    )
