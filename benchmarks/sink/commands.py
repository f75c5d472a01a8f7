"""The commands a MongoDB driver sends, answered from `documents`.

A command, option or stage that is not spoken here is answered with MongoDB's own error for it.
"""

from __future__ import annotations

import datetime as dt
import itertools
import resource
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from bson.int64 import Int64

from benchmarks.sink.documents import DUPLICATE_KEY, Documents, Duplicate
from benchmarks.sink.paths import Document, NotUnderstood
from benchmarks.sink.shaping import grouped, in_order, projector

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
