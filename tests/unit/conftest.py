"""Texts whose reading is tested by the hundred are read in this process: a child for each takes a tenth of a second."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import BinaryIO

import pytest

from normalizer.errors import InvalidInput
from normalizer.imports.spreadsheet import Vocabulary, child, reading
from normalizer.imports.spreadsheet.child import Kind
from normalizer.imports.spreadsheet.limits import Limits, bounded
from normalizer.imports.spreadsheet.process import open_in_child
from normalizer.imports.spreadsheet.table import NumberedRows, Opened, Table


def _rows(table: Table, where: str, limits: Limits) -> NumberedRows:
    try:
        for number, cells, _ in bounded(table.rows(), limits):
            yield number, cells
    except InvalidInput as refused:
        raise _of(refused, where) from None


def _of(refused: InvalidInput, where: str) -> InvalidInput:
    return InvalidInput(where=where + refused.where, expected=refused.expected, found=refused.found, fix=refused.fix)


def open_here(kind: Kind, file: BinaryIO, where: str, limits: Limits, vocabulary: Vocabulary) -> Opened:
    """What `open_in_child` gives, by the same readers, for texts."""
    if kind in {"zip", "ole"}:
        return open_in_child(kind, file, where, limits, vocabulary)
    opener = child.opener(kind, (vocabulary.said, vocabulary.remembered), compact=False)
    mine = os.fdopen(os.dup(file.fileno()), "rb")
    try:
        source = opener(mine, limits)
    except InvalidInput as refused:
        raise _of(refused, where) from None
    tables = [replace(one, rows=partial(_rows, one, where, limits)) for one in source.tables]
    return replace(source, tables=tables, close=mine.close)


@pytest.fixture(scope="module")
def read_here() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reading, "open_in_child", open_here)
        yield
