"""The simulated model: answers from labels, takes its time, keeps limits, counts, and fails as it is told."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
from starlette.responses import Response

from normalizer.domain.text import canonical
from normalizer.llm import tokens
from normalizer.llm.prompt import FIELDS, Record
from normalizer.simulation.provider.faults import NO_CHOICES_TOKENS, Fault, Slots, no_answer, render, spoil
from normalizer.simulation.provider.limits import Options, Window
from normalizer.simulation.provider.replies import MODEL, completion, error

DOCUMENT_FIELDS = ("cpf", "rg", "cpf_formatted", "rg_formatted")
_RECORD_LINE = re.compile(r"^(r\d{2}): (.*)$", re.MULTILINE)
_FIELD_LINE = re.compile(r"^(endereco|documento): (.*)$", re.MULTILINE)
_KEPT_REQUESTS = 5_000
_COUNTS_KEPT = 4_096
_MESSAGE_TOKENS = 4  # role and separators of one chat message


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
        self.by_status: Counter[str] = Counter()
        self.by_fault: Counter[str] = Counter()
        self.by_tier: Counter[str] = Counter()
        self._under_way = 0

    def has(self, model: str) -> bool:
        """Whether a call may name this model."""
        return self.options.any_model or model == MODEL

    def stats(self) -> dict[str, Any]:
        """What was asked and answered since the start or the last reset."""
        names = ("requests", "records", "tokens_in", "tokens_out", "max_under_way")
        counts = {name: self.totals[name] for name in names}
        by = {"by_status": self.by_status, "by_fault": self.by_fault, "by_tier": self.by_tier}
        return {"simulated": True, **counts, **{name: dict(counter) for name, counter in by.items()}}

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
        self.by_status[str(response.status_code)] += 1
        response.headers["x-simulated"] = "true"
        return response

    async def _complete(self, body: dict[str, Any]) -> Response:
        prompt = str(body["messages"][-1]["content"])
        fault = self._fault(prompt, body)
        if fault is not None:
            self.by_fault[fault.kind] += 1
        if fault is not None and fault.kind == "hang":
            await asyncio.sleep(fault.seconds)
        if (failure := self._failure(body, fault)) is not None:
            return failure
        content, records = self._answer(body, prompt)
        wait_s = self._window.admit(self._tokens_in(body) + self._count(content))
        if wait_s:
            return error(429, "rate_limit_exceeded", wait_s, headers=self._window.headers())
        response, spent_out = self._reply(body, content, records, fault)
        late_s = fault.seconds if fault is not None and fault.kind == "slow_start" else 0.0
        if seconds := late_s + self.seconds_for(spent_out):
            await asyncio.sleep(seconds)
        response.headers.update(self._window.headers())
        return response

    def _failure(self, body: Mapping[str, Any], fault: Fault | None) -> Response | None:
        """What is sent in place of an answer, if anything."""
        if fault is None:
            return self._refusal(body)
        if fault.kind == "drop_connection":
            return Response(b"{", headers={"content-length": "1000"})  # the server then breaks off
        if fault.kind == "status":
            return error(fault.status, fault.code or "simulated_fault", fault.retry_after_s, message=fault.message)
        if (other := no_answer(fault)) is not None:
            self.totals["tokens_in"] += NO_CHOICES_TOKENS if fault.kind == "no_choices" else 0
            return other
        return self._refusal(body)

    def _refusal(self, body: Mapping[str, Any]) -> Response | None:
        """What this provider never takes, by its options."""
        if not self.has(model := str(body.get("model"))):
            return error(400, "400", None, message=f"{model} is not a valid model ID")
        if body.get("service_tier") == "flex" and self._random.random() < self.options.flex_refused:
            return error(429, "resource_unavailable", None, message="simulated: flex is out of capacity")
        if not self.options.schema and _carries(body, "json_schema"):
            return error(400, "unsupported_parameter", None, param="response_format")
        return None

    def _reply(self, body: Mapping[str, Any], content: str, records: int, fault: Fault | None) -> tuple[Response, int]:
        """The completion, with the fault's damage done and counted; and its output tokens."""
        spent_in = self._tokens_in(body)
        message, finish = spoil(content, fault, self._random)
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        spent_out = self._count(content if fault is None or fault.kind in {"parts", "reasoned"} else _said(message))
        if limit and spent_out > limit:
            message["content"] = _said(message)[: 3 * limit]
            finish, spent_out = "length", limit
        self.totals.update({"records": records, "tokens_in": spent_in, "tokens_out": spent_out})
        answer = completion(f"chatcmpl-simulated-{next(self._ids)}", message, finish, spent_in, spent_out)
        answer["service_tier"] = tier = body.get("service_tier") or "default"
        self.by_tier[tier] += 1
        if fault is not None and fault.kind == "reasoned":
            answer["usage"]["completion_tokens_details"] = {"reasoning_tokens": spent_out}
        return Response(orjson.dumps(answer), media_type="application/json"), spent_out

    def seconds_for(self, spent_out: int) -> float:
        """How long a call takes that answers `spent_out` tokens; another time something else, if there is a spread."""
        speed = self.options.tokens_per_s
        seconds = self.options.latency_ms / 1000 + (spent_out / speed if speed else 0.0)
        return seconds * self._random.lognormvariate(0.0, self.options.spread) if self.options.spread else seconds

    def _fault(self, prompt: str, body: Mapping[str, Any]) -> Fault | None:
        for fault in self.faults:
            if fault.text is not None and fault.text not in prompt:
                continue
            if fault.parameter is not None and not _carries(body, fault.parameter):
                continue
            if fault.rate is not None:
                if self._random.random() < fault.rate:
                    return fault
                continue
            fault.times -= 1
            if fault.times <= 0:
                self.faults.remove(fault)
            return fault
        return None

    def _answer(self, body: dict[str, Any], prompt: str) -> tuple[str, int]:
        system, lines = str(body["messages"][0]["content"]), _RECORD_LINE.findall(prompt)
        asked = DOCUMENT_FIELDS if "cpf_formatted" in system else FIELDS
        if not lines and (texts := _FIELD_LINE.findall(prompt)):  # both texts of a record, as scripts ask
            said = {
                kind: self._expected(text, DOCUMENT_FIELDS if kind == "documento" else FIELDS) for kind, text in texts
            }
            return json.dumps(said, ensure_ascii=False), 1
        if not lines:  # one text a call, as the replaced worker asks
            expected = self._expected(prompt, asked)
            return json.dumps({name: expected.get(name) for name in asked}, ensure_ascii=False, indent=2), 1
        slots: Slots = [(name, self._fields(text, asked)) for name, text in lines]
        return render(slots), len(slots)

    def _fields(self, text: str, asked: Sequence[str]) -> list[str]:
        expected = self._expected(text, asked)
        return [str(expected.get(name) or "") for name in asked]

    def _expected(self, text: str, asked: Sequence[str]) -> Mapping[str, Any]:
        if asked is DOCUMENT_FIELDS:  # only others than we send documents
            return self._documents.get(canonical(text)) or {}
        if text in self._verbatim:
            return self._verbatim[text] or {}
        key = canonical(text)  # of a record as we send it, or of a text as others do
        return self._labels.get(key) or self._labels.get(identity(text)) or {}

    def _tokens_in(self, body: Mapping[str, Any]) -> int:
        spent = sum(_MESSAGE_TOKENS + self._count(str(message["content"])) for message in body["messages"])
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        return spent + (self._count(orjson.dumps(schema).decode()) if schema else 0)


def _carries(body: Mapping[str, Any], parameter: str) -> bool:
    return parameter in body or body.get("response_format", {}).get("type") == parameter


def _said(message: Mapping[str, Any]) -> str:
    return str(message.get("content") or "")


def identity(text: str) -> str:
    """What a label and a prompt's record have in common: the canonical form of what may leave the machine."""
    return canonical(Record.of(text).text)


def read_labels(path: Path) -> dict[str, Mapping[str, Any] | None]:
    """Read JSON Lines `{"text", "expected"}`."""
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    return {row["text"]: row["expected"] for row in rows}
