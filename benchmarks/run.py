"""The replaced worker against this one: same rows, same services, same simulated provider, interleaved rounds.

`python -m benchmarks.run [--rows N] [--rounds N] [--workers N] [--quick]` prints rows/s, calls and tokens, and writes
`benchmarks/results/run.json`. The store is an embedded MongoDB-protocol server far slower than MongoDB, so rows/s of
the faster peer are bounded by it; calls and tokens are not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymongo
from redis import Redis

from benchmarks.scenarios import write_scenario
from normalizer import embedded
from normalizer.imports import import_sheet
from normalizer.runtime import open_producer
from normalizer.settings import settings_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RESULTS = Path(__file__).parent / "results" / "run.json"
PEERS = {
    "seed": ("stock arq.Worker, max_jobs=10, one job per appointment, one call per field", ["-m", "benchmarks.seed"]),
    "normalizer": ("this worker, ARQ_MAX_JOBS=10", ["-m", "workers"]),
}
PROVIDER = {"latency_ms": 400, "tokens_per_s": 100}
_SEED = 7
_POLL_S = 0.1
_LIMIT_S = 1_800.0


@dataclass(frozen=True, slots=True)
class Round:
    """One peer's run over all rows. Seconds are from the start of the worker to the last row saved."""

    peer: str
    seconds: float
    rows_per_s: float
    calls: int
    tokens_in: int
    tokens_out: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rounds, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="100 rows, one round, nothing written")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    if options.quick:
        options.rows, options.rounds = min(options.rows, 100), 1
    with tempfile.TemporaryDirectory(prefix="normalizer-bench-") as directory:
        rounds = _rounds(Path(directory), options.rows, options.rounds, options.workers)
    document = _document(options, rounds)
    _print(document)
    if not options.quick:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def _rounds(directory: Path, rows: int, rounds: int, workers: int) -> list[Round]:
    sheet, labels = write_scenario(directory, rows=rows, seed=_SEED)
    with (
        embedded.start_valkey(directory / "valkey") as redis,
        embedded.start_mongo(directory / "mongo") as mongo,
        embedded.start_provider(labels, directory=directory / "provider", **PROVIDER) as provider,
    ):
        done = []
        for number in range(rounds):
            # Interleaved, and in turn first: what drifts on the machine hits both.
            for peer in list(PEERS)[:: 1 if number % 2 == 0 else -1]:
                environment = _environment(redis.url, mongo.url, f"bench_{number}_{peer}", provider.url)
                Redis.from_url(redis.url).flushall()
                done.append(_measure(peer, environment, sheet, provider.root_url, directory, workers))
                print(f"round {number + 1} {peer}: {done[-1].rows_per_s:.1f} rows/s", file=sys.stderr)
        return done


def _environment(redis_url: str, mongo_url: str, database: str, provider_url: str) -> dict[str, str]:
    return {
        "REDIS_URL": redis_url,
        "MONGODB_URL": mongo_url,
        "DATABASE_NAME": database,
        "OPENAI_API_KEY": "simulated",
        "OPENAI_BASE_URL": provider_url,
        "OPENAI_MODEL": "simulated-model",
        "LLM_RPM": "0",
        "LLM_TPM": "0",
        "LOG_LEVEL": "WARNING",
    }


def _measure(
    peer: str, environment: Mapping[str, str], sheet: Path, provider_url: str, directory: Path, workers: int
) -> Round:
    rows = asyncio.run(_import(environment, sheet))
    before = _stats(provider_url)
    started = time.monotonic()
    children = [
        embedded.spawn_python(peer, PEERS[peer][1], environment, log=directory / f"{peer}-{number}.log")
        for number in range(workers)
    ]
    try:
        _wait(environment, children)
        seconds = time.monotonic() - started
    finally:
        for child in children:
            child.stop()
    spent = _stats(provider_url)
    return Round(
        peer=peer,
        seconds=round(seconds, 3),
        rows_per_s=round(rows / seconds, 2),
        calls=spent["requests"] - before["requests"],
        tokens_in=spent["tokens_in"] - before["tokens_in"],
        tokens_out=spent["tokens_out"] - before["tokens_out"],
    )


async def _import(environment: Mapping[str, str], sheet: Path) -> int:
    async with open_producer(settings_of(environment)) as producer:
        report = await import_sheet(sheet, store=producer.store, enqueue=producer.tasks.enqueue_many)
    return report.rows


def _wait(environment: Mapping[str, str], children: Sequence[embedded.Child]) -> None:
    deadline = time.monotonic() + _LIMIT_S
    with pymongo.MongoClient[dict[str, Any]](environment["MONGODB_URL"]) as client:
        appointments = client[environment["DATABASE_NAME"]]["appointments"]
        while appointments.count_documents({"normalizacao.status": "pendente"}, limit=1):
            if time.monotonic() > deadline or not all(child.running for child in children):
                raise RuntimeError(f"the run did not end:\n{children[0].tail()}")
            time.sleep(_POLL_S)


def _stats(provider_url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{provider_url}/stats", timeout=10) as answer:  # noqa: S310 — our own loopback URL
        stats: dict[str, int] = json.load(answer)
        return stats


def _document(options: argparse.Namespace, rounds: Sequence[Round]) -> dict[str, Any]:
    peers = {peer: _figures([item for item in rounds if item.peer == peer]) for peer in PEERS}
    ours, seed = peers["normalizer"], peers["seed"]
    return {
        "rows": options.rows,
        "rounds": options.rounds,
        "workers": options.workers,
        "provider": {"kind": "simulated", **PROVIDER},
        "peers": {peer: {"what": PEERS[peer][0], **figures} for peer, figures in peers.items()},
        "ratios": {
            "rows_per_s": round(ours["rows_per_s"] / seed["rows_per_s"], 1),
            "calls": round(seed["calls"] / max(1, ours["calls"]), 1),
            "tokens": round(
                (seed["tokens_in"] + seed["tokens_out"]) / max(1, ours["tokens_in"] + ours["tokens_out"]), 1
            ),
        },
        "raw": [asdict(item) for item in rounds],
        "environment": {"python": platform.python_version(), "machine": platform.machine(), "commit": _commit()},
    }


def _figures(rounds: Sequence[Round]) -> dict[str, float]:
    names = ("seconds", "rows_per_s", "calls", "tokens_in", "tokens_out")
    return {name: statistics.median(getattr(item, name) for item in rounds) for name in names}


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return found.stdout.strip() or "unknown"


def _print(document: Mapping[str, Any]) -> None:
    print(f"{document['rows']} rows, medians of {document['rounds']} rounds, simulated provider {PROVIDER}")
    print(f"{'peer':<12}{'rows/s':>10}{'calls':>10}{'tokens in':>12}{'tokens out':>12}")
    for peer, figures in document["peers"].items():
        print(
            f"{peer:<12}{figures['rows_per_s']:>10.1f}{figures['calls']:>10.0f}"
            f"{figures['tokens_in']:>12.0f}{figures['tokens_out']:>12.0f}"
        )
    ratios = document["ratios"]
    print(f"ratios: {ratios['rows_per_s']}× rows/s, 1/{ratios['calls']} calls, 1/{ratios['tokens']} tokens")


if __name__ == "__main__":
    sys.exit(main())
