"""How jobs and results are written: JSON out; in: JSON, or pickle through an unpickler that can run nothing.

stock arq writes pickle by default, so an unchanged backend still sends it. Unpickling resolves names to code, which is
how write access to Redis becomes code execution; `job_deserializer` resolves no name at all, so a pickled payload can
hold None, booleans, numbers, strings, bytes, lists, tuples, sets and dicts, and nothing else.

A result is written back the way its job came: whoever enqueued with pickle reads pickle. Exceptions, which JSON does
not know, travel in JSON as `{"__error__": [name, message]}` and come out as the arq or asyncio error of that name,
else as `JobExecutionFailed("Name: message")`.
"""

from __future__ import annotations

import asyncio
import io
import pickle
import pickletools
from contextvars import ContextVar
from enum import Enum
from typing import TYPE_CHECKING, Any, NoReturn

import orjson
from arq.jobs import DeserializationError, SerializationError
from arq.worker import JobExecutionFailed

if TYPE_CHECKING:
    from collections.abc import Callable

#: A job carries one appointment id. Whatever is larger than this is no job of ours.
MAX_PICKLE_BYTES = 64 * 1024
_PICKLE_START = b"\x80"  # every protocol from 2 on; arq writes 4 or 5
_MEMO_WRITES = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_ERROR_KEY = "__error__"
_ERRORS: dict[str, type[BaseException]] = {
    "CancelledError": asyncio.CancelledError,
    "TimeoutError": asyncio.TimeoutError,
    "JobExecutionFailed": JobExecutionFailed,
    "DeserializationError": DeserializationError,
    "SerializationError": SerializationError,
}


class Wire(Enum):
    """How a payload is written."""

    JSON = "json"
    PICKLE = "pickle"


class PayloadRefused(ValueError):
    """This payload is not read; the message says why and how to mend the producer, and quotes no value of it."""

    quotes_nothing = True  # so that a log may carry the message; see `normalizer.observability.logs`


#: How the job that this task runs came in; set by `job_deserializer`, read by `job_serializer` for its result.
_wire: ContextVar[Wire] = ContextVar("normalizer_job_wire", default=Wire.JSON)


def wire_of(payload: bytes) -> Wire:
    """Tell how a payload is written, from its first byte."""
    return Wire.PICKLE if payload.startswith(_PICKLE_START) else Wire.JSON


def job_deserializer(payload: bytes) -> dict[str, Any]:
    """Read a job or a result written as JSON or as harmless pickle.

    Raises:
        PayloadRefused: too large, unreadable, or a pickle that names code.
    """
    wire = wire_of(payload)
    _wire.set(wire)
    return _read_pickle(payload) if wire is Wire.PICKLE else _read_json(payload)


def job_serializer(data: dict[str, Any]) -> bytes:
    """Write a job as JSON, and a result the way the job it belongs to came in."""
    is_result = "s" in data and "r" in data
    return serializer_for(_wire.get())(data) if is_result else _write_json(data)


def serializer_for(wire: Wire) -> Callable[[dict[str, Any]], bytes]:
    """The function that writes the result of a job that came in as `wire`."""
    return _write_pickle if wire is Wire.PICKLE else _write_json


def _read_json(payload: bytes) -> dict[str, Any]:
    try:
        data = orjson.loads(payload)
    except ValueError:
        raise PayloadRefused("o conteúdo do job não é JSON nem pickle do arq; enfileire com enqueue_job") from None
    if not isinstance(data, dict):
        raise PayloadRefused("o conteúdo do job não é um objeto JSON; enfileire com enqueue_job")
    if data.get("s") is False and "r" in data:
        data["r"] = _revive(data["r"])
    return data


def _write_json(data: dict[str, Any]) -> bytes:
    return orjson.dumps(_readable(data), default=_plain)


def _write_pickle(data: dict[str, Any]) -> bytes:
    return pickle.dumps(_readable(data))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseException):
        return {_ERROR_KEY: [type(value).__name__, str(value)]}
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    raise TypeError(type(value).__name__)


def _revive(value: Any) -> Any:
    if not (isinstance(value, dict) and value.keys() == {_ERROR_KEY}):
        return value
    name, message = value[_ERROR_KEY]
    kind = _ERRORS.get(name)
    if kind is None:
        return JobExecutionFailed(f"{name}: {message}")
    return kind(message) if message else kind()


def _readable(data: dict[str, Any]) -> dict[str, Any]:
    """Let a refused payload's result tell why: arq keeps only "unable to deserialize job" and drops the cause."""
    result = data.get("r")
    if isinstance(result, DeserializationError) and isinstance(result.__cause__, PayloadRefused):
        return {**data, "r": DeserializationError(str(result.__cause__))}
    return data


def _read_pickle(payload: bytes) -> dict[str, Any]:
    if len(payload) > MAX_PICKLE_BYTES:
        raise PayloadRefused(
            f"o conteúdo do job em pickle tem {len(payload)} bytes, mais que {MAX_PICKLE_BYTES}; "
            "enfileire só o id do agendamento"
        )
    try:
        _check_memo(payload)
        data = _Harmless(io.BytesIO(payload)).load()
    except PayloadRefused:
        raise
    except Exception as error:  # noqa: BLE001 — a broken pickle may raise nearly anything
        raise PayloadRefused(f"o conteúdo do job em pickle não pode ser lido ({type(error).__name__})") from None
    if not isinstance(data, dict):
        raise PayloadRefused("o conteúdo do job em pickle não é um dict do arq; enfileire com enqueue_job")
    return data


def _check_memo(payload: bytes) -> None:
    """Refuse memo numbers no honest pickle of this size has: the C unpickler allocates up to the number (32 GiB)."""
    for opcode, argument, _ in pickletools.genops(payload):
        if opcode.name in _MEMO_WRITES and int(argument or 0) >= len(payload):
            raise PayloadRefused("o conteúdo do job em pickle está malformado")


class _Harmless(pickle.Unpickler):
    """Resolves no global, no persistent id and no extension code: nothing in a payload can run."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise PayloadRefused(
            f"o pickle do job usa {module}.{name}, e nomes não são resolvidos por segurança; "
            "enfileire só o id do agendamento (texto) ou use o job_serializer do normalizer"
        )

    def persistent_load(self, _pid: Any) -> NoReturn:
        raise PayloadRefused("o pickle do job usa ids persistentes; enfileire só o id do agendamento (texto)")
