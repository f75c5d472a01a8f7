"""What serves the API: what is told of connections and how often, and what is served while it cannot be opened yet."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from normalizer.api.server import OnceAMinute, UntilOpen
from normalizer.errors import Misconfigured, StoreUnavailable


def test_a_message_passes_once_a_minute() -> None:
    now = [0.0]
    limited = OnceAMinute(clock=lambda: now[0])
    record = logging.LogRecord("uvicorn.error", logging.WARNING, "", 0, "Invalid HTTP request received.", None, None)
    other = logging.LogRecord("uvicorn.error", logging.WARNING, "", 0, "Unsupported upgrade request.", None, None)

    assert [limited.filter(one) for one in (record, record, other)] == [True, False, True]
    now[0] += 61
    assert limited.filter(record)


async def _app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "opened"})


async def test_nobody_is_served_before_what_is_there_is_open() -> None:
    opened = False

    @contextlib.asynccontextmanager
    async def opening() -> AsyncIterator[Any]:
        nonlocal opened
        for _ in range(50):
            await asyncio.sleep(0)
        opened = True
        yield _app

    async with UntilOpen(opening).running(lambda: None):
        assert opened


async def test_a_service_that_is_away_is_not_waited_for() -> None:
    @contextlib.asynccontextmanager
    async def opening() -> AsyncIterator[Any]:
        raise StoreUnavailable("MongoDB")
        yield _app

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    waiting = UntilOpen(opening)
    async with waiting.running(lambda: None):
        await waiting({"type": "http", "path": "/api/status", "headers": []}, None, send)  # type: ignore[arg-type]

    assert sent[0]["status"] == 503


async def test_what_no_waiting_mends_ends_it() -> None:
    @contextlib.asynccontextmanager
    async def opening() -> AsyncIterator[Any]:
        raise Misconfigured("API_KEYS", fix="x")
        yield _app

    with pytest.raises(Misconfigured):
        async with UntilOpen(opening).running(lambda: None):
            raise AssertionError("served")
