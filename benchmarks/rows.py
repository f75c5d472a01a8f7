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
import asyncio
import base64
import contextlib
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

from redis import Redis

from benchmarks.circumstances import environment, keep
from benchmarks.sink import start_sink
from normalizer.cache import Entry
from normalizer.domain.address import Address, deduced
from normalizer.domain.address.grounding import violations
from normalizer.domain.appointment import Kind, Status
from normalizer.domain.decision import Settled
from normalizer.domain.text import canonical
from normalizer.queue.service import QUEUE_NAME
from normalizer.runtime import Producer, open_cache, open_producer
from normalizer.settings import settings_of
from normalizer.simulation import embedded
from normalizer.simulation.sheets import COLUMNS, Mess, ScenarioRow, generate
from normalizer.store import ImportRow

HERE: Final = Path(__file__).resolve().parent
RESULTS: Final = HERE / "results" / "rows.json"
TARGETS: Final = {
    "rules": {"rows_per_s": 2_500, "cpu_us_per_row": 400},
    "cache": {"rows_per_s": 5_000, "cpu_us_per_row": 150},
    "memory": {"rows_per_s": 5_000, "cpu_us_per_row": 150},
}
_RECEIVER: Final = "receiver"
_FIGURES: Final = ("rows_per_s", "cpu_us_per_row")
_SEEDS: Final = {"warm-up": 3, "rules": 5, "cache": 7}
_WARM_ROWS, _CHUNK, _LOOK_S, _LIMIT_S = 500, 1_000, 0.01, 300.0
_NAME, _CONTACT = COLUMNS.index("Nome do Paciente"), COLUMNS.index("Contato(s) do Paciente")


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
    peers |= dict.fromkeys(("now", *([_RECEIVER] if options.receiver else [])), HERE.parent)
    with tempfile.TemporaryDirectory(prefix="normalizer-rows-") as directory:
        document = _run(options, peers, Path(directory))
    _print(document)
    keep(options.out, document)
    return 0


def _run(options: argparse.Namespace, peers: Mapping[str, Path], directory: Path) -> dict[str, Any]:
    before = environment()
    sheets = Sheets.made(options.rows)
    rounds: list[Round] = []
    with (
        embedded.start_valkey(directory / "valkey") as redis,
        _store(options.mongodb, directory) as mongo_url,
        socket.create_server(("127.0.0.1", 0), backlog=1_000) as receiver,  # connected to, and never read
    ):
        for number in range(options.rounds):
            # Interleaved, and in turn first: what drifts on the machine hits all.
            for peer in list(peers)[:: 1 if number % 2 == 0 else -1]:
                variables = _variables(redis.url, mongo_url, f"rows_{number}_{peer}")
                variables |= _told(receiver) if peer == _RECEIVER else {}
                Redis.from_url(redis.url).flushall()
                stored = asyncio.run(_prepare(variables, sheets))
                log = directory / f"{peer}-{number}.log"
                with _worker(peers[peer], variables, log) as worker:
                    rounds += Bench(peer, worker, variables).round(stored)
    return _document(options, peers, rounds, before)


@contextlib.contextmanager
def _store(url: str | None, directory: Path) -> Iterator[str]:
    if url is not None:
        yield url
        return
    with start_sink(directory / "sink") as sink:
        yield sink.url


def _variables(redis_url: str, mongo_url: str, database: str) -> dict[str, str]:
    names = {"REDIS_URL": redis_url, "MONGODB_URL": mongo_url, "DATABASE_NAME": database}
    return {**names, "CACHE_SECRET": "benchmark", "ENVIRONMENT": "production"}


def _told(receiver: socket.socket) -> dict[str, str]:
    host, port = receiver.getsockname()
    secret = f"whsec_{base64.b64encode(bytes(32)).decode()}"
    return {"WEBHOOK_URL": f"http://{host}:{port}/", "WEBHOOK_SECRET": secret, "WEBHOOK_ALLOWED_HOSTS": host}


def _worker(checkout: Path, variables: Mapping[str, str], log: Path) -> embedded.Child:
    python_path = {"PYTHONPATH": str(checkout)}
    return embedded.spawn_python("worker", [str(checkout / "workers.py")], {**variables, **python_path}, log=log)


# -- what is worked on ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sheets:
    """The rows of each way, and what the cache knows."""

    rows: Mapping[str, Sequence[ScenarioRow]]
    known: Mapping[str, Entry]

    @classmethod
    def made(cls, count: int) -> Sheets:
        """Synthetic rows whose texts are all different; every address of the cache's rows has an answer."""
        known: dict[str, Entry] = {}
        cached = list(islice(_known(_distinct(_SEEDS["cache"], Mess(repeated=0, unusable=0)), known), count))
        rows = {
            "warm-up": list(islice(_distinct(_SEEDS["warm-up"], Mess(repeated=0)), _WARM_ROWS)),
            "rules": list(islice(_distinct(_SEEDS["rules"], Mess(repeated=0)), count)),
            "cache": cached,
            "memory": cached,
        }
        return cls(rows, known)


def _distinct(seed: int, mess: Mess) -> Iterator[ScenarioRow]:
    seen: set[str] = set()
    for row in generate(seed, mess):
        text = canonical(row.address.text) if row.address else ""
        if text not in seen:
            seen.add(text)
            yield row


def _known(rows: Iterator[ScenarioRow], known: dict[str, Entry]) -> Iterator[ScenarioRow]:
    """The rows whose labelled address the cache may answer with, which is noted in `known`."""
    for row in rows:
        expected = row.address.expected if row.address else None
        if row.address and expected and not violations(row.address.text, Address.from_dict(expected)):
            address = Address.from_dict(expected)
            known[row.address.text] = Entry.of(Settled(address, inferred=deduced(row.address.text, address)))
            yield row


async def _prepare(variables: Mapping[str, str], sheets: Sheets) -> dict[str, dict[str, str]]:
    """Store every row and fill the cache. Returns the fingerprints by appointment id, of each way."""
    settings = settings_of(variables)
    async with open_cache(settings) as cache:
        for texts in _chunks(list(sheets.known)):
            await cache.put_many(Kind.ADDRESS, {text: sheets.known[text] for text in texts})
    async with open_producer(settings) as producer:
        return {way: await _stored(producer, way, rows) for way, rows in sheets.rows.items()}


async def _stored(producer: Producer, way: str, rows: Sequence[ScenarioRow]) -> dict[str, str]:
    fingerprints: dict[str, str] = {}
    for chunk in _chunks([ImportRow(f"{way}-{number}", _fields(row)) for number, row in enumerate(rows)]):
        fingerprints |= (await producer.store.upsert_rows(chunk, "benchmark")).new
    return fingerprints


def _fields(row: ScenarioRow) -> dict[str, object]:
    return {
        "nome_paciente": row.cells[_NAME],
        "telefone": row.cells[_CONTACT],
        "endereco_coleta": row.address.text if row.address else None,
        "documento_completo": row.document.text if row.document else None,
    }


def _chunks(items: list[Any]) -> Iterator[list[Any]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))


# -- measuring --------------------------------------------------------------------------------------------------------


class Bench:
    def __init__(self, peer: str, worker: embedded.Child, variables: Mapping[str, str]) -> None:
        self._peer, self._worker, self._variables = peer, worker, variables
        self._redis: Any = Redis.from_url(variables["REDIS_URL"])  # redis-py's own types mix both kinds of client

    def round(self, stored: Mapping[str, Mapping[str, str]]) -> Iterator[Round]:
        """Every way once; the first rows only warm the worker up."""
        for way, fingerprints in stored.items():
            measured = self._measure(way, fingerprints)
            if way in TARGETS:
                print(f"{measured.peer} {way}: {measured.cpu_us_per_row:.0f} µs/row", file=sys.stderr)
                yield measured

    def _measure(self, way: str, fingerprints: Mapping[str, str]) -> Round:
        rows, logged = len(fingerprints), len(self._worker.output())
        asyncio.run(self._enqueue_all(fingerprints))
        cpu_s = self._worker.cpu_s
        rows_per_s = self._drained(rows)
        cpu_s = self._worker.cpu_s - cpu_s
        statuses = _saved(self._worker.output()[logged:])
        if statuses.total() != rows:
            raise AssertionError(f"{way}: {dict(statuses)} of {rows} rows\n{self._worker.tail()}")
        return Round(self._peer, way, rows, round(rows_per_s, 1), round(cpu_s / rows * 1e6, 1), dict(statuses))

    async def _enqueue_all(self, fingerprints: Mapping[str, str]) -> None:
        """All rows at once: the queue stands still meanwhile, and begins with the last."""
        async with open_producer(settings_of(self._variables)) as producer:
            await producer.tasks.pause()
            await producer.tasks.enqueue_many(list(fingerprints), fingerprints=fingerprints)
            await producer.tasks.resume()

    def _drained(self, rows: int) -> float:
        """Wait for the end. Returns rows/s since the first group was settled."""
        deadline = time.monotonic() + _LIMIT_S
        began, left_then = 0.0, rows
        while left := self._redis.zcard(QUEUE_NAME):
            if left < rows and not began:
                began, left_then = time.perf_counter(), left
            if time.monotonic() > deadline or not self._worker.running:
                raise RuntimeError(f"the run did not end:\n{self._worker.tail()}")
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
