"""The model provider is away while real workers run: cache and rules go on, the rest resumes without a hand."""

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
