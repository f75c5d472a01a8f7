"""The wire: JSON out; JSON or harmless pickle in; results written back the way their job came."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import pickletools
import subprocess
import sys
from typing import Any

import orjson
import pytest
from arq.jobs import DeserializationError, SerializationError, deserialize_job, deserialize_result, serialize_result
from arq.worker import JobExecutionFailed
from hypothesis import given
from hypothesis import strategies as st

from normalizer.queue.serializer import (
    MAX_PICKLE_BYTES,
    PayloadRefused,
    Wire,
    job_deserializer,
    job_serializer,
    serializer_for,
    wire_of,
)

JOB = {"t": None, "f": "normalize_appointment", "a": ["65f0c0ffee"], "k": {}, "et": 1}
RESULT = {**JOB, "s": True, "r": {"id": "65f0c0ffee"}, "st": 1, "ft": 2, "q": "q", "id": "j"}

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Runs:
    """Pickles to a call of `exit`: what an attacker would send."""

    def __reduce__(self) -> Any:
        return (exit, (1,))


@given(plain)
def test_what_was_written_as_json_is_read_back(value: Any) -> None:
    assert job_deserializer(job_serializer({**JOB, "a": [value]}))["a"] == [value]


@given(plain | st.binary() | st.tuples(st.integers(), st.text()) | st.frozensets(st.integers()), st.integers(2, 5))
def test_plain_data_is_read_from_every_pickle_protocol_in_use(value: Any, protocol: int) -> None:
    payload = pickle.dumps({"a": value}, protocol=protocol)
    if any("GLOBAL" in opcode.name for opcode, _, _ in pickletools.genops(payload)):  # 2 and 3 spell sets as calls
        with pytest.raises(PayloadRefused):
            job_deserializer(payload)
    else:
        assert job_deserializer(payload) == {"a": value}


@given(st.binary(max_size=200))
def test_junk_is_refused_and_nothing_else_happens(junk: bytes) -> None:
    for payload in (junk, b"\x80" + junk, b"\x80\x04" + junk):
        with contextlib.suppress(PayloadRefused):
            assert isinstance(job_deserializer(payload), dict)


@pytest.mark.parametrize(
    "payload",
    [
        pickle.dumps({"a": Runs()}),
        pickle.dumps({"a": ValueError("x")}, protocol=2),
        pickle.dumps({"a": asyncio.sleep}),
        b"\x80\x04cos\nsystem\n.",
        b"\x80\x02(ios\nsystem\n.",
    ],
    ids=["reduce", "exception", "function", "global", "inst"],
)
def test_a_pickle_that_names_code_is_refused_with_the_mend(payload: bytes) -> None:
    with pytest.raises(PayloadRefused, match="nomes não são resolvidos por segurança; enfileire só o id"):
        job_deserializer(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"\x80\x04\x82\x01.",  # extension registry
        b"\x80\x04Pabc\n.",  # persistent id, text
        b"\x80\x04NQ.",  # persistent id, from the stack
        b"\x80\x04]\x8c\x01aR.",  # call what is no callable
        b"\x80\x04].",  # not a dict
    ],
    ids=["extension", "persid", "binpersid", "reduce", "list"],
)
def test_other_ways_into_the_unpickler_are_refused(payload: bytes) -> None:
    with pytest.raises(PayloadRefused):
        job_deserializer(payload)


def test_a_memo_number_cannot_make_the_unpickler_allocate() -> None:
    payload = b"\x80\x04}r" + (2**31).to_bytes(4, "little") + b"."

    with pytest.raises(PayloadRefused, match="malformado"):
        job_deserializer(payload)


def test_a_large_pickle_is_refused_before_it_is_read() -> None:
    with pytest.raises(PayloadRefused, match=f"mais que {MAX_PICKLE_BYTES}; enfileire só o id do agendamento"):
        job_deserializer(pickle.dumps({"a": "x" * MAX_PICKLE_BYTES}))


def test_deeply_nested_input_ends_in_a_refusal_not_in_a_crash() -> None:
    code = (
        "from normalizer.queue.serializer import *\n"
        "for text in (b'[' * 60_000 + b']' * 60_000, b'\\x80\\x04' + b'(' * 60_000 + b'.', "
        "b'\\x80\\x04' + b']' * 30_000 + b'a' * 29_999 + b'.'):\n"
        "    try: job_deserializer(text)\n"
        "    except PayloadRefused: print('refused')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.split() == ["refused"] * 3


async def _through_arq(wire: Wire, result: Any, *, success: bool) -> bytes:
    """What arq does in one task: read the job, then write its result with the worker's serializer."""
    job_deserializer(pickle.dumps(JOB) if wire is Wire.PICKLE else orjson.dumps(JOB))
    written = serialize_result("f", (), {}, 1, 1, success, result, 1, 2, "ref", "q", "j", serializer=job_serializer)
    assert written is not None
    return written


async def test_a_result_is_written_the_way_its_job_came() -> None:
    as_pickle = await asyncio.create_task(_through_arq(Wire.PICKLE, {"id": 1}, success=True))
    as_json = await asyncio.create_task(_through_arq(Wire.JSON, {"id": 1}, success=True))

    assert (wire_of(as_pickle), wire_of(as_json)) == (Wire.PICKLE, Wire.JSON)
    assert pickle.loads(as_pickle)["r"] == {"id": 1}


async def test_a_job_enqueued_by_a_pickled_job_is_json() -> None:
    async def enqueue() -> bytes:
        job_deserializer(pickle.dumps(JOB))
        return job_serializer(JOB)

    assert wire_of(await asyncio.create_task(enqueue())) is Wire.JSON


@pytest.mark.parametrize(
    ("error", "revived"),
    [
        (JobExecutionFailed("sem conserto"), JobExecutionFailed("sem conserto")),
        (asyncio.CancelledError(), asyncio.CancelledError()),
        (TimeoutError(), TimeoutError()),
        (KeyError("x"), JobExecutionFailed("KeyError: 'x'")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_comes_back_from_json_as_its_kind(error: BaseException, revived: BaseException) -> None:
    data = {**RESULT, "s": False, "r": error}

    result = deserialize_result(serializer_for(Wire.JSON)(data), deserializer=job_deserializer).result

    assert (type(result), str(result)) == (type(revived), str(revived))


def test_a_successful_result_that_looks_like_an_error_is_left_alone() -> None:
    look_alike = {"__error__": ["TimeoutError", ""]}

    assert job_deserializer(orjson.dumps({**RESULT, "r": look_alike}))["r"] == look_alike


@pytest.mark.parametrize("wire", Wire)
def test_a_refused_payload_tells_its_producer_why(wire: Wire) -> None:
    with pytest.raises(DeserializationError) as refused:
        deserialize_job(pickle.dumps({"a": Runs()}), deserializer=job_deserializer)
    written = serializer_for(wire)({**RESULT, "s": False, "r": refused.value})

    read = pickle.loads if wire is Wire.PICKLE else job_deserializer
    assert "enfileire só o id do agendamento" in str(read(written)["r"])
    assert isinstance(read(written)["r"], SerializationError)


def test_what_json_cannot_hold_is_said_to_arq() -> None:
    with pytest.raises(TypeError):
        job_serializer({**JOB, "a": [object()]})
