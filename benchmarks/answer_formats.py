"""Which answer format to ask for: tokens, exactness, lost and misplaced records, by batch size, on any endpoint.

`python -m benchmarks.answer_formats --base-url http://127.0.0.1:8080/v1 --model NAME [--formats array,short_keys]
[--sizes 1,8,24,48] [--rows 48] [--no-schema] [--out FILE.json]`; the key comes from OPENAI_API_KEY.

Every format gets the same rules, the same records of the development set, and its own schema and example. An answer is
judged as the worker judges it: standardised, then grounded in its own text.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai

from benchmarks.processes import environment
from normalizer.domain.decision import Settled
from normalizer.llm.prompt import FIELDS, SYSTEM, Record, Segments, parse_answer, response_schema, slot
from normalizer.llm.salvage import judge
from normalizer.llm.tokens import counter

GOLD = Path(__file__).parent.parent / "tests" / "gold" / "dev_addresses.jsonl"
SHORT = dict(zip(("r", "n", "c", "b", "m", "u", "z"), FIELDS, strict=True))
_OUTPUT_LINES = ("Output:", "[street,")
_EXAMPLE = (("R. DAS CAMELIAS", "2040", "AP. 83", "VL. AURORA", "S. BENTO DO LAGO", "MG", ""), ("",) * len(FIELDS))


class Format(ABC):
    """How an answer is written: what the model is told, the schema that holds it, and how it is read."""

    name: str

    def system(self) -> str:
        """The worker's own rules, with this format's description and example in place of the arrays'."""
        head, _, _ = SYSTEM.partition('{"r00"')
        lines = [line for line in head.splitlines() if not line.startswith(_OUTPUT_LINES)]
        at = next(index for index, line in enumerate(lines) if line.startswith("1. "))
        lines.insert(at, f"Output: one JSON object, one key per slot, every slot once. {self.describe()}\n")
        example = {slot(index): self.write(values) for index, values in enumerate(_EXAMPLE)}
        return "\n".join([*lines, json.dumps(example, ensure_ascii=False, separators=(",", ":"))])

    def schema(self, n: int) -> dict[str, Any]:
        """The strict schema of an answer to `n` records."""
        return response_schema(n) | {"$defs": {"a": self.item()}}

    def read(self, raw: str, n: int) -> list[Segments | None]:
        """What each slot says; None where it is missing or of the wrong shape."""
        try:
            answer = json.loads(raw[raw.find("{") : raw.rfind("}") + 1])
        except ValueError:
            return [None] * n
        return [self.parse(answer.get(slot(index))) for index in range(n)] if isinstance(answer, dict) else [None] * n

    @abstractmethod
    def describe(self) -> str:
        """Tell the model what a slot's value is."""

    @abstractmethod
    def item(self) -> dict[str, Any]:
        """The schema of one slot's value."""

    @abstractmethod
    def write(self, values: Sequence[str]) -> Any:
        """One record as this format writes it."""

    @abstractmethod
    def parse(self, value: Any) -> Segments | None:
        """One slot's value read back."""


class Array(Format):
    """Seven strings, exactly: the format in use."""

    name = "array"

    def system(self) -> str:
        return SYSTEM

    def read(self, raw: str, n: int) -> list[Segments | None]:
        return list(parse_answer(raw, n))

    def describe(self) -> str:
        return "Its value is an array of exactly 7 strings."

    def item(self) -> dict[str, Any]:
        defined: dict[str, Any] = response_schema(1)["$defs"]["a"]
        return defined

    def write(self, values: Sequence[str]) -> Any:
        return list(values)

    def parse(self, value: Any) -> Segments | None:
        return parse_answer(json.dumps({slot(0): value}), 1)[0]


class Keys(Format):
    """An object a record; long or short keys, absent fields as empty strings."""

    def __init__(self, name: str, keys: Mapping[str, str]) -> None:
        self.name, self._keys = name, dict(keys)

    def describe(self) -> str:
        meaning = zip(self._keys, ("street", "number", "complement", "district", "city", "state", "CEP"), strict=True)
        return f"Its value is an object with the keys {', '.join(f'{key} ({field})' for key, field in meaning)}."

    def item(self) -> dict[str, Any]:
        properties = {key: {"type": "string"} for key in self._keys}
        return {
            "type": "object",
            "properties": properties,
            "required": list(self._keys),
            "additionalProperties": False,
        }

    def write(self, values: Sequence[str]) -> Any:
        return dict(zip(self._keys, values, strict=True))

    def parse(self, value: Any) -> Segments | None:
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            return None
        return {field: value.get(key) or None for key, field in self._keys.items()}


class Delimited(Format):
    """One string a record, seven parts between bars."""

    name = "delimited"

    def describe(self) -> str:
        return "Its value is one string: street|number|complement|district|city|state|CEP, always 6 bars."

    def item(self) -> dict[str, Any]:
        return {"type": "string"}

    def write(self, values: Sequence[str]) -> Any:
        return "|".join(values)

    def parse(self, value: Any) -> Segments | None:
        parts = value.split("|") if isinstance(value, str) else []
        if len(parts) != len(FIELDS):
            return None
        return {field: part.strip() or None for field, part in zip(FIELDS, parts, strict=True)}


FORMATS: dict[str, Format] = {
    each.name: each
    for each in (Array(), Keys("short_keys", SHORT), Keys("long_keys", {field: field for field in FIELDS}), Delimited())
}


@dataclass(slots=True)
class Score:
    """One format at one batch size; shares are of all records asked."""

    format: str
    size: int
    records: int = 0
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    unread: int = 0
    """Slots that were missing, cut or of the wrong shape."""
    refused: int = 0
    """Answers that grounding or the standardisers did not accept."""
    misplaced: int = 0
    """Of those, answers that hold for another record of the same call."""
    exact: int = 0
    wrong: int = 0
    """Accepted, and not what the gold says: what would be stored and is not right."""

    def row(self) -> dict[str, Any]:
        """Counts, and what a record took."""
        per_record = {
            "tokens_in_per_record": round(self.tokens_in / max(1, self.records), 1),
            "tokens_out_per_record": round(self.tokens_out / max(1, self.records), 1),
        }
        return asdict(self) | per_record


def count(score: Score, rows: Sequence[Mapping[str, Any]], answers: Sequence[Segments | None]) -> None:
    """Add one call's records to the score."""
    for row, segments in zip(rows, answers, strict=True):
        score.records += 1
        if segments is None:
            score.unread += 1
            continue
        verdict = judge(row["text"], segments)
        accepted = [row["expected"], *row.get("accept", ())]
        got = verdict.value.as_dict() if isinstance(verdict, Settled) else None
        if got in accepted:
            score.exact += 1
        elif got is not None:
            score.wrong += 1
        elif any(segments.values()):
            score.refused += 1
            others = (other for other in rows if other is not row)
            score.misplaced += any(isinstance(judge(other["text"], segments), Settled) for other in others)


async def measure(client: openai.AsyncOpenAI, given: argparse.Namespace, how: Format, size: int) -> Score:
    """Ask about all rows in calls of `size`, one after another."""
    score = Score(how.name, size)
    rows = _rows(given.rows)
    create: Any = client.chat.completions.create
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        lines = "\n".join(f"{slot(index)}: {Record.of(row['text']).text}" for index, row in enumerate(part))
        request: dict[str, Any] = {
            "model": given.model,
            "messages": [{"role": "system", "content": how.system()}, {"role": "user", "content": lines}],
            "max_tokens": 120 * len(part) + 100,
            "temperature": 0,
        }
        if given.schema:
            schema = {"name": "addresses", "strict": True, "schema": how.schema(len(part))}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        started = time.monotonic()
        completion = await create(**request)
        score.seconds += time.monotonic() - started
        score.calls += 1
        score.tokens_in += completion.usage.prompt_tokens
        score.tokens_out += completion.usage.completion_tokens
        count(score, part, how.read(completion.choices[0].message.content or "", len(part)))
    return score


def _rows(n: int) -> list[dict[str, Any]]:
    """Messy rows first: those a model would really be asked about."""
    rows = [json.loads(line) for line in GOLD.read_text(encoding="utf-8").splitlines()]
    random.Random(7).shuffle(rows)
    rows.sort(key=lambda row: "class:clean" in row["tags"])
    return rows[:n]


def faultless_tokens(how: Format, rows: Sequence[Mapping[str, Any]], size: int) -> float:
    """Output tokens a record (o200k_base) of answers that say exactly what the gold says, in calls of `size`."""
    count_tokens = counter("gpt-4o")
    total = 0
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        values = [[(row["expected"] or {}).get(field) or "" for field in FIELDS] for row in part]
        answer = {slot(index): how.write(each) for index, each in enumerate(values)}
        total += count_tokens(json.dumps(answer, ensure_ascii=False, separators=(",", ":")))
    return round(total / len(rows), 1)


async def run(given: argparse.Namespace) -> None:
    """Measure every format at every size, all formats at one size before the next; prints and writes as it goes.

    What `--out` already holds of the same model, schema and rows is not asked again: a slow endpoint is measured in
    parts, and each cell says by which commit.
    """
    rows = _measured(given)
    asked, commit = len(_rows(given.rows)), environment()["commit"]
    done = {(row["format"], row["size"], row["records"]) for row in rows}
    key = os.environ.get("OPENAI_API_KEY", "none")
    async with openai.AsyncOpenAI(api_key=key, base_url=given.base_url, timeout=given.timeout_s) as client:
        print(f"{'format':12}{'size':>5}{'in/rec':>8}{'out/rec':>8}{'exact':>7}{'wrong':>7}{'refused':>8}", end="")
        print(f"{'misplaced':>10}{'unread':>7}{'s':>8}")
        for size in map(int, given.sizes.split(",")):
            for name in given.formats.split(","):
                if (name, size, asked) in done:
                    continue
                score = await measure(client, given, FORMATS[name], size)
                row = score.row() | {"commit": commit}
                rows.append(row)
                print(
                    f"{name:12}{size:>5}{row['tokens_in_per_record']:>8}{row['tokens_out_per_record']:>8}"
                    f"{score.exact / score.records:>7.0%}{score.wrong / score.records:>7.0%}"
                    f"{score.refused / score.records:>8.0%}{score.misplaced:>10}{score.unread:>7}{score.seconds:>8.1f}",
                    flush=True,
                )
                if given.out:
                    given.out.write_text(_document(given, rows), encoding="utf-8")


def _measured(given: argparse.Namespace) -> list[dict[str, Any]]:
    """The cells that the result file holds already."""
    if not given.out or not given.out.exists():
        return []
    document = json.loads(given.out.read_text(encoding="utf-8"))
    if (document["model"], document["strict_schema"]) != (given.model, given.schema):
        raise SystemExit(f"{given.out}: holds another model or schema; name another file")
    rows: list[dict[str, Any]] = document["scores"]
    return rows


def _document(given: argparse.Namespace, rows: Sequence[Mapping[str, Any]]) -> str:
    document = {
        "as_of": datetime.now(UTC).date().isoformat(),
        "model": given.model,
        "strict_schema": given.schema,
        "scores": rows,
        "environment": environment(),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _counted(given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Tokens a record of faultless answers, by format and records a call."""
    return {
        name: {size: faultless_tokens(FORMATS[name], _rows(given.rows), int(size)) for size in given.sizes.split(",")}
        for name in given.formats.split(",")
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(prog="benchmarks.answer_formats", description="compare answer formats")
    parser.add_argument("--base-url")
    parser.add_argument("--model")
    parser.add_argument("--count-only", action="store_true", help="ask nobody: tokens of faultless answers")
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--sizes", default="1,8,24,48")
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--timeout-s", type=float, default=900.0)
    parser.add_argument("--schema", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(argv)
    if given.count_only:
        counted = _counted(given)
        for name, by_size in counted.items():
            print(f"{name:12}", *(f"{tokens:>8}" for tokens in by_size.values()))
        if given.out:
            document = {"rows": given.rows, "tokens_per_record": counted, "environment": environment()}
            given.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        return 0
    if not (given.base_url and given.model):
        parser.error("--base-url and --model, or --count-only")
    asyncio.run(run(given))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
