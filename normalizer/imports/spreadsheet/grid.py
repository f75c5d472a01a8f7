"""A table drawn cell by cell: what spans rows stands in each of them, what spans columns in the first."""

from __future__ import annotations

from typing import Final

from normalizer.imports.spreadsheet.limits import COPY_ROWS, refusal
from normalizer.imports.spreadsheet.table import BrokenRow, Cells

MOST_COLUMNS: Final = 16_384  # Excel's own
MOST_ROWS: Final = 1_048_576


class Grid:
    """Takes cells in the order they are written, gives out finished rows.

    A value that spans rows is repeated only in a row that has anything of its own: rows that are merged as a whole are
    one row. Of empty rows in a line only the first is given out.
    """

    def __init__(self) -> None:
        self.is_cut = False
        self._ready: list[tuple[int, Cells]] = []
        self._number = 0
        self._row: list[object] | None = None
        self._own = self._was_empty = False
        self._hanging: dict[int, tuple[int, object]] = {}  # by column: rows it still spans, the value
        self._begun: dict[int, tuple[int, object]] = {}
        self._outer: list[dict[int, tuple[int, object]]] = []

    def take(self) -> list[tuple[int, Cells]]:
        """The rows finished since the last time, by their numbers."""
        rows, self._ready = self._ready, []
        return rows

    def begin_table(self) -> None:
        """A table of its own, also inside a cell of another one: no span reaches into it."""
        self.end_row()
        self._outer.append(self._hanging)
        self._hanging = {}

    def end_table(self) -> None:
        """The innermost table is finished."""
        self.end_row()
        self._hanging = self._outer.pop() if self._outer else {}

    def begin_row(self, number: int | None = None) -> None:
        """A new row, the next one or the one of that 1-based number."""
        self.end_row()
        if number is not None:
            self._number = max(self._number, min(number, MOST_ROWS) - 1)
        self._row, self._own = [], False

    def put(self, value: object, *, across: int = 1, down: int = 1, column: int | None = None) -> None:
        """A cell in the next free column, or in that 0-based one."""
        if self._row is None:
            self.begin_row()
        row = self._row or []
        at = len(row) if column is None else column
        if self._hanging and column is None:
            while at in self._hanging:
                at += 1
        across = max(1, min(across, MOST_COLUMNS - at))
        if at >= MOST_COLUMNS:
            where = f", linha {self._number + 1}"
            raise refusal(f"no máximo {MOST_COLUMNS} colunas", "mais do que isso", COPY_ROWS, where)
        if at == len(row) and across == 1:
            row.append(value)
        else:
            row.extend([""] * (at - len(row)))
            row[at:] = [value, *[""] * (across - 1)]
        self._row, self._own = row, self._own or value != ""
        if down > 1:
            self._begun |= {at + n: (down - 1, "" if n else value) for n in range(across)}

    def cover(self, columns: int) -> None:
        """Cells that another one lies over."""
        if self._row is not None:
            self._row.extend([""] * min(columns, MOST_COLUMNS - len(self._row)))

    def end_row(self, times: int = 1) -> None:
        """The row is finished, and stands there so many times."""
        if self._row is None:
            return
        row, self._row = self._row, None
        for column, (_, value) in self._hanging.items() if self._own else ():
            row.extend([""] * (column + 1 - len(row)))
            row[column] = value if row[column] == "" else row[column]
        while row and row[-1] == "":
            row.pop()
        if self._hanging or self._begun:
            hanging = {at: (left - 1, value) for at, (left, value) in self._hanging.items() if left > 1}
            self._hanging, self._begun = hanging | self._begun, {}
        if self.is_cut:
            row, self.is_cut = _cut(row), False
        elif not row:
            self._empty(times)
            return
        for _ in range(max(1, min(times, MOST_ROWS - self._number))):
            self._number += 1
            self._ready.append((self._number, row))
        self._was_empty = False

    def _empty(self, times: int) -> None:
        if not self._was_empty:
            self._ready.append((self._number + 1, []))
        self._number, self._was_empty = self._number + max(1, times), True

    @property
    def in_row(self) -> bool:
        """Whether a row is begun and not ended."""
        return self._row is not None

    def break_off(self) -> None:
        """The file ends where the next row would be."""
        self._ready.append((self._number + 1, _cut([])))


def _cut(cells: list[object]) -> BrokenRow:
    fix = "Exporte a planilha outra vez: depois dessa linha pode faltar algo."
    return BrokenRow(cells, "um arquivo inteiro", "um arquivo que termina no meio", fix)
