"""A simulated OpenAI-compatible provider: answers from labels, takes its time, keeps limits, and fails on demand.

`python -m benchmarks.provider --port 9999 --labels labels.jsonl --latency-ms 400 --tokens-per-s 80 --rpm 60`

POST /v1/chat/completions and GET /v1/models as the real ones; GET /stats, GET /requests (the last bodies), POST /faults
(a list of faults, see `Fault`; `--faults FILE.json` is the same from the start), POST /reset. Every answer and header
says "simulated". Labels are JSON Lines `{"text", "expected"}`; a text without a label is answered with nulls. Tokens
are counted with the real tokenizer.
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
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
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
_FIELD_LINE = re.compile(r"^(endereco|documento): (.*)$", re.MULTILINE)
_KEPT_REQUESTS = 5_000
_COUNTS_KEPT = 4_096
_MESSAGE_TOKENS = 4  # role and separators of one chat message

Slots = list[tuple[str, list[str]]]


@dataclass(slots=True)
class Fault:
    """One way to fail, applied to the next `times` calls (or, with `rate`, to that share of all calls).

    kind: `status` (with `status`, `retry_after_s`, `code`), `hang` and `slow_start` (for `seconds`; the
    second then answers well), `drop_connection`; or what happens to a good answer: `truncate`,
    `prose`, `garbage`, `empty`, `missing`, `swap`, `duplicate`, `unknown`, `arity`, `invent`, `refusal`,
    `content_filter`. `text`: only calls whose prompt holds it, and then only that record for `refusal`.
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
    """How fast the provider is and what it allows; 0 = unlimited.

    A call takes `latency_ms` to its first token and then `tokens_per_s`; `spread` is the standard deviation of the
    logarithm of that time (0.3: half of the calls within a fifth of the median, one in twenty 1.6 times as long).
    """

    latency_ms: float = 0.0
    tokens_per_s: float = 0.0
    spread: float = 0.0
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
        self._used = 0

    def admit(self, amount: int) -> float:
        """Take a request of `amount` tokens and return 0, or return the seconds to wait."""
        now = self._clock()
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
        for name, limit, used in (
            ("requests", self._options.rpm, len(self._seen)),
            ("tokens", self._options.tpm, self._used),
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
        self._under_way = 0

    def stats(self) -> dict[str, Any]:
        """What was asked and answered since the start or the last reset."""
        names = ("requests", "records", "tokens_in", "tokens_out", "max_under_way")
        counts = {name: self.totals[name] for name in names}
        return {"simulated": True, **counts, "by_status": dict(self.by_status), "by_fault": dict(self.by_fault)}

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
        if fault is not None:
            self.by_fault[fault.kind] += 1
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
        late_s = fault.seconds if fault is not None and fault.kind == "slow_start" else 0.0
        if seconds := late_s + self.seconds_for(spent_out):
            await asyncio.sleep(seconds)
        answer = _completion(f"chatcmpl-simulated-{next(self._ids)}", message, finish, spent_in, spent_out)
        return Response(orjson.dumps(answer), media_type="application/json", headers=self._window.headers())

    def seconds_for(self, spent_out: int) -> float:
        """How long a call takes that answers `spent_out` tokens; another time something else, if there is a spread."""
        speed = self.options.tokens_per_s
        seconds = self.options.latency_ms / 1000 + (spent_out / speed if speed else 0.0)
        return seconds * self._random.lognormvariate(0.0, self.options.spread) if self.options.spread else seconds

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
        return _render(slots), len(slots)

    def _fields(self, text: str, asked: Sequence[str]) -> list[str]:
        expected = self._expected(text, asked)
        return [str(expected.get(name) or "") for name in asked]

    def _expected(self, text: str, asked: Sequence[str]) -> Mapping[str, Any]:
        if asked is DOCUMENT_FIELDS:  # only others than we send documents
            return self._documents.get(canonical(text)) or {}
        found = self._verbatim[text] if text in self._verbatim else self._labels.get(identity(text))
        return found or {}

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
        return await provider.complete(orjson.loads(await request.body()))

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "simulated"}]})

    async def stats(_: Request) -> Response:
        return JSONResponse(provider.stats())

    async def requests(_: Request) -> Response:
        return JSONResponse({"simulated": True, "requests": list(provider.requests)})

    async def faults(request: Request) -> Response:
        try:
            provider.faults[:] = read_faults(await request.json())
        except ValueError as unknown:
            return _error(400, "unknown_fault_option", None, param=str(unknown))
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


def read_faults(wanted: Sequence[Mapping[str, Any]]) -> list[Fault]:
    """Faults of their JSON; ValueError names the options that no fault has."""
    unknown = {name for fault in wanted for name in fault} - {field.name for field in fields(Fault)}
    if unknown:
        raise ValueError(", ".join(sorted(unknown)))
    return [Fault(**fault) for fault in wanted]


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
    parser.add_argument("--faults", type=Path, help="a JSON list of faults, as POST /faults takes it")
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
    if given["faults"]:
        app.state.provider.faults[:] = read_faults(orjson.loads(given["faults"].read_bytes()))
    uvicorn.run(app, host=given["host"], port=given["port"], log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
