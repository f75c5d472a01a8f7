from __future__ import annotations

import json
import logging
import pickle

import pytest
import structlog
from arq.jobs import DeserializationError, deserialize_job_raw

from normalizer.observability.logs import configure_logging
from normalizer.queue.serializer import job_deserializer


def test_json_lines_go_to_stderr_with_level_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", json_lines=True)

    structlog.get_logger("a").info("llm.batch.completed", records=40)
    logging.getLogger("arq.worker").info("plain %d", 7)

    captured = capsys.readouterr()
    ours, theirs = (json.loads(line) for line in captured.err.splitlines())
    assert captured.out == ""
    assert (ours["event"], ours["records"], ours["level"]) == ("llm.batch.completed", 40, "info")
    assert (theirs["event"], theirs["logger"]) == ("plain 7", "arq.worker")
    assert ours["timestamp"] <= theirs["timestamp"]


@pytest.mark.parametrize("json_lines", [True, False])
def test_an_exception_shows_its_type_and_place_but_never_its_message(
    capsys: pytest.CaptureFixture[str], json_lines: bool
) -> None:
    configure_logging("INFO", json_lines=json_lines)

    try:
        raise ValueError("CPF 111.444.777-35")
    except ValueError:
        structlog.get_logger("a").exception("group.failed")
        logging.getLogger("b").exception("library.failed")

    err = capsys.readouterr().err
    assert "111.444" not in err
    assert err.count("ValueError") == 2
    assert "test_logs" in err


def test_a_refused_payload_keeps_its_sentence_as_the_cause_of_another(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", json_lines=True)

    try:
        deserialize_job_raw(pickle.dumps({"f": print}), deserializer=job_deserializer)
    except DeserializationError:
        logging.getLogger("arq.worker").exception("deserializing job failed")

    line = json.loads(capsys.readouterr().err)
    assert line["error"] == "DeserializationError"
    assert "builtins.print" in line["reason"]
    assert "enfileire só o id" in line["reason"]


def test_the_level_holds_for_both_kinds_of_logger(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("WARNING", json_lines=True)

    structlog.get_logger("a").info("quiet")
    logging.getLogger("b").info("quiet")
    logging.getLogger("httpx").warning("loud")

    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["loud"]
