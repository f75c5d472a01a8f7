"""What is told of connections, and how often."""

from __future__ import annotations

import logging

from normalizer.api.server import OnceAMinute


def test_a_message_passes_once_a_minute() -> None:
    now = [0.0]
    limited = OnceAMinute(clock=lambda: now[0])
    record = logging.LogRecord("uvicorn.error", logging.WARNING, "", 0, "Invalid HTTP request received.", None, None)
    other = logging.LogRecord("uvicorn.error", logging.WARNING, "", 0, "Unsupported upgrade request.", None, None)

    assert [limited.filter(one) for one in (record, record, other)] == [True, False, True]
    now[0] += 61
    assert limited.filter(record)
