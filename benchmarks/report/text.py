"""Markdown made of figures: tables, numbers as people read them, where a figure comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table whose first column is text and whose others are figures."""
    rule = ["---", *["---:" for _ in head[1:]]]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def number(value: float) -> str:
    """Three figures at least, thousands parted: 0.0123, 1.23, 12.3, 1,234."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) < 1:
        return f"{value:.3g}"
    return f"{value:.{1 if abs(value) >= 10 else 2}f}"


def spread(figure: Mapping[str, float]) -> str:
    """A median, and lowest to highest where rounds differ."""
    low, high = number(figure["low"]), number(figure["high"])
    return number(figure["median"]) if low == high else f"{number(figure['median'])} ({low}–{high})"


def source(name: str, document: Mapping[str, Any]) -> str:
    """One line: the file, and of what commit and on what machine it was measured, as far as the file says."""
    said = [f"`benchmarks/results/{name}`"]
    where = document.get("environment") or {}
    if "commit" in where:
        said.append(f"commit {where['commit']}{' with changes' if where.get('changed') else ''}")
    if "cpus" in where:
        said.append(f"{where['cpus']} processors, Python {where['python']}, {where['system']}")
    if "load_average" in where:
        after = document.get("environment_after", where)["load_average"]
        said.append(f"load average {where['load_average'][0]} before and {after[0]} after")
    return f"*{'; '.join(said)}.*"
