"""CPU and rows/s of one worker process, from the claim to the settled job: `python -m benchmarks.rows`.

One real `python workers.py` on an embedded Redis; three ways a row may be answered, none of which asks a model:

- `rules`: N distinct texts, nothing known of them;
- `cache`: N distinct texts, every address known in Redis (sealed, and grounded again), none in the process;
- `memory`: the same texts again, by now known in the process.

CPU per row is the worker's own (/proc/<pid>/stat) from the start signal until the queue is empty; rows/s run from the
first settled group to the last. Each row carries an address and a document; documents are read by rules in all ways.
With `--peer NAME=CHECKOUT` (again and again) other checkouts run in the same rounds, interleaved; with `--receiver`
this one runs once more, telling a webhook receiver that takes every connection and never answers.
"""

from __future__ import annotations

import argparse
import base64
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from benchmarks.circumstances import environment, keep
from benchmarks.fleet import ROOT, Fleet, Supplied
from normalizer.domain.address import Address
from normalizer.domain.address.grounding import violations
from normalizer.domain.appointment import Status
from normalizer.domain.text import canonical
from normalizer.simulation.sheets import Mess, generate

RESULTS: Final = Path(__file__).resolve().parent / "results" / "rows.json"
TARGETS: Final = {
    "rules": {"rows_per_s": 2_500, "cpu_us_per_row": 400},
    "cache": {"rows_per_s": 5_000, "cpu_us_per_row": 150},
    "memory": {"rows_per_s": 5_000, "cpu_us_per_row": 150},
}
_RECEIVER: Final = "receiver"
_FIGURES: Final = ("rows_per_s", "cpu_us_per_row")
_WARM_UP: Final = "warm-up"
_WARM_ROWS, _LOOK_S, _LIMIT_S = 500, 0.01, 300.0


@dataclass(frozen=True, slots=True)
class Round:
    peer: str
    way: str
    rows: int
    rows_per_s: float
    cpu_us_per_row: float
    statuses: Mapping[str, int]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.rows", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=CHECKOUT", help="run that checkout, too")
    parser.add_argument("--receiver", action="store_true", help="and once more, telling a webhook receiver that hangs")
    parser.add_argument("--mongodb", metavar="URL", help="a real MongoDB; else the sink")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    peers = {name: Path(checkout).resolve() for name, _, checkout in (given.partition("=") for given in options.peer)}
    peers |= dict.fromkeys(("now", *([_RECEIVER] if options.receiver else [])), ROOT)
    with tempfile.TemporaryDirectory(prefix="normalizer-rows-") as directory:
        document = _run(options, peers, Path(directory))
    _print(document)
    keep(options.out, document)
    return 0


def _run(options: argparse.Namespace, peers: Mapping[str, Path], directory: Path) -> dict[str, Any]:
    before = environment()
    sheets = _sheets(options.rows)
    rounds: list[Round] = []
    with socket.create_server(("127.0.0.1", 0), backlog=1_000) as receiver:  # connected to, and never read
        for number in range(options.rounds):
            # Interleaved, and in turn first: what drifts on the machine hits all.
            for peer in list(peers)[:: 1 if number % 2 == 0 else -1]:
                settings = {"CACHE_SECRET": "benchmark", "ENVIRONMENT": "production", "LOG_LEVEL": "INFO"}
                settings |= _told(receiver) if peer == _RECEIVER else {}
                name = f"rows_{number}_{peer}"
                settings |= {"MONGODB_URL": options.mongodb, "DATABASE_NAME": name} if options.mongodb else {}
                with Fleet(directory / name, settings=settings, checkout=peers[peer]) as fleet:
                    rounds += _round(peer, fleet, sheets)
    return _document(options, peers, rounds, before)


def _told(receiver: socket.socket) -> dict[str, str]:
    host, port = receiver.getsockname()
    secret = f"whsec_{base64.b64encode(bytes(32)).decode()}"
    return {"WEBHOOK_URL": f"http://{host}:{port}/", "WEBHOOK_SECRET": secret, "WEBHOOK_ALLOWED_HOSTS": host}


# -- what is worked on ------------------------------------------------------------------------------------------------


def _sheets(count: int) -> dict[str, list[Supplied]]:
    """The synthetic rows of each way, whose texts are all different; the cache may answer each of its own."""
    cached = list(islice(filter(_may_be_known, _distinct(7, Mess(repeated=0, unusable=0))), count))
    return {
        _WARM_UP: list(islice(_distinct(3, Mess(repeated=0)), _WARM_ROWS)),
        "rules": list(islice(_distinct(5, Mess(repeated=0)), count)),
        "cache": cached,
        "memory": cached,
    }


def _distinct(seed: int, mess: Mess) -> Iterator[Supplied]:
    seen: set[str] = set()
    for row in map(Supplied.of, generate(seed, mess)):
        text = canonical(row.address or "")
        if text not in seen:
            seen.add(text)
            yield row


def _may_be_known(row: Supplied) -> bool:
    if not row.address or not row.expected:
        return False
    return not violations(row.address, Address.from_dict({**row.expected}))


# -- measuring --------------------------------------------------------------------------------------------------------


def _round(peer: str, fleet: Fleet, sheets: Mapping[str, Sequence[Supplied]]) -> Iterator[Round]:
    """Every way once, by one worker; the first rows only warm it up."""
    fleet.remember(sheets["cache"])
    fleet.start_workers(1)
    for way, rows in sheets.items():
        fleet.pause()  # all rows at once: the queue begins with the last
        fleet.fill(rows, len(rows), prefix=way)
        measured = _measure(peer, way, fleet, len(rows))
        if way != _WARM_UP:
            print(f"{peer} {way}: {measured.cpu_us_per_row:.0f} µs/row", file=sys.stderr)
            yield measured


def _measure(peer: str, way: str, fleet: Fleet, rows: int) -> Round:
    (worker,) = fleet.workers
    logged, cpu_s = len(worker.output()), worker.cpu_s
    fleet.resume()
    rows_per_s = _drained(fleet, rows)
    cpu_s = worker.cpu_s - cpu_s
    statuses = _saved(worker.output()[logged:])
    if statuses.total() != rows:
        raise AssertionError(f"{way}: {dict(statuses)} of {rows} rows\n{worker.tail()}")
    return Round(peer, way, rows, round(rows_per_s, 1), round(cpu_s / rows * 1e6, 1), dict(statuses))


def _drained(fleet: Fleet, rows: int) -> float:
    """Wait for the end. Returns rows/s since the first group was settled."""
    deadline = time.monotonic() + _LIMIT_S
    began, left_then = 0.0, rows
    while left := fleet.waiting():
        if left < rows and not began:
            began, left_then = time.perf_counter(), left
        if time.monotonic() > deadline or not fleet.workers[0].running:
            raise RuntimeError(f"the run did not end:\n{fleet.workers[0].tail()}")
        time.sleep(_LOOK_S)
    return left_then / (time.perf_counter() - began)


def _saved(log: str) -> Counter[str]:
    """How many rows the worker says it saved, by status."""
    lines = (json.loads(line) for line in log.splitlines() if '"appointments.saved"' in line)
    return sum((Counter({status: line.get(status, 0) for status in Status}) for line in lines), Counter[str]())


# -- the report -------------------------------------------------------------------------------------------------------


def _document(
    options: argparse.Namespace, peers: Mapping[str, Path], rounds: Sequence[Round], before: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "rows": options.rows,
        "rounds": options.rounds,
        "targets": TARGETS,
        "median": {
            peer: {way: _median([r for r in rounds if (r.peer, r.way) == (peer, way)]) for way in TARGETS}
            for peer in peers
        },
        "raw": [asdict(each) for each in rounds],
        "commits": {peer: _commit(checkout) for peer, checkout in peers.items()},
        "environment": before,
        "environment_after": environment(),
    }


def _median(rounds: Sequence[Round]) -> dict[str, float]:
    return {name: statistics.median(getattr(each, name) for each in rounds) for name in _FIGURES}


def _commit(checkout: Path) -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=checkout)
    return found.stdout.strip() or "unknown"


def _print(document: Mapping[str, Any]) -> None:
    print(f"{document['rows']} rows, medians of {document['rounds']} rounds, one worker process")
    print(f"{'peer':<12}{'way':<10}{'CPU µs/row':>12}{'target':>8}{'rows/s':>10}{'target':>8}")
    for peer, ways in document["median"].items():
        for way, figures in ways.items():
            target = document["targets"][way]
            print(
                f"{peer:<12}{way:<10}{figures['cpu_us_per_row']:>12.0f}{target['cpu_us_per_row']:>8}"
                f"{figures['rows_per_s']:>10.0f}{target['rows_per_s']:>8}"
            )


if __name__ == "__main__":
    sys.exit(main())
