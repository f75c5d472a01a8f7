"""What rounds say: one round's figures, medians and spread of several, the bound of the provider's limits."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from normalizer.domain.appointment import Status
from normalizer.llm.client import Usage
from normalizer.llm.pricing import price, prices_as_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MODEL: Final = "gpt-6-luna"
PRICES: Final = {"model": MODEL, "as_of": prices_as_of()}
WINDOW_S: Final = 60.0
_LATE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Round:
    """One peer's run over all rows.

    Attributes:
        saved: rows that were saved at all; `reviewed` of them wait for a person, with the reason.
        seconds: from just before the first row was enqueued to the last one saved; as all waits.
        calls: answered ones; `refused` are those turned away with 429.
        wait_p50_s: from enqueue to saved, half of the rows; 95 and 99 % likewise.
        late_share: rows that took more than 300 s, or were never saved.
        cpu_us_per_row: of the worker's process and its children, user and system.
        redis_commands_per_row: by the server's own count; those within scripts count. None where others shared it.
    """

    peer: str
    rows: int
    saved: int
    reviewed: int
    seconds: float
    rows_per_s: float
    calls: int
    refused: int
    tokens_in: int
    tokens_out: int
    usd_per_1000_rows: float
    wait_p50_s: float
    wait_p95_s: float
    wait_p99_s: float
    late_share: float
    cpu_us_per_row: float
    peak_rss_mb: float
    redis_commands_per_row: float | None

    @property
    def tokens(self) -> int:
        """In and out."""
        return self.tokens_in + self.tokens_out


def round_of(
    peer: str,
    *,
    waits_s: Sequence[float],
    statuses: Mapping[str, int],
    spent: Mapping[str, int],
    cpu_s: float,
    peak_rss_mb: float,
    redis_commands: int | None,
) -> Round:
    """Figures of what was counted; `waits_s` of the saved rows, from the enqueue."""
    rows, seconds = sum(statuses.values()), max(waits_s)
    usd = price(MODEL).of(Usage(spent["tokens_in"], spent["tokens_out"]))
    late = sum(wait > _LATE_S for wait in waits_s) + rows - len(waits_s)
    return Round(
        peer=peer,
        rows=rows,
        saved=len(waits_s),
        reviewed=statuses[Status.REVIEW.value],
        seconds=round(seconds, 3),
        rows_per_s=round(len(waits_s) / seconds, 2),
        calls=spent["calls"],
        refused=spent["refused"],
        tokens_in=spent["tokens_in"],
        tokens_out=spent["tokens_out"],
        usd_per_1000_rows=round(1000 * usd / rows, 5),
        **{f"wait_p{share}_s": round(_percentile(waits_s, share), 3) for share in (50, 95, 99)},
        late_share=round(late / rows, 4),
        cpu_us_per_row=round(1e6 * cpu_s / rows),
        peak_rss_mb=peak_rss_mb,
        redis_commands_per_row=None if redis_commands is None else round(redis_commands / rows, 2),
    )


def summary(rounds: Sequence[Round]) -> dict[str, Any]:
    """Of every figure the median, and the lowest and highest where rounds differ."""
    found: dict[str, Any] = {}
    for field in fields(Round):
        values = [getattr(each, field.name) for each in rounds]
        if field.name == "peer" or None in values:
            continue
        found[field.name] = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    return found


def ratios(ours: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float]:
    """How many times as much the other took (or, of rows a second, how many times as fast ours was)."""

    def of(name: str) -> tuple[float, float]:
        return ours[name]["median"], other[name]["median"]

    speed_ours, speed_other = of("rows_per_s")
    found = {"rows_per_s": speed_ours / speed_other}
    for name in ("calls", "usd_per_1000_rows", "cpu_us_per_row", "redis_commands_per_row", "wait_p95_s"):
        if name in ours and name in other:
            mine, theirs = of(name)
            found[name] = theirs / mine if mine else 0.0
    tokens = [sum(side[name]["median"] for name in ("tokens_in", "tokens_out")) for side in (ours, other)]
    found["tokens"] = tokens[1] / tokens[0] if tokens[0] else 0.0
    return {name: round(value, 2) for name, value in found.items()}


def bound(done: Round, *, rpm: int, tpm: int, latency_ms: float, tokens_per_s: float) -> dict[str, Any]:
    """The least time this peer's own calls and tokens can take at the provider's limits, and how near it came.

    The provider admits what fits into any 60 s. So of N windows' worth the first is free, and the last call of the last
    one begins N - 1 windows after the first; then it still takes its own time. `ratio` is None where one window holds
    all: then the limits say nothing about how long it takes.
    """
    windows = {"requests": done.calls / rpm if rpm else 0.0, "tokens": done.tokens / tpm if tpm else 0.0}
    by = max(windows, key=lambda name: windows[name])
    call_s = latency_ms / 1000 + done.tokens_out / max(1, done.calls) / tokens_per_s
    least_s = WINDOW_S * max(0, math.ceil(windows[by]) - 1) + call_s
    ratio = round(done.seconds / least_s, 2) if windows[by] > 1 else None
    return {"seconds": round(least_s, 1), "windows": round(windows[by], 2), "limit": by, "ratio": ratio}


def plain(done: Round) -> dict[str, Any]:
    """A round as JSON."""
    return asdict(done)


def _percentile(values: Sequence[float], share: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share / 100 * len(ordered)) - 1)]
