"""A simulated OpenAI-compatible provider: answers from labels, takes its time, keeps limits, and fails on demand.

`python -m benchmarks.provider --port 9999 --labels labels.jsonl --latency-ms 400 --tokens-per-s 80 --rpm 60`

POST /v1/chat/completions and GET /v1/models as the real ones; GET /stats, GET /requests (the last bodies), POST /faults
(a list of faults, see `Fault`), POST /reset. Every answer and header says "simulated". Labels are JSON Lines
`{"text", "expected"}`; a text without a label is answered with nulls. Tokens are counted with the real tokenizer.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from normalizer.domain.text import canonical
from normalizer.llm import tokens
from normalizer.llm.prompt import FIELDS, Record

MODEL = "simulated"
DOCUMENT_FIELDS = ("cpf", "rg", "cpf_formatted", "rg_formatted")
_RECORD_LINE = re.compile(r"^(r\d{2}): (.*)$", re.MULTILINE)
_KEPT_REQUESTS = 5_000
_MESSAGE_TOKENS = 4  # role and separators of one chat message

Slots = list[tuple[str, list[str]]]


@dataclass(slots=True)
class Fault:
    """One way to fail, applied to the next `times` calls (or, with `rate`, to that share of all calls).

    kind: `status` (with `status`, `retry_after_s`, `code`), `hang` (`seconds`), `drop_connection`; or what happens to a
    good answer: `truncate`, `prose`, `garbage`, `empty`, `missing`, `swap`, `duplicate`, `unknown`, `arity`, `invent`,
    `refusal`, `content_filter`. `text`: only calls whose prompt holds it, and then only that record for `refusal`.
    """

    kind: str
    times: int = 1
    rate: float | None = None
    status: int = 500
    retry_after_s: float | None = None
    code: str | None = None
    seconds: float = 3_600.0
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """How fast the provider is and what it allows; 0 = unlimited."""

    latency_ms: float = 0.0
    tokens_per_s: float = 0.0
    rpm: int = 0
    tpm: int = 0
    window_s: float = 60.0
    schema: bool = True
    seed: int = 1


class Window:
    """Requests and tokens of the last `window_s` seconds, as providers count them."""

    def __init__(self, options: Options, clock: Callable[[], float] = time.monotonic) -> None:
        self._options, self._clock = options, clock
        self._seen: deque[tuple[float, int]] = deque()

    def admit(self, amount: int) -> float:
        """Take a request of `amount` tokens and return 0, or return the seconds to wait."""
        now = self._clock()
        while self._seen and self._seen[0][0] <= now - self._options.window_s:
            self._seen.popleft()
        used = sum(tokens_ for _, tokens_ in self._seen)
        over_requests = self._options.rpm and len(self._seen) >= self._options.rpm
        over_tokens = self._options.tpm and used + amount > self._options.tpm
        if (over_requests or over_tokens) and self._seen:
            return max(0.05, self._seen[0][0] + self._options.window_s - now)
        self._seen.append((now, amount))
        return 0.0

    def headers(self) -> dict[str, str]:
        """The `x-ratelimit-*` headers of OpenAI."""
        headers = {}
        for name, limit, used in (
            ("requests", self._options.rpm, len(self._seen)),
            ("tokens", self._options.tpm, sum(amount for _, amount in self._seen)),
        ):
            if limit:
                reset_s = self._options.window_s * used / limit
                headers[f"x-ratelimit-limit-{name}"] = str(limit)
                headers[f"x-ratelimit-remaining-{name}"] = str(max(0, limit - used))
                headers[f"x-ratelimit-reset-{name}"] = f"{reset_s:.3f}s"
        return headers


class Provider:
    """The simulated model, its limits, its counters and its scripted faults."""

    def __init__(self, labels: Mapping[str, Mapping[str, Any] | None], options: Options) -> None:
        self.options = options
        self._labels = {identity(text): expected for text, expected in labels.items()}
        self._count = tokens.counter("gpt-4o")
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
        self._under_way = 0

    def stats(self) -> dict[str, Any]:
        """What was asked and answered since the start or the last reset."""
        names = ("requests", "records", "tokens_in", "tokens_out", "max_under_way")
        return {"simulated": True, **{name: self.totals[name] for name in names}, "by_status": dict(self.by_status)}

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
        fault = self._fault(prompt)
        if fault is not None and fault.kind == "hang":
            await asyncio.sleep(fault.seconds)
        if fault is not None and fault.kind == "drop_connection":
            return Response(b"{", headers={"content-length": "1000"})  # the server then breaks off
        if fault is not None and fault.kind == "status":
            return _error(fault.status, fault.code or "simulated_fault", fault.retry_after_s)
        if not self.options.schema and body.get("response_format", {}).get("type") == "json_schema":
            return _error(400, "unsupported_parameter", None, param="response_format")
        content, records = self._answer(body, prompt)
        spent_in = self._tokens_in(body)
        wait_s = self._window.admit(spent_in + self._count(content))
        if wait_s:
            return _error(429, "rate_limit_exceeded", wait_s, headers=self._window.headers())
        message, finish = _spoil(content, fault, self._random)
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        spent_out = self._count(message.get("content") or "")
        if limit and spent_out > limit:
            message["content"] = (message["content"] or "")[: 3 * limit]
            finish, spent_out = "length", limit
        self.totals.update({"records": records, "tokens_in": spent_in, "tokens_out": spent_out})
        await self._take_time(spent_out)
        return JSONResponse(
            _completion(f"chatcmpl-simulated-{next(self._ids)}", message, finish, spent_in, spent_out),
            headers=self._window.headers(),
        )

    async def _take_time(self, spent_out: int) -> None:
        speed = self.options.tokens_per_s
        seconds = self.options.latency_ms / 1000 + (spent_out / speed if speed else 0.0)
        if seconds:
            await asyncio.sleep(seconds)

    def _fault(self, prompt: str) -> Fault | None:
        for fault in self.faults:
            if fault.text is not None and fault.text not in prompt:
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
        lines = _RECORD_LINE.findall(prompt)
        if not lines:  # one text a call, as the replaced worker asks
            system = str(body["messages"][0]["content"])
            asked = DOCUMENT_FIELDS if "cpf_formatted" in system else FIELDS
            expected = self._labels.get(identity(prompt)) or {}
            return json.dumps({name: expected.get(name) for name in asked}, ensure_ascii=False, indent=2), 1
        slots: Slots = [(name, self._fields(text)) for name, text in lines]
        return _render(slots), len(slots)

    def _fields(self, text: str) -> list[str]:
        expected = self._labels.get(identity(text)) or {}
        return [str(expected.get(name) or "") for name in FIELDS]

    def _tokens_in(self, body: Mapping[str, Any]) -> int:
        spent = sum(_MESSAGE_TOKENS + self._count(str(message["content"])) for message in body["messages"])
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        return spent + (self._count(json.dumps(schema, separators=(",", ":"))) if schema else 0)


def identity(text: str) -> str:
    """What a label and a prompt's record have in common: the canonical form of what may leave the machine."""
    return canonical(Record.of(text).text)


def _render(slots: Sequence[tuple[str, list[str]]]) -> str:
    """The answer as models write it; by hand, because an object cannot hold the same slot twice."""
    parts = (f'"{name}":{json.dumps(values, ensure_ascii=False, separators=(",", ":"))}' for name, values in slots)
    return "{" + ",".join(parts) + "}"


def _spoil(content: str, fault: Fault | None, chance: random.Random) -> tuple[dict[str, Any], str]:
    """Return the message and the finish reason, with the fault's damage done."""
    if fault is None:
        return {"role": "assistant", "content": content}, "stop"
    if fault.kind == "refusal":
        return {"role": "assistant", "content": None, "refusal": "simulated refusal"}, "stop"
    if fault.kind == "content_filter":
        return {"role": "assistant", "content": ""}, "content_filter"
    if fault.kind == "truncate":
        return {"role": "assistant", "content": content[: len(content) // 2]}, "length"
    plain = {
        "prose": f"Claro! Aqui está:\n```json\n{content}\n```\nEspero ter ajudado.",
        "garbage": "não sei fazer isso",
        "empty": "",
    }
    if fault.kind in plain:
        return {"role": "assistant", "content": plain[fault.kind]}, "stop"
    return {"role": "assistant", "content": _render(_misplace(json.loads(content), fault.kind, chance))}, "stop"


def _misplace(answer: dict[str, list[str]], kind: str, chance: random.Random) -> Slots:
    slots: Slots = list(answer.items())
    victim = chance.randrange(len(slots))
    name, values = slots[victim]
    if kind == "missing":
        del slots[victim]
    elif kind == "swap" and len(slots) > 1:
        other = (victim + 1) % len(slots)
        slots[victim], slots[other] = (name, slots[other][1]), (slots[other][0], values)
    elif kind == "duplicate":
        slots.append((name, slots[(victim + 1) % len(slots)][1]))
    elif kind == "unknown":
        slots[victim] = ("r99", values)
    elif kind == "arity":
        slots[victim] = (name, values[:-1])
    elif kind == "invent":
        slots[victim] = (name, ["Rua Inventada do Modelo", "4321", "", "Bairro Inventado", *values[4:]])
    return slots


def _completion(id_: str, message: dict[str, Any], finish: str, spent_in: int, spent_out: int) -> dict[str, Any]:
    return {
        "id": id_,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "system_fingerprint": "simulated",
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": {"prompt_tokens": spent_in, "completion_tokens": spent_out, "total_tokens": spent_in + spent_out},
    }


def _error(
    status: int,
    code: str,
    retry_after_s: float | None,
    *,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    about = f": {param}" if param else ""
    body = {"error": {"message": f"simulated error{about}", "type": "simulated", "param": param, "code": code}}
    extra = {} if retry_after_s is None else {"retry-after": f"{retry_after_s:.3f}"}
    return JSONResponse(body, status_code=status, headers={**extra, **(headers or {})})


def build_app(labels: Mapping[str, Mapping[str, Any] | None], options: Options | None = None) -> Starlette:
    """Return the ASGI app; `app.state.provider` is the `Provider`."""
    provider = Provider(labels, options or Options())

    async def completions(request: Request) -> Response:
        return await provider.complete(await request.json())

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "simulated"}]})

    async def stats(_: Request) -> Response:
        return JSONResponse(provider.stats())

    async def requests(_: Request) -> Response:
        return JSONResponse({"simulated": True, "requests": list(provider.requests)})

    async def faults(request: Request) -> Response:
        known = {field.name for field in fields(Fault)}
        wanted = await request.json()
        unknown = {name for fault in wanted for name in fault} - known
        if unknown:
            return _error(400, "unknown_fault_option", None, param=", ".join(sorted(unknown)))
        provider.faults[:] = [Fault(**fault) for fault in wanted]
        return JSONResponse({"simulated": True, "faults": len(provider.faults)})

    async def reset(_: Request) -> Response:
        provider.reset()
        return JSONResponse(provider.stats())

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", completions, methods=["POST"]),
            Route("/v1/models", models),
            Route("/stats", stats),
            Route("/requests", requests),
            Route("/faults", faults, methods=["POST"]),
            Route("/reset", reset, methods=["POST"]),
        ]
    )
    app.state.provider = provider
    return app


def read_labels(path: Path) -> dict[str, Mapping[str, Any] | None]:
    """Read JSON Lines `{"text", "expected"}`."""
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    return {row["text"]: row["expected"] for row in rows}


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description="simulated OpenAI-compatible provider")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--labels", type=Path)
    for field in fields(Options):
        kind = {"float": float, "int": int}.get(str(field.type))
        name = f"--{field.name.replace('_', '-')}"
        if kind is None:
            parser.add_argument(name, action=argparse.BooleanOptionalAction, default=field.default)
        else:
            parser.add_argument(name, type=kind, default=field.default)
    given = vars(parser.parse_args())
    options = Options(**{field.name: given[field.name] for field in fields(Options)})
    labels = read_labels(given["labels"]) if given["labels"] else {}
    app = build_app(labels, options)
    uvicorn.run(app, host=given["host"], port=given["port"], log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
