"""Faults the simulated provider can be told: what is sent instead of an answer, and what each does to a good one."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from starlette.responses import JSONResponse, Response

from normalizer.llm.prompt import KEYS

Slots = list[tuple[str, list[str]]]
NO_CHOICES_TOKENS = 10
"""What the answer without choices says it cost."""
_NO_ANSWERS = {
    "html": "<html><title>Login</title></html>",
    "not_json": '{"choices": [',
    "no_choices": f'{{"choices": [], "usage": {{"prompt_tokens": {NO_CHOICES_TOKENS}, "completion_tokens": 0}}}}',
}


@dataclass(slots=True)
class Fault:
    """One way to fail, applied to the next `times` calls (or, with `rate`, to that share of all calls).

    kind: `status` (with `status`, `retry_after_s`, `code`, `message`), `hang` and `slow_start` (for `seconds`; the
    second then answers well), `drop_connection`; a 200 that is no answer: `html`, `not_json`, `no_choices`,
    `body_error` (with `code`, `message`); or what happens to a good answer: `parts`, `reasoned` (all tokens spent on
    thoughts), `truncate`, `prose`, `garbage`, `empty`, `missing`, `swap`, `shift`, `duplicate`, `unknown`, `arity`,
    `invent`, `refusal`, `content_filter`. `text`: only calls whose prompt holds it. `parameter`: only calls that carry
    this parameter, `json_schema` for a response format with a schema.
    """

    kind: str
    times: int = 1
    rate: float | None = None
    status: int = 500
    retry_after_s: float | None = None
    code: str | None = None
    message: str | None = None
    parameter: str | None = None
    seconds: float = 3_600.0
    text: str | None = None

    def hits(self, prompt: str, body: Mapping[str, Any], chance: random.Random) -> bool:
        """Whether this call is one of its kind, by text, parameter and share."""
        if self.text is not None and self.text not in prompt:
            return False
        if self.parameter is not None and not carries(body, self.parameter):
            return False
        return self.rate is None or chance.random() < self.rate


def read_faults(wanted: Sequence[Mapping[str, Any]]) -> list[Fault]:
    """Faults of their JSON; ValueError names the options that no fault has."""
    unknown = {name for fault in wanted for name in fault} - {field.name for field in fields(Fault)}
    if unknown:
        raise ValueError(", ".join(sorted(unknown)))
    return [Fault(**fault) for fault in wanted]


def carries(body: Mapping[str, Any], parameter: str) -> bool:
    return parameter in body or body.get("response_format", {}).get("type") == parameter


def error(
    status: int,
    code: str,
    retry_after_s: float | None = None,
    *,
    param: str | None = None,
    message: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An error in the shape of OpenAI's."""
    message = message or f"simulated error{f': {param}' if param else ''}"
    body = {"error": {"message": message, "type": "simulated", "param": param, "code": code}}
    waiting = {} if retry_after_s is None else {"retry-after": f"{retry_after_s:.3f}"}
    return JSONResponse(body, status_code=status, headers={**waiting, **(headers or {})})


def no_answer(fault: Fault) -> Response | None:
    """What is sent instead of an answer, for the kinds that send none."""
    if fault.kind == "drop_connection":
        return Response(b"{", headers={"content-length": "1000"})  # the server then breaks off
    if fault.kind == "status":
        return error(fault.status, fault.code or "simulated_fault", fault.retry_after_s, message=fault.message)
    if fault.kind == "body_error":
        return JSONResponse({"error": {"code": fault.code or 500, "message": fault.message or "simulated error"}})
    if fault.kind in _NO_ANSWERS:
        media_type = "text/html" if fault.kind == "html" else "application/json"
        return Response(_NO_ANSWERS[fault.kind], media_type=media_type)
    return None


def render(slots: Sequence[tuple[str, list[str]]]) -> str:
    """The answer as models write it; by hand, because an object cannot hold the same slot twice."""
    parts = (
        f'"{name}":{json.dumps(_named(values), ensure_ascii=False, separators=(",", ":"))}' for name, values in slots
    )
    return "{" + ",".join(parts) + "}"


def _named(values: list[str]) -> dict[str, str] | list[str]:
    """An address as its schema wants it; others than we ask for arrays."""
    return dict(zip(KEYS, values, strict=True)) if len(values) == len(KEYS) else values


def spoil(content: str, kind: str, chance: random.Random) -> tuple[dict[str, Any], str]:
    """Return the message and the finish reason, with the damage done that a fault of this kind does."""
    if kind in {"missing", "swap", "shift", "duplicate", "unknown", "arity", "invent"}:
        said = {
            name: [*each.values()] if isinstance(each, dict) else each for name, each in json.loads(content).items()
        }
        content = render(_misplaced(said, kind, chance))
    half = len(content) // 2
    ways: dict[str, tuple[dict[str, Any], str]] = {
        "refusal": ({"content": None, "refusal": "simulated refusal"}, "stop"),
        "content_filter": ({"content": ""}, "content_filter"),
        "parts": ({"content": [{"type": "text", "text": part} for part in (content[:half], content[half:])]}, "stop"),
        "reasoned": ({"content": None}, "length"),
        "truncate": ({"content": content[:half]}, "length"),
        "prose": ({"content": f"Claro! Aqui está:\n```json\n{content}\n```\nEspero ter ajudado."}, "stop"),
        "garbage": ({"content": "não sei fazer isso"}, "stop"),
        "empty": ({"content": ""}, "stop"),
    }
    message, finish = ways.get(kind, ({"content": content}, "stop"))
    return {"role": "assistant", **message}, finish


def _misplaced(answer: dict[str, list[str]], kind: str, chance: random.Random) -> Slots:
    slots: Slots = list(answer.items())
    victim = chance.randrange(len(slots))
    other = (victim + 1) % len(slots)
    name, values = slots[victim]
    match kind:
        case "missing":
            del slots[victim]
        case "swap" if len(slots) > 1:
            slots[victim], slots[other] = (name, slots[other][1]), (slots[other][0], values)
        case "duplicate":
            slots.append((name, slots[other][1]))
        case "unknown":
            slots[victim] = ("r99", values)
        case "arity":
            slots[victim] = (name, values[:-1])
        case "shift":  # the first empty field is skipped, and what follows it moves up
            empty = values.index("") if "" in values else 2
            slots[victim] = (name, [*values[:empty], *values[empty + 1 :], ""])
        case "invent":
            slots[victim] = (name, ["Rua Inventada do Modelo", "4321", "", "Bairro Inventado", *values[4:]])
    return slots
