"""Dotted paths into documents."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

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
