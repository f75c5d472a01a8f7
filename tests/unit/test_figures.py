"""What is made of measured rounds: percentiles, lateness, medians and spread, the bound of the limits."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.figures import Round, bound, ratios, round_of, summary
from benchmarks.processes import usage

SPENT = {"calls": 40, "refused": 3, "tokens_in": 6_000_000, "tokens_out": 2_000_000}


def made(peer: str = "seed", *, waits_s: list[float] | None = None, rows: int = 100) -> Round:
    waits_s = [float(number) for number in range(1, 101)] if waits_s is None else waits_s
    statuses = {"concluido": len(waits_s), "revisar": 0, "falhou": 0, "pendente": rows - len(waits_s)}
    return round_of(
        peer, waits_s=waits_s, statuses=statuses, spent=SPENT, cpu_s=0.5, peak_rss_mb=80.0, redis_commands=250
    )


def test_percentiles_and_the_slowest_row_are_of_the_waits() -> None:
    done = made()
    assert (done.wait_p50_s, done.wait_p95_s, done.wait_p99_s, done.seconds) == (50, 95, 99, 100)
    assert (done.rows_per_s, done.cpu_us_per_row, done.redis_commands_per_row) == (1.0, 5_000, 2.5)


def test_money_is_what_the_tokens_cost() -> None:
    assert made().usd_per_1000_rows == pytest.approx(1000 * (6 * 0.10 + 2 * 0.50) / 100)


def test_a_row_that_was_never_saved_is_late_too() -> None:
    done = made(waits_s=[1.0] * 96 + [301.0], rows=100)
    assert (done.saved, done.late_share) == (97, 0.04)


def test_a_summary_says_median_lowest_and_highest() -> None:
    rounds = [replace(made(), rows_per_s=value) for value in (3.0, 1.0, 2.0)]
    assert summary(rounds)["rows_per_s"] == {"median": 2.0, "low": 1.0, "high": 3.0}
    assert "redis_commands_per_row" not in summary([replace(made(), redis_commands_per_row=None)])


def test_ratios_say_how_much_more_the_other_took() -> None:
    ours = summary([replace(made(), calls=4, rows_per_s=30.0, tokens_in=1_000_000, tokens_out=0)])
    found = ratios(ours, summary([made()]))
    assert (found["calls"], found["rows_per_s"], found["tokens"]) == (10.0, 30.0, 8.0)


def test_the_bound_lets_the_first_window_go_free() -> None:
    def least(done: Round, **limits: int) -> dict[str, Any]:
        return bound(done, **({"rpm": 0, "tpm": 0} | limits), latency_ms=500, tokens_per_s=50_000)

    assert least(made())["seconds"] == 1.5
    assert least(made(), rpm=40, tpm=8_000_000)["ratio"] is None
    assert least(made(), rpm=40)["seconds"] == 1.5
    found = least(made(), rpm=15, tpm=4_000_000)
    assert (found["limit"], found["windows"], found["seconds"]) == ("requests", 2.67, 121.5)
    assert found["ratio"] == round(100 / 121.5, 2)
    assert least(made(), rpm=40, tpm=1_000_000)["limit"] == "tokens"


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_usage_counts_children_and_what_they_took() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\n"
    parent = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {burn!r}], check=True)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'], stdin=subprocess.PIPE)\n"
        "print(flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = usage(process.pid)
        process.communicate()
    tick_s = 1 / os.sysconf("SC_CLK_TCK")  # /proc counts in ticks; the burner's own clock is finer
    assert found.cpu_s >= 0.3 - 2 * tick_s
    assert found.peak_rss_mb > usage(os.getpid()).peak_rss_mb / 100 > 0
