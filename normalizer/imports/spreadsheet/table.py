"""What every format is opened as: named tables of numbered rows, and the names of what was left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Cells: TypeAlias = Sequence[object]
NumberedRows: TypeAlias = Iterator[tuple[int, Cells]]


@dataclass(frozen=True, slots=True)
class Table:
    """One sheet. `rows()` starts a fresh pass: 1-based row numbers as the operator sees them, and the cells."""

    name: str
    rows: Callable[[], NumberedRows]


@dataclass(frozen=True, slots=True)
class Opened:
    """A file of any format, opened: its visible tables, and the names of the hidden ones."""

    format: str
    tables: tuple[Table, ...]
    hidden: tuple[str, ...] = ()
