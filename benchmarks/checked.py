"""The queueing model held against what was measured: every point that something else than this machine limits.

Wall times of runs that a shared processor limits are not compared: they would measure its other users. Costs per row,
carried from one replica to many, are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.model import Costs, Deployment, Model, Workload


@dataclass(frozen=True, slots=True)
class Checked:
    """One measured point and what the model says of it."""

    what: str
    unit: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Predicted over measured, less one."""
        return self.predicted / self.measured - 1


def check(measured: Mapping[str, Any]) -> list[Checked]:
    """Every point that was measured, beside the model's word on it."""
    costs = Costs.of(measured)
    return [*_points(costs, measured["points"]["points"]), *_limits(costs, measured["limits"]), *_replicas(measured)]


def _points(costs: Costs, points: Iterable[Mapping[str, Any]]) -> Iterator[Checked]:
    for point in points:
        rows, replicas = point["rows"], point["replicas"]
        if point["limit"] == "store":
            load = Workload(residual=0)
            at = Deployment(replicas, rpm=0, tpm=0, updates_per_s=point["updates_per_s"])
            what = f"store that takes {point['updates_per_s']} updates/s, {_many(replicas)}"
        else:
            load, at = _asked(point, point["residual"]), _deployed(point)
            speed = f"{at.latency_s:g} s" + (f" + {at.tokens_per_s:g} tokens/s" if at.tokens_per_s else "")
            groups = f"{at.max_jobs} groups of {at.batch_items}"
            what = f"calls of {speed}, {at.concurrency} at once, {groups}, {_many(replicas)}"
        yield Checked(what, "s", Model(costs, load, at).seconds(rows), point["seconds"])


def _deployed(point: Mapping[str, Any]) -> Deployment:
    return Deployment(
        point["replicas"],
        point["max_jobs"],
        point["batch_items"],
        point["records_per_call"],
        point["concurrency"],
        rpm=0,
        tpm=0,
        latency_s=point["latency_ms"] / 1000,
        tokens_per_s=point["tokens_per_s"],
    )


def _limits(costs: Costs, limits: Mapping[str, Any]) -> Iterator[Checked]:
    for point in limits["points"]:
        if point["shared_limit"]:
            at = Deployment(
                point["replicas"], records_per_call=10, rpm=limits["rpm"], tpm=0, tokens_per_s=0, latency_s=0.3
            )
            model = Model(costs, Workload(residual=1.0, known=0.0), at)
            yield Checked(
                f"{limits['rpm']} requests/min, {_many(at.replicas)}",
                "s",
                model.seconds(point["rows"]),
                point["seconds"],
            )
            yield Checked("the same", "calls", model.calls(point["rows"]), point["calls"] - point["refused"])


def _replicas(measured: Mapping[str, Any]) -> Iterator[Checked]:
    first, *others = measured["replicas"]["points"]
    for point in others:
        many = _many(point["replicas"])
        for name, unit in (("worker_cpu_us_per_row", "µs"), ("redis_commands_per_row", "commands")):
            yield Checked(f"{name.replace('_', ' ')}, {many}", unit, first[name], point[name])


def _asked(point: Mapping[str, Any], residual: float) -> Workload:
    """That share of the rows a record for the model, with the tokens that were counted."""
    records = max(1.0, point["rows"] * residual)
    return Workload(residual, 0.0, point["tokens_in"] / records, point["tokens_out"] / records, tokens_call=0.0)


def _many(replicas: int) -> str:
    return "1 replica" if replicas == 1 else f"{replicas} replicas"
