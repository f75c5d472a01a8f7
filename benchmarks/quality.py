"""Quality of the rules, by class and by tag: `python -m benchmarks.quality [--update] [--real DIR]`.

Scores the development sets and our own hold-outs (other streets, cities and wordings) with the judge in
`tests/gold/score.py`: rules alone, and rules + model where OPENAI_API_KEY names an endpoint. Prints a table, writes
`benchmarks/results/quality.json` with `--update`, and exits 1 when a figure is worse than the committed one. A wrong
answer that was accepted weighs more than a refusal, so both are counted apart. `--real` adds a folder of labelled
addresses that are not committed.

Then each label, and the words of the text that carry it, go through the real answer path as if a model had said them
(the `ceiling`: no model can be better than what that path lets through), and every label with what small models do to
it (the `mutations`: a field swapped, shifted, dropped, swallowed); hardly one may pass that is not right.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from normalizer.domain.address import FIELDS, Address, parse_address, standardize
from normalizer.domain.address.grounding import violations
from normalizer.domain.appointment import Kind, Origin
from normalizer.domain.decision import Settled
from normalizer.domain.document import parse_document
from normalizer.domain.text import clean
from normalizer.llm.prompt import Record
from normalizer.llm.redaction import CITY
from normalizer.operations.normalize_texts import normalize_lines
from normalizer.runtime import open_normalization
from normalizer.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from normalizer.settings import Settings


Answer: TypeAlias = dict[str, str | None]
Row: TypeAlias = dict[str, Any]

_WORD: Final = re.compile(r"\d+|[^\W\d_ºª]+")
_NO_WORDS: Final = frozenset({"n", "no", "nº", "num", "numero"})


@dataclass(slots=True)
class Passed:
    """How many answers were tried, how many passed, and the others (or the wrong ones) by kind."""

    tried: int = 0
    passed: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    rows: list[Row] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.passed / self.tried if self.tried else 0.0


def ceiling(rows: Iterable[Row]) -> Passed:
    """Answer each row that has a label with it, and with its words as typed; `kinds` says why what is refused is."""
    found = Passed()
    for row in rows:
        if not row["expected"]:
            continue
        for way, answer in (("label", row["expected"]), ("as typed", verbatim(row["expected"], row["text"]))):
            found.tried += 1
            decision = standardize(answer, row["text"])
            if isinstance(decision, Settled) and is_right(decision.value.as_dict(), row):
                found.passed += 1
                continue
            why = _why(row, answer, decision)
            found.kinds[f"{way}: {why}"] += 1
            found.rows.append({"id": row["id"], "way": way, "why": why, "answer": answer})
    return found


def _why(row: Row, answer: Answer, decision: Any) -> str:
    if isinstance(decision, Settled):
        return "passed as another address"
    if answer is row["expected"] and (wrong := violations(row["text"], Address.from_dict(row["expected"]))):
        return ", ".join(dict.fromkeys(f"{each.field} {each.problem.value}" for each in wrong))
    return str(decision.reason.value)


def spoiled_ones(rows: Iterable[Row], *, every: int = 1) -> Passed:
    """Answer each labelled row with mutations of its label; `passed` counts those stored though not right.

    `every`: try the first of so many.
    """
    found = Passed()
    for row in rows:
        if not row["expected"]:
            continue
        for kind, answer in islice(mutations(row["expected"], row["text"]), None, None, every):
            decision = standardize(answer, row["text"])
            found.tried += 1
            if isinstance(decision, Settled) and not is_right(decision.value.as_dict(), row):
                found.passed += 1
                found.kinds[kind] += 1
                found.rows.append({"id": row["id"], "kind": kind, "got": decision.value.as_dict()})
    return found


def is_right(got: Answer, row: Row) -> bool:
    """Does an answer say what the label, or one it accepts, says, by the judge's loosest measure."""
    options = [option for option in (row["expected"], *row.get("accept", ())) if option]
    return any(all(judge().same("canon", name, option.get(name), got[name]) for name in FIELDS) for option in options)


# -- as typed --------------------------------------------------------------------------------------------------------


def verbatim(label: Answer, text: str) -> Answer:
    """Return the label with each value replaced by the words of the text that carry it, where they can be found."""
    cleaned = clean(text)
    return {name: _typed(name, label.get(name), cleaned) for name in FIELDS}


def _typed(name: str, value: str | None, text: str) -> str | None:
    if value is None:
        return None
    if name == "estado":
        named = re.findall(rf"(?<!\w){value}(?!\w)", text, re.IGNORECASE)
        return named[-1] if named else value
    parts = value.split(", ") if name == "complemento" else [value]
    return ", ".join(_span(part, text, field=name) or part for part in parts)


def _span(value: str, text: str, *, field: str) -> str | None:
    """Return the longest words of the text that spell the value: the city's last ones, else the first."""
    tokens = [(found.group(), found.start(), found.end()) for found in _WORD.finditer(text)]
    wanted = _WORD.findall(re.sub(r"(?<=\d)[.-](?=\d{3}$)", "", judge().fold(value)))
    for words in (wanted, wanted[1:] if field == "rua" else []):  # the type may be the label's own
        ends = [(start, _spelled(words, tokens, start)) for start in range(len(tokens) if words else 0)]
        spans = [(end - start, end if field == "cidade" else -start, start, end) for start, end in ends if end]
        if spans:
            *_, start, end = max(spans)
            return text[tokens[start][1] : tokens[end - 1][2]]
    return None


def _spelled(wanted: list[str], tokens: list[tuple[str, int, int]], start: int) -> int:
    done, at = 0, start
    while done < len(wanted):
        if at >= len(tokens):
            return 0
        typed, word = judge().fold(tokens[at][0]), wanted[done]
        long = judge().GROUND.get(typed, ())
        if typed == word or (typed.isdigit() and word.isdigit() and int(typed) == int(word)):
            done += 1
        elif typed.isdigit() and word.startswith(typed):  # the CEP
            wanted = [*wanted[:done], word[len(typed) :], *wanted[done + 1 :]]
        elif word in long:
            while done < len(wanted) and wanted[done] in long:
                done += 1
        elif at == start or typed not in _NO_WORDS:
            return 0
        at += 1
    return at


# -- mutated ---------------------------------------------------------------------------------------------------------


def mutations(label: Answer, text: str) -> Iterator[tuple[str, Answer]]:
    """Yield every (kind, answer) that a careless model might give instead of `label`."""
    seen = {tuple(label.get(name) for name in FIELDS)}
    base: Answer = {name: label.get(name) for name in FIELDS}
    for kind, answer in (*_swapped(base), *_shifted(base), *_dropped(base), *_swallowed(base, text)):
        identity = tuple(answer[name] for name in FIELDS)
        if identity not in seen:
            seen.add(identity)
            yield kind, answer


def _swapped(label: Answer) -> Iterator[tuple[str, Answer]]:
    for one, other in combinations(FIELDS, 2):
        yield f"swap {one} {other}", {**label, one: label[other], other: label[one]}


def _shifted(label: Answer) -> Iterator[tuple[str, Answer]]:
    values = [label[name] for name in FIELDS]
    for at in range(len(FIELDS)):
        left = [*values[:at], *values[at + 1 :], None]
        right = [*values[:at], None, *values[at:-1]]
        yield f"shift {FIELDS[at]} left", dict(zip(FIELDS, left, strict=True))
        yield f"shift {FIELDS[at]} right", dict(zip(FIELDS, right, strict=True))
        if at + 1 < len(FIELDS):
            one, other = FIELDS[at], FIELDS[at + 1]
            yield f"shift {one} into {other}", {**label, one: None, other: label[one]}
            yield f"shift {other} into {one}", {**label, one: label[other], other: None}


def _dropped(label: Answer) -> Iterator[tuple[str, Answer]]:
    for name in FIELDS:
        value = label[name]
        if value is None:
            continue
        yield f"drop {name}", {**label, name: None}
        words = value.split()
        for at in range(len(words) if len(words) > 1 else 0):
            yield f"drop a word of {name}", {**label, name: " ".join(words[:at] + words[at + 1 :])}
        if ", " in value:
            parts = value.split(", ")
            for at in range(len(parts)):
                yield f"drop a part of {name}", {**label, name: ", ".join(parts[:at] + parts[at + 1 :])}


def _swallowed(label: Answer, text: str) -> Iterator[tuple[str, Answer]]:
    """A field takes a neighbour's words, which the neighbour keeps or not, or words beside it in the text."""
    for one in FIELDS:
        for other in FIELDS:
            taken, value = label[other], label[one]
            if one == other or taken is None or value is None:
                continue
            for joined in (f"{value} {taken}", f"{taken} {value}"):
                yield f"{one} swallows {other}", {**label, one: joined, other: None}
                yield f"{one} repeats {other}", {**label, one: joined}
            first, _, rest = taken.partition(" ")
            if rest:
                yield f"{one} takes a word of {other}", {**label, one: f"{value} {first}", other: rest}
    yield from _beside(label, clean(text))


def _beside(label: Answer, text: str) -> Iterator[tuple[str, Answer]]:
    tokens = [(found.group(), found.start(), found.end()) for found in _WORD.finditer(text)]
    lowered = [word.casefold() for word, _, _ in tokens]
    for name in FIELDS:
        words = [word.casefold() for word in _WORD.findall(label[name] or "")]
        if not words or words[-1] not in lowered:
            continue
        at = lowered.index(words[-1])
        for more in (1, 2):
            extra = " ".join(word for word, _, _ in tokens[at + 1 : at + 1 + more])
            if extra:
                yield f"{name} takes what follows", {**label, name: f"{label[name]} {extra}"}


# -- redacted --------------------------------------------------------------------------------------------------------


def sayable(rows: Iterable[Row]) -> Passed:
    """Answer each row as typed, but in words and placeholders that were sent; `passed` of those stored if all were."""
    found = Passed()
    for row in rows:
        answer = verbatim(row["expected"], row["text"]) if row["expected"] else {}
        if not answer or not _is_stored(answer, row):
            continue
        found.tried += 1
        record = Record.of(row["text"])
        said = {name: _said(value, record) for name, value in answer.items()} | {"estado": answer["estado"]}
        said |= {"cidade": CITY} if CITY in record.text else {}
        if _is_stored(record.restored(said) or {}, row):
            found.passed += 1
        else:
            found.rows.append({"id": row["id"], "sent": record.text})
    return found


def _is_stored(answer: Mapping[str, str | None], row: Row) -> bool:
    decision = standardize(answer, row["text"])
    return isinstance(decision, Settled) and is_right(decision.value.as_dict(), row)


def _said(value: str | None, record: Record) -> str | None:
    """Return a value in words and placeholders that were sent, None if it cannot be said in them."""
    parts = [] if value is None else value.split(", ")
    for name, kept in sorted(record.kept, key=lambda pair: -len(pair[1])):
        whole = re.compile(rf"(?<!\w){re.escape(kept)}(?!\w)")
        parts = [part if part in record.text else whole.sub(name, part) for part in parts]
    return ", ".join(part for part in parts if part in record.text) or None


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


@cache
def judge() -> Any:
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
    right, spoiled = ceiling(rows), spoiled_ones(rows)
    print(f"\n{name}, had a model answered with the label, or the words of the text that carry it")
    print(f"  stored  {right.share:7.2%} of {right.tried} answers")
    for why, count in right.kinds.most_common():
        print(f"    {count:5} {why}")
    said = sayable(rows)
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
