"""Loose texts in, results out, without queue or store: `normalizer normalize`, and how quality is judged."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from normalizer.domain.appointment import (
    ADDRESS_SOURCES,
    DOCUMENT_SOURCES,
    Absent,
    Appointment,
    Kind,
    Normalized,
    Origin,
    Outcome,
    Review,
)
from normalizer.domain.decision import Reason
from normalizer.worker.pipeline import Deferred, Pipeline

_SOURCE = {Kind.ADDRESS: ADDRESS_SOURCES[0], Kind.DOCUMENT: DOCUMENT_SOURCES[0]}


@dataclass(frozen=True, slots=True)
class TextAnswer:
    """One line's answer. `error` says what was wrong with the line itself, never quoting it."""

    id: Any
    result: Mapping[str, str | None] | None
    origem: str | None
    motivo: str | None
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The line that is printed."""
        return {"id": self.id, "result": self.result, "origem": self.origem, "motivo": self.motivo}


async def normalize_lines(
    kind: Kind, lines: Sequence[bytes], *, pipeline: Pipeline, timeout_s: float
) -> list[TextAnswer]:
    """One answer per non-blank line, in the order of the lines.

    Args:
        kind: what the texts are.
        lines: JSON objects `{"id", "text"}`, UTF-8.
        pipeline: rules alone, or rules and model.
        timeout_s: how long the model may take altogether.
    """
    parsed = [_parse(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    asked = [item for item in parsed if isinstance(item, _Line)]
    appointments = [Appointment(str(item.number), {_SOURCE[kind]: item.text}) for item in asked]
    outcomes: dict[str, Outcome | Deferred] = {}
    deadline = asyncio.get_running_loop().time() + timeout_s
    async for progress in pipeline.run(appointments, deadline=deadline):
        for item in progress:
            outcomes[item.appointment.id] = item if isinstance(item, Deferred) else item.outcomes[kind]
    return [_answer(item, outcomes[str(item.number)]) if isinstance(item, _Line) else item for item in parsed]


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    id: Any
    text: str


def _parse(number: int, line: bytes) -> _Line | TextAnswer:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return _bad(number, None, "não é JSON")
    if not isinstance(row, dict):
        return _bad(number, None, "não é um objeto JSON")
    text = row.get("text")
    if text is not None and not isinstance(text, str):
        return _bad(number, row.get("id"), f"text é {type(text).__name__}, não texto")
    return _Line(number, row.get("id"), text or "")


def _bad(number: int, row_id: Any, found: str) -> TextAnswer:
    error = f'linha {number}: esperado {{"id", "text"}}; {found}. Corrija a linha e envie de novo.'
    return TextAnswer(row_id, None, None, error, error)


def _answer(line: _Line, outcome: Outcome | Deferred) -> TextAnswer:
    match outcome:
        case Normalized(value=value, origin=origin, note=note):
            return TextAnswer(line.id, value.as_dict(), origin, note)
        case Review(reason=reason, origin=origin):
            return TextAnswer(line.id, None, origin, reason)
        case Absent(reason=reason):
            return TextAnswer(line.id, None, Origin.RULES, reason)
        case Deferred(error=error):
            return TextAnswer(line.id, None, Origin.MODEL, Reason.MODEL_NO_ANSWER, f"linha {line.number}: {error}")
    return TextAnswer(line.id, None, None, outcome.cause)
