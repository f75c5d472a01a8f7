"""Texts a second that the rules settle on one core: `python -m benchmarks.rules [--json] [--profile]`.

Uses the gold texts, every class in its own proportion, and processor time, so that other work on the machine hardly
counts.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import sys
import time
from typing import TYPE_CHECKING, Final

from benchmarks.quality import GOLD, SETS
from normalizer.domain.address import parse_address
from normalizer.domain.document import parse_document

if TYPE_CHECKING:
    from collections.abc import Callable

TARGETS: Final = {"addresses": 5_000, "documents": 50_000}


def texts(name: str) -> list[str]:
    lines = (GOLD / SETS[name]).read_text("utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines if line.strip()]


def rate(parse: Callable[[str], object], sample: list[str], *, seconds: float) -> float:
    """Return texts per second of processor time: the best of the rounds that fit into `seconds`."""
    for text in sample:  # warm: the gazetteer is read at the first use
        parse(text)
    best, spent = float("inf"), 0.0
    while spent < seconds:
        started = time.process_time()
        for text in sample:
            parse(text)
        took = time.process_time() - started
        best, spent = min(best, took), spent + took
    return len(sample) / best


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="processor seconds per kind (default 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--profile", action="store_true", help="print where the time of the address rules goes")
    options = parser.parse_args(argv)
    parsers: dict[str, Callable[[str], object]] = {"addresses": parse_address, "documents": parse_document}
    if options.profile:
        profile = cProfile.Profile()
        sample = texts("addresses")
        profile.runcall(rate, parse_address, sample, seconds=options.seconds)
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        return 0
    rates = {name: round(rate(parse, texts(name), seconds=options.seconds)) for name, parse in parsers.items()}
    if options.json:
        print(json.dumps(rates))
    else:
        for name, figure in rates.items():
            print(f"{name:10} {figure:8,} a second on one core (target {TARGETS[name]:,})")
    return 0 if all(figure >= TARGETS[name] for name, figure in rates.items()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
