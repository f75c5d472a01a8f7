"""Attacks on a running server, and what they cost: memory, seconds, and how long others wait meanwhile.

`python -m benchmarks.attacks [--out FILE]`: `normalizer serve` on embedded services, and against it hostile sheets
and connections that say nothing. Of each attack:

- `seconds`: until it was refused; for connections, the time they were held while others asked;
- `peak_mb`: the most memory that the server and its reading processes held above what they held at rest, as resident
  pages: those that two of them share count twice;
- `live_ms`: half, nineteen in twenty, and all of the answers of `/health/live` meanwhile came within.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import socket
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import xlsxwriter

from benchmarks.circumstances import asked, environment, keep
from benchmarks.fleet import memory_mb
from benchmarks.imports import API_KEY, serving_alone

RESULTS = Path(__file__).parent / "results" / "attacks.json"
IDLE, STALLED = 1_500, 60
HELD_S = 5.0
_TITLES = ("Nome do Paciente", "Data Agendamento", "Endereço Completo", "CPF do Paciente")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder)) as (url, pid):
        found = {name: _measured(url, pid, partial(_upload, url, content)) for name, content in _sheets()}
        with _held(int(url.rpartition(":")[2])):
            _ask(f"{url}/health/live")  # it has accepted them all
            found[f"{IDLE:,} idle, {STALLED} stalled uploads"] = _measured(url, pid, _wait)
    keep(options.out, {"environment": environment(), "attacks": found})
    for name, one in found.items():
        print(f"{name:36} {one['answer']:>8} {one['seconds']:8} s {one['peak_mb']:6} MB  live {one['live_ms']} ms")
    return 0


def _sheets() -> Iterator[tuple[str, bytes]]:
    yield "(xlsx, 300 rows as they should be)", _xlsx(300)
    yield "xlsx, a 1 MB string in 300 cells", _shared_string()
    yield "xlsx, 1 GB of zeros", _zip_bomb()
    yield "html, 900 KB of <!--", b"<html><table><tr><td>Nome do Paciente" + b"<!--" * 225_000
    yield "html, 900 KB of <td", b"<html><table><tr>" + b"<td " * 225_000
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    office = 'xmlns:ss="urn:schemas-microsoft-com:office:spreadsheet"'
    cell = f'<ss:Data ss:Type="String">{_TITLES[0]} &e9;</ss:Data>'
    table = f"<ss:Worksheet><ss:Table><ss:Row><ss:Cell>{cell}</ss:Cell></ss:Row></ss:Table></ss:Worksheet>"
    doctype = f'<!DOCTYPE b [<!ENTITY e0 "lol">{entities}]>'
    yield "xml, entities within entities", f'<?xml version="1.0"?>{doctype}<ss:Workbook {office}>{table}'.encode()
    yield "csv, one line of 90 MB", ";".join(_TITLES).encode() + b"\n" + b"a" * (90 * 2**20)
    yield "csv, 5 MB of quotes", ";".join(_TITLES).encode() + b"\n" + b'"' * (5 * 2**20)


def _xlsx(rows: int, text: str = "Rua B, 12, Centro, Cascavel - PR") -> bytes:
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer) as book:
        page = book.add_worksheet()
        page.write_row(0, 0, _TITLES)
        for number in range(1, rows + 1):
            page.write_row(number, 0, [f"Ana {number}", "10/10/2026", text, "111.444.777-35"])
    return buffer.getvalue()


def _changed(name: str, change: Callable[[bytes], bytes]) -> bytes:
    """The sheet with one part of it changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_xlsx(300))) as book, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in book.namelist():
            archive.writestr(part, change(book.read(part)) if part == name else book.read(part))
    return out.getvalue()


def _shared_string() -> bytes:
    return _changed("xl/sharedStrings.xml", lambda part: part.replace(b"Rua B, 12, Centro", b"a" * 2**20))


def _zip_bomb() -> bytes:
    return _changed("xl/styles.xml", lambda part: part + b"\0" * 2**30)


def _upload(url: str, content: bytes) -> str:
    """Show it as a preview, until it is refused or ready."""
    try:
        told = _ask(f"{url}/api/imports/previa", content)
    except urllib.error.HTTPError as refused:
        return str(refused.code)
    while told.get("fase") not in {None, "pronta", "recusada"}:
        time.sleep(0.1)
        told = _ask(f"{url}/api/imports/previas/{told['id']}")
    return "recusada" if told.get("fase") == "recusada" else f"{told.get('previa', told)['linhas']} rows"


def _wait() -> str:
    time.sleep(HELD_S)
    return "held"


@contextlib.contextmanager
def _held(port: int) -> Iterator[None]:
    """Connections that ask for nothing, and uploads that stop coming."""
    with contextlib.ExitStack() as held:
        opened = [held.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(IDLE + STALLED)]
        for one in opened[:STALLED]:
            head = f"POST /api/imports HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\nContent-Length: 1000000\r\n\r\n"
            one.sendall(head.encode() + b"Nome do Paciente;")
        yield


_ask = partial(asked, x_api_key=API_KEY)


@dataclass
class _Watch:
    url: str
    pid: int
    peak_mb: float = 0.0
    live_ms: list[float] = field(default_factory=list)

    def look(self, over: threading.Event) -> None:
        while not over.wait(0.02):
            self.peak_mb = max(self.peak_mb, _held_mb(self.pid))
            began = time.perf_counter()
            _ask(f"{self.url}/health/live")
            self.live_ms.append((time.perf_counter() - began) * 1_000)


def _measured(url: str, pid: int, act: Callable[[], str]) -> dict[str, Any]:
    rest, watch, over = _held_mb(pid), _Watch(url, pid), threading.Event()
    thread = threading.Thread(target=watch.look, args=(over,))
    thread.start()
    began = time.perf_counter()
    try:
        answer = act()
        seconds = time.perf_counter() - began
    finally:
        over.set()
        thread.join()
    live = sorted(watch.live_ms) or [0.0]
    return {
        "answer": answer,
        "seconds": round(seconds, 1),
        "peak_mb": max(0, round(watch.peak_mb - rest)),
        "live_ms": [round(live[int(share * (len(live) - 1))]) for share in (0.5, 0.95, 1)],
    }


def _held_mb(pid: int) -> float:
    try:
        threads = Path(f"/proc/{pid}/task").glob("*/children")
        children = [child for thread in threads for child in thread.read_text(encoding="ascii").split()]
        return memory_mb(pid) + sum(map(_mb_of, children))
    except OSError:  # a thread has ended
        return 0.0


def _mb_of(child: str) -> float:
    try:
        return memory_mb(int(child))
    except (OSError, ValueError):  # it has ended
        return 0.0


@contextlib.contextmanager
def _server(directory: Path) -> Iterator[tuple[str, int]]:
    with serving_alone(directory) as (url, api):
        while not _is_ready(url):
            time.sleep(0.1)
        yield url, api.pid


def _is_ready(url: str) -> bool:
    try:
        return _ask(f"{url}/health/ready") is not None
    except urllib.error.HTTPError:
        return False


if __name__ == "__main__":
    sys.exit(main())
