from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
import structlog

from normalizer.errors import Misconfigured
from normalizer.observability.logs import cleaned, configure_logging, reporter

PATIENT = "Fulana de Tal, CPF 111.444.777-35"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Events as they would leave the process."""
    events: list[Any] = []
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    report = reporter("https://key@sentry.example.com/1", environment="test", release="1", transport=_Transport(events))
    configure_logging("INFO", json_lines=True, report=report)
    yield events
    sentry_sdk.init()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


class _Transport(sentry_sdk.transport.Transport):
    def __init__(self, events: list[Any]) -> None:
        super().__init__()
        self._events = events

    def capture_envelope(self, envelope: Any) -> None:
        self._events += [item.payload.json for item in envelope.items]


def choke(text: str) -> None:
    raise ValueError(text) from KeyError(PATIENT)


def test_an_error_leaves_by_type_and_place_and_without_a_word_of_the_patient(sent: list[Any]) -> None:
    log = structlog.get_logger("normalizer")
    log.info("something", patient=PATIENT)
    try:
        choke(PATIENT)
    except ValueError:
        log.exception("queue.group.raised", jobs=3)

    (event,) = sent
    cause, error = event["exception"]["values"]
    assert (cause["type"], error["type"]) == ("KeyError", "ValueError")
    assert error["stacktrace"]["frames"][-1]["function"] == "choke"
    assert event["tags"]["event"] == "queue.group.raised"
    assert "Fulana" not in str(event)
    assert "111.444" not in str(event)


def test_a_line_without_an_exception_sends_nothing(sent: list[Any]) -> None:
    structlog.get_logger("normalizer").error("llm.lane.stopped", problem="401")

    assert sent == []


def test_what_is_not_named_does_not_leave() -> None:
    event = {
        "event_id": "1",
        "message": PATIENT,
        "logentry": {"message": PATIENT},
        "request": {"data": PATIENT},
        "breadcrumbs": {"values": [{"message": PATIENT}]},
        "extra": {"x": PATIENT},
        "user": {"username": PATIENT},
        "exception": {
            "values": [{"type": "E", "value": PATIENT, "stacktrace": {"frames": [{"vars": {"x": PATIENT}}]}}]
        },
    }

    assert PATIENT not in str(cleaned(event))
    assert cleaned(event)["event_id"] == "1"


def test_nothing_is_sent_without_an_address_and_a_bad_one_is_said() -> None:
    assert reporter(None, environment="test", release="1") is None
    with pytest.raises(Misconfigured, match="SENTRY_DSN"):
        reporter("nonsense", environment="test", release="1")
