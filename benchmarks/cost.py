"""Calls, tokens and US$ of a sheet: one call per field, batched only, batched + cache + rules, the same sheet again.

`python -m benchmarks.cost [--rows 10000] [--repeated 0.3] [--residual 0.15] [--out FILE.json]`

The model is the simulated provider with the stated latency, speed and limits; tokens are counted with the real
tokenizer and priced with `prices.json`. One call per field is really made for `--sample` rows and scaled up; its wall
time is that of its calls and tokens at the provider's limits. `--residual` is the least share of distinct addresses
that the rules must leave to the model: if they settle more, they are told to leave some (a tidy sheet flatters nobody).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import openai
from redis.asyncio import Redis

from benchmarks.circumstances import asked, environment, keep
from normalizer.cache import Cache
from normalizer.domain.address import RULES_VERSION, Address, parse_address
from normalizer.domain.decision import Decision, Settled
from normalizer.domain.text import canonical
from normalizer.errors import NormalizerError
from normalizer.llm.client import LlmClient, Usage
from normalizer.llm.coalescer import Coalescer
from normalizer.llm.limits import SharedGate
from normalizer.llm.packing import BatchSize, Budget
from normalizer.llm.pricing import price, prices_as_of
from normalizer.llm.prompt import PROMPT_VERSION
from normalizer.llm.tokens import counter
from normalizer.simulation import embedded
from normalizer.simulation.demo import baseline_messages
from normalizer.simulation.sheets import Mess, ScenarioRow, generate, write_labels

MODEL = "gpt-6-luna"
KIND = "endereco"
GROUP = 250
GROUPS_AT_ONCE = 10
PARSES_PER_LOOP_TURN = 50
SEED = 7


@dataclass(frozen=True, slots=True)
class Way:
    """What one way of working took for the whole sheet."""

    what: str
    calls: int
    tokens_in: int
    tokens_out: int
    usd: float
    seconds: float
    settled: int
    measured: str = "measured"


class Bench:
    def __init__(
        self, rows: Sequence[ScenarioRow], provider: embedded.ProviderService, redis: Redis, given: argparse.Namespace
    ) -> None:
        self._texts = [row.address.text if row.address else "" for row in rows]
        self._documents = [row.document.text if row.document else "" for row in rows]
        self._provider, self._redis, self._given = provider, redis, given
        self._blind = self._blinded(set(map(canonical, self._texts)) - {""})
        self.cache = Cache(
            redis,
            secret=b"bench",
            model=MODEL,
            prompt_version=PROMPT_VERSION,
            rules_version=RULES_VERSION,
        )

    def _blinded(self, identities: set[str]) -> set[str]:
        """Distinct addresses the rules must leave to the model although they could settle them."""
        open_anyway = {text for text in identities if not isinstance(parse_address(text), Settled)}
        missing = int(self._given.residual * len(identities)) - len(open_anyway)
        by_chance = sorted(identities - open_anyway, key=lambda text: hashlib.sha256(text.encode()).digest())
        self.residual = len(open_anyway) / len(identities)
        return set(by_chance[: max(0, missing)])

    @property
    def distinct(self) -> int:
        return len(set(map(canonical, self._texts)) - {""})

    async def one_call_per_field(self) -> Way:
        """As the replaced worker asks; a sample, scaled up."""
        sample = min(self._given.sample, len(self._texts))
        fields = [("endereco", text) for text in self._texts[:sample]]
        fields += [("documento", text) for text in self._documents[:sample]]
        asked = [(kind, text) for kind, text in fields if text]
        before = await self._stats()
        async with openai.AsyncOpenAI(api_key="simulated", base_url=self._provider.url, max_retries=9) as client:
            places = asyncio.Semaphore(GROUPS_AT_ONCE)
            create: Any = client.chat.completions.create

            async def ask(kind: str, text: str) -> None:
                async with places:
                    await create(
                        model=MODEL,
                        messages=baseline_messages(kind, text),
                        response_format={"type": "json_object"},
                    )

            started = time.monotonic()
            await asyncio.gather(*(ask(kind, text) for kind, text in asked))
            seconds = time.monotonic() - started
        spent = self._since(before, await self._stats())
        factor = len(self._texts) / sample
        calls, tokens_in, tokens_out = (round(factor * spent[name]) for name in ("calls", "tokens_in", "tokens_out"))
        limited = [60 * calls / self._given.rpm] if self._given.rpm else []
        limited += [60 * (tokens_in + tokens_out) / self._given.tpm] if self._given.tpm else []
        return Way(
            "one call per field",
            calls,
            tokens_in,
            tokens_out,
            _usd(tokens_in, tokens_out),
            round(max([factor * seconds, *limited]), 1),
            len(self._texts),
            f"scaled from {sample} rows",
        )

    async def batched_only(self) -> Way:
        """Every address to the model, in batches; no cache, no rules, no dedup beyond what is in flight."""
        return await self._run("batched only", cache=False, rules=False)

    async def everything(self, what: str = "batched + cache + rules") -> Way:
        return await self._run(what, cache=True, rules=True)

    async def _run(self, what: str, *, cache: bool, rules: bool) -> Way:
        client = LlmClient(api_key="simulated", model=MODEL, base_url=self._provider.url)
        coalescer = Coalescer(
            client,
            cache=self.cache if cache else None,
            count=counter(MODEL),
            gate=SharedGate(self._redis, name=what, rpm=self._given.rpm, tpm=self._given.tpm),
            budget=Budget(items=50),
            size=BatchSize(start=25),
        )
        before = await self._stats()
        started = time.monotonic()
        places = asyncio.Semaphore(GROUPS_AT_ONCE)
        settled = sum(
            await asyncio.gather(
                *(self._group(group, coalescer, places, cache=cache, rules=rules) for group in _groups(self._texts))
            )
        )
        seconds = time.monotonic() - started
        spent = self._since(before, await self._stats())
        await coalescer.close()
        await client.close()
        usd = _usd(spent["tokens_in"], spent["tokens_out"])
        return Way(what, spent["calls"], spent["tokens_in"], spent["tokens_out"], usd, round(seconds, 1), settled)

    async def _group(
        self, texts: Sequence[str], coalescer: Coalescer, places: asyncio.Semaphore, *, cache: bool, rules: bool
    ) -> int:
        async with places:
            known = await self.cache.get_many(KIND, [text for text in texts if text]) if cache else {}
            decided: dict[str, Decision[Address]] = {text: entry.decision for text, entry in known.items()}
            for turn, text in enumerate({text for text in texts if text} - decided.keys()):
                if (
                    turn % PARSES_PER_LOOP_TURN == 0
                ):  # as the pipeline does: a starved loop looks like a Redis that is away
                    await asyncio.sleep(0)
                decision = parse_address(text) if rules and canonical(text) not in self._blind else None
                if isinstance(decision, Settled):
                    decided[text] = decision
            left = [text for text in texts if text and text not in decided]
            deadline = asyncio.get_running_loop().time() + 3_600
            async for outcomes in coalescer.resolve_many(left, deadline=deadline):
                decided |= {
                    text: outcome for text, outcome in outcomes.items() if not isinstance(outcome, NormalizerError)
                }
            return sum(isinstance(decided.get(text), Settled) for text in texts)

    async def _stats(self) -> dict[str, int]:
        stats = await asyncio.to_thread(asked, f"{self._provider.root_url}/stats")
        return {"calls": stats["requests"], "tokens_in": stats["tokens_in"], "tokens_out": stats["tokens_out"]}

    @staticmethod
    def _since(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
        return {name: after[name] - before[name] for name in before}


def _groups(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (texts[start : start + GROUP] for start in range(0, len(texts), GROUP))


def _usd(tokens_in: int, tokens_out: int) -> float:
    return round(price(MODEL).of(Usage(tokens_in, tokens_out)), 4)


async def run(given: argparse.Namespace, directory: Path) -> dict[str, Any]:
    rows = list(islice(generate(SEED, Mess(repeated=given.repeated)), given.rows))
    labels = directory / "labels.jsonl"
    write_labels(labels, rows)
    speed = {"latency_ms": given.latency_ms, "tokens_per_s": given.tokens_per_s}
    with (
        embedded.start_valkey(directory / "valkey") as valkey,
        embedded.start_provider(labels, directory=directory / "provider", **speed) as provider,
    ):
        async with Redis.from_url(valkey.url) as redis:
            bench = Bench(rows, provider, redis, given)
            first = await bench.one_call_per_field()
            ways = [first, await bench.batched_only(), await bench.everything()]
            ways.append(await bench.everything("warm re-import"))
    ours = ways[2]
    return {
        "as_of": datetime.now(UTC).date().isoformat(),
        "provider": {"simulated": True, **speed, "rpm": given.rpm, "tpm": given.tpm},
        "rows": given.rows,
        "distinct_addresses": bench.distinct,
        "residual_of_rules": round(bench.residual, 4),
        "residual_used": round(max(bench.residual, given.residual), 4),
        "prices": {"model": MODEL, "as_of": prices_as_of()},
        "ways": [asdict(way) for way in ways],
        "calls_ratio": round(ours.calls / first.calls, 5),
        "tokens_ratio": round((ours.tokens_in + ours.tokens_out) / (first.tokens_in + first.tokens_out), 5),
    }


def show(document: Mapping[str, Any]) -> None:
    print(f"{document['rows']} rows, {document['distinct_addresses']} distinct addresses, simulated provider:")
    print(f"{document['provider']}; {document['residual_used']:.1%} of the distinct addresses left to the model")
    print(f"{'way':26}{'calls':>8}{'tokens in':>12}{'tokens out':>12}{'US$':>9}{'seconds':>10}  ")
    for way in document["ways"]:
        print(
            f"{way['what']:26}{way['calls']:>8}{way['tokens_in']:>12}{way['tokens_out']:>12}"
            f"{way['usd']:>9.4f}{way['seconds']:>10.1f}  {way['measured']}"
        )
    print(f"calls {document['calls_ratio']:.2%}, tokens {document['tokens_ratio']:.2%} of one call per field")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.cost", description="what a sheet costs")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--repeated", type=float, default=0.30)
    parser.add_argument("--residual", type=float, default=0.15)
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--latency-ms", type=float, default=400.0)
    parser.add_argument("--tokens-per-s", type=float, default=100.0)
    parser.add_argument("--rpm", type=int, default=500)
    parser.add_argument("--tpm", type=int, default=200_000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="normalizer-cost-") as directory:
        document = asyncio.run(run(given, Path(directory)))
    show(document)
    if given.out:
        keep(given.out, document | {"environment": environment()})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
