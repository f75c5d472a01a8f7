"""Whether the simulated provider keeps up: requests a second, and its own processor time for each.

`python -m benchmarks.provider_speed [--seconds 5] [--out FILE]` writes `benchmarks/results/provider.json`. A bench that
asks for more than it can answer would measure the provider: `keeps_up` says that it answers 500 requests a second.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.processes import environment, usage
from benchmarks.scenarios import generate, write_labels
from normalizer import embedded
from normalizer.llm import baseline
from normalizer.llm.prompt import Record, build_messages, response_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = Path(__file__).parent / "results" / "provider.json"
TARGET_PER_S = 500
_CONNECTIONS = 16
_RECORDS = 25
_ROWS = 4_000


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each kind of call, print, write."""
    parser = argparse.ArgumentParser(prog="benchmarks.provider_speed", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="normalizer-provider-") as directory:
        calls = _measure(Path(directory), options.seconds)
    for name, found in calls.items():
        print(f"{name:<20}{found['requests_per_s']:>8.0f} requests/s {found['cpu_us_per_request']:>8.0f} µs each")
    slowest = min(found["requests_per_s"] for found in calls.values())
    document = {
        "simulated": True,
        "target_per_s": TARGET_PER_S,
        "keeps_up": slowest >= TARGET_PER_S,
        "calls": calls,
        "environment": environment(),
    }
    options.out.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return 0


def _measure(directory: Path, seconds: float) -> dict[str, dict[str, float]]:
    rows = list(islice(generate(7), _ROWS))
    write_labels(directory / "labels.jsonl", rows)
    texts = [row.address.text for row in rows if row.address]
    found = {}
    # A fresh process each: what it counted and looked up for one kind of call must not help the other.
    for name, bodies in (("one text a call", _one_each(texts)), (f"{_RECORDS} records a call", _batches(texts))):
        with embedded.start_provider(directory / "labels.jsonl", directory=directory / name[:2]) as provider:
            found[name] = asyncio.run(_load(provider, bodies, seconds))
    return found


def _one_each(texts: Sequence[str]) -> list[dict[str, Any]]:
    return [{"model": "m", "messages": baseline.messages("endereco", text)} for text in texts]


def _batches(texts: Sequence[str]) -> list[dict[str, Any]]:
    format_ = {"type": "json_schema", "json_schema": {"name": "a", "schema": response_schema(_RECORDS)}}
    groups = (texts[start : start + _RECORDS] for start in range(0, len(texts) - _RECORDS, _RECORDS))
    messages = (build_messages(list(map(Record.of, group))) for group in groups)
    return [{"model": "m", "messages": each, "response_format": format_} for each in messages]


async def _load(
    provider: embedded.ProviderService, bodies: Sequence[dict[str, Any]], seconds: float
) -> dict[str, float]:
    """Keep `_CONNECTIONS` requests under way for `seconds`, by bare sockets: the client must not be the limit."""
    requests = itertools.cycle([_request(body) for body in bodies])
    before, started = usage(provider.pid).cpu_s, time.monotonic()
    deadline = started + seconds
    done = sum(await asyncio.gather(*(_connection(provider, requests, deadline) for _ in range(_CONNECTIONS))))
    took_s = time.monotonic() - started
    return {
        "requests": done,
        "requests_per_s": round(done / took_s, 1),
        "cpu_us_per_request": round(1e6 * (usage(provider.pid).cpu_s - before) / done, 1),
    }


def _request(body: dict[str, Any]) -> bytes:
    content = orjson.dumps(body)
    return b"POST /v1/chat/completions HTTP/1.1\r\nhost: simulated\r\ncontent-length: %d\r\n\r\n%b" % (
        len(content),
        content,
    )


async def _connection(provider: embedded.ProviderService, requests: itertools.cycle[bytes], deadline: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", provider.port)
    done = 0
    while time.monotonic() < deadline:
        writer.write(next(requests))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the provider answered {head[:40]!r}")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        done += 1
    writer.close()
    return done


if __name__ == "__main__":
    sys.exit(main())
