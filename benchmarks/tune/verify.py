"""The recommendation tried: real workers on a simulated provider with the given limits, against what was predicted."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks.fleet import Fleet
from benchmarks.model import Costs, Deployment, Model, Workload
from benchmarks.supply import Supplied, mixed, write_labels
from normalizer.simulation import embedded

_MOST_REPLICAS: Final = 4
_MOST_ROWS: Final = 20_000
_FEWEST_ROWS: Final = 200
_LIMIT_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Verified:
    """One real run. `refused` are 429s of the provider."""

    rows: int
    replicas: int
    predicted_s: float
    measured_s: float
    predicted_calls: int
    measured_calls: int
    refused: int

    @property
    def error(self) -> float:
        """Predicted over measured time, less one."""
        return self.predicted_s / self.measured_s - 1


def environment_of(at: Deployment) -> dict[str, str]:
    """The settings that make workers so."""
    return {
        "ARQ_MAX_JOBS": str(at.max_jobs),
        "BATCH_MAX_ITEMS": str(at.batch_items),
        "LLM_RECORDS_PER_CALL": str(at.records_per_call),
        "LLM_MAX_CONCURRENCY": str(at.concurrency),
        "LLM_RPM": f"{at.rpm:.0f}",
        "LLM_TPM": f"{at.tpm:.0f}",
        "ARQ_JOB_TIMEOUT": f"{at.job_timeout_s:.0f}",
    }


def verify(costs: Costs, load: Workload, at: Deployment, *, seconds: float, rows: int | None = None) -> Verified:
    """Run as many rows as should take about `seconds` here, on as many replicas as this machine bears."""
    here = replace(at, replicas=min(at.replicas, _MOST_REPLICAS), cores=_cores())
    rows = rows or _rows_for(Model(costs, load, here), seconds)
    supplied = mixed(rows, residual=load.residual, known=load.known)
    model = Model(costs, load, here)
    with tempfile.TemporaryDirectory(prefix="normalizer-tune-") as name:
        directory = Path(name)
        labels = write_labels(directory / "labels.jsonl", [row for row in supplied if row.expected is not None])
        limits = {"rpm": round(at.rpm), "tpm": round(at.tpm)}
        speed = {"latency_ms": 1_000 * at.latency_s, "tokens_per_s": at.tokens_per_s}
        with embedded.start_provider(labels, directory=directory / "provider", **limits, **speed) as provider:
            figures = _run(directory, provider, environment_of(here), here.replicas, supplied)
    return Verified(
        rows,
        here.replicas,
        model.seconds(rows),
        figures["seconds"],
        model.calls(rows),
        round(figures["calls"] - figures["refused"]),
        round(figures["refused"]),
    )


def _run(
    directory: Path,
    provider: embedded.ProviderService,
    settings: Mapping[str, str],
    replicas: int,
    supplied: list[Supplied],
) -> dict[str, float]:
    with Fleet(directory, provider=provider, settings=settings) as fleet:
        fleet.pause()
        fleet.fill(supplied, len(supplied), prefix="v")
        fleet.start_workers(replicas)
        used = fleet.work_off(limit_s=_LIMIT_S)
        fleet.check(len(supplied))
    return used.per_row(len(supplied))


def _rows_for(model: Model, seconds: float) -> int:
    """As many as fit into so many seconds, by halves from the most that this machine should be given."""
    rows = _MOST_ROWS
    while rows > _FEWEST_ROWS and model.seconds(rows) > seconds:
        rows //= 2
    return max(_FEWEST_ROWS, rows)


def _cores() -> float:
    """What the workers have of this machine: Redis, the store and the provider want a part."""
    return max(1.0, 0.75 * (os.cpu_count() or 1))
