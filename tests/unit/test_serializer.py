"""The wire: pickle out; harmless pickle or JSON in; results written back the way their job came."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import pickletools
import subprocess
import sys
from typing import Any
from uuid import UUID

import orjson
import pytest
from arq.jobs import (
    DeserializationError,
    SerializationError,
    deserialize_job,
    deserialize_job_raw,
    deserialize_result,
    serialize_result,
)
from arq.worker import JobExecutionFailed
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from normalizer.queue.serializer import (
    MAX_JSON_BYTES,
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
        pickle.dumps({"a": [{"deep": (1, Runs())}]}),
        pickle.dumps({**RESULT, "r": Runs()}),
        pickle.dumps({"a": asyncio.sleep}),
        b"\x80\x04cos\nsystem\n.",
        b"\x80\x02(ios\nsystem\n.",
    ],
    ids=["reduce", "exception", "nested", "result", "function", "global", "inst"],
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


def test_jobs_are_written_so_that_an_old_stock_worker_reads_them() -> None:
    written = job_serializer(JOB)

    assert deserialize_job_raw(written) == deserialize_job_raw(written, deserializer=job_deserializer)
    assert max(int(argument) for opcode, argument, _ in pickletools.genops(written) if opcode.name == "PROTO") <= 4


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("found", [UUID(int=7), ObjectId("65f0c0ffee65f0c0ffee0001")], ids=["uuid", "objectid"])
def test_ids_in_arguments_come_out_as_their_text(found: Any, protocol: int) -> None:
    payload = pickle.dumps({**JOB, "a": (found,), "k": {"id": [found]}}, protocol=protocol)

    read = job_deserializer(payload)

    assert (read["a"], read["k"]) == ((str(found),), {"id": [str(found)]})


@given(st.text(min_size=1, max_size=40), st.text(max_size=300), st.integers(0, 2**47))
def test_the_usual_job_is_read_as_the_unpickler_reads_it(name: str, text: str, at_ms: int) -> None:
    job = {"t": None, "f": name, "a": (text,), "k": {}, "et": at_ms}

    if name.isprintable():
        assert job_deserializer(pickle.dumps(job, protocol=4)) == job


def test_a_usual_job_whose_lengths_lie_is_read_as_what_it_is() -> None:
    honest = pickle.dumps({"t": None, "f": "name", "a": ("rrrrrrrr",), "k": {}, "et": 1_800_000_000_000}, protocol=4)
    lying = honest.replace(b"\x08rrrrrrrr", b"\x01rrrrrrrr")  # "r" with four bytes behind it is a memo number

    with pytest.raises(PayloadRefused, match="malformado"):
        job_deserializer(lying)


@pytest.mark.parametrize("error", [JobExecutionFailed("sem conserto"), asyncio.CancelledError(), KeyError("x")])
def test_a_stock_workers_failure_is_read_without_resolving_its_class(error: BaseException) -> None:
    result = deserialize_result(pickle.dumps({**RESULT, "s": False, "r": error}), deserializer=job_deserializer).result

    expected = JobExecutionFailed("KeyError: x") if isinstance(error, KeyError) else error
    assert (type(result), str(result)) == (type(expected), str(expected))


@pytest.mark.parametrize(
    "damage",
    [
        {"a": None},
        {"a": 5},
        {"f": ["x"]},
        {"f": "a\nb"},
        {"k": []},
        {"t": "1"},
        {"t": -1},
        {"et": None},
        {"et": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("wire", Wire)
def test_a_job_of_a_wrong_shape_is_refused_before_arq_stumbles_over_it(damage: dict[str, Any], wire: Wire) -> None:
    with pytest.raises(PayloadRefused, match="malformado"):
        job_deserializer(serializer_for(wire)({**JOB, **damage}))


@pytest.mark.parametrize("damage", [{"k": {1: 2}}, {"et": 10**20}], ids=str)
def test_a_pickled_job_can_be_of_more_wrong_shapes(damage: dict[str, Any]) -> None:
    with pytest.raises(PayloadRefused, match="malformado"):
        job_deserializer(pickle.dumps({**JOB, **damage}))


def test_shared_references_count_every_time_they_are_shown() -> None:
    value: Any = "x"
    for _ in range(40):
        value = [value, value]

    with pytest.raises(PayloadRefused, match="valores demais"):
        job_deserializer(pickle.dumps({**JOB, "a": value}))


def test_a_large_json_is_refused_before_it_is_read() -> None:
    with pytest.raises(PayloadRefused, match=f"mais que {MAX_JSON_BYTES}"):
        job_deserializer(b"[" * (MAX_JSON_BYTES + 1))


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
        serializer_for(Wire.JSON)({**RESULT, "r": object()})
