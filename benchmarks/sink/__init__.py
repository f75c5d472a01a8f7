"""A store to measure against: MongoDB's protocol in front of memory, in a process of its own.

The embedded MongoDB-protocol server takes some 1,200 updates a second; whatever is measured against it measures that
server. This one evaluates the same conditions and applies the same updates, but keeps nothing: for benchmarks only.

    with start_sink(directory) as sink:        # sink.url goes into MONGODB_URL
        ...
        sink.stats()                           # commands, rows and CPU seconds so far
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pymongo

from benchmarks.sink.server import message_of
from normalizer.simulation.embedded import Service

__all__ = ["SinkService", "start_sink"]


class SinkService(Service):
    """`python -m benchmarks.sink` as a child process. A restart forgets everything."""

    scheme = "mongodb"

    def __init__(self, directory: Path, *, latency_ms: float = 0.0, updates_per_s: float = 0.0) -> None:
        self._options = ["--latency-ms", str(latency_ms), "--updates-per-s", str(updates_per_s)]
        super().__init__("sink", directory=directory)

    def command(self, port: int) -> list[str]:
        """The sink with its options."""
        return [sys.executable, "-m", "benchmarks.sink", "--port", str(port), *self._options]

    def ready(self, port: int) -> bool:
        """Answers a `hello` in OP_MSG."""
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(message_of({"hello": 1, "$db": "admin"}))
            return bool(connection.recv(16))

    def stats(self) -> dict[str, Any]:
        """`commands` and `rows` by name, `documents` by collection, `cpu_s` of the process; all since its start."""
        with pymongo.MongoClient[dict[str, Any]](self.url) as client:
            return client.admin.command("sinkStats")


def start_sink(directory: Path, *, latency_ms: float = 0.0, updates_per_s: float = 0.0) -> SinkService:
    """The sink, ready; its log in `directory`. Left alone it answers at once; else as slowly as it is told to."""
    return SinkService(directory, latency_ms=latency_ms, updates_per_s=updates_per_s).start()
