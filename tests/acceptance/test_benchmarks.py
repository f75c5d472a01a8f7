"""The benchmarks themselves, small: every peer really runs, and what is written adds up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks import provider_speed, run
from benchmarks.peers.line_up import OURS, PEERS

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 24


@pytest.mark.timeout(600)
def test_every_peer_works_off_the_same_rows_and_only_ours_asks_for_little(tmp_path: Path) -> None:
    out = tmp_path / "run.json"

    assert run.main(["--quick", "--rows", str(ROWS), "--out", str(out)]) == 0

    document = json.loads(out.read_text("utf-8"))
    assert [(each["peer"], each["rows"], each["saved"]) for each in document["raw"]] == [
        (name, ROWS, ROWS) for name in PEERS
    ]
    calls = {name: figures["calls"]["median"] for name, figures in document["open"].items()}
    assert ROWS < calls["seed"] <= 2 * ROWS
    assert calls["fan-out"] <= ROWS
    assert calls["arq-batched"] == 2
    assert calls[OURS] < ROWS / 2
    for figures in document["open"].values():
        assert 0 < figures["wait_p50_s"]["median"] <= figures["wait_p99_s"]["median"] <= figures["seconds"]["median"]
        assert figures["peak_rss_mb"]["median"] > 10
    assert document["open"]["seed"]["cpu_us_per_row"]["median"] > 0
    assert document["ratios"]["seed"]["calls"] == round(calls["seed"] / max(1, calls[OURS]), 2)
    assert [(each["peer"], each["saved"], each["late_share"]) for each in document["limited"]] == [(OURS, ROWS, 0)]


def test_the_providers_own_bench_counts_good_answers(tmp_path: Path) -> None:
    out = tmp_path / "provider.json"

    assert provider_speed.main(["--seconds", "0.5", "--out", str(out)]) == 0

    document = json.loads(out.read_text("utf-8"))
    assert document["keeps_up"] is all(each["requests_per_s"] >= 500 for each in document["calls"].values())
    assert all(each["requests"] > 0 and each["cpu_us_per_request"] > 0 for each in document["calls"].values())
