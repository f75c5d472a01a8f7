"""Follows an import for those outside its process: how far it is, which rows could not be used, with their cells."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from normalizer.imports.spreadsheet.values import text_of

if TYPE_CHECKING:
    from normalizer.imports.spreadsheet import Problem, Spreadsheet
    from normalizer.store import Desk

#: Rows with problems kept for the error report.
MOST_ROWS: Final = 10_000


class ImportJournal:
    """Writes what `import_sheet` tells into the store.

    Args:
        desk: where it is kept.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.import_id: str | None = None
        self.began = asyncio.Event()

    async def begun(self, import_id: str, sheet: Spreadsheet, problems: Sequence[Problem]) -> None:
        """Keep the rows with problems, and what was said of the titles, before anything is written."""
        rows = await asyncio.to_thread(_rows, sheet, problems)
        titles = [{"planilha": info.name, "titulos": list(info.header.titles)} for info in sheet.sheets]
        about = {"titulos": titles, "ocultas": list(sheet.hidden_sheets), "ignoradas": list(sheet.ignored_sheets)}
        await self._desk.note(import_id, {**about, "problemas": len(problems), "feitas": 0})
        await self._desk.keep_problems(import_id, rows)
        await self._desk.remember_columns(sheet.learned)
        self.import_id = import_id
        self.began.set()

    async def moved(self, import_id: str, done: int) -> None:
        """Note the progress."""
        await self._desk.note(import_id, {"feitas": done})


def _rows(sheet: Spreadsheet, problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """One document per row with problems, in the order of the sheet."""
    by_row: dict[tuple[str, int], dict[str, Any]] = {}
    for problem in problems:
        place = (problem.sheet, problem.row or 0)
        if place not in by_row and len(by_row) == MOST_ROWS:
            continue
        row = by_row.setdefault(place, {"planilha": problem.sheet, "linha": problem.row, "problemas": []})
        row["problemas"].append(
            {
                "coluna": problem.column,
                "esperado": problem.expected,
                "encontrado": problem.found,
                "corrigir": problem.mend,
            }
        )
    headers = {(info.name, info.header.row) for info in sheet.sheets}
    wanted = by_row.keys() - headers
    if wanted:
        for info, number, cells in sheet.cells_of(wanted):
            by_row[info.name, number]["celulas"] = [text_of(cell) for cell in cells]
    names = [info.name for info in sheet.sheets]
    order = {name: position for position, name in enumerate(names)}
    rows = sorted(by_row.items(), key=lambda item: (order.get(item[0][0], len(order)), item[0][1]))
    return [{**row, "ordem": position} for position, (_, row) in enumerate(rows)]
