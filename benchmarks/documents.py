"""Documents in memory, with as much of MongoDB as an appointment's life needs. Pure: no I/O, no clock.

Conditions are evaluated, updates applied and unique keys held as MongoDB would; what is not understood is refused
(`NotUnderstood`), never guessed. Left out, and no part of what is measured here: arrays inside documents, upserts,
transactions, and the expiry of TTL indexes.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import chain, islice
from typing import Any, Final

from bson import ObjectId

Document = dict[str, Any]
ABSENT: Final = object()


class NotUnderstood(Exception):
    """A command, operator or stage that is not spoken here; `code` is MongoDB's own for it."""

    def __init__(self, what: str, code: int = 238) -> None:
        super().__init__(f"not spoken here: {what}")
        self.code = code


@cache
def _steps(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))


def value_at(document: Mapping[str, Any], path: str) -> Any:
    """The value under a dotted path, or a mark that stands for "absent"."""
    if "." not in path:
        return document.get(path, ABSENT)
    found: Any = document
    for step in _steps(path):
        if not isinstance(found, dict) or step not in found:
            return ABSENT
        found = found[step]
    return found


def holder_of(document: Document, path: str) -> tuple[Document, str]:
    """The sub-document that holds the path's last step, made where it is missing."""
    *way, last = _steps(path)
    for step in way:
        inner = document.get(step)
        if not isinstance(inner, dict):
            inner = document[sys.intern(step)] = {}
        document = inner
    return document, sys.intern(last)


NUMBERS: Final = (int, float)
Test = Callable[[Any], bool]
Condition = list[tuple[str, Test]]


def condition_of(query: Mapping[str, Any]) -> Condition:
    """The tests a document must stand, each on the value under a path; `$or` and `$and` on the whole of it."""
    return [
        (path, _logical(path, wanted) if path.startswith("$") else _tests(wanted)) for path, wanted in query.items()
    ]


def holds(document: Document, condition: Condition) -> bool:
    return all(test(document if path.startswith("$") else value_at(document, path)) for path, test in condition)


def is_operators(wanted: Any) -> bool:
    """Whether this is `{$op: ...}` and no plain value."""
    return isinstance(wanted, dict) and bool(wanted) and next(iter(wanted)).startswith("$")


def named(query: Mapping[str, Any], path: str) -> Sequence[Any] | None:
    """The values that the query names outright for a path; None where it names none."""
    if path not in query:
        return None
    wanted = query[path]
    if not is_operators(wanted):
        return [wanted]
    if "$in" in wanted:
        return list(dict.fromkeys(wanted["$in"]))
    return [wanted["$eq"]] if "$eq" in wanted else None


def _logical(operator: str, parts: Any) -> Test:
    if operator not in {"$or", "$and"}:
        raise NotUnderstood(f"query operator {operator}")
    conditions = [condition_of(part) for part in parts]
    combine = any if operator == "$or" else all
    return lambda document: combine(holds(document, condition) for condition in conditions)


def _tests(wanted: Any) -> Test:
    """What a value must stand: an operator document, or equality."""
    if not is_operators(wanted):
        return _equals(wanted)
    if len(wanted) == 1:
        [(operator, operand)] = wanted.items()
        return _test(operator, operand)
    tests = [_test(operator, operand) for operator, operand in wanted.items()]
    return lambda value: all(test(value) for test in tests)


def _test(operator: str, operand: Any) -> Test:
    if operator == "$eq":
        return _equals(operand)
    if operator == "$not":
        inner = _tests(operand)
        return lambda value: not inner(value)
    make = _OPERATORS.get(operator)
    if make is None:
        raise NotUnderstood(f"query operator {operator}")
    return make(operand)


def _equals(wanted: Any) -> Test:
    if wanted is None:
        return lambda value: value is None or value is ABSENT
    return lambda value: bool(value == wanted)


def _among(wanted: Sequence[Any]) -> Test:
    names = set(wanted)
    return lambda value: value in names or (value is ABSENT and None in names)


def _compared(agrees: Callable[[Any, Any], bool]) -> Callable[[Any], Test]:
    """As MongoDB: values of another kind never compare; nothing is greater or less than null."""

    def make(operand: Any) -> Test:
        kinds = NUMBERS if isinstance(operand, NUMBERS) else type(operand)
        return lambda value: value is not None and isinstance(value, kinds) and agrees(value, operand)

    return make


def _exists(wanted: Any) -> Test:
    return lambda value: (value is not ABSENT) == bool(wanted)


def _of_type(wanted: Any) -> Test:
    kinds = _TYPES.get(wanted)
    if kinds is None:
        raise NotUnderstood(f"type {wanted}")
    return lambda value: isinstance(value, kinds)


def _differs(wanted: Any) -> Test:
    same = _equals(wanted)
    return lambda value: not same(value)


_TYPES: Final[Mapping[str, type | tuple[type, ...]]] = {"object": dict, "number": NUMBERS}
_OPERATORS: Final[Mapping[str, Callable[[Any], Test]]] = {
    "$in": _among,
    "$ne": _differs,
    "$exists": _exists,
    "$type": _of_type,
    "$gt": _compared(lambda value, operand: value > operand),
    "$gte": _compared(lambda value, operand: value >= operand),
    "$lt": _compared(lambda value, operand: value < operand),
    "$lte": _compared(lambda value, operand: value <= operand),
}


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


def projector(fields: Mapping[str, Any] | None) -> Callable[[Document], Document]:
    """What leaves of a document the fields that were asked for; `_id` unless it was declined."""
    if not fields:
        return lambda document: document
    kept = {name for name, wanted in fields.items() if wanted and name != "_id"}
    if not kept:
        return lambda document: {name: value for name, value in document.items() if fields.get(name, 1)}
    plain = [name for name in kept if "." not in name]
    if fields.get("_id", 1):
        plain.insert(0, "_id")
    dotted = [name for name in kept if "." in name]

    def project(document: Document) -> Document:
        found: Document = {name: document[name] for name in plain if name in document}
        for path in dotted:
            if (value := value_at(document, path)) is not ABSENT:
                holder, name = holder_of(found, path)
                holder[name] = value
        return found

    return project


def in_order(found: Iterable[Document], keys: Mapping[str, int]) -> list[Document]:
    """Sorted as asked; what is absent comes first, values of different kinds by kind."""
    documents = list(found)
    for path in reversed(list(keys)):
        documents.sort(key=partial(_rank, path), reverse=keys[path] < 0)
    return documents


def _rank(path: str, document: Document) -> tuple[int, Any]:
    value = value_at(document, path)
    if value is ABSENT or value is None:
        return 0, 0
    kinds: Sequence[Any] = (bool, NUMBERS, str, ObjectId, dt.datetime)
    for rank, kind in enumerate(kinds, start=1):
        if isinstance(value, kind):
            return rank, value
    raise NotUnderstood(f"sorting by {type(value).__name__}")


def grouped(found: Iterable[Document], stage: Mapping[str, Any]) -> list[Document]:
    """`$group` with counts: `{_id: expression, n: {$sum: number}}`."""
    sums = {name: _summand(wanted) for name, wanted in stage.items() if name != "_id"}
    groups: dict[Any, Document] = {}
    for document in found:
        key = _evaluated(document, stage["_id"])
        group = groups.setdefault(_hashable(key), {"_id": key, **dict.fromkeys(sums, 0)})
        for name, amount in sums.items():
            group[name] += amount
    return list(groups.values())


def _summand(wanted: Any) -> float:
    if not isinstance(wanted, dict) or set(wanted) != {"$sum"} or not isinstance(wanted["$sum"], NUMBERS):
        raise NotUnderstood("an accumulator other than $sum of a number")
    amount: float = wanted["$sum"]
    return amount


def _evaluated(document: Document, expression: Any) -> Any:
    if isinstance(expression, str) and expression.startswith("$"):
        value = value_at(document, expression[1:])
        return None if value is ABSENT else value
    if not isinstance(expression, dict):
        return expression
    if "$gt" in expression:
        value, operand = expression["$gt"]
        if operand is not None:
            raise NotUnderstood("$gt in an expression, but for null")
        return _evaluated(document, value) is not None
    if is_operators(expression):
        raise NotUnderstood(f"expression {next(iter(expression))}")
    parts = ((name, part, _evaluated(document, part)) for name, part in expression.items())
    return {name: value for name, part, value in parts if value is not None or not _is_path(part)}


def _is_path(expression: Any) -> bool:
    return isinstance(expression, str) and expression.startswith("$")


def _hashable(key: Any) -> Any:
    return tuple(sorted(key.items(), key=str)) if isinstance(key, dict) else key
