"""The ways the simulated provider can be told to fail, and what each does to a good answer."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

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


def render(slots: Sequence[tuple[str, list[str]]]) -> str:
    """The answer as models write it; by hand, because an object cannot hold the same slot twice."""
    parts = (f'"{name}":{json.dumps(values, ensure_ascii=False, separators=(",", ":"))}' for name, values in slots)
    return "{" + ",".join(parts) + "}"


def spoil(content: str, fault: Fault | None, chance: random.Random) -> tuple[dict[str, Any], str]:
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
    return {"role": "assistant", "content": render(_misplace(json.loads(content), fault.kind, chance))}, "stop"


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


def read_faults(wanted: Sequence[Mapping[str, Any]]) -> list[Fault]:
    """Faults of their JSON; ValueError names the options that no fault has."""
    unknown = {name for fault in wanted for name in fault} - {field.name for field in fields(Fault)}
    if unknown:
        raise ValueError(", ".join(sorted(unknown)))
    return [Fault(**fault) for fault in wanted]
