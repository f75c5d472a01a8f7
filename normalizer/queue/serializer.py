"""Wire format of jobs and results: what is written, stock arq reads; what is read, nothing in it can run.

stock arq writes and reads pickle by default, and an old worker may find our jobs after a rollback: jobs are written as
pickle. Unpickling resolves names to code, which is how write access to Redis becomes code execution; `job_deserializer`
resolves no name at all. A payload can hold None, booleans, numbers, strings, bytes, lists, tuples, sets and dicts; a
UUID or an ObjectId comes out as its text, and any other name is refused.

JSON is read as well. A result is written the way its job came. Exceptions, which JSON does not know, travel in JSON as
`{"__error__": [name, message]}`; from either format they come out as the arq or asyncio error of that name, else as
`JobExecutionFailed("Name: message")`.
"""

from __future__ import annotations

import asyncio
import io
import pickle
import pickletools
import re
import uuid
from contextvars import ContextVar
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NoReturn

import orjson
from arq.jobs import DeserializationError, SerializationError
from arq.worker import JobExecutionFailed

if TYPE_CHECKING:
    from collections.abc import Callable

#: A job carries one id. Whatever is larger than this is no job of ours.
MAX_PICKLE_BYTES: Final = 64 * 1024
#: Results of other functions may be larger; still nothing that could fill a worker's memory.
MAX_JSON_BYTES: Final = 1024 * 1024
_PROTOCOL: Final = 4  # the newest that Python 3.4 to 3.7 read, too
_PICKLE_START: Final = b"\x80"  # every protocol from 2 on; arq writes 4 or 5
_MEMO_WRITES: Final = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_MAX_DEPTH: Final = 50
_MAX_VALUES: Final = 100_000  # as `repr` would show them: shared references count every time
_LATEST_MS: Final = 253_402_300_799_000  # the year 9999, where Python's datetime ends
_JOB_FIELDS: Final = frozenset({"t", "f", "a", "k", "et"})
#: What arq makes of `enqueue_job(name, text)`. Groups: length, name, length, text, time.
_USUAL_JOB: Final = re.compile(
    rb"\x80[\x04\x05]\x95.{8}}\x94\(\x8c\x01t\x94N\x8c\x01f\x94\x8c(.)([!-~]+)\x94\x8c\x01a\x94\x8c(.)([!-~]+)\x94"
    rb"\x85\x94\x8c\x01k\x94}\x94\x8c\x02et\x94\x8a\x06(.{6})u\.",
    re.DOTALL,
)
_ERROR_KEY: Final = "__error__"
_ERRORS: Final[dict[str, type[BaseException]]] = {
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

    quotes_nothing = True  # so that a log may carry the message


#: How the job that this task runs came in; set by `job_deserializer`, read by `job_serializer` for its result.
_wire: ContextVar[Wire] = ContextVar("normalizer_job_wire", default=Wire.PICKLE)


def wire_of(payload: bytes) -> Wire:
    """Tell how a payload is written, from its first byte."""
    return Wire.PICKLE if payload.startswith(_PICKLE_START) else Wire.JSON


def job_deserializer(payload: bytes) -> dict[str, Any]:
    """Read a job or a result written as harmless pickle or as JSON.

    Raises:
        PayloadRefused: too large, unreadable, of a wrong shape, or a pickle that names code.
    """
    wire = wire_of(payload)
    _wire.set(wire)
    if usual := _USUAL_JOB.fullmatch(payload):
        return _read_usual(usual) or _read_pickle(payload)
    data = _read_pickle(payload) if wire is Wire.PICKLE else _read_json(payload)
    if data.keys() >= _JOB_FIELDS:
        _check_job(data)
    return data


def job_serializer(data: dict[str, Any]) -> bytes:
    """Write a job as pickle, and a result the way the job it belongs to came in."""
    is_result = "s" in data and "r" in data
    return serializer_for(_wire.get())(data) if is_result else _write_pickle(data)


def serializer_for(wire: Wire) -> Callable[[dict[str, Any]], bytes]:
    """The function that writes the result of a job that came in as `wire`."""
    return _write_pickle if wire is Wire.PICKLE else _write_json


# -- writing ----------------------------------------------------------------------------------------------------------


def _write_json(data: dict[str, Any]) -> bytes:
    return orjson.dumps(_readable(data), default=_json_value)


def _write_pickle(data: dict[str, Any]) -> bytes:
    return pickle.dumps(_readable(data), protocol=_PROTOCOL)


def _json_value(value: Any) -> Any:
    if isinstance(value, BaseException):
        return {_ERROR_KEY: [type(value).__name__, str(value)]}
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    raise TypeError(type(value).__name__)


def _readable(data: dict[str, Any]) -> dict[str, Any]:
    """Let a refused payload's result tell why: arq keeps only "unable to deserialize job" and drops the cause."""
    result = data.get("r")
    if isinstance(result, DeserializationError) and isinstance(result.__cause__, PayloadRefused):
        return {**data, "r": DeserializationError(str(result.__cause__))}
    return data


# -- reading ----------------------------------------------------------------------------------------------------------


def _read_usual(found: re.Match[bytes]) -> dict[str, Any] | None:
    """The one shape nearly every job has, without an unpickler; None if its lengths do not add up."""
    name_length, name, text_length, text, at_ms = found.groups()
    if name_length[0] != len(name) or text_length[0] != len(text):
        return None
    enqueued_ms = int.from_bytes(at_ms, "little")
    if enqueued_ms >= _LATEST_MS:
        return None
    return {"t": None, "f": name.decode(), "a": (text.decode(),), "k": {}, "et": enqueued_ms}


def _read_json(payload: bytes) -> dict[str, Any]:
    if len(payload) > MAX_JSON_BYTES:
        raise _too_large(payload, MAX_JSON_BYTES)
    try:
        data = orjson.loads(payload)
    except ValueError:
        raise PayloadRefused("o conteúdo do job não é JSON nem pickle do arq; enfileire com enqueue_job") from None
    if not isinstance(data, dict):
        raise PayloadRefused("o conteúdo do job não é um objeto JSON; enfileire com enqueue_job")
    return _with_error(data)


def _read_pickle(payload: bytes) -> dict[str, Any]:
    if len(payload) > MAX_PICKLE_BYTES:
        raise _too_large(payload, MAX_PICKLE_BYTES)
    try:
        _check_memo(payload)
        data = _Harmless(io.BytesIO(payload)).load()
    except PayloadRefused:
        raise
    except Exception as error:  # noqa: BLE001 — a broken pickle may raise nearly anything
        raise PayloadRefused(f"o conteúdo do job em pickle não pode ser lido ({type(error).__name__})") from None
    if _is_inert(data):
        raise _named(data)
    if not isinstance(data, dict):
        raise PayloadRefused("o conteúdo do job em pickle não é um dict do arq; enfileire com enqueue_job")
    return _without_names(_with_error(data))


def _too_large(payload: bytes, limit: int) -> PayloadRefused:
    return PayloadRefused(
        f"o conteúdo do job tem {len(payload)} bytes, mais que {limit}; enfileire só o id do agendamento"
    )


def _check_memo(payload: bytes) -> None:
    """Refuse memo numbers no honest pickle of this size has: the C unpickler allocates up to the number (32 GiB)."""
    for opcode, argument, _ in pickletools.genops(payload):
        if opcode.name in _MEMO_WRITES and int(argument or 0) >= len(payload):
            raise PayloadRefused("o conteúdo do job em pickle está malformado")


class _Inert:
    """Stands for an object whose class was named and not resolved: keeps what it was made of, and does nothing."""

    path = ""

    def __new__(cls, *args: Any, **_kwargs: Any) -> _Inert:
        """Keep the arguments."""
        self = object.__new__(cls)
        self.args, self.state = args, None
        return self

    args: tuple[Any, ...]
    state: Any

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __call__(self, *_args: Any) -> _Inert:
        return self


class _Harmless(pickle.Unpickler):
    """Resolves no global, no persistent id and no extension code: nothing in a payload can run."""

    def find_class(self, module: str, name: str) -> Any:
        return type("_Named", (_Inert,), {"path": f"{module}.{name}"})

    def persistent_load(self, _pid: Any) -> NoReturn:
        raise PayloadRefused("o pickle do job usa ids persistentes; enfileire só o id do agendamento (texto)")


def _without_names(data: dict[str, Any]) -> dict[str, Any]:
    """The data with ids as text. Raises PayloadRefused where a name is left, or where it is too deep or too much."""
    known: dict[int, tuple[Any, int]] = {}  # by object, which `data` keeps alive: what it became, and its size

    def walk(value: Any, depth: int) -> tuple[Any, int]:
        if not isinstance(value, (dict, list, tuple, set, frozenset)):
            return (_id_text(value) if _is_inert(value) else value), 1
        if depth > _MAX_DEPTH:
            raise PayloadRefused("o conteúdo do job é aninhado demais; enfileire só o id do agendamento")
        if id(value) not in known:
            known[id(value)] = rebuilt(value, depth + 1)
        return known[id(value)]

    def rebuilt(value: Any, depth: int) -> tuple[Any, int]:
        keys = [walk(key, depth) for key in value]
        values = [walk(member, depth) for member in value.values()] if isinstance(value, dict) else []
        size = 1 + sum(size for _, size in keys + values)
        if size > _MAX_VALUES:
            raise PayloadRefused("o conteúdo do job tem valores demais; enfileire só o id do agendamento")
        if isinstance(value, dict):
            return dict(zip((key for key, _ in keys), (member for member, _ in values), strict=True)), size
        return type(value)(member for member, _ in keys), size

    plain: dict[str, Any] = walk(data, 0)[0]
    return plain


def _is_inert(value: Any) -> bool:
    return isinstance(value, _Inert) or (isinstance(value, type) and issubclass(value, _Inert))


def _id_text(value: Any) -> str:
    """A UUID or an ObjectId as text; PayloadRefused for whatever else was named."""
    state = value.state if isinstance(value, _Inert) else None
    if value.path == "uuid.UUID" and isinstance(state, dict) and _is_whole(state.get("int"), 1 << 128):
        return str(uuid.UUID(int=state["int"]))
    if value.path == "bson.objectid.ObjectId" and isinstance(state, bytes) and len(state) == 12:
        return state.hex()
    raise _named(value)


def _named(value: Any) -> PayloadRefused:
    return PayloadRefused(
        f"o pickle do job usa {value.path}, e nomes não são resolvidos por segurança; "
        "enfileire só o id do agendamento (texto) ou use o job_serializer do normalizer"
    )


def _with_error(data: dict[str, Any]) -> dict[str, Any]:
    """The data with what a failed job's result says as an error."""
    said = data.get("r") if data.get("s") is False else None
    if isinstance(said, _Inert):
        data["r"] = _error(said.path.rpartition(".")[2], str(said.args[0]) if said.args else "")
    elif isinstance(said, dict) and said.keys() == {_ERROR_KEY}:
        match said[_ERROR_KEY]:
            case [name, message]:
                data["r"] = _error(str(name), str(message))
    return data


def _error(name: str, message: str) -> BaseException:
    kind = _ERRORS.get(name)
    if kind is None:
        return JobExecutionFailed(f"{name}: {message}")
    return kind(message) if message else kind()


def _check_job(data: dict[str, Any]) -> None:
    """Refuse what arq would stumble over in the middle of a run, where it ends the worker."""
    problem = _problem(data)
    if problem:
        raise PayloadRefused(f"o conteúdo do job está malformado: {problem}; enfileire com enqueue_job")


def _problem(data: dict[str, Any]) -> str | None:
    name, kwargs, tried = data["f"], data["k"], data["t"]
    if not isinstance(name, str) or not name.isprintable():
        return "f não é o nome de uma função"
    if not isinstance(data["a"], (list, tuple)):
        return "a não é uma lista de argumentos"
    if not isinstance(kwargs, dict) or not all(isinstance(key, str) for key in kwargs):
        return "k não é um dict de argumentos"
    if tried is not None and not _is_whole(tried, 1 << 31):
        return "t não é o número de uma tentativa"
    return None if _is_whole(data["et"], _LATEST_MS) else "et não é um horário em milissegundos"


def _is_whole(value: Any, limit: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < limit
