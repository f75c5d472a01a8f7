"""A queueing model of a whole deployment: what each part can take, which one is the limit, how long rows wait.

Pure: numbers in, numbers out. Costs per row are those measured (`benchmarks/results/scale.json`); what a deployment's
MongoDB and provider can take is the caller's to say. Every station's capacity is in rows a second; the smallest is the
throughput of the whole (asymptotic bound), and waiting follows from how near a station is to its capacity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

LARGEST_CALL: Final = 50
_GROWTH: Final = 5  # records more after each round of answers that came back whole
_AT_ONCE: Final = 4  # calls under way together at the start
_OUTPUT_BUDGET: Final = 2_500  # tokens of one answer, as the coalescer plans it
_WINDOW_S: Final = 61.0  # a minute as the shared limit counts it
_US: Final = 1e-6
_RECONCILE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Way:
    """What a row costs by one way: CPU of a worker and of Redis in seconds, commands of Redis."""

    worker_s: float
    redis_s: float
    commands: float


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured, per row: by rules, from the cache, and by the model; and what replicas and a backlog cost."""

    ways: Mapping[str, Way]
    """By name: `rules`, `cached`, `model`."""
    idle_redis_s: float
    """CPU of Redis a second, for each replica, whatever it does."""
    reconcile_s: float
    """CPU of one replica, for each row that is looked at, every five minutes."""
    reconcile_rows: int
    """How many rows are looked at, at most, where the queue has lost none."""

    @classmethod
    def of(cls, measured: Mapping[str, Any]) -> Costs:
        """From the document of `benchmarks.scale`: each way's largest sheet."""
        ways = {}
        for name in ("rules", "cached", "model"):
            largest = max((p for p in measured["rows"]["points"] if p["way"] == name), key=lambda p: p["rows"])
            cpu_s, redis_s = largest["worker_cpu_us_per_row"] * _US, largest["redis_cpu_us_per_row"] * _US
            ways[name] = Way(cpu_s, redis_s, largest["redis_commands_per_row"])
        idle_s = measured["idle"]["points"][-1]["redis_cpu_us_per_s"] * _US
        whole = measured["reconcile"]["whole"]
        return cls(ways, idle_s, whole["worker_cpu_us_per_row"] * _US, whole["looked_at"])


@dataclass(frozen=True, slots=True)
class Workload:
    """What the rows are like.

    Attributes:
        residual: share of rows whose address only a model can read.
        known: share of those whose text was answered before: a patient's second appointment, a sheet's second import.
        tokens_in, tokens_out: of one record; `tokens_call`: what every call takes beside its records.
    """

    residual: float = 0.15
    known: float = 0.3
    tokens_in: float = 50.0
    tokens_out: float = 40.0
    tokens_call: float = 400.0

    @property
    def asked(self) -> float:
        """Records asked of the model, per row."""
        return self.residual * (1 - self.known)


@dataclass(frozen=True, slots=True)
class Deployment:
    """How it is set up. 0 = no limit for `rpm`, `tpm`, `tokens_per_s`, `updates_per_s`.

    `cores`: of all workers together, 0 = one for each.
    """

    replicas: int = 2
    max_jobs: int = 10
    batch_items: int = 250
    records_per_call: int = 25
    concurrency: int = 8
    job_timeout_s: float = 300.0
    rpm: float = 500.0
    tpm: float = 200_000.0
    latency_s: float = 0.6
    tokens_per_s: float = 80.0
    updates_per_s: float = 0.0
    cores: float = 0.0


class Model:
    """The costs of one workload on one deployment."""

    def __init__(self, costs: Costs, load: Workload, at: Deployment) -> None:
        self.costs, self.load, self.at = costs, load, at
        shares = {"rules": 1 - load.residual, "cached": load.residual * load.known, "model": load.asked}
        self.worker_s = sum(share * costs.ways[name].worker_s for name, share in shares.items())
        self.redis_s = sum(share * costs.ways[name].redis_s for name, share in shares.items())
        self.commands = sum(share * costs.ways[name].commands for name, share in shares.items())

    @property
    def records(self) -> float:
        """Records of one call once it has grown: the coalescer grows it while answers come back whole."""
        by_output = _OUTPUT_BUDGET / max(1.0, self.load.tokens_out)
        return max(1.0, min(LARGEST_CALL, by_output, self._within_timeout()))

    @property
    def call_s(self) -> float:
        """How long one call takes."""
        writing_s = self.records * self.load.tokens_out / self.at.tokens_per_s if self.at.tokens_per_s else 0.0
        return self.at.latency_s + writing_s

    @property
    def tokens_per_row(self) -> float:
        """Tokens of the model, in and out, per row."""
        return self.load.asked * (self.load.tokens_in + self.load.tokens_out + self.load.tokens_call / self.records)

    @property
    def group_s(self) -> float:
        """How long a group is in work when nobody is in its way: its rows, then its calls."""
        cheap_s = self.at.batch_items * (self.worker_s + self.redis_s)
        asked = self.at.batch_items * self.load.asked
        rounds = math.ceil(asked / self.records / self.at.concurrency) if asked else 0
        return cheap_s + rounds * self.call_s

    def capacities(self) -> dict[str, float]:
        """Rows a second that each part can take; a part without a limit is not named."""
        at, asked = self.at, self.load.asked
        cores = min(at.cores, at.replicas) if at.cores else at.replicas
        found = {
            "cpu": cores / self.worker_s,
            "redis": max(0.0, 1 - at.replicas * self.costs.idle_redis_s) / self.redis_s,
            "groups": at.replicas * at.max_jobs * at.batch_items / self.group_s,
        }
        if at.updates_per_s:
            found["mongodb"] = at.updates_per_s
        if asked:
            found["calls"] = at.replicas * at.concurrency * self.records / self.call_s / asked
            if at.rpm:
                found["rpm"] = at.rpm / 60 * self.records / asked
            if at.tpm:
                found["tpm"] = at.tpm / 60 / self.tokens_per_row
        return found

    def throughput(self) -> tuple[float, str]:
        """Rows a second of the whole, and the part that is the limit."""
        limit, rows_per_s = min(self.capacities().items(), key=lambda item: item[1])
        return rows_per_s, limit

    def seconds(self, rows: int) -> float:
        """How long a sheet of so many rows takes, all of it queued at once."""
        return max(self.parts(rows).values())

    def parts(self, rows: int) -> dict[str, float]:
        """How long each part would take for it, were it alone. A minute's limit may be spent at once."""
        last_s = self.call_s if self.load.asked else 0.0
        found = {name: rows / rows_per_s + last_s for name, rows_per_s in self.capacities().items()}
        if "rpm" in found:
            found["rpm"] = _window_s(self.calls(rows), self.at.rpm) + last_s
        if "tpm" in found:
            found["tpm"] = _window_s(self.tokens_per_row * rows, self.at.tpm) + last_s
        return found

    def calls(self, rows: int) -> int:
        """Calls for so many rows at once: each replica's calls grow from `records_per_call` to `records`."""
        replicas = self._taking_part(rows)
        share, more = divmod(math.ceil(rows * self.load.asked - 1e-9), replicas)
        return more * self._calls_of_one(share + 1) + (replicas - more) * self._calls_of_one(share)

    def _taking_part(self, rows: int) -> int:
        """Replicas that get a share: a sheet that one could hold goes mostly to those that wake first.

        Between "as few as can hold it" and "all" the geometric mean: fitted to the calls that scale.json counted.
        """
        fewest = min(self.at.replicas, math.ceil(rows / (self.at.max_jobs * self.at.batch_items)))
        return max(1, round(math.sqrt(fewest * self.at.replicas)))

    def _calls_of_one(self, records: int) -> int:
        """Calls under way together have one size; whole answers then raise the size, and how many may go together."""
        calls, most = 0, self.records
        size, at_once = min(float(self.at.records_per_call), most), min(_AT_ONCE, self.at.concurrency)
        while records > 0 and size < most:
            asked = min(at_once, math.ceil(records / int(size)))
            records -= asked * int(size)
            calls += asked
            size, at_once = min(most, size + _GROWTH), min(self.at.concurrency, at_once + 1)
        return calls + max(0, math.ceil(records / int(size)))

    def wait_s(self, rows_per_s: float) -> float:
        """How long a row takes from enqueued to saved when so many come a second; infinite past the throughput.

        Each station is taken as c servers that take turns by group (Sakasegawa's approximation for M/M/c).
        """
        if rows_per_s >= self.throughput()[0]:
            return math.inf
        at, total = self.at, 0.0
        cores = round(min(at.cores, at.replicas) if at.cores else at.replicas)
        stations = [(cores, at.batch_items * self.worker_s, "cpu"), (1, at.batch_items * self.redis_s, "redis")]
        if at.updates_per_s:
            stations.append((1, at.batch_items / at.updates_per_s, "mongodb"))
        capacities = self.capacities()
        if self.load.asked:
            stations.append((at.replicas * at.concurrency, self.call_s, "calls"))
            stations += [(1, 60.0 / at.rpm, "rpm")] if at.rpm else []
            stations += [(1, 60.0 * self.records * self._tokens_per_record() / at.tpm, "tpm")] if at.tpm else []
        for servers, service_s, name in stations:
            busy = rows_per_s / capacities[name]
            waiting = busy ** (math.sqrt(2 * (servers + 1)) - 1) / (servers * (1 - busy))
            total += service_s * waiting + (service_s if name not in {"rpm", "tpm"} else 0.0)
        return total

    def day(self, rows: int, profile: Sequence[float]) -> Day:
        """A day of so many rows that come as `profile` says (one weight an hour), minute by minute, as a fluid."""
        rows_per_s, limit = self.throughput()
        weights = [weight / sum(profile) for weight in profile]
        waiting = longest = total_wait = 0.0
        busy_s = 0.0
        for minute in range(60 * 24):
            arrived = rows * weights[minute // 60] / 60
            done = min(waiting + arrived, 60 * rows_per_s)
            waiting += arrived - done
            busy_s += done / rows_per_s
            longest = max(longest, waiting)
            total_wait += waiting * 60
        peak = rows * max(weights) / 3_600
        return Day(rows_per_s, limit, peak, longest, longest / rows_per_s, total_wait / rows, busy_s / 86_400, waiting)

    def reconcile_share(self, waiting: float) -> float:
        """Share of one replica's time that looking for lost rows takes while so many wait and none is lost."""
        return min(waiting, self.costs.reconcile_rows) * self.costs.reconcile_s / _RECONCILE_S

    def _tokens_per_record(self) -> float:
        return self.tokens_per_row / self.load.asked

    def _within_timeout(self) -> float:
        """Records whose answer fits into a minute, or into the job's own time: the coalescer plans for 80 % of it."""
        if not self.at.tokens_per_s:
            return math.inf
        room_s = 0.8 * min(60.0, self.at.job_timeout_s) - self.at.latency_s
        return max(1.0, room_s * self.at.tokens_per_s / max(1.0, self.load.tokens_out))


@dataclass(frozen=True, slots=True)
class Day:
    """A day of imports: what the deployment can take, what came at most, and how long rows waited."""

    rows_per_s: float
    limit: str
    peak_rows_per_s: float
    longest_queue: float
    longest_wait_s: float
    mean_wait_s: float
    busy: float
    left_over: float


def _window_s(amount: float, per_minute: float) -> float:
    return _WINDOW_S * max(0, math.ceil(amount / per_minute) - 1)
