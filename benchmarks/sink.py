"""A store to measure against: MongoDB's protocol in front of memory, in a process of its own.

The embedded MongoDB-protocol server takes some 1,200 updates a second; whatever is measured against it measures that
server. This one evaluates the same conditions and applies the same updates, but keeps nothing: for benchmarks only.

    with start_sink(directory) as sink:        # sink.url goes into MONGODB_URL
        ...
        sink.stats()                           # commands, rows and CPU seconds so far

`python -m benchmarks.sink --port 27099` serves until stopped. It speaks OP_MSG,
and OP_QUERY for a driver's first `hello`: one event loop, one command at a time; nothing is compressed and nobody logs
in. A command, option or stage that is not spoken here is answered with MongoDB's own error for it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import gc
import itertools
import resource
import struct
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import bson
import pymongo
from bson.int64 import Int64

from benchmarks.documents import (
    DUPLICATE_KEY,
    Document,
    Documents,
    Duplicate,
    NotUnderstood,
    grouped,
    in_order,
    projector,
)
from normalizer.simulation.embedded import Service, speaks_mongodb

_FIRST_BATCH, _BATCH = 101, 1_000
_HELLO: Final = {
    "helloOk": True,
    "isWritablePrimary": True,
    "ismaster": True,
    "maxBsonObjectSize": 16 * 2**20,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "logicalSessionTimeoutMinutes": 30,
    "minWireVersion": 0,
    "maxWireVersion": 21,
    "readOnly": False,
}


class Store:
    """Every collection, every open cursor, and what was asked so far."""

    def __init__(self) -> None:
        self._collections: dict[str, Documents] = defaultdict(Documents)
        self._cursors: dict[int, tuple[str, Iterator[Document]]] = {}
        self._cursor_ids = itertools.count(1)
        self.commands: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()
        self.received: Counter[str] = Counter()

    def answer(self, command: Document) -> Document:
        """The reply to one command; refusals are replies, too."""
        name = next(iter(command))
        self.commands[name] += 1
        run = _COMMANDS.get(name)
        try:
            if command.get("startTransaction") or command.get("autocommit") is False:
                raise NotUnderstood("transactions", 263)
            if run is None:
                raise NotUnderstood(f"command {name}", 59)
            return {**run(self, command), "ok": 1.0}
        except NotUnderstood as problem:
            return {"ok": 0.0, "code": problem.code, "codeName": "NotImplemented", "errmsg": str(problem)}

    def _of(self, command: Document) -> Documents:
        return self._collections[_namespace(command)]

    def hello(self, _: Document) -> Document:
        return {**_HELLO, "localTime": dt.datetime.now(dt.UTC), "connectionId": 1}

    def nothing(self, _: Document) -> Document:
        return {}

    def build_info(self, _: Document) -> Document:
        return {"version": "7.0.0", "versionArray": [7, 0, 0, 0], "modules": ["sink"]}

    def stats(self, _: Document) -> Document:
        used = resource.getrusage(resource.RUSAGE_SELF)
        documents = {name: len(collection) for name, collection in self._collections.items()}
        cpu_s = used.ru_utime + used.ru_stime
        asked = {"commands": dict(self.commands), "rows": dict(self.rows), "received": dict(self.received)}
        return {**asked, "documents": documents, "cpu_s": cpu_s}

    def create_indexes(self, command: Document) -> Document:
        for index in command["indexes"]:
            unique, sparse = bool(index.get("unique")), bool(index.get("sparse"))
            self._of(command).create_index(index["name"], list(index["key"]), unique=unique, sparse=sparse)
        return {"numIndexesBefore": 1, "numIndexesAfter": 1 + len(command["indexes"])}

    def list_indexes(self, command: Document) -> Document:
        return self._opened(command, iter(self._of(command).indexes()), _BATCH, True)

    def drop(self, command: Document) -> Document:
        self._collections.pop(_namespace(command), None)
        return {}

    def drop_database(self, command: Document) -> Document:
        for name in [name for name in self._collections if name.startswith(f"{command['$db']}.")]:
            del self._collections[name]
        return {}

    def insert(self, command: Document) -> Document:
        collection, ordered = self._of(command), command.get("ordered", True)
        written, errors = 0, []
        for index, document in enumerate(command["documents"]):
            try:
                collection.insert(document)
                written += 1
            except Duplicate:
                errors.append({"index": index, "code": DUPLICATE_KEY, "errmsg": "E11000 duplicate key error"})
                if ordered:
                    break
        self.rows["inserted"] += written
        return {"n": written, **({"writeErrors": errors} if errors else {})}

    def update(self, command: Document) -> Document:
        collection, matched, modified, upserted = self._of(command), 0, 0, []
        for index, update in enumerate(command["updates"]):
            if not isinstance(update["u"], dict) or (update.get("upsert") and list(update["q"]) != ["_id"]):
                raise NotUnderstood("pipelines in updates, and upserts by anything but _id")
            change = dict(update["u"])
            new = change.pop("$setOnInsert", {})
            found, changed = collection.update(update["q"], change, many=bool(update.get("multi")))
            if not found and update.get("upsert"):
                collection.insert({"_id": update["q"]["_id"], **new})
                found, _ = collection.update(update["q"], change, many=False)
                upserted.append({"index": index, "_id": update["q"]["_id"]})
            matched, modified = matched + found, modified + changed
        self.rows["updated"] += modified
        return {"n": matched, "nModified": modified, **({"upserted": upserted} if upserted else {})}

    def delete(self, command: Document) -> Document:
        collection = self._of(command)
        removed = sum(collection.delete(each["q"], many=each.get("limit") != 1) for each in command["deletes"])
        self.rows["deleted"] += removed
        return {"n": removed}

    def find(self, command: Document) -> Document:
        found: Iterator[Document] = self._of(command).find(command.get("filter", {}))
        if command.get("sort"):
            found = iter(in_order(found, command["sort"]))
        begin, limit = command.get("skip", 0), abs(command.get("limit", 0))
        found = islice(found, begin, begin + limit if limit else None)
        shaped = map(projector(command.get("projection")), found)
        return self._opened(command, shaped, command.get("batchSize", _FIRST_BATCH), command.get("singleBatch", False))

    def aggregate(self, command: Document) -> Document:
        steps = list(command["pipeline"])
        query = steps.pop(0)["$match"] if steps and "$match" in steps[0] else {}
        found: Iterator[Document] = self._of(command).find(query)
        for step in steps:
            found = _step(found, step)
        return self._opened(command, found, command.get("cursor", {}).get("batchSize", _FIRST_BATCH), False)

    def count(self, command: Document) -> Document:
        collection, query = self._of(command), command.get("query", {})
        return {"n": sum(1 for _ in collection.find(query)) if query else len(collection)}

    def get_more(self, command: Document) -> Document:
        name, found = self._cursors.get(command["getMore"], ("", iter(())))
        if not name:
            raise NotUnderstood("a cursor that is not open", 43)
        return self._batch(command["getMore"], name, found, command.get("batchSize") or _BATCH, "nextBatch")

    def kill_cursors(self, command: Document) -> Document:
        for cursor in command["cursors"]:
            self._cursors.pop(cursor, None)
        return {"cursorsKilled": command["cursors"]}

    def _opened(self, command: Document, found: Iterator[Document], size: int, single: bool) -> Document:
        reply = self._batch(next(self._cursor_ids), _namespace(command), found, size or _FIRST_BATCH, "firstBatch")
        if single and reply["cursor"]["id"]:
            del self._cursors[reply["cursor"]["id"]]
            reply["cursor"]["id"] = Int64(0)
        return reply

    def _batch(self, cursor: int, name: str, found: Iterator[Document], size: int, place: str) -> Document:
        """The next `size` documents; the cursor stays open while there may be more."""
        batch = list(islice(found, size))
        self.rows["read"] += len(batch)
        if len(batch) == size:
            self._cursors[cursor] = name, found
        else:
            self._cursors.pop(cursor, None)
        left = cursor if len(batch) == size else 0
        return {"cursor": {place: batch, "id": Int64(left), "ns": name}}


def _step(found: Iterator[Document], step: Mapping[str, Any]) -> Iterator[Document]:
    [(name, wanted)] = step.items()
    match name:
        case "$group":
            return iter(grouped(found, wanted))
        case "$limit":
            return islice(found, wanted)
        case "$skip":
            return islice(found, wanted, None)
        case "$sort":
            return iter(in_order(found, wanted))
        case "$project":
            return map(projector(wanted), found)
        case _:
            raise NotUnderstood(f"aggregation stage {name}", 40324)


def _namespace(command: Document) -> str:
    place = command["collection"] if "getMore" in command else next(iter(command.values()))
    return f"{command['$db']}.{place}"


_COMMANDS: Final[Mapping[str, Callable[[Store, Document], Document]]] = {
    "hello": Store.hello,
    "isMaster": Store.hello,
    "ismaster": Store.hello,
    "ping": Store.nothing,
    "endSessions": Store.nothing,
    "buildInfo": Store.build_info,
    "sinkStats": Store.stats,
    "createIndexes": Store.create_indexes,
    "listIndexes": Store.list_indexes,
    "drop": Store.drop,
    "dropDatabase": Store.drop_database,
    "insert": Store.insert,
    "update": Store.update,
    "delete": Store.delete,
    "find": Store.find,
    "aggregate": Store.aggregate,
    "count": Store.count,
    "getMore": Store.get_more,
    "killCursors": Store.kill_cursors,
}


_HEADER: Final = struct.Struct("<iiii")
_INT: Final = struct.Struct("<i")
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_CHECKSUM, _MORE_TO_COME = 1, 2


class Connection(asyncio.Protocol):
    """One client. Requests are answered in order, each with one reply (none where none is wanted)."""

    def __init__(self, store: Store) -> None:
        self._store, self._received = store, bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= _HEADER.size:
            length, request, _, opcode = _HEADER.unpack_from(self._received)
            if len(self._received) < length:
                return
            message = bytes(self._received[_HEADER.size : length])
            del self._received[:length]
            self._serve(request, opcode, message)

    def _serve(self, request: int, opcode: int, message: bytes) -> None:
        if opcode == _OP_QUERY:
            self._transport.write(_reply_to_query(request, self._store.answer(_query_of(message))))
            return
        if opcode != _OP_MSG:
            self._transport.close()
            return
        flags, command = _command_of(message)
        self._store.received[next(iter(command))] += len(message)
        reply = self._store.answer(command)
        if not flags & _MORE_TO_COME:
            self._transport.write(_message_of(reply, response_to=request))


def _message_of(document: Document, *, response_to: int) -> bytes:
    body = bson.encode(document)
    return _HEADER.pack(_HEADER.size + 5 + len(body), 0, response_to, _OP_MSG) + b"\0\0\0\0\0" + body


def _command_of(message: bytes) -> tuple[int, Document]:
    """Flags and command; its document sequences (the rows of a bulk) stand under their names."""
    flags = _INT.unpack_from(message)[0]
    end = len(message) - (4 if flags & _CHECKSUM else 0)
    command: Document = {}
    sequences: Document = {}
    at = _INT.size
    while at < end:
        kind, at = message[at], at + 1
        length = _INT.unpack_from(message, at)[0]
        section = message[at : at + length]
        if kind == 0:
            command = bson.decode(section)
        else:
            name, _, documents = section[_INT.size :].partition(b"\0")
            sequences[name.decode()] = bson.decode_all(documents)
        at += length
    return flags, command | sequences


def _query_of(message: bytes) -> Document:
    """The command in an OP_QUERY on `$cmd`: flags, a name that ends in 0, two numbers, the document."""
    name, _, rest = message[_INT.size :].partition(b"\0")
    return {**bson.decode(rest[2 * _INT.size :]), "$db": name.decode().partition(".")[0]}


def _reply_to_query(request: int, reply: Document) -> bytes:
    body = bson.encode(reply)
    length = _HEADER.size + 20 + len(body)
    return _HEADER.pack(length, 0, request, _OP_REPLY) + struct.pack("<iqii", 8, 0, 0, 1) + body


async def serve(port: int) -> None:
    gc.disable()  # nothing here makes cycles, and a million documents are no garbage to look through
    store = Store()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(store), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


class SinkService(Service):
    """`python -m benchmarks.sink` as a child process. A restart forgets everything."""

    scheme = "mongodb"

    def __init__(self, directory: Path) -> None:
        super().__init__("sink", directory=directory)

    def command(self, port: int) -> list[str]:
        return [sys.executable, "-m", "benchmarks.sink", "--port", str(port)]

    def ready(self, port: int) -> bool:
        return speaks_mongodb(port)

    def stats(self) -> dict[str, Any]:
        """`commands` and `rows` by name, `documents` by collection, `cpu_s` of the process; all since its start."""
        with pymongo.MongoClient[dict[str, Any]](self.url) as client:
            return client.admin.command("sinkStats")


def start_sink(directory: Path) -> SinkService:
    return SinkService(directory).start()


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.sink", description="a store in memory behind MongoDB's protocol")
    parser.add_argument("--port", type=int, required=True)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
