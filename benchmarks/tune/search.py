"""The search: every sensible setting through the model, and of those as fast as the fastest the most modest. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.model import Costs, Deployment, Model, Workload

REPLICAS: Final = 16
MAX_JOBS: Final = (2, 5, 10, 20, 40)
BATCH_ITEMS: Final = (50, 100, 250, 500, 1_000)
RECORDS: Final = (10, 25, 50)
CONCURRENCY: Final = (2, 4, 8, 16, 32)
TIMEOUTS_S: Final = (300.0, 600.0, 1_200.0, 3_600.0)
_AS_FAST: Final = 1.05
_NO_HELP: Final = 0.05
_MOST_IN_WORK: Final = 10_000  # rows of one replica: its memory was measured with a quarter of that
_LARGE_GROUPS: Final = 1.5  # weighs against them: whoever shares a group waits for its slowest row
_ROOM: Final = 2.0  # a group may take twice as long as it is expected to
_DEFAULTS: Final = Deployment()


@dataclass(frozen=True, slots=True)
class Advice:
    """What to set, what to expect of it, and what stands in the way of more.

    Attributes:
        at: the deployment as recommended.
        seconds: for the whole sheet; `rows_per_min` is what that comes to.
        calls, tokens_in, tokens_out: asked of the model.
        limit: the part that decides how long the sheet takes; `then`, the next one, would be so many times faster.
        gain_of_more: how much faster the sheet would be with twice the replicas; below 0.05 they do not help.
    """

    at: Deployment
    seconds: float
    rows_per_min: float
    calls: int
    tokens_in: float
    tokens_out: float
    limit: str
    then: str
    headroom: float
    gain_of_more: float

    @property
    def more_helps(self) -> bool:
        """Whether further replicas would be worth having."""
        return self.gain_of_more >= _NO_HELP


def search(costs: Costs, load: Workload, provider: Deployment, rows: int, *, most: int = REPLICAS) -> Advice:
    """The fewest replicas, and beside them the settings nearest to the defaults, that are within 5 % of the fastest.

    Args:
        costs: measured, per row.
        load: what the rows are like.
        provider: the limits and speeds that are given; its other fields are searched.
        rows: how many come at once.
        most: replicas that could be had.
    """
    timed = [(_seconds(costs, load, at, rows), at) for at in _deployments(provider, most) if _fits(costs, load, at)]
    if not timed:  # not even the longest time-out holds the smallest group
        smallest = replace(provider, max_jobs=MAX_JOBS[0], batch_items=BATCH_ITEMS[0], job_timeout_s=TIMEOUTS_S[-1])
        timed = [(_seconds(costs, load, smallest, rows), smallest)]
    fastest = min(seconds for seconds, _ in timed)
    good = [at for seconds, at in timed if seconds <= fastest * _AS_FAST]
    return advice(costs, load, min(good, key=_modesty), rows)


def advice(costs: Costs, load: Workload, at: Deployment, rows: int) -> Advice:
    """What to expect of one deployment."""
    model = Model(costs, load, at)
    calls, parts = model.calls(rows), sorted(model.parts(rows).items(), key=lambda item: -item[1])
    (limit, seconds), (then, next_s), *_ = parts
    doubled = _seconds(costs, load, replace(at, replicas=2 * at.replicas), rows)
    records = rows * load.asked
    return Advice(
        at,
        seconds,
        60 * rows / seconds,
        calls,
        records * load.tokens_in + calls * load.tokens_call,
        records * load.tokens_out,
        limit,
        then,
        seconds / next_s,
        seconds / doubled - 1,
    )


def _deployments(provider: Deployment, most: int) -> Iterator[Deployment]:
    ways = itertools.product(range(1, most + 1), MAX_JOBS, BATCH_ITEMS, RECORDS, CONCURRENCY)
    for replicas, max_jobs, items, records, concurrency in ways:
        if max_jobs * items > _MOST_IN_WORK:
            continue
        yield replace(
            provider,
            replicas=replicas,
            max_jobs=max_jobs,
            batch_items=items,
            records_per_call=records,
            concurrency=concurrency,
        )


def _fits(costs: Costs, load: Workload, at: Deployment) -> bool:
    """Whether a group ends within its time although all others are in work beside it (Little's law)."""
    model = Model(costs, load, at)
    in_work = at.replicas * at.max_jobs * at.batch_items
    return _ROOM * max(model.group_s, in_work / model.throughput()[0]) <= at.job_timeout_s


def _seconds(costs: Costs, load: Workload, at: Deployment, rows: int) -> float:
    return Model(costs, load, at).seconds(rows)


def _modesty(at: Deployment) -> tuple[float, float]:
    strays = {
        "max_jobs": math.log2(at.max_jobs / _DEFAULTS.max_jobs),
        "batch_items": _LARGE_GROUPS * math.log2(at.batch_items / _DEFAULTS.batch_items),
        "records_per_call": math.log2(at.records_per_call / _DEFAULTS.records_per_call),
        "concurrency": math.log2(at.concurrency / _DEFAULTS.concurrency),
    }
    return at.replicas, sum(map(abs, strays.values()))
