"""Projection, order and groups of a find or an aggregate."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from bson import ObjectId

from benchmarks.sink.conditions import NUMBERS, is_operators
from benchmarks.sink.paths import ABSENT, Document, NotUnderstood, holder_of, value_at


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
