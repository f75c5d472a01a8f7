"""Runs before `workers.py` in the worker processes of the tests (this folder is on their PYTHONPATH).

It patches named functions of the product from outside, so that no hook for tests is in the product:

- `SABOTAGE_JOURNAL`: write down what happened, one JSON line an event, so that a checker knows it after a SIGKILL.
- `SABOTAGE_POINT`, `SABOTAGE_HIT`, `SABOTAGE_ONCE`: SIGKILL ourselves at the n-th time we pass the named point; once,
  also over restarts (the file named by `SABOTAGE_ONCE` says that it is done).
- `SABOTAGE_POISON`: id of an appointment; whoever is about to read it dies, each time.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any

JOURNAL = os.environ.get("SABOTAGE_JOURNAL")
POINT, HIT = os.environ.get("SABOTAGE_POINT"), int(os.environ.get("SABOTAGE_HIT", "1"))
ONCE = os.environ.get("SABOTAGE_ONCE")
POISON = os.environ.get("SABOTAGE_POISON")

_passed = 0
_reached_redis: ContextVar[bool] = ContextVar("_reached_redis", default=False)
_descriptor = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if JOURNAL else None


def note(what: str, items: Any) -> None:
    """One event; the kernel has it when this returns."""
    if _descriptor is not None:
        event = {"at": time.monotonic(), "pid": os.getpid(), "what": what, "items": sorted(items)}
        os.write(_descriptor, json.dumps(event, ensure_ascii=False).encode() + b"\n")


def die() -> None:
    """As `kill -9` does it."""
    note("died", [])
    os.kill(os.getpid(), signal.SIGKILL)


def passes(point: str) -> None:
    """Die here if this is the named point and its turn."""
    global _passed  # noqa: PLW0603 — one process, one count
    if point != POINT:
        return
    _passed += 1
    if _passed < HIT:
        return
    if ONCE:
        try:
            Path(ONCE).touch(exist_ok=False)
        except FileExistsError:
            return
    die()


def sabotage() -> None:  # noqa: C901 — six wrappers, none of which is complex
    """Patch the named functions."""
    from normalizer.cache import Cache
    from normalizer.domain.text import canonical
    from normalizer.llm.client import LlmClient
    from normalizer.llm.prompt import Record
    from normalizer.queue.leases import Leases
    from normalizer.store import AppointmentStore
    from normalizer.worker.pipeline import Pipeline

    claim, settle, save = Leases.claim, Leases.settle, AppointmentStore.save
    complete, put_many, ask, run = LlmClient.complete, Cache.put_many, Cache._ask, Pipeline.run

    @functools.wraps(claim)
    async def noted_claim(self: Any, *args: Any, **kwargs: Any) -> Any:
        claimed = await claim(self, *args, **kwargs)
        if claimed.group:
            note("claimed", [taken.job_id.decode() for taken in claimed.group])
            passes("claimed")
        return claimed

    @functools.wraps(settle)
    async def noted_settle(self: Any, token: str, endings: Any, **kwargs: Any) -> Any:
        note("settling", endings)
        lost = await settle(self, token, endings, **kwargs)
        note("settled", [name for name, ending in endings.items() if ending.action == "D" and name not in lost])
        return lost

    @functools.wraps(complete)
    async def noted_complete(self: Any, records: Any, **kwargs: Any) -> Any:
        texts = [canonical(record.text) for record in records]
        note("asked", texts)
        try:
            answer = await complete(self, records, **kwargs)
        except BaseException:
            note("unanswered", texts)
            raise
        note("answered", texts)
        passes("answered")
        return answer

    @functools.wraps(ask)
    async def noted_ask(self: Any, call: Any) -> Any:
        reply = await ask(self, call)
        _reached_redis.set(reply is not None)
        return reply

    @functools.wraps(put_many)
    async def noted_put(self: Any, kind: str, entries: Any) -> bool:
        texts = [canonical(Record.of(text).text) for text in entries]
        note("caching", texts)
        kept = await put_many(self, kind, entries)
        note("cached" if _reached_redis.get() else "not cached", texts)
        passes("cached")
        return kept

    @functools.wraps(save)
    async def noted_save(self: Any, results: Any) -> Any:
        note("storing", [result.appointment.id for result in results])
        report = await save(self, results)
        note("stored", report.saved)
        if any(outcome.origin.value == "llm" for result in results for outcome in result.outcomes.values()):
            passes("stored")
        return report

    @functools.wraps(run)
    def poisoned_run(self: Any, appointments: Any, **kwargs: Any) -> Any:
        if any(appointment.id == POISON for appointment in appointments):
            die()
        return run(self, appointments, **kwargs)

    Leases.claim, Leases.settle = noted_claim, noted_settle  # type: ignore[method-assign]
    LlmClient.complete = noted_complete  # type: ignore[method-assign]
    Cache.put_many, Cache._ask = noted_put, noted_ask  # type: ignore[method-assign]
    AppointmentStore.save = noted_save  # type: ignore[method-assign]
    if POISON:
        Pipeline.run = poisoned_run  # type: ignore[method-assign,assignment]


if JOURNAL or POINT or POISON:
    sabotage()
