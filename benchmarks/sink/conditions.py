"""A query as a test on documents, with MongoDB's own notion of absent fields and of what compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from benchmarks.sink.paths import ABSENT, Document, NotUnderstood, value_at

NUMBERS: Final = (int, float)
Test = Callable[[Any], bool]
Condition = list[tuple[str, Test]]


def condition_of(query: Mapping[str, Any]) -> Condition:
    """The tests a document must stand, each on the value under a path; `$or` and `$and` on the whole of it."""
    return [
        (path, _logical(path, wanted) if path.startswith("$") else _tests(wanted)) for path, wanted in query.items()
    ]


def holds(document: Document, condition: Condition) -> bool:
    """Whether the document stands every test."""
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
