"""Loose texts in, results out, without queue or store: `normalizer normalize`, and how quality is judged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, assert_never

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
from normalizer.errors import Misconfigured, NormalizerError, TransientError
from normalizer.queue.waiting import cancel_and_wait
from normalizer.worker.pipeline import Deferred, Pipeline

_SOURCE = {Kind.ADDRESS: ADDRESS_SOURCES[0], Kind.DOCUMENT: DOCUMENT_SOURCES[0]}
_LINES_AT_ONCE: Final = 250  # as a worker's group: what they leave open shares calls
_GROUPS_AT_ONCE: Final = 4
_PATIENCE: Final = 3  # times `timeout_s` in which a group gets no answer at all: a slow model has as long as it answers
_LONGEST_WAIT_S: Final = 30.0
NOT_ANSWERED: Final = "a IA não respondeu"


@dataclass(frozen=True, slots=True)
class TextAnswer:
    """One line's answer. `error` says what was wrong with the line, or why nobody answered; it quotes nothing."""

    id: Any
    result: Mapping[str, str | None] | None
    origem: str | None
    motivo: str | None
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The line that is printed."""
        return {"id": self.id, "result": self.result, "origem": self.origem, "motivo": self.motivo}


async def normalize_lines(
    kind: Kind,
    lines: Iterable[tuple[int, bytes]],
    *,
    pipeline: Pipeline,
    timeout_s: float,
    moved: Callable[[], None] = lambda: None,
) -> AsyncGenerator[TextAnswer, None]:
    """Yield one answer per line, in order, each as soon as it and those before it are known.

    Args:
        kind: what the texts are.
        lines: each with its number; JSON objects `{"id", "text"}`, UTF-8.
        pipeline: rules alone, or rules and model.
        timeout_s: how long the model may take for a group of lines; what it did not answer is asked again.
        moved: called for each line that has its answer, in the order they come.
    """
    parsed = [_parse(number, line) for number, line in lines]
    asked = [item for item in parsed if isinstance(item, _Line)]
    loop = asyncio.get_running_loop()
    known: dict[int, asyncio.Future[TextAnswer]] = {item.number: loop.create_future() for item in asked}
    for found in known.values():
        found.add_done_callback(lambda _: moved())
    places = asyncio.Semaphore(_GROUPS_AT_ONCE)

    async def answer(group: Sequence[_Line]) -> None:
        async with places:
            await _answer_group(kind, group, known, pipeline, timeout_s)

    groups = [asked[start : start + _LINES_AT_ONCE] for start in range(0, len(asked), _LINES_AT_ONCE)]
    tasks = [asyncio.create_task(answer(group)) for group in groups]
    answered_by = {item.number: task for group, task in zip(groups, tasks, strict=True) for item in group}
    try:
        for item in parsed:
            if isinstance(item, TextAnswer):
                moved()
                yield item
                continue
            found, task = known[item.number], answered_by[item.number]
            either: list[asyncio.Future[Any]] = [found, task]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not found.done():
                task.result()  # it broke: raise what broke it
            yield found.result()
    finally:
        await cancel_and_wait(*tasks)


async def _answer_group(
    kind: Kind,
    group: Sequence[_Line],
    known: Mapping[int, asyncio.Future[TextAnswer]],
    pipeline: Pipeline,
    timeout_s: float,
) -> None:
    """Answer every line of the group; one that nobody answers is told so at the end."""
    now = asyncio.get_running_loop().time
    answered_at, left = now(), {str(item.number): item for item in group}
    while left:
        appointments = [Appointment(number, {_SOURCE[kind]: item.text}) for number, item in left.items()]
        errors: list[NormalizerError] = []
        async for progress in pipeline.run(appointments, deadline=now() + timeout_s):
            for each in progress:
                if isinstance(each, Deferred):
                    errors.append(each.error)
                else:
                    line = left.pop(each.appointment.id)
                    known[line.number].set_result(_answer(line, each.outcomes[kind]))
                    answered_at = now()
        waits = [error.retry_after_s or 0.0 for error in errors if isinstance(error, TransientError)]
        wait_s = min(_LONGEST_WAIT_S, max(waits, default=0.0))
        if left and (len(waits) < len(errors) or now() + wait_s >= answered_at + _PATIENCE * timeout_s):
            for line in left.values():
                known[line.number].set_result(_unanswered(line, errors))
            return
        await asyncio.sleep(wait_s)


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


def _unanswered(line: _Line, errors: Sequence[NormalizerError]) -> TextAnswer:
    """No outcome, and not the text's fault: the model was never heard of about it."""
    refused = next((str(error) for error in errors if isinstance(error, Misconfigured)), None)
    return unanswered(line.id, f"linha {line.number}: {refused or NOT_ANSWERED}")


def unanswered(row_id: Any, error: str | None = None) -> TextAnswer:
    """The answer of a line that nobody answered: it may be asked again."""
    return TextAnswer(row_id, None, None, NOT_ANSWERED, error)


def _answer(line: _Line, outcome: Outcome) -> TextAnswer:
    match outcome:
        case Normalized(value=value, origin=origin, note=note):
            return TextAnswer(line.id, value.as_dict(), origin, note)
        case Review(reason=reason, origin=origin):
            return TextAnswer(line.id, None, origin, reason)
        case Absent(reason=reason):
            return TextAnswer(line.id, None, Origin.RULES, reason)
        case _:
            assert_never(outcome)
