"""The heat map and the latency curves as PNG, and one page that holds both. Needs matplotlib (extra `dev`)."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from benchmarks.model import Costs, Deployment, Model, Workload
from benchmarks.tune.search import MAX_JOBS
from benchmarks.tune.words import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_REPLICAS: Final = (1, 2, 3, 4, 6, 8, 12, 16)
_CURVES: Final = (1, 2, 4, 8)
_STEPS: Final = 60
_LONGEST_S: Final = 600.0
_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; color: #1c2430; }
pre { background: #f1f4f8; padding: 1rem; overflow-x: auto; } img { max-width: 100%; height: auto; }
@media (prefers-color-scheme: dark) { body { background: #14181f; color: #e6eaf0; } pre { background: #222933; } }
"""


def heat_map(costs: Costs, load: Workload, at: Deployment, rows: int) -> bytes:
    """Rows a minute by replicas and ARQ_MAX_JOBS; the recommended place is marked."""
    replicas = sorted({*_REPLICAS, at.replicas})
    jobs = sorted({*MAX_JOBS, at.max_jobs})
    speeds = [[_per_minute(costs, load, replace(at, replicas=n, max_jobs=m), rows) for n in replicas] for m in jobs]
    figure = _figure()
    axes = figure.add_subplot()
    image = axes.imshow(speeds, origin="lower", aspect="auto", cmap="viridis")
    axes.set_xticks(range(len(replicas)), [str(n) for n in replicas])
    axes.set_yticks(range(len(jobs)), [str(m) for m in jobs])
    axes.set_xlabel("workers")
    axes.set_ylabel("ARQ_MAX_JOBS")
    axes.set_title(f"linhas por minuto numa planilha de {number(rows)}")
    axes.plot(replicas.index(at.replicas), jobs.index(at.max_jobs), "s", mfc="none", mec="red", ms=22, mew=2)
    figure.colorbar(image, ax=axes)
    return _png(figure)


def latency_curves(costs: Costs, load: Workload, at: Deployment) -> bytes:
    """Seconds from enqueued to saved over rows a minute, for a few numbers of replicas."""
    figure = _figure()
    axes = figure.add_subplot()
    for points, replicas in _distinct_curves(costs, load, at):
        name = f"{', '.join(map(str, replicas))} worker{'s' * (replicas != [1])}"
        axes.plot(*zip(*points, strict=True), label=name, lw=3 if at.replicas in replicas else 1.5)
    axes.set_yscale("log")
    for part in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        part(lambda seconds, _: number(seconds, 0 if seconds >= 1 else 2))
    axes.set_xlabel("linhas por minuto que chegam")
    axes.set_ylabel("segundos até gravar (média)")
    axes.set_title("tempo de espera conforme a carga")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return _png(figure)


def _distinct_curves(costs: Costs, load: Workload, at: Deployment) -> list[tuple[list[tuple[float, float]], list[int]]]:
    """Each curve once, with the numbers of replicas it holds for: they are alike where the provider is the limit."""
    alike: dict[tuple[str, ...], tuple[list[tuple[float, float]], list[int]]] = {}
    for replicas in sorted({*_CURVES, at.replicas}):
        speeds, waits = curve(Model(costs, load, replace(at, replicas=replicas)))
        points = list(zip(speeds, waits, strict=True))
        look = tuple(f"{speed:.2g} {wait:.1g}" for speed, wait in points)
        alike.setdefault(look, (points, []))[1].append(replicas)
    return list(alike.values())


def curve(model: Model) -> tuple[list[float], list[float]]:
    """Points of one curve, up to where the wait has no end."""
    most, _ = model.throughput()
    speeds = [most * step / _STEPS for step in range(1, _STEPS)]
    points = [(60 * speed, model.wait_s(speed)) for speed in speeds]
    kept = [(speed, wait) for speed, wait in points if math.isfinite(wait) and wait <= _LONGEST_S]
    return [speed for speed, _ in kept], [wait for _, wait in kept]


def page(lines: Sequence[str], images: Mapping[str, bytes]) -> str:
    """One page with nothing to load: the advice as printed, and the images in it."""
    pictures = "\n".join(
        f'<h2>{html.escape(title)}</h2>\n<img alt="{html.escape(title)}" src="data:image/png;base64,{_text(png)}">'
        for title, png in images.items()
    )
    text = html.escape("\n".join(lines))
    return (
        '<!doctype html>\n<html lang="pt-BR">\n<meta charset="utf-8">\n<title>Ajuste fino</title>\n'
        f"<style>{_STYLE}</style>\n<h1>Ajuste fino</h1>\n<pre>{text}</pre>\n{pictures}\n</html>\n"
    )


def _text(png: bytes) -> str:
    return base64.b64encode(png).decode("ascii")


def _per_minute(costs: Costs, load: Workload, at: Deployment, rows: int) -> float:
    return 60 * rows / Model(costs, load, at).seconds(rows)


def _figure() -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 — only the dev extra has it
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()
