"""Connection to MongoDB: client, time-outs, and what its errors mean to a caller. The only importer of motor."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from datetime import UTC, datetime
from functools import wraps
from inspect import isasyncgenfunction, isawaitable, iscoroutinefunction
from itertools import islice
from typing import Any, TypeVar, get_type_hints

import bson
from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import WriteConcern
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidName,
    InvalidURI,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern

from normalizer.errors import Misconfigured, StoreUnavailable

# Motor reached its end of life in May 2026; pymongo's AsyncMongoClient has the same methods. Everything here takes
# either, and leaving motor is one import. Neither is generic over the other, hence Any.
Client = Any
Collection = Any
Record = dict[str, Any]
T = TypeVar("T")

# Event-loop stalls grow with the size of a bulk: 500 operations keep them under some 20 ms.
BULK = 500
#: How long a count for people may take.
PATIENCE_MS = 5_000

# A year beyond Python's is no reason not to read a record.
_CODEC: CodecOptions[Any] = CodecOptions(tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO)
_LENIENT: CodecOptions[Any] = _CODEC.with_options(unicode_decode_error_handler="replace")
_RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)

_LASTING = WriteConcern("majority", j=True)
_SECRET_ID, _SECRET_BYTES, _SECRET_TRIES = "hash", 32, 10

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
        raise Misconfigured("MONGODB_URL deve começar com mongodb:// ou mongodb+srv://.", fix=_URL_MEND)
    timeouts: dict[str, Any] = {name: ms for name, ms in _TIMEOUTS_MS.items() if f"{name.lower()}=" not in given}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # quotes options it does not know: half a password with a "?"
            return AsyncIOMotorClient(url, appname="normalizer", tz_aware=True, **timeouts)
    except (InvalidURI, ConfigurationError, ValueError, TypeError):
        raise Misconfigured("MONGODB_URL não é um endereço de MongoDB válido.", fix=_URL_MEND) from None


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
            raise Misconfigured(problem, fix="Confira usuário, senha e authSource.") from None
        raise StoreUnavailable(f"MongoDB recusou a operação (código {error.code}).") from None
    except (InvalidURI, ConfigurationError):
        raise Misconfigured("MONGODB_URL não pode ser usado.", fix=_URL_MEND) from None
    except PyMongoError as error:
        raise StoreUnavailable(f"MongoDB falhou ({type(error).__name__}).") from None


def translating(repository: type[T]) -> type[T]:
    """The class, each public method of which raises `StoreUnavailable` or `Misconfigured` as `translated` does."""
    for name, method in list(vars(repository).items()):
        if name.startswith("_"):
            continue
        if isasyncgenfunction(method):
            setattr(repository, name, _translated_each(method))
        elif iscoroutinefunction(method):
            setattr(repository, name, _translated_once(method))
    return repository


def _translated_once(method: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    @wraps(method)
    async def run(*args: Any, **named: Any) -> T:
        with translated():
            return await method(*args, **named)

    return run


def _translated_each(method: Callable[..., AsyncGenerator[T, None]]) -> Callable[..., AsyncGenerator[T, None]]:
    @wraps(method)
    async def run(*args: Any, **named: Any) -> AsyncGenerator[T, None]:
        with translated():
            async with aclosing(method(*args, **named)) as found:
                async for each in found:
                    yield each

    return run


class Database:
    """One database: its collections, its secret, and the clock by which its records are dated.

    Args:
        client: a motor client or a pymongo AsyncMongoClient.
        name: DATABASE_NAME; Misconfigured where it cannot be one.
        clock: the time in UTC, in whole milliseconds.

    Attributes:
        durably: the appointments, for writes that nobody could repeat.
        images: what imports and people wrote over, for a day.
        secret: keys the hashes of texts, so that nobody reverses them by trying.
    """

    def __init__(self, client: Client, name: str, *, clock: Callable[[], datetime]) -> None:
        self.client, self._name, self.clock = client, name, clock
        self.appointments, self.durably = self.passing("appointments"), self.lasting("appointments")
        self.images = self.lasting("normalizer_undo")
        self.secret = Secret(self)

    def passing(self, name: str) -> Collection:
        """The collection whose writes could be repeated; the URL says what confirms them."""
        try:
            return self.client[self._name].get_collection(name, codec_options=_CODEC)
        except InvalidName:
            raise Misconfigured(
                "DATABASE_NAME não pode ser o nome de um banco.",
                fix="Use letras, números, _ e -, sem espaço, ponto ou barra.",
            ) from None

    def lasting(self, name: str) -> Collection:
        """The collection, its writes answered once a majority has them in its journal: no failover takes them back."""
        return self.passing(name).with_options(write_concern=_LASTING)


@translating
class Secret:
    """32 random bytes, the same for every replica: `normalizer_secrets`."""

    def __init__(self, database: Database) -> None:
        self._collection, self._clock = database.lasting("normalizer_secrets"), database.clock
        self._known: bytes | None = None

    async def get(self) -> bytes:
        """The secret; made where there is none. Raises StoreUnavailable."""
        if self._known is None:
            self._known = await self._get_or_create()
        return self._known

    async def peek(self) -> bytes | None:
        """The secret, if there is one already: creates nothing. Raises StoreUnavailable."""
        found = await self._collection.find_one({"_id": _SECRET_ID})
        return None if found is None else bytes(found["valor"])

    async def _get_or_create(self) -> bytes:
        """Whoever inserts first decides; the others read. Again, while the winner's insert is not visible yet."""
        # By majority: what a failover takes back must not have keyed a hash.
        lasting = self._collection.with_options(read_concern=ReadConcern("majority"))
        for _ in range(_SECRET_TRIES):
            found = await lasting.find_one({"_id": _SECRET_ID})
            if found is not None:
                return bytes(found["valor"])
            fresh = {"_id": _SECRET_ID, "valor": secrets.token_bytes(_SECRET_BYTES), "created_at": self._clock()}
            with suppress(DuplicateKeyError):
                await self._collection.insert_one(fresh)
        raise StoreUnavailable("MongoDB não devolve o segredo que guarda.")


async def settled(answer: Awaitable[T] | T) -> T:
    """Await what one client returns as a coroutine and the other as a plain value."""
    return await answer if isawaitable(answer) else answer


async def grouped(
    collection: Collection, steps: Sequence[Mapping[str, Any]], *, patience_ms: int = PATIENCE_MS
) -> AsyncIterator[Record]:
    """What an aggregation answers, for people, who do not wait for longer than this."""
    async for record in await settled(collection.aggregate(steps, maxTimeMS=patience_ms)):
        yield record


async def chunks_of(cursor: AsyncIterator[T], size: int = BULK) -> AsyncIterator[list[T]]:
    """The cursor's documents in lists of at most `size`."""
    chunk: list[T] = []
    async for document in cursor:
        chunk.append(document)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


async def read(
    collection: Collection, query: Mapping[str, Any], wanted: Mapping[str, Any] | None = None
) -> list[Record]:
    """The records of one query, in one batch. One that cannot be decoded spoils no other."""
    # By itself MongoDB sends 101 documents, and the others when asked again.
    try:
        found: list[Record] = await collection.find(query, wanted, batch_size=BULK).to_list(None)
    except InvalidBSON:
        raw = collection.with_options(codec_options=_RAW)
        found = [decoded(each) for each in await raw.find(query, wanted, batch_size=BULK).to_list(None)]
    return found


#: The key that marks a record which could not be decoded as it is.
UNREADABLE = "$unreadable"


def decoded(raw: RawBSONDocument) -> Record:
    """A raw record as a plain one. One that cannot be decoded is marked, and holds what could be read of it."""
    try:
        return bson.decode(raw.raw, _CODEC)
    except InvalidBSON:
        with suppress(InvalidBSON):
            return {**bson.decode(raw.raw, _LENIENT), UNREADABLE: True}
    key = ObjectId(bytes(raw.raw[9:21])) if raw.raw[4:9] == b"\x07_id\0" else None  # MongoDB keeps _id in front
    return {"_id": key, UNREADABLE: True}


async def each_of(
    collection: Collection,
    query: Mapping[str, Any],
    wanted: Mapping[str, Any] | None = None,
    *,
    order: str | None = None,
    size: int = BULK,
) -> AsyncIterator[list[Record]]:
    """The records of a long read, `size` at a time. Each is decoded by itself: none that cannot be ends it."""
    found = collection.with_options(codec_options=_RAW).find(query, wanted)
    async for chunk in chunks_of(found.sort(order, 1) if order else found, size):
        yield [decoded(document) for document in chunk]


def batched(items: Iterable[T], size: int = BULK) -> Iterator[list[T]]:
    """Lists of at most `size`, in order."""
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield chunk


def by_native_id(name: str) -> Mapping[str, Any]:
    """The filter on one record of a collection of ours, whose `_id` is an ObjectId."""
    return {"_id": ObjectId(name) if ObjectId.is_valid(name) else name}


def stored_names(typed: type) -> dict[str, str]:
    """The stored name of each field of a class that is annotated with one."""
    hints = get_type_hints(typed, include_extras=True)
    return {name: known.__metadata__[0] for name, known in hints.items() if hasattr(known, "__metadata__")}


def utc(stored: object) -> datetime | None:
    """A stored date, whether or not the client was opened with tz_aware."""
    if not isinstance(stored, datetime):
        return None
    return stored if stored.tzinfo else stored.replace(tzinfo=UTC)


def naive(value: object) -> object:
    """A value, a date as the backend keeps it: UTC, and not saying so."""
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


def now_utc() -> datetime:
    """The time in the precision MongoDB stores, so that what was written compares equal when read back."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
