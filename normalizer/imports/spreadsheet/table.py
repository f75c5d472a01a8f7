"""Tables that every format is opened as: named, with numbered rows, and what is in doubt about the whole file.

A cell or a row that cannot be read right is a value of its own among the others: never a guess, never just empty.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Cells: TypeAlias = Sequence[object]
NumberedRows: TypeAlias = Iterator[tuple[int, Cells]]

# Above this a float no longer tells neighbouring integers apart (IEEE 754 double).
_EXACT: Final = 2**53


@dataclass(frozen=True, slots=True)
class Unreadable:
    """In place of a cell that holds something, but nothing to be read: an error value, a formula without its result.

    Not an empty cell: what is stored already must not be emptied by it.
    """

    expected: str
    found: str


NO_FORMULA: Final = Unreadable("um valor", "uma fórmula sem resultado calculado")


def error_value(name: str) -> Unreadable:
    """In place of a cell that shows an error, as `#N/A`."""
    return Unreadable("um valor", f"o erro {name[:20]}")


class BrokenRow(list[object]):
    """In place of a row that cannot be read as one. Its cells are what stands there, for the operator; none is a value.

    Row by row these are the words of a `Problem`.
    """

    def __init__(self, cells: Sequence[object], expected: str, found: str, fix: str) -> None:
        super().__init__(cells)
        self.expected, self.found, self.fix = expected, found, fix


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something of the whole file that the operator should look at, though it was read."""

    expected: str
    found: str
    fix: str


@dataclass(frozen=True, slots=True)
class Table:
    """One sheet. `rows()` starts a fresh pass: 1-based row numbers as the operator sees them, and the cells.

    Cells are what `text_of` knows; among them may stand an `Unreadable`, in place of a row a `BrokenRow`.
    """

    name: str
    rows: Callable[[], NumberedRows]
    visible: bool = True


@dataclass(frozen=True, slots=True)
class Opened:
    """A file of any format, opened, in the reading process or through it.

    `doubts` may grow until each table's first rows were asked for. `close()` lets go of it at once, whoever is reading;
    `rest()`, until rows are asked for again.
    """

    format: str
    tables: Sequence[Table]
    doubts: Sequence[Doubt] = ()
    close: Callable[[], None] = lambda: None
    rest: Callable[[], None] = lambda: None


def text_of(cell: object) -> str:
    """Return the cell as text, stripped; empty for nothing.

    A whole float loses its `.0` (`11144477735.0` → `11144477735`) when no digit is lost with it. A larger one keeps
    Python's scientific notation, which the document rules refuse: its digits are gone already.
    """
    if isinstance(cell, str):
        return cell.strip()
    writer = _WRITERS.get(type(cell))
    return "" if cell is None else str(cell).strip() if writer is None else writer(cell)


def texts_at(index: int, rows: Iterable[Cells]) -> list[str]:
    """What stands in that column of the rows, without the empty cells."""
    return [text for cells in rows if index < len(cells) and (text := text_of(cells[index]))]


def _float_text(cell: float) -> str:
    return str(int(cell)) if cell.is_integer() and abs(cell) < _EXACT else repr(cell)


_WRITERS: Final[dict[type, Callable[[Any], str]]] = {
    Unreadable: lambda _: "",
    bool: lambda cell: "Sim" if cell else "Não",
    float: _float_text,
    dt.datetime: lambda cell: f"{cell:%d/%m/%Y %H:%M:%S}",
    dt.date: lambda cell: f"{cell:%d/%m/%Y}",
    dt.time: lambda cell: f"{cell:%H:%M:%S}",
}
