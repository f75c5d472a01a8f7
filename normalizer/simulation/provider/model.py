"""The simulated model: answers from labels, takes its time, keeps limits, counts, and fails as it is told."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse, Response

from normalizer.domain.text import canonical
from normalizer.llm import tokens
from normalizer.llm.prompt import FIELDS, Record
from normalizer.simulation.provider.faults import (
    NO_CHOICES_TOKENS,
    Fault,
    carries,
    error,
    no_answer,
    render,
    spoil,
)

MODEL = "simulated"
DOCUMENT_FIELDS = ("cpf", "rg", "cpf_formatted", "rg_formatted")
_RECORD_LINE = re.compile(r"^(r\d{2}): (.*)$", re.MULTILINE)
_KEPT_REQUESTS = 5_000
_COUNTS_KEPT = 4_096
_MESSAGE_TOKENS = 4  # role and separators of one chat message


@dataclass(frozen=True, slots=True)
class Options:
    """How fast the provider is and what it allows; 0 = unlimited.

    A call takes `latency_ms` to its first token and then `tokens_per_s`; `spread` is the standard deviation of the
    logarithm of that time (0.3: half of the calls within a fifth of the median, one in twenty 1.6 times as long).
    Without `any_model` it has none but `simulated`. `flex_refused` is the share of calls for the half-price tier that
    it refuses.
    """

    latency_ms: float = 0.0
    tokens_per_s: float = 0.0
    spread: float = 0.0
    rpm: int = 0
    tpm: int = 0
    window_s: float = 60.0
    schema: bool = True
    any_model: bool = True
    flex_refused: float = 0.0
    seed: int = 1


class Window:
    """Requests and tokens of the last `window_s` seconds, as providers count them."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._seen: deque[tuple[float, int]] = deque()
        self._used = 0

    def admit(self, amount: int) -> float:
        """Take a request of `amount` tokens and return 0, or return the seconds to wait."""
        now = time.monotonic()
        while self._seen and self._seen[0][0] <= now - self._options.window_s:
            self._used -= self._seen.popleft()[1]
        over_requests = self._options.rpm and len(self._seen) >= self._options.rpm
        over_tokens = self._options.tpm and self._used + amount > self._options.tpm
        if (over_requests or over_tokens) and self._seen:
            return max(0.05, self._seen[0][0] + self._options.window_s - now)
        self._seen.append((now, amount))
        self._used += amount
        return 0.0

    def headers(self) -> dict[str, str]:
        """The `x-ratelimit-*` headers of OpenAI."""
        headers = {}
        limits = (("requests", self._options.rpm, len(self._seen)), ("tokens", self._options.tpm, self._used))
        for name, limit, used in limits:
            if limit:
                headers[f"x-ratelimit-limit-{name}"] = str(limit)
                headers[f"x-ratelimit-remaining-{name}"] = str(max(0, limit - used))
                headers[f"x-ratelimit-reset-{name}"] = f"{self._options.window_s * used / limit:.3f}s"
        return headers


class Provider:
    """The simulated model, its limits, its counters and its scripted faults."""

    def __init__(self, labels: Mapping[str, Mapping[str, Any] | None], options: Options) -> None:
        self.options = options
        # By what a prompt carries word for word, which is quick, and by what it has in common with the label.
        self._verbatim = {Record.of(text).text: expected for text, expected in labels.items()}
        self._labels = {canonical(text): expected for text, expected in self._verbatim.items()}
        self._documents = {canonical(text): expected for text, expected in labels.items() if "cpf" in (expected or {})}
        self._count = lru_cache(_COUNTS_KEPT)(tokens.counter("gpt-4o"))
        self._random = random.Random(options.seed)
        self._ids = itertools.count(1)
        self.reset()

    def reset(self) -> None:
        """Forget everything counted and every fault."""
        self._window = Window(self.options)
        self.faults: list[Fault] = []
        self.requests: deque[dict[str, Any]] = deque(maxlen=_KEPT_REQUESTS)
        self.totals: Counter[str] = Counter()
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in ("by_status", "by_fault", "by_tier")}
        self._under_way = 0

    def has(self, model: str) -> bool:
        """Whether a call may name this model."""
        return self.options.any_model or model == MODEL

    def stats(self) -> dict[str, Any]:
        """What was asked and answered since the start or the last reset."""
        names = ("requests", "records", "tokens_in", "tokens_out", "max_under_way")
        totals = {name: self.totals[name] for name in names}
        return {"simulated": True, **totals, **{name: dict(counter) for name, counter in self.counts.items()}}

    async def complete(self, body: dict[str, Any]) -> Response:
        """One chat completion, or a failure."""
        self.requests.append(body)
        self._under_way += 1
        self.totals["max_under_way"] = max(self.totals["max_under_way"], self._under_way)
        try:
            response = await self._complete(body)
        finally:
            self._under_way -= 1
        self.totals["requests"] += 1
        self.counts["by_status"][str(response.status_code)] += 1
        response.headers["x-simulated"] = "true"
        return response

    async def _complete(self, body: dict[str, Any]) -> Response:
        prompt = str(body["messages"][-1]["content"])
        fault = self._fault(prompt, body) or Fault("")
        if fault.kind:
            self.counts["by_fault"][fault.kind] += 1
        if fault.kind == "hang":
            await asyncio.sleep(fault.seconds)
        if fault.kind == "no_choices":
            self.totals["tokens_in"] += NO_CHOICES_TOKENS
        if (other := no_answer(fault) or self._refusal(body)) is not None:
            return other
        content, records = self._answer(body, prompt)
        spent_in = self._tokens_in(body)
        if wait_s := self._window.admit(spent_in + self._count(content)):
            return error(429, "rate_limit_exceeded", wait_s, headers=self._window.headers())
        message, finish = spoil(content, fault.kind, self._random)
        spent_out = self._count(content if fault.kind in {"", "parts", "reasoned"} else _said(message))
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        if limit and spent_out > limit:
            message["content"] = _said(message)[: 3 * limit]
            finish, spent_out = "length", limit
        tier = body.get("service_tier") or "default"
        self.totals.update({"records": records, "tokens_in": spent_in, "tokens_out": spent_out})
        self.counts["by_tier"][tier] += 1
        late_s = fault.seconds if fault.kind == "slow_start" else 0.0
        if seconds := late_s + self.seconds_for(spent_out):
            await asyncio.sleep(seconds)
        answer = self._completion(message, finish, spent_in, spent_out) | {"service_tier": tier}
        if fault.kind == "reasoned":
            answer["usage"]["completion_tokens_details"] = {"reasoning_tokens": spent_out}
        return JSONResponse(answer, headers=self._window.headers())

    def _refusal(self, body: Mapping[str, Any]) -> Response | None:
        """What this provider never takes, by its options."""
        if not self.has(model := str(body.get("model"))):
            return error(400, "400", message=f"{model} is not a valid model ID")
        if body.get("service_tier") == "flex" and self._random.random() < self.options.flex_refused:
            return error(429, "resource_unavailable", message="simulated: flex is out of capacity")
        if not self.options.schema and carries(body, "json_schema"):
            return error(400, "unsupported_parameter", param="response_format")
        return None

    def _completion(self, message: dict[str, Any], finish: str, spent_in: int, spent_out: int) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-simulated-{next(self._ids)}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": MODEL,
            "system_fingerprint": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
            "usage": {"prompt_tokens": spent_in, "completion_tokens": spent_out, "total_tokens": spent_in + spent_out},
        }

    def seconds_for(self, spent_out: int) -> float:
        """How long a call takes that answers `spent_out` tokens; another time something else, if there is a spread."""
        speed = self.options.tokens_per_s
        seconds = self.options.latency_ms / 1000 + (spent_out / speed if speed else 0.0)
        return seconds * self._random.lognormvariate(0.0, self.options.spread) if self.options.spread else seconds

    def _fault(self, prompt: str, body: Mapping[str, Any]) -> Fault | None:
        fault = next((each for each in self.faults if each.hits(prompt, body, self._random)), None)
        if fault is not None and fault.rate is None:
            fault.times -= 1
            if fault.times <= 0:
                self.faults.remove(fault)
        return fault

    def _answer(self, body: dict[str, Any], prompt: str) -> tuple[str, int]:
        system, lines = str(body["messages"][0]["content"]), _RECORD_LINE.findall(prompt)
        asked = DOCUMENT_FIELDS if "cpf_formatted" in system else FIELDS
        if lines:
            slots = [(name, [str(value or "") for value in self._said(text, asked).values()]) for name, text in lines]
            return render(slots), len(slots)
        # one text a call, as the replaced worker asks
        return json.dumps(self._said(prompt, asked), ensure_ascii=False, indent=2), 1

    def _said(self, text: str, asked: Sequence[str]) -> dict[str, Any]:
        expected = self._expected(text, asked)
        return {name: expected.get(name) for name in asked}

    def _expected(self, text: str, asked: Sequence[str]) -> Mapping[str, Any]:
        if asked is DOCUMENT_FIELDS:  # only others than we send documents
            return self._documents.get(canonical(text)) or {}
        if text in self._verbatim:
            return self._verbatim[text] or {}
        # a record as we send it, or a text as others do: canonical of what may leave the machine
        return self._labels.get(canonical(text)) or self._labels.get(canonical(Record.of(text).text)) or {}

    def _tokens_in(self, body: Mapping[str, Any]) -> int:
        spent = sum(_MESSAGE_TOKENS + self._count(str(message["content"])) for message in body["messages"])
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        return spent + (self._count(json.dumps(schema, separators=(",", ":"), ensure_ascii=False)) if schema else 0)


def _said(message: Mapping[str, Any]) -> str:
    return str(message.get("content") or "")


def read_labels(path: Path) -> dict[str, Mapping[str, Any] | None]:
    """Read JSON Lines `{"text", "expected"}`."""
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    return {row["text"]: row["expected"] for row in rows}
