"""Record of an import for those outside its process: its header, and rows that could not be used, with their cells."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from normalizer.imports.spreadsheet.values import text_of
from normalizer.store import CellProblem, ProblemRow, SheetTitles

if TYPE_CHECKING:
    from normalizer.imports.spreadsheet import Problem, Spreadsheet
    from normalizer.store import AppointmentStore

#: Rows with problems kept for the error report.
MOST_ROWS: Final = 10_000


async def keep_header_and_problems(
    store: AppointmentStore, import_id: str, sheet: Spreadsheet, problems: Sequence[Problem]
) -> None:
    """Keep the rows with problems, and what was said of the titles, before anything is written."""
    rows = await asyncio.to_thread(_rows, sheet, problems)
    await store.imports.note(
        import_id,
        titles=[SheetTitles(info.name, info.header.titles) for info in sheet.sheets],
        hidden_sheets=sheet.hidden_sheets,
        ignored_sheets=sheet.ignored_sheets,
        problems=len(problems),
        written=0,
    )
    await store.problems.keep(import_id, rows)
    await store.columns.remember(sheet.learned)


def _rows(sheet: Spreadsheet, problems: Sequence[Problem]) -> list[ProblemRow]:
    """Rows with problems, in the order of the sheet."""
    by_row: dict[tuple[str, int], list[CellProblem]] = {}
    for problem in problems:
        place = (problem.sheet, problem.row or 0)
        if place in by_row or len(by_row) < MOST_ROWS:
            told = CellProblem(problem.column, problem.expected, problem.found, problem.mend)
            by_row.setdefault(place, []).append(told)
    cells: dict[tuple[str, int], list[str]] = {}
    if wanted := by_row.keys() - {(info.name, info.header.row) for info in sheet.sheets}:
        for info, number, found in sheet.cells_of(wanted):
            cells[info.name, number] = [text_of(cell) for cell in found]
    order = {info.name: position for position, info in enumerate(sheet.sheets)}
    places = sorted(by_row, key=lambda place: (order.get(place[0], len(order)), place[1]))
    return [ProblemRow(name, row or None, by_row[name, row], cells.get((name, row), ())) for name, row in places]
