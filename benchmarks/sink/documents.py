"""Documents in memory, with as much of MongoDB as an appointment's life needs. Pure: no I/O, no clock.

Conditions are evaluated, updates applied and unique keys held as MongoDB would; what is not understood is refused
(`NotUnderstood`), never guessed. Left out, and no part of what is measured here: arrays inside documents, upserts,
transactions, and the expiry of TTL indexes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Final

from benchmarks.sink.conditions import condition_of, holds, named
from benchmarks.sink.paths import ABSENT, Document, NotUnderstood, holder_of, value_at

DUPLICATE_KEY: Final = 11000


class Duplicate(Exception):
    """A document whose unique key another one holds."""


class Documents:
    """One collection: its documents by `_id`, and the ways to them by an index's first field."""

    def __init__(self) -> None:
        self._by_id: dict[Any, Document] = {}
        self._ways: dict[str, _Way] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def create_index(self, name: str, fields: Sequence[str], *, unique: bool, sparse: bool) -> None:
        """Keep a way by the first of `fields`; of several fields only the first narrows a search."""
        if unique and len(fields) > 1:
            raise NotUnderstood("a unique index of several fields")
        if fields[0] not in self._ways:
            way = self._ways[fields[0]] = _Way(name, fields[0], unique=unique, sparse=sparse)
            for document in self._by_id.values():
                way.add(document)

    def indexes(self) -> list[Document]:
        """As `listIndexes` tells them, each with its first field alone."""
        return [
            {"v": 2, "key": {way.path: 1}, "name": way.name, "unique": way.unique, "sparse": way.sparse}
            for way in self._ways.values()
        ]

    def insert(self, document: Document) -> None:
        """Add one document; Duplicate when its `_id` or a unique key is taken."""
        document = _shared_names(document)
        if document["_id"] in self._by_id or any(way.is_taken(document) for way in self._ways.values()):
            raise Duplicate
        self._by_id[document["_id"]] = document
        for way in self._ways.values():
            way.add(document)

    def find(self, query: Mapping[str, Any]) -> Iterator[Document]:
        """Every document the query holds for, looked at one by one as it is taken."""
        condition = condition_of(query)
        for id_ in self._candidates(query):
            document = self._by_id.get(id_)
            if document is not None and holds(document, condition):
                yield document

    def update(self, query: Mapping[str, Any], change: Mapping[str, Any], *, many: bool) -> tuple[int, int]:
        """Apply `change` to one document, or to all, that the query holds for. Returns (matched, modified)."""
        found = list(islice(self.find(query), None if many else 1))
        return len(found), sum(self._apply(document, change) for document in found)

    def delete(self, query: Mapping[str, Any], *, many: bool) -> int:
        """Remove one document, or all, that the query holds for."""
        found = list(islice(self.find(query), None if many else 1))
        for document in found:
            del self._by_id[document["_id"]]
            for way in self._ways.values():
                way.remove(document["_id"], value_at(document, way.path))
        return len(found)

    def _apply(self, document: Document, change: Mapping[str, Any]) -> bool:
        if unknown := change.keys() - _UPDATES.keys():
            raise NotUnderstood(f"update operator {min(unknown)}")
        before = [(way, value_at(document, way.path)) for way in self._ways.values()]
        changed = [
            _UPDATES[operator](document, path, value)
            for operator, fields in change.items()
            for path, value in fields.items()
        ]
        for way, was in before:
            if value_at(document, way.path) != was:
                way.remove(document["_id"], was)
                way.add(document)
        return any(changed)

    def _candidates(self, query: Mapping[str, Any]) -> Sequence[Any]:
        found = self._narrowed(query)
        return list(self._by_id) if found is None else found

    def _narrowed(self, query: Mapping[str, Any]) -> Sequence[Any] | None:
        """The ids that indexes leave; None where no index helps."""
        if (ids := named(query, "_id")) is not None:
            return ids
        narrowed = [way.ids(values) for path, way in self._ways.items() if (values := named(query, path)) is not None]
        if "$or" in query:
            branches = [self._narrowed(branch) for branch in query["$or"]]
            if None not in branches:
                narrowed.append(list(dict.fromkeys(chain.from_iterable(filter(None, branches)))))
        return min(narrowed, key=len) if narrowed else None


class _Way:
    """A hash index on one path. A dict of ids stands for a set, so that answers keep the order of insertion."""

    def __init__(self, name: str, path: str, *, unique: bool, sparse: bool) -> None:
        self.name, self.path, self.unique, self.sparse = name, path, unique, sparse
        self._ids: dict[Any, dict[Any, None]] = {}

    def is_taken(self, document: Document) -> bool:
        value = value_at(document, self.path)
        return self.unique and bool(self._ids.get(value))

    def add(self, document: Document) -> None:
        value = value_at(document, self.path)
        if not (self.sparse and value is ABSENT):
            for key in _keys(value):
                self._ids.setdefault(key, {})[document["_id"]] = None

    def remove(self, id_: Any, value: Any) -> None:
        for key in _keys(value):
            self._ids.get(key, {}).pop(id_, None)

    def ids(self, values: Sequence[Any]) -> list[Any]:
        wanted = chain(values, [ABSENT] if None in values and not self.sparse else [])
        return [id_ for value in wanted for id_ in self._ids.get(value, ())]


def _keys(value: Any) -> Sequence[Any]:
    """An array is found by each of its elements."""
    return value if isinstance(value, list) else (value,)


def _set(document: Document, path: str, value: Any) -> bool:
    holder, name = holder_of(document, path)
    if name in holder and holder[name] == value:
        return False
    holder[name] = value
    return True


def _unset(document: Document, path: str, _: Any) -> bool:
    if value_at(document, path) is ABSENT:
        return False
    holder, name = holder_of(document, path)
    del holder[name]
    return True


def _increase(document: Document, path: str, amount: Any) -> bool:
    holder, name = holder_of(document, path)
    holder[name] = holder.get(name, 0) + amount
    return bool(amount)


_UPDATES: Final = {"$set": _set, "$unset": _unset, "$inc": _increase}


def _shared_names(document: Document) -> Document:
    """The same document whose field names are shared with all others: a million documents then fit into memory."""
    return {
        sys.intern(name): _shared_names(value) if isinstance(value, dict) else value for name, value in document.items()
    }
