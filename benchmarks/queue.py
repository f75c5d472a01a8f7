"""Stock `arq.Worker` against `BatchWorker` on jobs that do nothing: what claiming and settling alone cost.

`python -m benchmarks.queue [--rounds N] [--quick] [--lone] [--out FILE]` (as a module: run as a file it would hide the
standard library's `queue`). Real worker processes on an embedded Redis (AOF on), rounds interleaved, medians printed
and written to `benchmarks/results/queue.json`:

- jobs/s from the start signal until the queue is empty, with one and with four processes;
- Redis commands per job (INFO commandstats; those inside Lua count) and CPU per job of workers and of Redis;
- seconds from `kill -9` of a worker until another has finished its jobs; for stock arq the time its locks still had;
- ms from a lone job's enqueueing until an idle worker starts it, our producer's and a stock one's, also while another
  process enqueues 100,000 jobs as an import does; and the commands a second of a worker that has nothing to do.

For throughput stock arq is given its best case: no pause between polls. With arq's own `poll_delay` of 0.5 s it is
bound to `max_jobs / 0.5` = 20 jobs/s whatever the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from arq.worker import Worker, func
from redis import Redis

from benchmarks.circumstances import environment, keep
from normalizer.queue.connection import redis_settings
from normalizer.queue.group import Done, Group
from normalizer.queue.serializer import job_deserializer, job_serializer
from normalizer.queue.service import QUEUE_NAME, TASK_NAME, TaskService
from normalizer.queue.worker import BatchWorker, batch_func
from normalizer.simulation import embedded

RESULTS = Path(__file__).parent / "results" / "queue.json"
PEERS = {
    "stock": "arq.Worker, max_jobs=10, poll_delay=0",
    "batch": "BatchWorker, max_jobs=10, groups of 250",
}
JOBS = {"stock": 3_000, "batch": 60_000}
PROCESSES = (1, 4)
LEASE_S = 15.0
# A lone job: who works, who enqueues, and whether an import runs meanwhile. Stock arq polls at its own pace here.
LONE = (("stock", "stock", False), ("batch", "ours", False), ("batch", "stock", False), ("batch", "ours", True))
_LONE_JOBS, _IMPORTED, _CHUNK = 200, 100_000, 1_000
_REST_S, _OPENED_S, _IDLE_S = 0.05, 2.0, 10.0
ARQ_POLL_S = 0.5
_LIMIT_S = 300
_LOOK_S = 0.02
_OWN_COMMANDS = {"cmdstat_config|resetstat", "cmdstat_info", "cmdstat_blpop", "cmdstat_rpush"}


@dataclass(frozen=True, slots=True)
class Round:
    """One peer's run over its jobs."""

    peer: str
    processes: int
    jobs: int
    seconds: float
    jobs_per_s: float
    commands_per_job: float
    worker_cpu_us_per_job: float
    redis_cpu_us_per_job: float


@dataclass(frozen=True, slots=True)
class Wait:
    """How long lone jobs waited for a worker, and what it asked before they came (None with an import)."""

    peer: str
    producer: str
    importing: bool
    jobs: int
    median_ms: float
    p99_ms: float
    idle_commands_per_s: float | None


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round, fewer jobs, no recovery")
    parser.add_argument("--lone", action="store_true", help="lone jobs alone; the rest of the file stays as it is")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--work", nargs=2, metavar=("PEER", "URL"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.work:
        asyncio.run(_work(*options.work))
        return 0
    jobs = {peer: count // 10 for peer, count in JOBS.items()} if options.quick else JOBS
    with tempfile.TemporaryDirectory() as directory, embedded.start_valkey(Path(directory) / "redis") as server:
        bench = Bench(server.url, Path(directory))
        if options.lone:
            report = json.loads(options.out.read_text(encoding="utf-8"))
        else:
            rounds = [
                bench.round(peer, processes, jobs[peer])
                for _ in range(1 if options.quick else options.rounds)
                for processes in PROCESSES
                for peer in PEERS
            ]
            report = _report(rounds, {} if options.quick else {peer: bench.recovery(peer) for peer in PEERS})
        report["lone_job"] = {"environment": environment(), "waits": [asdict(bench.lone(*way)) for way in LONE]}
    _print(report)
    keep(options.out, report)
    return 0


class Bench:
    def __init__(self, url: str, directory: Path) -> None:
        self._url, self._directory = url, directory
        self._redis: Any = Redis.from_url(url)  # untyped: redis-py's own types mix both kinds of client
        self._started = 0

    def round(self, peer: str, processes: int, jobs: int) -> Round:
        self._fill(jobs)
        children = [self._start(peer) for _ in range(processes)]
        self._await("bench:ready", processes)
        self._redis.config_resetstat()
        cpu_before = self._redis_cpu_s()
        began = time.perf_counter()
        self._redis.rpush("bench:go", *range(processes))
        looks = 1
        while self._redis.zcard(QUEUE_NAME):
            looks += 1
            time.sleep(_LOOK_S)
        seconds = time.perf_counter() - began
        calls = self._calls() - looks
        reports = self._await("bench:done", processes)
        redis_cpu_s = self._redis_cpu_s() - cpu_before
        for child in children:
            child.wait(30)
        if sum(report["complete"] for report in reports) != jobs:
            raise AssertionError(f"{peer}: {reports} of {jobs} jobs")
        return Round(
            peer,
            processes,
            jobs,
            round(seconds, 3),
            round(jobs / seconds, 1),
            round(calls / jobs, 2),
            round(sum(report["cpu_s"] for report in reports) / jobs * 1e6, 1),
            round(redis_cpu_s / jobs * 1e6, 1),
        )

    def recovery(self, peer: str) -> float:
        """Seconds from `kill -9` of a worker holding jobs until they are done elsewhere (stock: could be started)."""
        self._fill(250 if peer == "batch" else 10)
        victim = self._start(f"{peer}-hold")
        self._await("bench:ready", 1)
        self._redis.rpush("bench:go", 1)
        self._await("bench:held", 1)
        victim.signal(signal.SIGKILL)
        killed = time.perf_counter()
        if peer == "stock":  # not waited for: arq's lock tells how long it would take
            locks = list(self._redis.scan_iter("arq:in-progress:*"))
            return round(float(max(self._redis.pttl(key) for key in locks)) / 1000, 1)
        other = self._start(peer)
        self._await("bench:ready", 1)
        self._redis.rpush("bench:go", 1)
        self._await("bench:done", 1)
        recovered = time.perf_counter() - killed
        other.wait(30)
        return round(recovered, 1)

    def lone(self, peer: str, producer: str, importing: bool) -> Wait:
        """Let an idle worker meet one job after the other."""
        self._fill(0)
        children = [self._start(f"{peer}-lone"), *([self._start("import")] if importing else [])]
        self._await("bench:ready", len(children))
        self._redis.rpush("bench:go", *range(len(children)))
        idle = None if importing else self._idle_commands_per_s()
        waits_ms = asyncio.run(self._meet(producer, importing))
        for child in children:
            child.kill()
        median, p99 = statistics.median(waits_ms), statistics.quantiles(waits_ms, n=100)[98]
        return Wait(peer, producer, importing, len(waits_ms), round(median, 1), round(p99, 1), idle)

    async def _meet(self, producer: str, importing: bool) -> list[float]:
        """Milliseconds from before each job was enqueued until its function began; to the import's end, if one runs."""
        waits_ms: list[float] = []
        async with TaskService(self._url) as tasks:
            pool = await tasks.get_pool()
            put = tasks.enqueue if producer == "ours" else partial(pool.enqueue_job, TASK_NAME)
            while not self._redis.llen("bench:done") if importing else len(waits_ms) < _LONE_JOBS:
                await asyncio.sleep(_REST_S)
                put_at_s = time.time()
                await put(f"lone-{len(waits_ms)}")
                (began_at_s,) = self._await("bench:began", 1)
                waits_ms.append(1_000 * (began_at_s - put_at_s))
        return waits_ms

    def _idle_commands_per_s(self) -> float:
        time.sleep(_OPENED_S)
        self._redis.config_resetstat()
        time.sleep(_IDLE_S)
        return round(self._calls() / _IDLE_S, 1)

    def _fill(self, jobs: int) -> None:
        self._redis.flushall()

        async def fill() -> None:
            async with TaskService(self._url) as tasks:
                await tasks.enqueue_many([f"{number:024x}" for number in range(jobs)])

        asyncio.run(fill())

    def _start(self, peer: str) -> embedded.Child:
        self._started += 1
        arguments = ["-m", "benchmarks.queue", "--work", peer, self._url]
        return embedded.spawn_python(
            f"{peer}-{self._started}", arguments, {}, log=self._directory / f"{peer}-{self._started}.log"
        )

    def _await(self, key: str, count: int) -> list[Any]:
        found = []
        for _ in range(count):
            popped = self._redis.blpop([key], timeout=_LIMIT_S)
            if popped is None:
                raise TimeoutError(f"{key}: a worker did not answer; see {self._directory}")
            found.append(json.loads(popped[1]))
        return found

    def _calls(self) -> int:
        stats: Mapping[str, Any] = self._redis.info("commandstats")
        return sum(entry["calls"] for name, entry in stats.items() if name not in _OWN_COMMANDS)

    def _redis_cpu_s(self) -> float:
        cpu = self._redis.info("cpu")
        return float(cpu["used_cpu_sys"] + cpu["used_cpu_user"])


async def _work(peer: str, url: str) -> None:
    """One worker process: ready, go, empty the queue, report."""
    logging.basicConfig(level=logging.WARNING)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    kind, _, how = peer.partition("-")
    client: Any = Redis.from_url(url)
    worker = None if kind == "import" else _stock(url, client, how) if kind == "stock" else _batch(url, client, how)
    client.rpush("bench:ready", os.getpid())
    client.blpop(["bench:go"], timeout=_LIMIT_S)
    if worker is None:
        await _import(url)
        client.rpush("bench:done", 1)
        return
    before = time.process_time()
    await worker.main()
    report = {"complete": worker.jobs_complete, "cpu_s": time.process_time() - before}
    client.rpush("bench:done", json.dumps(report))
    await worker.close()


async def _import(url: str) -> None:
    """Enqueue as an import does: a thousand at a time, each once the one before is in."""
    async with TaskService(url) as tasks:
        for first in range(0, _IMPORTED, _CHUNK):
            await tasks.enqueue_many([f"{number:024x}" for number in range(first, first + _CHUNK)])


async def _begin(client: Any, how: str, appointment_ids: Sequence[str]) -> None:
    """What a job does here: nothing, or it is held for ever, or a lone one says that it began."""
    if how == "hold":
        client.rpush("bench:held", 1)
        await asyncio.Event().wait()
    if how == "lone" and any(each.startswith("lone") for each in appointment_ids):
        client.rpush("bench:began", time.time())


def _stock(url: str, client: Any, how: str) -> Worker:
    async def noop(_ctx: dict[Any, Any], appointment_id: str) -> None:
        await _begin(client, how, [appointment_id])

    function: Any = noop
    poll_s = ARQ_POLL_S if how == "lone" else 0
    return Worker([func(function, name=TASK_NAME)], poll_delay=poll_s, **_common(url, how))


def _batch(url: str, client: Any, how: str) -> BatchWorker:
    async def noop(_ctx: Mapping[str, Any], group: Group) -> None:
        await _begin(client, how, [job.args[0] for job in group.jobs])
        await group.settle({job.job_id: Done() for job in group.jobs})

    return BatchWorker([batch_func(noop, name=TASK_NAME)], lease_s=LEASE_S, **_common(url, how))


def _common(url: str, how: str) -> dict[str, Any]:
    return {
        "queue_name": QUEUE_NAME,
        "redis_settings": redis_settings(url),
        "burst": how != "lone",
        "max_jobs": 10,
        "job_serializer": job_serializer,
        "job_deserializer": job_deserializer,
        "handle_signals": False,
    }


def _report(rounds: Sequence[Round], recovery: Mapping[str, float]) -> dict[str, Any]:
    medians = {
        f"{peer} x{processes}": _median([r for r in rounds if (r.peer, r.processes) == (peer, processes)])
        for processes in PROCESSES
        for peer in PEERS
    }
    rates = {name: values["jobs_per_s"] for name, values in medians.items()}
    return {
        "environment": environment(),
        "peers": PEERS,
        "median": medians,
        "batch_over_stock": {f"x{n}": round(rates[f"batch x{n}"] / rates[f"stock x{n}"], 1) for n in PROCESSES},
        "batch_four_over_one": round(rates["batch x4"] / rates["batch x1"], 2),
        "recovery_after_kill_s": dict(recovery),
        "rounds": [asdict(r) for r in rounds],
    }


def _median(rounds: Sequence[Round]) -> dict[str, float]:
    names = ("jobs_per_s", "commands_per_job", "worker_cpu_us_per_job", "redis_cpu_us_per_job")
    return {name: statistics.median(getattr(r, name) for r in rounds) for name in names}


def _print(report: Mapping[str, Any]) -> None:
    print(f"{'':12}{'jobs/s':>10}{'commands/job':>14}{'CPU µs/job':>12}{'Redis µs/job':>14}")
    for name, m in report["median"].items():
        print(
            f"{name:12}{m['jobs_per_s']:>10,.0f}{m['commands_per_job']:>14.2f}"
            f"{m['worker_cpu_us_per_job']:>12.0f}{m['redis_cpu_us_per_job']:>14.0f}"
        )
    print(f"batch over stock: {report['batch_over_stock']}; four processes over one: {report['batch_four_over_one']}")
    for wait in report["lone_job"]["waits"]:
        print("a lone job: {peer}, {producer} producer, importing {importing}:".format(**wait), end=" ")
        print("{median_ms} ms, p99 {p99_ms} ms; idle {idle_commands_per_s} commands/s".format(**wait))
    if report["recovery_after_kill_s"]:
        print(f"seconds lost to kill -9: {report['recovery_after_kill_s']}")


if __name__ == "__main__":
    sys.exit(main())
