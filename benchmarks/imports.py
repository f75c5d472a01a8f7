"""A large sheet imported, previewed and undone: seconds and memory of the import itself, and of the API meanwhile.

`python -m benchmarks.imports [--rows N] [--out FILE]`: one sheet of N rows × 30 columns, once through `import_sheet` in
a process of its own (dry run, import, the same file again), once through `normalizer serve` over HTTP (preview, import,
undo). Real processes on an embedded Redis and on a store in memory behind MongoDB's protocol, so that no store's speed
is measured:

- `own_s`: wall time less the time waited for the store; `cpu_s`: of the process and its workbook reader, which a loaded
  machine does not stretch and which holds the client's side of the store, too;
- `peak_mb`: the most memory the process, and its reader, ever held (`VmHWM`, the reader's `ru_maxrss`);
- through the API: seconds until the request is answered, until the work is done, and the longest `/health/live` took
  meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.circumstances import asked, environment, keep, keep_parts
from benchmarks.fleet import memory_mb
from benchmarks.sink import start_sink
from normalizer.imports.importing import import_sheet
from normalizer.runtime import open_producer
from normalizer.settings import settings_of
from normalizer.simulation import embedded
from normalizer.simulation.sheets import COLUMNS, generate, write_sheet
from normalizer.store import AppointmentStore, ImportRow, UpsertReport

T = TypeVar("T")
RESULTS = Path(__file__).parent / "results" / "imports.json"
ROWS = 100_000
PARTS = ("alone", "served")
LIMITS = {"own_s": 60.0, "peak_mb": 400.0}
API_KEY = secrets.token_hex(24)
_POLL_S = 0.25


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON; 1 when a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--sheet", type=Path, help="a sheet made before, instead of making one")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; the rest of the file stays")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.alone:
        print(json.dumps(asyncio.run(_alone(options.alone))))
        return 0
    found = measure(options.rows, options.sheet, options.part or PARTS)
    (keep_parts if options.part else keep)(options.out, found)
    print(json.dumps(found, indent=2))
    return 0 if found.get("within_limits", True) else 1


def measure(rows: int, sheet: Path | None, parts: Sequence[str]) -> dict[str, Any]:
    """The parts that are asked for, on services of their own."""
    before = environment()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        directory = Path(folder)
        if sheet is None:
            sheet = directory / "agenda.xlsx"
            write_sheet(sheet, list(islice(generate(), rows)))
        (directory / "redis").mkdir()
        redis = embedded.start_valkey(directory / "redis")
        stack.callback(redis.kill)
        store = start_sink(directory / "store")
        stack.callback(store.kill)
        given = {"REDIS_URL": redis.url, "MONGODB_URL": store.url}
        found: dict[str, Any] = {
            "rows": rows,
            "columns": len(COLUMNS),
            "sheet_mb": round(sheet.stat().st_size / 2**20, 1),
            "limits": LIMITS,
        }
        if "alone" in parts:
            found["alone"] = alone = run_alone(sheet, given | {"DATABASE_NAME": "alone"})
            most_s = max(step["cpu_s"] for step in alone["steps"].values())
            peak_mb = alone["peak_mb"] + alone["reader_peak_mb"]
            stored = store.stats()
            found["inserted_bytes_per_row"] = round(stored["received"]["insert"] / stored["rows"]["inserted"])
            found["within_limits"] = most_s < LIMITS["own_s"] and peak_mb < LIMITS["peak_mb"]
        if "served" in parts:
            found["served"] = run_served(sheet, given | {"DATABASE_NAME": "served"}, directory)
    return {**found, "environment": before, "environment_after": environment()}


# -- in a process of its own ------------------------------------------------------------------------------------------


def run_alone(sheet: Path, given: Mapping[str, str]) -> dict[str, Any]:
    """`import_sheet` in a fresh process, so that its memory is its own."""
    command = [sys.executable, "-m", "benchmarks.imports", "--alone", str(sheet)]
    ran = subprocess.run(command, env=os.environ | given, capture_output=True, check=False, text=True)
    if ran.returncode:
        raise RuntimeError(ran.stderr[-2_000:])
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


class TimedStore(AppointmentStore):
    """The store, and how long its rows were waited for."""

    waited_s = 0.0

    async def upsert_rows(self, rows: Sequence[ImportRow], import_id: str) -> UpsertReport:
        return await self._timed(super().upsert_rows(rows, import_id))

    async def preview_rows(self, rows: Sequence[ImportRow]) -> UpsertReport:
        return await self._timed(super().preview_rows(rows))

    async def _timed(self, work: Awaitable[T]) -> T:
        began = time.perf_counter()
        try:
            return await work
        finally:
            self.waited_s += time.perf_counter() - began


async def _alone(sheet: Path) -> dict[str, Any]:
    names = ("REDIS_URL", "MONGODB_URL", "DATABASE_NAME")
    settings = settings_of({name: os.environ[name] for name in names})
    steps: dict[str, Any] = {}
    async with open_producer(settings) as producer:
        for name, dry_run in (("preview", True), ("import", False), ("again", False)):
            began, cpu = time.perf_counter(), _cpu_s()
            enqueue = producer.tasks.enqueue_many
            async with TimedStore.connect(os.environ["MONGODB_URL"], os.environ["DATABASE_NAME"]) as store:
                report = await import_sheet(sheet, store=store, enqueue=enqueue, dry_run=dry_run)
            wall = time.perf_counter() - began
            counts = {"rows": report.rows, "new": report.new, "equal": report.equal, "problems": len(report.errors)}
            spent = {"wall_s": wall, "store_s": store.waited_s, "own_s": wall - store.waited_s, "cpu_s": _cpu_s() - cpu}
            steps[name] = counts | {what: round(seconds, 1) for what, seconds in spent.items()}
    return {
        "steps": steps,
        "peak_mb": round(
            memory_mb(os.getpid(), "VmHWM")
        ),  # not ru_maxrss, which a process inherits from whoever started it
        "reader_peak_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
    }


def _cpu_s() -> float:
    """Of this process, and of its workbook readers that have ended."""
    return sum(os.times()[:4])


# -- through the API --------------------------------------------------------------------------------------------------


@dataclass
class Client:
    """Speaks to a server, and watches how long it takes to say that it lives."""

    url: str
    slowest_s: float = 0.0

    def post(self, path: str, content: bytes = b"") -> tuple[float, Any]:
        began = time.perf_counter()
        answer = self._ask(path, content)
        return time.perf_counter() - began, answer

    def until(self, path: str, done: Callable[[Any], bool]) -> Any:
        while True:
            began = time.perf_counter()
            self._ask("/health/live")
            self.slowest_s = max(self.slowest_s, time.perf_counter() - began)
            if done(found := self._ask(path)):
                return found
            time.sleep(_POLL_S)

    def _ask(self, path: str, content: bytes | None = None) -> Any:
        return asked(f"{self.url}{path}", content, timeout_s=3_600, x_api_key=API_KEY)


def run_served(sheet: Path, given: Mapping[str, str], directory: Path) -> dict[str, Any]:
    """The same through `normalizer serve`."""
    content = sheet.read_bytes()
    with serving({**given, "API_KEYS": API_KEY}, directory) as (url, api):
        client = Client(url)
        previewed = _step(client, "/api/imports/previa", content, _follow_preview)
        imported = _step(client, "/api/imports", content, _follow("concluida"))
        undone = _step(client, f"/api/imports/{imported['id']}/desfazer", b"", _follow("desfeita", imported["id"]))
        return {
            "preview": previewed,
            "import": imported,
            "undo": undone,
            "slowest_health_s": round(client.slowest_s, 2),
            "peak_mb": round(memory_mb(api.pid, "VmHWM")),
        }


def _step(client: Client, path: str, content: bytes, follow: Callable[[Client, Any], dict[str, Any]]) -> dict[str, Any]:
    began = time.perf_counter()
    answered_s, answer = client.post(path, content)
    told = follow(client, answer)
    return {"answered_s": round(answered_s, 1), "done_s": round(time.perf_counter() - began, 1), **told}


def _follow_preview(client: Client, answer: Any) -> dict[str, Any]:
    if "fase" in answer:
        path = f"/api/imports/previas/{answer['id']}"
        answer = client.until(path, lambda found: found["fase"] in {"pronta", "recusada"})["previa"]
    return {"new": answer["novas"], "with_cost": answer["custo"] is not None}


def _follow(state: str, import_id: str | None = None) -> Callable[[Client, Any], dict[str, Any]]:
    def follow(client: Client, answer: Any) -> dict[str, Any]:
        known = import_id or answer["id"]
        found = client.until(f"/api/imports/{known}", lambda told: told["estado"] == state)
        return {"id": known, "new": found["novas"], "undone": found["desfeitas"]}

    return follow


@contextlib.contextmanager
def serving(given: dict[str, str], directory: Path) -> Iterator[tuple[str, embedded.Child]]:
    """`normalizer serve` with these settings: where it listens, and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["-c", "from normalizer.cli import main; main()", "serve", "--port", str(port)]
    with embedded.spawn_python("api", command, given, log=directory / "serve.log") as child:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.2):
                break
            if not child.running:
                raise RuntimeError(child.tail())
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", child


@contextlib.contextmanager
def serving_alone(directory: Path) -> Iterator[tuple[str, embedded.Child]]:
    """The same on embedded services of its own."""
    with embedded.start_mongo(directory / "mongo") as mongo, embedded.start_valkey(directory / "redis") as redis:
        given = {"REDIS_URL": redis.url, "MONGODB_URL": mongo.url, "DATABASE_NAME": "served", "API_KEYS": API_KEY}
        with serving(given, directory) as served:
            yield served


if __name__ == "__main__":
    sys.exit(main())
