"""Record of an import for those outside its process: its header, and rows that could not be used, with their cells."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from normalizer.imports.spreadsheet.table import text_of
from normalizer.store import CellProblem, ProblemRow, SheetTitles

if TYPE_CHECKING:
    from normalizer.imports.spreadsheet import Problem, Spreadsheet
    from normalizer.store import AppointmentStore

#: Rows with problems kept for the error report.
MOST_ROWS: Final = 10_000


async def keep_header_and_problems(
    store: AppointmentStore,
    import_id: str,
    sheet: Spreadsheet,
    problems: Sequence[Problem],
    keys: Mapping[tuple[str, int], str],
) -> None:
    """Keep the rows with problems, and what was said of the titles, before anything is written.

    `keys` are the natural keys of appointments, by (sheet, row).
    """
    await store.imports.note(
        import_id,
        titles=[SheetTitles(info.name, info.header.titles) for info in sheet.sheets],
        hidden_sheets=sheet.hidden_sheets,
        ignored_sheets=sheet.ignored_sheets,
        problems=len(problems),
        written=0,
    )
    await keep_problems(store, import_id, sheet, problems, keys)
    await store.columns.remember(sheet.learned)


async def keep_problems(
    store: AppointmentStore,
    import_id: str,
    sheet: Spreadsheet,
    problems: Sequence[Problem],
    keys: Mapping[tuple[str, int], str],
    *,
    first: int = 0,
) -> None:
    """Keep the rows with these problems, `first` in the order they are told in."""
    rows = await asyncio.to_thread(_rows, sheet, problems, keys)
    await store.problems.keep(import_id, rows, first=first)


def _rows(sheet: Spreadsheet, problems: Sequence[Problem], keys: Mapping[tuple[str, int], str]) -> list[ProblemRow]:
    """Rows with problems, in the order of the sheet; without cells those that mean something else when read alone."""
    by_row: dict[tuple[str, int], list[CellProblem]] = {}
    for problem in problems:
        place = (problem.sheet, problem.row or 0)
        if place in by_row or len(by_row) < MOST_ROWS:
            told = CellProblem(problem.column, problem.expected, problem.found, problem.fix)
            by_row.setdefault(place, []).append(told)
    cells: dict[tuple[str, int], list[str]] = {}
    without = {(info.name, info.header.row) for info in sheet.sheets}
    without |= {(one.sheet, one.row or 0) for one in problems if one.beside}
    if wanted := by_row.keys() - without:
        for info, number, found in sheet.cells_of(wanted):
            cells[info.name, number] = [text_of(cell) for cell in found]
    order = {info.name: position for position, info in enumerate(sheet.sheets)}
    places = sorted(by_row, key=lambda place: (order.get(place[0], len(order)), place[1]))
    return [
        ProblemRow(name, row or None, by_row[name, row], cells.get((name, row), ()), keys.get((name, row)))
        for name, row in places
    ]
