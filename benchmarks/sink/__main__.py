"""`python -m benchmarks.sink --port 27099 [--latency-ms 1] [--updates-per-s 5000]`: serve until stopped."""

from __future__ import annotations

import argparse
import asyncio
import contextlib

from benchmarks.sink.server import Pace, serve


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(prog="benchmarks.sink", description="a store in memory behind MongoDB's protocol")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="of every reply")
    parser.add_argument("--updates-per-s", type=float, default=0.0, help="0: as fast as they come")
    given = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(given.host, given.port, Pace(given.latency_ms / 1000, given.updates_per_s)))


if __name__ == "__main__":
    main()
