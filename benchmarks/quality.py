"""Quality of the rules, by class and by tag: `python -m benchmarks.quality [--update] [--real DIR]`.

Scores the development sets and our own hold-outs (other streets, cities and wordings) with the judge in
`tests/gold/score.py`: rules alone, and rules + model where OPENAI_API_KEY names an endpoint. Prints a table, writes
`benchmarks/results/quality.json` with `--update`, and exits 1 when a figure is worse than the committed one. A wrong
answer that was accepted weighs more than a refusal, so both are counted apart. Then it gives every label, and the words
of the text that carry it, as if a model had answered so, and says what of it would be refused and why; and every label
spoiled as careless models do, and says what of that would be stored. `--real` adds a folder of labelled addresses that
are not committed.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.answers import ceiling, sayable, spoiled_ones
from normalizer.domain.address import parse_address
from normalizer.domain.appointment import Kind, Origin
from normalizer.domain.decision import Settled
from normalizer.domain.document import parse_document
from normalizer.operations.normalize_texts import normalize_lines
from normalizer.runtime import open_normalization
from normalizer.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from normalizer.settings import Settings

GOLD: Final = Path(__file__).parents[1] / "tests" / "gold"
RESULTS: Final = Path(__file__).parent / "results" / "quality.json"
SETS: Final = {
    "addresses": "dev_addresses.jsonl",
    "addresses (hold-out)": "holdout_addresses.jsonl",
    "addresses (blind)": "blind_addresses.jsonl",
    "addresses (second blind)": "blind2_addresses.jsonl",
    "addresses (third blind)": "blind3_addresses.jsonl",
    "addresses (registers)": "registers_addresses.jsonl",
    "documents": "dev_documents.jsonl",
    "documents (hold-out)": "holdout_documents.jsonl",
    "documents (blind)": "blind_documents.jsonl",
    "documents (second blind)": "blind2_documents.jsonl",
    "documents (third blind)": "blind3_documents.jsonl",
}
ADDRESS_SETS: Final = [name for name in SETS if name.startswith("addresses")]
_MODEL_S: Final = 3_600.0
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
    """Return the figures of one of SETS, by rules alone: exact shares and counts, and the rows not right."""
    return measured_by(
        parse_document if name.startswith("documents") else parse_address, judge().load(GOLD / SETS[name])
    )


def measured_by(parse: Callable[[str], Any], gold: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of what `parse` makes of labelled rows."""
    return figures(gold, [{"id": row["id"], "result": result_of(parse, row["text"])} for row in gold])


async def measure_with_model(name: str, settings: Settings) -> dict[str, Any]:
    """Return the figures of one of SETS where the configured endpoint is asked what the rules leave open."""
    gold = judge().load(GOLD / SETS[name])
    lines = [json.dumps({"id": row["id"], "text": row["text"]}).encode() for row in gold]
    async with open_normalization(settings) as pipeline:
        answered = normalize_lines(Kind.ADDRESS, enumerate(lines, 1), pipeline=pipeline, timeout_s=_MODEL_S)
        answers = [answer async for answer in answered]
    found = figures(gold, [{"id": answer.id, "result": answer.result} for answer in answers])
    asked = sum(answer.origem == Origin.MODEL for answer in answers)
    return found | {"model": settings.openai_model, "asked": asked}


def addresses_of(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Return the rows of labelled address files."""
    return [row for path in paths for row in judge().load(path)]


def figures(gold: list[dict[str, Any]], predictions: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the judge says of `predictions`, and the rows that are not right under `wrong`.

    A value is invented when the judge does not find it in the text and the label has not got it either: "Campo Grande"
    of "C. Grande" is no invention, though the judge's list of abbreviations does not know it.
    """
    score = judge()
    report, _ = score.score(gold, predictions)
    wrong = [{"id": row["id"], "got": row["got"], "expected": row["expected"]} for row in report["wrong_rows"]]
    accepted = sum(row["got"] is not None for row in wrong)
    labels = {row["id"]: row["expected"] or {} for row in gold}
    answers = {row["id"]: row["result"] or {} for row in predictions}
    return {
        "rows": len(gold),
        **{level: round(report["exact"][level], 4) for level in LEVELS},
        "hallucinations": sum(
            answers[row["id"]].get(field) != labels[row["id"]].get(field)
            for row in report["hallucination_rows"]
            for field, _ in row["what"]
        ),
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
        if name not in now:  # measured with a model, which this run has not
            continue
        after = now[name]
        found += [f"{name}: {key} {before[key]} -> {after[key]}" for key in RISING if after[key] < before[key]]
        found += [f"{name}: {key} {before[key]} -> {after[key]}" for key in FALLING if after[key] > before[key]]
        for tag, figures in before["tags"].items():
            share = after["tags"].get(tag, figures)["canon"]
            if tag.startswith("class:") and share < figures["canon"]:
                found.append(f"{name}: {tag} {figures['canon']} -> {share}")
    return found


def _print(name: str, found: dict[str, Any], *, min_rows: int) -> None:
    rows = found["rows"]
    who = f"rules and {found['model']} ({found['asked']} asked)" if "model" in found else "rules"
    print(f"\n{name}: {rows} rows, {found['settled']} settled by {who}")
    print("  exact   " + "   ".join(f"{level} {found[level]:7.2%}" for level in LEVELS))
    share = found["wrong_accepted"] / rows
    print(
        f"  hallucinations {found['hallucinations']}   wrong but accepted {found['wrong_accepted']} ({share:.2%})",
        end="",
    )
    print(f"   refused though answerable {found['refused_wrongly']}")
    for tag, count in sorted(
        found["tags"].items(), key=lambda item: (not item[0].startswith("class:"), -item[1]["rows"])
    ):
        if tag.startswith("class:") or count["rows"] >= min_rows:
            print(f"    {tag:24} {count['rows']:5} {count['canon']:8.1%}")


def _print_answers(name: str, rows: list[dict[str, Any]], *, show: bool) -> None:
    right, spoiled = ceiling(rows, judge()), spoiled_ones(rows, judge())
    print(f"\n{name}, had a model answered with the label, or the words of the text that carry it")
    print(f"  stored  {right.share:7.2%} of {right.tried} answers")
    for why, count in right.kinds.most_common():
        print(f"    {count:5} {why}")
    said = sayable(rows, judge())
    print(f"  {said.share:7.2%} of those {said.tried} as typed can be said in what of the text leaves the machine")
    print(f"  and with the label spoiled: wrong yet stored {spoiled.share:.4%} ({spoiled.passed} of {spoiled.tried})")
    for kind, count in spoiled.kinds.most_common():
        print(f"    {count:5} {kind}")
    for row in [*right.rows, *said.rows, *spoiled.rows] if show else []:
        print(name, json.dumps(row, ensure_ascii=False))


def _print_real(paths: list[Path], options: argparse.Namespace) -> None:
    for path in paths:
        found = measured_by(parse_address, addresses_of([path]))
        _print(f"real {path.stem}", found, min_rows=options.min_rows)
        for row in found["wrong"] if options.wrong else []:
            print(path.stem, json.dumps(row, ensure_ascii=False))
    _print_answers("real addresses", addresses_of(paths), show=options.wrong)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--update", action="store_true", help="write the figures as the new committed ones")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument("--wrong", action="store_true", help="print the rows that are not right")
    parser.add_argument("--min-rows", type=int, default=3, help="smallest tag to print (default 3)")
    parser.add_argument("--real", type=Path, metavar="DIR", help="score the labelled addresses of this folder, too")
    options = parser.parse_args(argv)
    measured = {name: measure(name) for name in SETS}
    settings = load_settings()
    if settings.openai_api_key is not None:
        for name in ADDRESS_SETS:
            measured[f"{name}, rules + model"] = asyncio.run(measure_with_model(name, settings))
    wrong = {name: found.pop("wrong") for name, found in measured.items()}
    if options.json:
        print(json.dumps(measured, ensure_ascii=False, indent=1))
    else:
        for name, found in measured.items():
            _print(name, found, min_rows=options.min_rows)
        _print_answers("addresses", addresses_of(GOLD / SETS[name] for name in ADDRESS_SETS), show=options.wrong)
    if options.wrong:
        for name, rows in wrong.items():
            for row in rows:
                print(name, json.dumps(row, ensure_ascii=False))
    if options.real is not None:
        _print_real(sorted(options.real.glob("*.jsonl")), options)
    committed = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    if options.update:
        RESULTS.parent.mkdir(exist_ok=True)
        kept = {name: found for name, found in committed.items() if "model" in found}  # unless measured anew
        RESULTS.write_text(json.dumps(measured | kept | measured, ensure_ascii=False, indent=1) + "\n", "utf-8")
        return 0
    worse = regressions(measured, committed)
    for line in worse:
        print(f"REGRESSION {line}", file=sys.stderr)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
