"""The ways the simulated provider can be told to fail, and what each does to a good answer."""

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
_MISPLACED = frozenset({"missing", "swap", "shift", "duplicate", "unknown", "arity", "invent"})


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


def render(slots: Sequence[tuple[str, list[str]]]) -> str:
    """The answer as models write it; by hand, because an object cannot hold the same slot twice."""
    parts = (
        f'"{name}":{json.dumps(_named(values), ensure_ascii=False, separators=(",", ":"))}' for name, values in slots
    )
    return "{" + ",".join(parts) + "}"


def _named(values: list[str]) -> dict[str, str] | list[str]:
    """An address as its schema wants it; others than we ask for arrays."""
    return dict(zip(KEYS, values, strict=True)) if len(values) == len(KEYS) else values


def spoil(content: str, fault: Fault | None, chance: random.Random) -> tuple[dict[str, Any], str]:
    """Return the message and the finish reason, with the fault's damage done."""
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
    kind = "" if fault is None else fault.kind
    if kind in _MISPLACED:
        answer = {
            name: list(said.values() if isinstance(said, dict) else said) for name, said in json.loads(content).items()
        }
        content = render(_misplace(answer, kind, chance))
    message, finish = ways.get(kind, ({"content": content}, "stop"))
    return {"role": "assistant", **message}, finish


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
    elif kind == "shift":  # the first empty field is skipped, and what follows it moves up
        empty = values.index("") if "" in values else 2
        slots[victim] = (name, [*values[:empty], *values[empty + 1 :], ""])
    elif kind == "invent":
        slots[victim] = (name, ["Rua Inventada do Modelo", "4321", "", "Bairro Inventado", *values[4:]])
    return slots


def no_answer(fault: Fault) -> Response | None:
    """The answer with status 200 that is none, for the kinds that send one."""
    if fault.kind == "html":
        return Response("<html><title>Login</title></html>", media_type="text/html")
    if fault.kind == "not_json":
        return Response('{"choices": [', media_type="application/json")
    if fault.kind == "no_choices":
        usage = {"prompt_tokens": NO_CHOICES_TOKENS, "completion_tokens": 0}
        return JSONResponse({"object": "chat.completion", "choices": [], "usage": usage})
    if fault.kind == "body_error":
        return JSONResponse({"error": {"code": fault.code or 500, "message": fault.message or "simulated error"}})
    return None


def read_faults(wanted: Sequence[Mapping[str, Any]]) -> list[Fault]:
    """Faults of their JSON; ValueError names the options that no fault has."""
    unknown = {name for fault in wanted for name in fault} - {field.name for field in fields(Fault)}
    if unknown:
        raise ValueError(", ".join(sorted(unknown)))
    return [Fault(**fault) for fault in wanted]
