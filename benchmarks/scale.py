"""Growth of a row's cost: with more rows, with more replicas, over time; and what the replicas share.

`python -m benchmarks.scale [--phases rows,replicas,…] [--sizes 1000,10000,100000] [--minutes 60]`

Real `workers.py` processes on an embedded Redis (AOF on), the sink (`benchmarks.sink`) and the simulated provider. Each
phase writes its own part of `benchmarks/results/scale.json`, with commit, date and load: one can be run again alone.

- rows: CPU, Redis commands, calls and tokens per row of sheets of growing size, read by rules, by cache, by the model;
- replicas: the same sheet with 1, 2, 4, 8 replicas: does a row cost more when they are many;
- limits: a provider that allows few requests a minute; one count for all replicas, or each its own: refusals;
- idle: what a replica without work asks of Redis;
- reconcile: what looking for lost rows takes while many wait, and when the queue lost them all;
- room: what a queued job, an answer in the cache and a job's result take of Redis, and a row's writes of the store;
- memory: resident memory of a worker under load, minute after minute.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.circumstances import environment, keep_parts
from benchmarks.fleet import POOL, Fleet, Supplied, hard_rows, known_addresses, memory_mb, pool, run_once, write_labels
from normalizer.simulation import embedded

RESULTS: Final = Path(__file__).parent / "results" / "scale.json"
REPLICAS: Final = (1, 2, 4, 8)
UNLIMITED: Final = {"LLM_RPM": "0", "LLM_TPM": "0"}
LABELS: Final = "labels.jsonl"
WAYS: Final = {
    "rules": "no model key, nothing in the cache: the rules read every address",
    "cached": "every address that can be read is in the shared cache, and no longer in the worker's own",
    "model": "different addresses that only the model reads; a provider without limits that answers at once",
}
#: Rows a second of the memory phase at most: the sink keeps them all, and an hour at full speed would fill the machine.
_LOAD_ROWS_PER_S: Final = 300
_LIMIT_RPM: Final = 40


def main(argv: Sequence[str] | None = None) -> int:
    given = _parsed(argv)
    for phase in given.phases:
        with tempfile.TemporaryDirectory(prefix="normalizer-scale-") as directory:
            for measured in PHASES[phase](given, Path(directory)):
                print(json.dumps({phase: measured}, ensure_ascii=False), flush=True)
                if not given.quick:
                    keep_parts(given.out, {phase: {**measured, "environment": environment()}})
    return 0


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--phases", type=_phases, default=list(PHASES), help=f"of {','.join(PHASES)}")
    parser.add_argument("--sizes", type=_numbers, default=[1_000, 10_000, 100_000, 1_000_000], help="rows, by comma")
    parser.add_argument("--model-sizes", type=_numbers, default=[1_000, 10_000], help="the same, for the model's way")
    parser.add_argument("--minutes", type=float, default=60.0, help="of the memory phase")
    parser.add_argument("--quick", action="store_true", help="every phase in small, nothing written")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(argv)
    if given.quick:
        given.sizes, given.model_sizes, given.minutes = [200], [60], 0.05
    return given


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"esperado números inteiros separados por vírgula; encontrado {text!r}"
        ) from None


def _phases(text: str) -> list[str]:
    if unknown := set(text.split(",")) - PHASES.keys():
        raise argparse.ArgumentTypeError(f"fase desconhecida: {', '.join(sorted(unknown))}; há {', '.join(PHASES)}")
    return text.split(",")


# -- phases


def rows(given: argparse.Namespace, directory: Path) -> Iterator[dict[str, Any]]:
    """The same rows by each way, in growing sheets; told after each, since the large ones take long."""
    sizes = {"rules": given.sizes, "cached": given.sizes, "model": given.model_sizes}
    supplied = pool(min(POOL, max(given.sizes)))
    hard = hard_rows(max(given.model_sizes))
    measured = []
    for way, size in [(name, size) for name in WAYS for size in sizes[name]]:
        measured.append(_one_way(way, hard[:size] if way == "model" else supplied, size, directory))
        flat = _flat(measured)
        yield {"ways": WAYS, "replicas": 1, "pool": len(supplied), "points": measured, "largest_over_smallest": flat}


def _one_way(way: str, supplied: Sequence[Supplied], size: int, directory: Path) -> dict[str, Any]:
    place = directory / f"{way}-{size}"
    if way != "model":
        return {"way": way, **run_once(place, supplied, size, remembered=supplied if way == "cached" else ())}
    labels = write_labels(place / LABELS, supplied)
    with embedded.start_provider(labels, directory=place / "provider") as provider:
        return {"way": way, **run_once(place, supplied, size, provider=provider, settings=UNLIMITED)}


def _flat(points: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """A figure of the largest sheet over that of the second smallest: the smallest is mostly the queue's lingering."""
    names = ("worker_cpu_us_per_row", "redis_cpu_us_per_row", "redis_commands_per_row", "peak_rss_mb")
    flat = {}
    for way in dict.fromkeys(point["way"] for point in points):
        mine = [point for point in points if point["way"] == way]
        first = mine[min(1, max(0, len(mine) - 2))]
        flat[way] = {name: round(mine[-1][name] / first[name], 2) for name in names if first[name]}
    return flat


def replicas(given: argparse.Namespace, directory: Path) -> Iterator[dict[str, Any]]:
    """One sheet, read by the rules, by more and more replicas."""
    size = 200 if given.quick else 20_000
    supplied = pool(size)
    points = []
    for count in REPLICAS[:2] if given.quick else REPLICAS:
        place = directory / str(count)
        points.append({"replicas": count, **run_once(place, supplied, size, replicas=count)})
    yield {"rows": size, "points": points}


def limits(given: argparse.Namespace, directory: Path) -> Iterator[dict[str, Any]]:
    """Addresses for the model, a provider that allows few requests a minute, the shared limit off and on."""
    size = 100 if given.quick else 2_000
    rpm = 1_000 if given.quick else _LIMIT_RPM
    hard = hard_rows(size)
    points: list[dict[str, Any]] = []
    for count in REPLICAS[:1] if given.quick else REPLICAS:
        for shared in (False, True):
            place = directory / f"{count}-{shared}"
            labels = write_labels(place / LABELS, hard)
            settings = {"LLM_RPM": str(rpm), "LLM_TPM": "0", "LLM_RECORDS_PER_CALL": "10"}
            with embedded.start_provider(labels, directory=place / "provider", rpm=rpm, latency_ms=300) as provider:
                used = run_once(
                    place, hard, size, replicas=count, provider=provider, settings=settings, apart=not shared
                )
            points.append({"replicas": count, "shared_limit": shared, "bound_s": _bound_s(used, rpm), **used})
    yield {"rpm": rpm, "rows": size, "records_per_call": "10 at the start, growing", "points": points}


def _bound_s(used: Mapping[str, Any], rpm: int) -> float:
    """The least that the answered calls take: a full minute's worth at once, the rest as the window slides."""
    answered: int = used["calls"] - used["refused"]
    return 60.0 * ((answered - 1) // rpm)


def idle(given: argparse.Namespace, directory: Path) -> Iterator[dict[str, Any]]:
    """What replicas without work cost, a second and a replica."""
    seconds = 1 if given.quick else 20
    measured = []
    for count in (1,) if given.quick else (1, 8):
        place = directory / str(count)
        with Fleet(place) as fleet:
            fleet.start_workers(count)
            before = fleet.meter()
            time.sleep(seconds)
            used = fleet.meter().since(before)
            rss_mb = statistics.mean(memory_mb(worker.pid) for worker in fleet.workers)
        share = count * used.wall_s
        measured.append(
            {
                "replicas": count,
                "commands_per_s": round(used.commands / share, 2),
                "redis_cpu_us_per_s": round(used.redis_cpu_s / share * 1e6, 1),
                "worker_cpu_us_per_s": round(used.worker_cpu_s / share * 1e6, 1),
                "rss_mb": round(rss_mb, 1),
            }
        )
    yield {"seconds": seconds, "points": measured}


def reconcile(given: argparse.Namespace, directory: Path) -> Iterator[dict[str, Any]]:
    """What looking for rows that the queue may have lost takes, a row looked at: where it lost none, and where all."""
    size = 500 if given.quick else 50_000
    with Fleet(directory) as fleet:
        fleet.fill(pool(1_000), size, prefix="r")
        fleet.age(dt.timedelta(hours=1))
        whole = _look(fleet)
        fleet.redis.flushall()
        lost = _look(fleet)
        if lost["looked_at"] != size or fleet.waiting() != size:
            raise AssertionError(f"looked at {lost['looked_at']} of {size} lost rows, {fleet.waiting()} wait")
    yield {"rows": size, "whole": whole, "lost": lost}


def _look(fleet: Fleet) -> dict[str, float]:
    before, cpu_s = fleet.meter(), time.process_time()
    looked_at = fleet.reconcile()
    used, cpu_s = fleet.meter().since(before), time.process_time() - cpu_s
    return {
        "looked_at": looked_at,
        "worker_cpu_us_per_row": round(cpu_s / looked_at * 1e6, 1),
        "redis_cpu_us_per_row": round(used.redis_cpu_s / looked_at * 1e6, 1),
        "redis_commands_per_row": round(used.commands / looked_at, 3),
    }


def room(given: argparse.Namespace, directory: Path) -> Iterator[dict[str, Any]]:
    """Bytes of Redis' memory for each thing it holds much of: its `used_memory` with so many of them, less without.

    And bytes sent to the store for each row, by inserts and by updates: no oplog grows by more.
    """
    size = 200 if given.quick else 20_000
    supplied = pool(size)
    answers = len(known_addresses(supplied))
    with Fleet(directory) as fleet:
        fleet.pause()
        start = fleet.redis_bytes()
        fleet.remember(supplied)
        remembered = fleet.redis_bytes()
        fleet.fill(supplied, size, prefix="s")
        queued = fleet.redis_bytes()
        fleet.start_workers(1)
        before = fleet.redis_bytes()
        fleet.work_off(limit_s=600)
        after = fleet.redis_bytes()
        results = sum(1 for _ in fleet.redis.scan_iter("arq:result:*", count=1_000))
        stored = fleet.sink.stats()
    a_job = (queued - remembered) / size
    yield {
        "rows": size,
        "points": [
            {"what": "job", "held": size, "bytes": round(a_job)},
            {"what": "answer", "held": answers, "bytes": round((remembered - start) / answers)},
            {"what": "result", "held": results, "bytes": round((after - before + a_job * size) / results)},
            *(
                {"what": f"{done} rows sent", "held": stored["rows"][done], "bytes": round(sent / stored["rows"][done])}
                for done, sent in (
                    ("inserted", stored["received"]["insert"]),
                    ("updated", stored["received"]["update"]),
                )
            ),
        ],
    }


def memory(given: argparse.Namespace, directory: Path) -> Iterator[dict[str, Any]]:
    """ProgressCounts of rows, one after the other, for so many minutes; the worker's memory along the way.

    More different texts than the worker's own cache holds, again and again; a few of each portion are new, and only
    the model reads them.
    """
    portion, asked = (120, 5) if given.quick else (5_000, 100)
    hard = hard_rows(asked * (1 + round(given.minutes * 60 * _LOAD_ROWS_PER_S / portion)))
    easy = pool(500 if given.quick else POOL)
    settings = {**UNLIMITED, "LLM_RECORDS_PER_CALL": "25"}
    labels = write_labels(directory / LABELS, hard)
    samples: list[tuple[float, float]] = []
    done = 0
    with (
        embedded.start_provider(labels, directory=directory / "provider", latency_ms=300) as provider,
        Fleet(directory, provider=provider, settings=settings) as fleet,
    ):
        fleet.remember(easy[: len(easy) // 2])
        fleet.start_workers(1)
        rows, new = itertools.cycle(easy), itertools.cycle(hard)
        began = time.monotonic()
        while time.monotonic() - began < 60 * given.minutes:
            supplied = [*itertools.islice(rows, portion - asked), *itertools.islice(new, asked)]
            fleet.fill(supplied, portion, prefix=f"m{done}")
            done += portion
            while fleet.waiting() > portion // 2 or done > _LOAD_ROWS_PER_S * (time.monotonic() - began):
                time.sleep(0.25)
                samples.append((round(time.monotonic() - began, 1), memory_mb(fleet.workers[0].pid)))
            samples.append((round(time.monotonic() - began, 1), memory_mb(fleet.workers[0].pid)))
        while fleet.waiting():
            time.sleep(0.25)
        fleet.check(done)
        calls = fleet.meter().provider.get("requests", 0)
    yield {"minutes": given.minutes, "rows": done, "texts": len(easy), "calls": calls, **_slope(samples)}


def _slope(samples: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Medians of the quarters, and the growth over the second half: in the first one the caches fill."""
    quarter = max(1, len(samples) // 4)
    medians = [statistics.median(mb for _, mb in samples[n * quarter : (n + 1) * quarter] or samples) for n in range(4)]
    half = samples[len(samples) // 2 :]
    line = statistics.linear_regression(*zip(*half, strict=True)) if len(half) > 1 else None
    step = max(1, len(samples) // 60)
    return {
        "rss_mb_by_quarter": medians,
        "growth_mb_per_hour": round(line.slope * 3600, 2) if line else 0.0,
        "samples": samples[::step],
    }


PHASES: Final[Mapping[str, Callable[[argparse.Namespace, Path], Iterator[dict[str, Any]]]]] = {
    "rows": rows,
    "replicas": replicas,
    "limits": limits,
    "idle": idle,
    "reconcile": reconcile,
    "room": room,
    "memory": memory,
}


if __name__ == "__main__":
    sys.exit(main())
