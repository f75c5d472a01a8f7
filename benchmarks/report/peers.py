"""What `run.json` says: peers side by side, without limits and within them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.report.text import number, spread, table

if TYPE_CHECKING:
    from collections.abc import Mapping

OURS: Final = "normalizer"
LATEST: Final = Path(__file__).resolve().parents[1] / "results" / "run.json"
_OPEN: Final = {
    "rows_per_s": "rows/s",
    "wait_p50_s": "p50 s",
    "wait_p95_s": "p95 s",
    "wait_p99_s": "p99 s",
    "cpu_us_per_row": "CPU µs/row",
    "peak_rss_mb": "peak MB",
    "redis_commands_per_row": "Redis commands/row",
}
_LIMITED: Final = ("seconds", "its bound", "ratio", "p95 s", "over 300 s", "calls", "tokens", "429s", "CPU µs/row")
_SPENT: Final = ("calls", "tokens_in", "tokens_out", "usd_per_1000_rows")


def render(document: Mapping[str, Any]) -> list[str]:
    """The section's text."""
    opened, plan = document["open"], document["scenarios"]["open"]
    lines = [
        (
            f"{number(plan['rows'])} rows of a synthetic sheet ({plan['mess']['repeated']:.0%} of the rows repeat "
            f"earlier texts), one worker process each, {document['rounds']} interleaved rounds; the simulated provider "
            f"takes {number(plan['latency_ms'])} ms to the first token and then writes {number(plan['tokens_per_s'])} "
            f"tokens/s. Prices are those of {document['prices']['model']} ({document['prices']['as_of']}). Waits are "
            "from enqueue to saved. Medians, with lowest and highest where rounds differ."
        ),
        "",
        *[f"- **{name}**: {what}" for name, what in document["peers"].items()],
        "",
        *table(["no limits", *_OPEN.values()], ([name, *_cells(found, _OPEN)] for name, found in opened.items())),
        "",
        *table(
            ["no limits", "calls", "tokens in", "tokens out", "US$ per 1,000 rows", "left for review"],
            ([name, *_cells(found, _SPENT), _share(found)] for name, found in opened.items()),
        ),
        "",
        "The others save whatever the model says; this worker holds back what the text does not carry, and says so. It",
        "spends processor time on reading the texts by rules; the others leave that to the model.",
        "",
        *table(
            ["times ours", "rows/s of ours", "calls", "tokens", "US$", "CPU per row", "Redis commands"],
            ([name, *_ratio(found)] for name, found in document["ratios"].items()),
        ),
        "",
    ]
    return lines + _limited(document) + _alone(document)


def _cells(found: Mapping[str, Any], names: Mapping[str, str] | tuple[str, ...]) -> list[str]:
    return [spread(found[name]) for name in names]


def _share(found: Mapping[str, Any]) -> str:
    return f"{found['reviewed']['median'] / found['rows']['median']:.1%}"


def _ratio(found: Mapping[str, float]) -> list[str]:
    names = ("rows_per_s", "calls", "tokens", "usd_per_1000_rows", "cpu_us_per_row", "redis_commands_per_row")
    return [f"{number(found[name])}×" for name in names]


def _limited(document: Mapping[str, Any]) -> list[str]:
    plan = document["scenarios"]["limited"]
    return [
        (
            f"The same rows at {number(plan['rpm'])} requests and {number(plan['tpm'])} tokens a minute, each peer "
            "with an account of its own. The bound is the least time in which the limits admit the calls and tokens "
            "that the peer itself made: the first minute's worth is free, the last call still takes its time. No ratio "
            "where one minute holds all."
        ),
        "",
        *table(
            ["limited", *_LIMITED],
            ([each["peer"], *_against(each)] for each in document["limited"]),
        ),
        "",
    ]


def _alone(document: Mapping[str, Any]) -> list[str]:
    if not document["alone"]:
        return []
    plan = document["scenarios"]["alone"]
    return [
        (
            "Such limits do not bind this worker on so small a sheet. An untidier one "
            f"({plan['mess']['untidy']:.0%} untidy, {plan['mess']['remarked']:.0%} with remarks) of "
            f"{number(plan['rows'])} rows, at {number(plan['rpm'])} requests and {number(plan['tpm'])} tokens a minute:"
        ),
        "",
        *table(
            ["limited", *_LIMITED],
            ([f"{each['peer']}, {number(each['rows'])} rows", *_against(each)] for each in document["alone"]),
        ),
        "",
    ]


def _against(each: Mapping[str, Any]) -> list[str]:
    least, tokens = each["bound"], each["tokens_in"] + each["tokens_out"]
    figures = (each["seconds"], least["seconds"])
    return [
        *map(number, figures),
        "–" if least["ratio"] is None else f"{least['ratio']:.2f}",
        number(each["wait_p95_s"]),
        f"{each['late_share']:.1%}",
        *map(number, (each["calls"], tokens, each["refused"], each["cpu_us_per_row"])),
    ]


def again(document: Mapping[str, Any]) -> list[str]:
    """The ratios of an earlier run beside those of the latest: what of them is this machine's, and what is not."""
    latest: dict[str, dict[str, float]] = json.loads(LATEST.read_text(encoding="utf-8"))["ratios"]
    earlier = document["ratios"]
    names = ("rows_per_s", "calls", "tokens", "usd_per_1000_rows", "cpu_us_per_row")
    return [
        (
            "The first table's comparison at another commit, on another day, on a machine otherwise loaded. Times "
            "ours, earlier and in the latest run; what is counted (calls, tokens, price) must be the same, what is "
            "timed should be within a fifth."
        ),
        "",
        *table(
            ["times ours, earlier → latest", "rows/s of ours", "calls", "tokens", "US$", "CPU per row"],
            (
                [peer, *(f"{number(found[name])} → {number(latest[peer][name])}" for name in names)]
                for peer, found in earlier.items()
                if peer in latest
            ),
        ),
        "",
        (
            f"Most that a ratio of rows/s differs: {_most(earlier, latest, 'rows_per_s'):.0%}; "
            f"of CPU per row: {_most(earlier, latest, 'cpu_us_per_row'):.0%}."
        ),
        "",
    ]


def _most(earlier: Mapping[str, Any], latest: Mapping[str, Any], name: str) -> float:
    shared: list[tuple[float, float]] = [
        (earlier[peer][name], latest[peer][name]) for peer in earlier.keys() & latest.keys()
    ]
    return max(max(pair) / min(pair) - 1 for pair in shared)


def headline(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What README says of it: (what, figure)."""
    seed = document["ratios"]["seed"]
    opened, rows = document["open"], document["scenarios"]["open"]["rows"]
    best = min((name for name in opened if name != OURS), key=lambda name: opened[name]["usd_per_1000_rows"]["median"])
    limited = {each["peer"]: each for each in document["limited"]}
    return [
        (
            f"{rows} rows side by side, against the worker it replaces: rows/s, calls, CPU per row",
            f"{number(seed['rows_per_s'])} times, 1/{number(seed['calls'])}, 1/{number(seed['cpu_us_per_row'])}",
        ),
        (
            f"the same: US$ per 1,000 rows, against one call per field and against {best}, the cheapest other way",
            " against ".join(
                [number(opened[name]["usd_per_1000_rows"]["median"]) for name in (OURS, "seed")]
                + [number(opened[best]["usd_per_1000_rows"]["median"])]
            ),
        ),
        *(
            [
                (
                    (
                        f"the same within {number(document['scenarios']['limited']['rpm'])} requests a minute: seconds "
                        "for all rows, and rows that waited more than 300 s"
                    ),
                    (
                        f"{number(limited[OURS]['seconds'])} against {number(limited['seed']['seconds'])}; "
                        f"{limited[OURS]['late_share']:.0%} against {limited['seed']['late_share']:.0%}"
                    ),
                )
            ]
            if {OURS, "seed"} <= limited.keys()
            else []
        ),
    ]
