"""Weights of the address rules, by how much each matters: `python -m benchmarks.weights`.

Changes every number of `domain/address/weights.py`, one at a time, down and up by half a point, reads all gold
addresses with it, and prints how many are no longer right and how many wrong ones are accepted. A weight that changes
nothing either way decides nothing on these rows.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from benchmarks import quality
from normalizer.domain.address import parse_address, weights

STEP: Final = 0.5


def rows() -> list[dict[str, Any]]:
    """Return all gold addresses."""
    judge = quality.judge()
    return [row for name in quality.ADDRESS_SETS for row in judge.load(quality.GOLD / quality.SETS[name])]


def right_and_wrong(gold: list[dict[str, Any]]) -> tuple[int, int]:
    """Return how many rows are read right, and how many wrong answers are accepted."""
    predicted = [{"id": row["id"], "result": quality.result_of(parse_address, row["text"])} for row in gold]
    figures = quality.figures(gold, predicted)
    return round(figures["canon"] * len(gold)), int(figures["wrong_accepted"])


def main() -> int:
    """Print one line a weight."""
    gold = rows()
    right, wrong = right_and_wrong(gold)
    print(f"{len(gold)} rows, {right} right, {wrong} wrong accepted; with each weight {STEP} lower and higher:")
    for name in [name for name in vars(weights) if name.isupper()]:
        value = getattr(weights, name)
        changes = []
        for step in (-STEP, STEP):
            setattr(weights, name, value + step)
            changed = right_and_wrong(gold)
            changes.append(f"{changed[0] - right:+5d} right {changed[1] - wrong:+3d} wrong")
        setattr(weights, name, value)
        print(f"  {name:22} {value:5.2f}   {changes[0]}   {changes[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
