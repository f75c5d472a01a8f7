"""The report's pictures, drawn with matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from matplotlib.figure import Figure

from benchmarks.report.text import number

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes

_OTHERS, _OURS = "#9aa5b1", "#1f6feb"
_PANELS: Final = {
    "rows_per_s": "rows/s",
    "usd_per_1000_rows": "US$ per 1,000 rows",
    "wait_p95_s": "p95 from enqueue to saved, s",
    "cpu_us_per_row": "CPU µs per row",
}


def peers(document: Mapping[str, Any], path: Path) -> None:
    """Four panels of bars: speed, money, waiting, processor time."""
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(2, 2).flat, _PANELS.items(), strict=True):
        found = {peer: figures[name] for peer, figures in document["open"].items()}
        _bars(axes, {peer: each["median"] for peer, each in found.items()})
        for at, each in enumerate(found.values()):
            axes.plot([each["low"], each["high"]], [at, at], color="black", linewidth=1)
        axes.set_title(title, loc="left", fontsize=10)
    _save(figure, path)


def limited(document: Mapping[str, Any], path: Path) -> None:
    """How long each took within the limits, and the bound of its own calls and tokens."""
    figure = Figure(figsize=(10, 2.8), layout="constrained")
    axes = figure.subplots()
    _bars(axes, {each["peer"]: each["seconds"] for each in document["limited"]})
    for at, each in enumerate(document["limited"]):
        axes.plot([each["bound"]["seconds"]] * 2, [at - 0.4, at + 0.4], color="black", linewidth=2)
    axes.set_title(
        "seconds for all rows within the limits; black: the bound of its calls and tokens", loc="left", fontsize=10
    )
    _save(figure, path)


def _bars(axes: Axes, values: Mapping[str, float]) -> None:
    colours = [_OURS if name == "normalizer" else _OTHERS for name in values]
    bars = axes.barh(list(values), list(values.values()), color=colours)
    axes.bar_label(bars, labels=[number(value) for value in values.values()], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
