"""The scale benchmark and the tuning, in small: real workers, a real Redis, the sink, a simulated provider."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import scale
from benchmarks.fleet import hard_rows, import_rows, mixed, pool, run_once, write_labels
from benchmarks.tune import main as tune
from normalizer.domain.address import parse_address
from normalizer.simulation import embedded
from normalizer.worker.pipeline import needs_model

# Real processes that start, work and stop: on a machine that others use each takes its time.
pytestmark = pytest.mark.timeout(400)


def test_a_fleet_ends_every_row_and_counts_what_it_took(
    tmp_path: Path, start_provider: Callable[..., embedded.ProviderService]
) -> None:
    rows = mixed(120, residual=0.25, known=0.5)
    labels = write_labels(tmp_path / "labels.jsonl", [row for row in rows if row.expected is not None])

    used = run_once(tmp_path, rows, 120, replicas=1, provider=start_provider(labels))

    assert used["rows"] == 120
    assert used["calls"] >= 1
    assert used["refused"] == 0
    assert used["tokens_in"] > used["tokens_out"] > 0
    assert 0.5 < used["redis_commands_per_row"] < 50
    assert used["worker_cpu_us_per_row"] > 0
    assert 40 < used["peak_rss_mb"] < 1_000


@pytest.mark.parametrize(
    "phases", ["idle,reconcile,room", pytest.param("rows,replicas,limits,memory", marks=pytest.mark.slow)]
)
def test_the_scale_script_runs_in_small_and_writes_nothing(
    phases: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scale.json"
    assert scale.main(["--quick", "--phases", phases, "--out", str(out)]) == 0

    told: dict[str, Any] = {}
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("{"):
            told |= json.loads(line)
    assert list(told) == phases.split(",")
    assert all(part.get("points") or part.get("rows") for part in told.values())
    assert not out.exists()


def test_tuning_tries_the_defaults_and_a_step_with_real_workers(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--rows", "120", "--residual", "0.5", "--latency-s", "0.1", "--tokens-per-s", "5000", "--json"]
    assert tune([*arguments, "--rpm", "0", "--tpm", "0", "--max-replicas", "1", "--trials", "2"]) == 0

    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert [(each["rows"], each["refused"]) for each in said["ensaios"]] == [(120, 0), (120, 0)]
    assert all(each["calls"] >= 1 and each["seconds"] > 0 for each in said["ensaios"])
    assert said["ambiente"]["ARQ_MAX_JOBS"].isdigit()
    assert captured.err.count("linhas/min (120 linhas em") == 2


def test_mixed_rows_are_of_the_kind_asked_for() -> None:
    rows = mixed(200, residual=0.2, known=0.25)
    asked = [row.address for row in rows if needs_model(parse_address(row.address or ""))]
    assert (len(rows), len(asked), len(set(asked))) == (200, 40, 30)
    assert not any(needs_model(parse_address(row.address or "")) for row in mixed(50, residual=0, known=0))


def test_supply_goes_round_as_often_as_it_must() -> None:
    assert [row.fields["endereco_coleta"] for row in import_rows(hard_rows(2), 5, prefix="p")][::2] == (
        [hard_rows(2)[0].address] * 3
    )
    assert len({row.key for row in import_rows(pool(10), 100, prefix="p")}) == 100
