"""Prompt measured on a real model: `python -m benchmarks.prompt --endpoint URL --model NAME [--arrays] [--rows N]`.

Asks an OpenAI-compatible endpoint for each row of `benchmarks.residue` alone, at temperature 0, with the product's
messages and strict schema, and judges what the product would store of the answer: right, wrong yet stored, asked again,
left to review. `--arrays` asks the prompt before decision 020 in the same run, in turns of 25 rows so that an endpoint
may keep a prompt's beginning. `--save` writes `benchmarks/results/prompt.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from openai import AsyncOpenAI

from benchmarks.answers import is_right
from benchmarks.circumstances import environment
from benchmarks.quality import judge
from benchmarks.residue import ROWS_PER_KIND, residue
from normalizer.domain.decision import Settled
from normalizer.llm.model_call import Again, evaluate_record
from normalizer.llm.prompt import PROMPT_VERSION, SYSTEM, Record, build_messages, parse_answer, response_schema

HERE: Final = Path(__file__).parent
RESULTS: Final = HERE / "results" / "prompt.json"
_TURN: Final = 25
_MAX_TOKENS: Final = 300
_PATIENCE_S: Final = 600.0


@dataclass(frozen=True)
class Prompt:
    """A system text and the schema of one slot's value."""

    system: str
    schema: Callable[[int], dict[str, Any]]

    def request(self, record: Record) -> dict[str, Any]:
        """Return what is sent for one record."""
        _, user = build_messages([record])
        schema = {"name": "answer", "strict": True, "schema": self.schema(1)}
        return {
            "messages": [{"role": "system", "content": self.system}, user],
            "response_format": {"type": "json_schema", "json_schema": schema},
        }


def arrays(n: int) -> dict[str, Any]:
    """Return the schema before decision 020: a slot's value is an array of seven strings."""
    seven = {"type": "array", "items": {"type": "string"}, "minItems": 7, "maxItems": 7}
    return response_schema(n) | {"$defs": {"a": seven}}


BEFORE: Final = Prompt((HERE / "prompt_of_arrays.txt").read_text(encoding="utf-8").strip(), arrays)
NOW: Final = Prompt(SYSTEM, response_schema)


def main(argv: Sequence[str] | None = None) -> int:
    """Ask, judge, print a line a prompt; 1 where a wrong value would be stored for more than one row in a hundred."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", required=True, help="base URL; its key is taken from OPENAI_API_KEY")
    parser.add_argument("--model", required=True)
    parser.add_argument("--arrays", action="store_true", help="the prompt before decision 020, too")
    parser.add_argument("--rows", type=int, default=8 * ROWS_PER_KIND)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args(argv)
    prompts = {PROMPT_VERSION: NOW} | ({"arrays": BEFORE} if options.arrays else {})
    found = asyncio.run(_measure(prompts, options.endpoint, options.model, options.rows))
    if options.save:
        kept = {"environment": environment(), "model": options.model, "prompts": found}
        RESULTS.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return int(any(figures["wrong"] > figures["rows"] / 100 for figures in found.values()))


async def _measure(prompts: dict[str, Prompt], endpoint: str, model: str, wanted: int) -> dict[str, dict[str, Any]]:
    judged: dict[str, Counter[str]] = {name: Counter() for name in prompts}
    every, gold = residue()[:wanted], judge()
    key = os.environ.get("OPENAI_API_KEY") or "none"
    async with AsyncOpenAI(api_key=key, base_url=endpoint, timeout=_PATIENCE_S) as client:
        for start in range(0, len(every), _TURN):
            for name, prompt in prompts.items():
                for row in every[start : start + _TURN]:
                    judged[name].update(await _asked(client, model, prompt, row, gold))
                print(name, json.dumps(_figures(judged[name])), flush=True)
    return {name: _figures(counts) for name, counts in judged.items()}


async def _asked(client: AsyncOpenAI, model: str, prompt: Prompt, row: dict[str, Any], gold: Any) -> Counter[str]:
    """One row's fate, by itself and by its kind, and its tokens."""
    record = Record.of(row["text"])
    answer: Any = await client.chat.completions.create(
        model=model, temperature=0, max_tokens=_MAX_TOKENS, **prompt.request(record)
    )
    (said,) = parse_answer(answer.choices[0].message.content or "", 1)
    decision = evaluate_record(row["text"], record.restored(said), asked=1)
    if isinstance(decision, Settled):
        fate = "right" if is_right(decision.value.as_dict(), row, gold) else "wrong"
    else:
        fate = "again" if isinstance(decision, Again) else "review"
    kind = row["tags"][0].removeprefix("class:")
    usage = answer.usage
    return Counter({"rows": 1, fate: 1, f"{fate}/{kind}": 1, "in": usage.prompt_tokens, "out": usage.completion_tokens})


def _figures(counts: Counter[str]) -> dict[str, Any]:
    """Counts by fate, the right ones by kind, and mean tokens a row."""
    by_kind = {key.removeprefix("right/"): n for key, n in sorted(counts.items()) if key.startswith("right/")}
    return {
        **{key: counts[key] for key in ("rows", "right", "wrong", "again", "review")},
        "tokens_in": round(counts["in"] / counts["rows"]),
        "tokens_out": round(counts["out"] / counts["rows"]),
        "right_by_kind": by_kind,
    }


if __name__ == "__main__":
    raise SystemExit(main())
