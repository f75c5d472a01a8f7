"""The tables of `docs/SCALING.md`, made from `results/scale.json`, and the model checked against what was measured.

`python -m benchmarks.scaling` rewrites the marked blocks of the page; `headline` is what README says of them.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.checked import Checked, check
from benchmarks.model import Costs, Deployment, Model, Workload
from benchmarks.report.text import number, table

RESULTS: Final = Path(__file__).parent / "results" / "scale.json"
PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "SCALING.md"
DAY_ROWS: Final = 100_000_000
DAY_REPLICAS: Final = 100
#: Weights of the hours: sheets arrive in office hours, most of them in the morning.
OFFICE_DAY: Final = (0, 0, 0, 0, 0, 1, 2, 6, 9, 9, 8, 6, 4, 6, 7, 7, 6, 5, 3, 2, 1, 0, 0, 0)
_BLOCK: Final = "<!-- scale:{name} -->\n{text}\n<!-- /scale:{name} -->"
#: An account of a higher tier; see the provider's page for yours.
_RPM, _TPM = 10_000.0, 4_000_000.0
_JOBS, _AT_ONCE = 40, 32


def read() -> dict[str, Any]:
    """The measured document."""
    document: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return document


# -- tables


def blocks(measured: Mapping[str, Any]) -> dict[str, str]:
    """Markdown by block name, every number from the document."""
    return {
        "rows": _rows_table(measured["rows"]),
        "flat": _flat_lines(measured["rows"]),
        "replicas": _replicas_table(measured["replicas"]),
        "limits": _limits_table(measured["limits"]),
        "memory": _memory_lines(measured["memory"], measured["idle"], measured["reconcile"]),
        "check": _check_table(check(measured)),
        "capacity": _capacity_table(Costs.of(measured)),
        "day": _day_table(Costs.of(measured)),
        "measured": _measured_lines(measured),
    }


def headline(measured: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What README says of it."""
    counted = measured["limits"]["points"]
    most = max(point["replicas"] for point in counted)
    refused = {
        shared: sum(point["refused"] for point in counted if point["shared_limit"] is shared and point["replicas"] > 1)
        for shared in (True, False)
    }
    errors = [abs(each.error) for each in check(measured) if each.unit == "s"]
    largest = max((p for p in measured["rows"]["points"] if p["way"] == "rules"), key=lambda point: point["rows"])
    growth = measured["rows"]["largest_over_smallest"]["rules"]["worker_cpu_us_per_row"]
    return [
        (
            (
                f"{largest['rows']:,} rows by rules through one worker process: seconds, CPU per row, "
                "and that CPU against a sheet of a hundredth"
            ),
            f"{number(largest['seconds'])}, {number(largest['worker_cpu_us_per_row'])} µs, {growth:g} times",
        ),
        (
            f"calls refused (429) with 2 to {most} replicas: one count of the limit against a count for each",
            f"{refused[True]} against {refused[False]}",
        ),
        (
            f"the queueing model's error in the time of {len(errors)} runs limited by store, calls, groups or requests",
            f"{statistics.median(errors):.0%} (median), {max(errors):.0%} at most",
        ),
    ]


def _table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    return "\n".join(table(head, [[_cell(each) for each in line] for line in lines]))


def _cell(value: object) -> str:
    return number(value) if isinstance(value, int | float) else str(value)


def _rows_table(measured: Mapping[str, Any]) -> str:
    head = (
        "way",
        "rows",
        "seconds",
        "worker CPU µs/row",
        "Redis CPU µs/row",
        "Redis commands/row",
        "calls/row",
        "tokens/row",
        "peak MB",
    )
    names = (
        "rows",
        "seconds",
        "worker_cpu_us_per_row",
        "redis_cpu_us_per_row",
        "redis_commands_per_row",
        "calls_per_row",
        "tokens_per_row",
        "peak_rss_mb",
    )
    lines = [(point["way"], *(point[name] for name in names)) for point in measured["points"]]
    return _table(head, lines)


def _flat_lines(measured: Mapping[str, Any]) -> str:
    said = []
    for way, grown in measured["largest_over_smallest"].items():
        sizes = sorted(point["rows"] for point in measured["points"] if point["way"] == way)
        times = (
            f"worker CPU {grown['worker_cpu_us_per_row']:g}",
            f"Redis' CPU {grown['redis_cpu_us_per_row']:g}",
            f"Redis commands {grown['redis_commands_per_row']:g}",
            f"peak memory {grown['peak_rss_mb']:g}",
        )
        second = sizes[min(1, max(0, len(sizes) - 2))]
        said.append(f"- {way}, {sizes[-1]:,} rows against {second:,}, times: {', '.join(times)}.")
    return "\n".join(said)


def _replicas_table(measured: Mapping[str, Any]) -> str:
    names = ("replicas", "worker_cpu_us_per_row", "redis_cpu_us_per_row", "redis_commands_per_row", "rows_per_s")
    head = ("replicas", "worker CPU µs/row", "Redis CPU µs/row", "Redis commands/row", "rows/s on this machine")
    return _table(head, [[point[name] for name in names] for point in measured["points"]])


def _limits_table(measured: Mapping[str, Any]) -> str:
    head = ("replicas", "count of the limit", "calls answered", "refused (429)", "seconds")
    lines = [
        (
            p["replicas"],
            "one for all" if p["shared_limit"] else "each its own",
            p["calls"] - p["refused"],
            p["refused"],
            p["seconds"],
        )
        for p in measured["points"]
    ]
    return _table(head, lines)


def _memory_lines(memory: Mapping[str, Any], idle: Mapping[str, Any], reconcile: Mapping[str, Any]) -> str:
    quarters = ", ".join(f"{mb:.0f}" for mb in memory["rss_mb_by_quarter"])
    growth = f"over the second half {memory['growth_mb_per_hour']:+.1f} MB an hour"
    given = f"{memory['rows']:,} rows of {memory['texts']:,} texts again and again, {memory['calls']:,} calls"
    loaded = f"{memory['minutes']:g} minutes under load, {given}: resident MB by quarter {quarters}"
    resting = idle["points"][-1]
    share = f"{resting['redis_cpu_us_per_s'] / 1e4:.2g} % of Redis' core, {resting['rss_mb']:.0f} MB"
    whole, lost = reconcile["whole"], reconcile["lost"]
    took_s = whole["looked_at"] * whole["worker_cpu_us_per_row"] / 1e6
    looking = f"{whole['looked_at']:,} rows at most while none is lost, {took_s:.2g} s of CPU"
    refilled = f"{lost['worker_cpu_us_per_row']:g} µs a row, {lost['redis_cpu_us_per_row']:g} of Redis"
    lines = (
        f"{loaded}; {growth}.",
        f"A replica without work: {resting['commands_per_s']:g} Redis commands a second, {share}.",
        f"Looking for lost rows, every five minutes, on one replica: {looking}.",
        f"Enqueueing again what waits, after Redis lost the whole queue: {refilled}.",
    )
    return "\n".join(f"- {line}" for line in lines)


def _check_table(checked: Sequence[Checked]) -> str:
    lines = [(each.what, each.unit, each.predicted, each.measured, f"{each.error:+.0%}") for each in checked]
    return _table(("point", "unit", "model", "measured", "error"), lines)


def _capacity_table(costs: Costs) -> str:
    """What each part takes, for the workload of the guides."""
    lines = []
    for replicas in (1, 2, 10, 100):
        found = Model(
            costs, Workload(), Deployment(replicas, _JOBS, concurrency=_AT_ONCE, rpm=_RPM, tpm=_TPM)
        ).capacities()
        rows_per_s, limit = min((value, name) for name, value in found.items())
        lines.append(
            (
                replicas,
                *(found[name] for name in ("cpu", "redis", "groups", "calls", "rpm", "tpm")),
                limit,
                rows_per_s * 86_400,
            )
        )
    head = ("replicas", "CPU", "Redis", "groups", "calls", "RPM", "TPM", "limit", "rows a day")
    return _table(head, lines)


def _day_table(costs: Costs) -> str:
    lines = []
    for replicas, provider in ((DAY_REPLICAS, 1.0), (DAY_REPLICAS, 0.25), (10, 1.0), (10, 0.25)):
        at = Deployment(replicas, _JOBS, concurrency=_AT_ONCE, rpm=_RPM * provider, tpm=_TPM * provider)
        model = Model(costs, Workload(), at)
        day = model.day(DAY_ROWS, OFFICE_DAY)
        lines.append(
            (
                f"{replicas} replicas, {at.tpm / 1e6:g} M tokens/min",
                day.rows_per_s,
                day.limit,
                day.peak_rows_per_s,
                day.longest_queue,
                day.longest_wait_s / 60,
                f"{day.peak_rows_per_s * model.redis_s + replicas * costs.idle_redis_s:.0%}",
                f"{model.reconcile_share(day.longest_queue):.0%}",
            )
        )
    head = (
        "deployment",
        "rows/s at most",
        "limit",
        "rows/s in the fullest hour",
        "longest queue",
        "longest wait, min",
        "Redis core in that hour",
        "reconcile, of one replica",
    )
    return _table(head, lines)


def _measured_lines(measured: Mapping[str, Any]) -> str:
    lines = []
    for phase, part in measured.items():
        about = part["measured"]
        lines.append(
            (phase, about["date"], f"`{about['commit']}`", about["python"], about["cpus"], f"{about['load'][0]:g}")
        )
    return _table(("phase", "date", "commit", "Python", "CPUs", "load at its end"), lines)


# -- the page


def rendered(page: str, made: Mapping[str, str]) -> str:
    """The page with every marked block replaced. KeyError where it marks a block nobody makes."""
    pattern = re.compile(r"<!-- scale:(\w+) -->\n.*?<!-- /scale:\1 -->", re.DOTALL)
    return pattern.sub(lambda found: _BLOCK.format(name=found[1], text=made[found[1]]), page)


def main() -> int:
    """Rewrite the page's blocks."""
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8"), blocks(read())), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
