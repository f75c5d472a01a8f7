"""Reaching MongoDB: the client, its time-outs, and what its errors mean to a caller. The only importer of motor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from inspect import isawaitable
from itertools import islice
from typing import Any, TypeVar

from bson import ObjectId
from bson.errors import InvalidId
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    ExecutionTimeout,
    InvalidName,
    InvalidURI,
    OperationFailure,
    PyMongoError,
)

from normalizer.errors import Misconfigured, StoreUnavailable

# Motor reached its end of life in May 2026; pymongo's AsyncMongoClient has the same methods. Everything here takes
# either, and leaving motor is one import. Neither is generic over the other, hence Any.
Client = Any
Collection = Any
Record = dict[str, Any]
T = TypeVar("T")

# Event-loop stalls grow with the size of a bulk: 500 operations keep them under some 20 ms.
BULK = 500

# A MongoDB that is down is noticed within seconds; what the URL says about these wins.
_TIMEOUTS_MS = {"serverSelectionTimeoutMS": 5_000, "connectTimeoutMS": 5_000, "socketTimeoutMS": 20_000}
_REACH = "Confira se ele está no ar e se MONGODB_URL aponta para ele."
_URL_MEND = "Corrija MONGODB_URL, por exemplo mongodb://usuario:senha@mongodb:27017/ (caracteres especiais como %40)."
# 13 Unauthorized, 18 AuthenticationFailed, 8000 Atlas's own authentication error.
_NOT_ALLOWED = frozenset({13, 18, 8000})


def open_client(url: str) -> Client:
    """A client for `url`; does not connect yet.

    Raises:
        Misconfigured: the URL cannot be used; the message holds no part of it (it carries the password).
    """
    given = url.strip().lower()
    if not given.startswith(("mongodb://", "mongodb+srv://")):  # pymongo would take it for a host's name
        raise Misconfigured("MONGODB_URL deve começar com mongodb:// ou mongodb+srv://.", mend=_URL_MEND)
    timeouts: dict[str, Any] = {name: ms for name, ms in _TIMEOUTS_MS.items() if f"{name.lower()}=" not in given}
    try:
        return AsyncIOMotorClient(url, appname="normalizer", tz_aware=True, **timeouts)
    except (InvalidURI, ConfigurationError, ValueError, TypeError):
        raise Misconfigured("MONGODB_URL não é um endereço de MongoDB válido.", mend=_URL_MEND) from None


def open_collection(client: Client, database: str, name: str) -> Collection:
    """One collection of `database`. Misconfigured when the database name is not allowed."""
    try:
        return client[database][name]
    except InvalidName:
        problem = f"DATABASE_NAME inválido: {database!r}."
        raise Misconfigured(problem, mend="Use letras, números, _ e -, sem espaço, ponto ou barra.") from None


@contextmanager
def translated() -> Iterator[None]:
    """Raise `StoreUnavailable` or `Misconfigured` in place of pymongo's errors, without their text.

    A server's message may quote the document it refused, so only its code is kept.
    """
    try:
        yield
    except (ConnectionFailure, ExecutionTimeout) as error:
        raise StoreUnavailable(f"O MongoDB não responde ({type(error).__name__}). {_REACH}") from error
    except BulkWriteError:
        raise StoreUnavailable("MongoDB recusou parte da escrita.") from None
    except OperationFailure as error:
        if error.code in _NOT_ALLOWED:
            problem = "O MongoDB recusou o usuário ou a senha de MONGODB_URL."
            raise Misconfigured(problem, mend="Confira usuário, senha e authSource.") from None
        raise StoreUnavailable(f"MongoDB recusou a operação (código {error.code}).") from None
    except (InvalidURI, ConfigurationError):
        raise Misconfigured("MONGODB_URL não pode ser usado.", mend=_URL_MEND) from None
    except PyMongoError as error:
        raise StoreUnavailable(f"MongoDB falhou ({type(error).__name__}).") from None


async def settled(answer: Awaitable[T] | T) -> T:
    """Await what one client returns as a coroutine and the other as a plain value."""
    return await answer if isawaitable(answer) else answer


async def chunks_of(cursor: AsyncIterator[Record], size: int = BULK) -> AsyncIterator[list[Record]]:
    """The cursor's documents in lists of at most `size`."""
    chunk: list[Record] = []
    async for document in cursor:
        chunk.append(document)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def batched(items: Iterable[T], size: int = BULK) -> Iterator[list[T]]:
    """Lists of at most `size`, in order."""
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield chunk


def id_forms(appointment_id: str) -> list[str | ObjectId]:
    """What `_id` may be for an id that travels as text: the text itself, or the ObjectId it spells."""
    try:
        return [ObjectId(appointment_id), appointment_id]
    except InvalidId:
        return [appointment_id]


def by_id(appointment_id: str) -> Mapping[str, Any]:
    """The filter on one appointment."""
    forms = id_forms(appointment_id)
    return {"_id": {"$in": forms}} if len(forms) > 1 else {"_id": appointment_id}


def likely_ids(appointment_ids: Sequence[str]) -> list[str | ObjectId]:
    """What `_id` most likely is: the ObjectId where the id spells one."""
    return [id_forms(appointment_id)[0] for appointment_id in appointment_ids]


def by_ids(appointment_ids: Sequence[str]) -> Mapping[str, Any]:
    """The filter on many appointments."""
    return {"_id": {"$in": [form for appointment_id in appointment_ids for form in id_forms(appointment_id)]}}


def utc(stored: object) -> datetime | None:
    """A stored date, whether or not the client was opened with tz_aware."""
    if not isinstance(stored, datetime):
        return None
    return stored if stored.tzinfo else stored.replace(tzinfo=UTC)
