"""How right the rules are, by class and by tag: `python -m benchmarks.quality [--update]`.

Scores the development sets and our own hold-outs (other streets, cities and wordings) with the judge in
`tests/gold/score.py`, prints a table, writes `benchmarks/results/quality.json` with `--update`, and exits 1 when a
figure is worse than the committed one. A wrong answer that was accepted weighs more than a refusal, so both are counted
apart.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from normalizer.domain.address import parse_address
from normalizer.domain.decision import Settled
from normalizer.domain.document import parse_document

if TYPE_CHECKING:
    from collections.abc import Callable

GOLD: Final = Path(__file__).parents[1] / "tests" / "gold"
RESULTS: Final = Path(__file__).parent / "results" / "quality.json"
SETS: Final = {
    "addresses": "dev_addresses.jsonl",
    "addresses (hold-out)": "holdout_addresses.jsonl",
    "documents": "dev_documents.jsonl",
    "documents (hold-out)": "holdout_documents.jsonl",
}
LEVELS: Final = ("strict", "fold", "canon")
# Figures where more is better, and where less is.
RISING: Final = ("strict", "fold", "canon")
FALLING: Final = ("hallucinations", "wrong_accepted")


def judge() -> Any:
    """Return the module that scores predictions against gold."""
    spec = importlib.util.spec_from_file_location("gold_score", GOLD / "score.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"no judge in {GOLD}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def result_of(parse: Callable[[str], Any], text: str) -> dict[str, str | None] | None:
    """Return what `parse` would store for `text`, or None when it goes to review."""
    decision = parse(text)
    if not isinstance(decision, Settled):
        return None
    stored: dict[str, str | None] = decision.value.as_dict()
    return stored


def measure(name: str) -> dict[str, Any]:
    """Return the figures of one of SETS: exact shares and counts, whole and by tag, and the rows that are not right."""
    score = judge()
    gold = score.load(GOLD / SETS[name])
    parse = parse_document if name.startswith("documents") else parse_address
    predictions = [{"id": row["id"], "result": result_of(parse, row["text"])} for row in gold]
    report, _ = score.score(gold, predictions)
    wrong = [{"id": row["id"], "got": row["got"], "expected": row["expected"]} for row in report["wrong_rows"]]
    accepted = sum(row["got"] is not None for row in wrong)
    return {
        "rows": len(gold),
        **{level: round(report["exact"][level], 4) for level in LEVELS},
        "hallucinations": report["hallucinations"],
        "wrong_accepted": accepted,
        "refused_wrongly": len(wrong) - accepted,
        "settled": sum(prediction["result"] is not None for prediction in predictions),
        "tags": {
            tag: {"rows": count["n"], "canon": round(count.get("canon", 0) / count["n"], 4)}
            for tag, count in report["tags"].items()
        },
        "wrong": wrong,
    }


def regressions(now: dict[str, Any], committed: dict[str, Any]) -> list[str]:
    """Return what is worse than the committed figures, one sentence each."""
    found: list[str] = []
    for name, before in committed.items():
        after = now[name]
        found += [f"{name}: {key} {before[key]} -> {after[key]}" for key in RISING if after[key] < before[key]]
        found += [f"{name}: {key} {before[key]} -> {after[key]}" for key in FALLING if after[key] > before[key]]
        for tag, figures in before["tags"].items():
            share = after["tags"].get(tag, figures)["canon"]
            if tag.startswith("class:") and share < figures["canon"]:
                found.append(f"{name}: {tag} {figures['canon']} -> {share}")
    return found


def _print(name: str, figures: dict[str, Any], *, min_rows: int) -> None:
    rows = figures["rows"]
    print(f"\n{name}: {rows} rows, {figures['settled']} settled by rules")
    print("  exact   " + "   ".join(f"{level} {figures[level]:7.2%}" for level in LEVELS))
    share = figures["wrong_accepted"] / rows
    print(
        f"  hallucinations {figures['hallucinations']}   wrong but accepted {figures['wrong_accepted']} ({share:.2%})",
        end="",
    )
    print(f"   refused though answerable {figures['refused_wrongly']}")
    for tag, count in sorted(
        figures["tags"].items(), key=lambda item: (not item[0].startswith("class:"), -item[1]["rows"])
    ):
        if tag.startswith("class:") or count["rows"] >= min_rows:
            print(f"    {tag:24} {count['rows']:5} {count['canon']:8.1%}")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--update", action="store_true", help="write the figures as the new committed ones")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument("--wrong", action="store_true", help="print the rows that are not right")
    parser.add_argument("--min-rows", type=int, default=3, help="smallest tag to print (default 3)")
    options = parser.parse_args(argv)
    measured = {name: measure(name) for name in SETS}
    wrong = {name: figures.pop("wrong") for name, figures in measured.items()}
    if options.json:
        print(json.dumps(measured, ensure_ascii=False, indent=1))
    else:
        for name, figures in measured.items():
            _print(name, figures, min_rows=options.min_rows)
    if options.wrong:
        for name, rows in wrong.items():
            for row in rows:
                print(name, json.dumps(row, ensure_ascii=False))
    committed = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    if options.update:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(measured, ensure_ascii=False, indent=1) + "\n", "utf-8")
        return 0
    worse = regressions(measured, committed)
    for line in worse:
        print(f"REGRESSION {line}", file=sys.stderr)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
