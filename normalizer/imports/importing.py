"""A sheet into the store and the queue, and out again: its import, the record of it, and its undo within a day.

Read whole first, then written, so that a bad file leaves nothing behind. The same code serves the dry run and the
import. Importing a file twice changes nothing: rows are known by `Id do agendamento`, else by a key made of what names
an appointment, and the store leaves equal rows alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from normalizer.domain.appointment import BRAND, UNIT, Kind, is_home_collection, scope_of
from normalizer.errors import InvalidInput, NormalizerError, QueueUnavailable
from normalizer.imports.plan import Plan, Progress, read_whole, unwatched
from normalizer.imports.spreadsheet import ColumnSeen, Limits, Problem, Proposal, Spreadsheet, Vocabulary
from normalizer.imports.spreadsheet.table import text_of
from normalizer.store import CellProblem, ImportNotes, ImportRow, ImportState, ProblemRow, SheetTitles, UpsertReport
from normalizer.store.undo import WINDOW
from normalizer.store.upsert import UNNAMED

if TYPE_CHECKING:
    from normalizer.cache import Cache
    from normalizer.store import AppointmentStore, ImportRecord, Undone

log = structlog.get_logger(__name__)

CHUNK: Final = 1_000
_MOST_PROBLEM_ROWS: Final = 10_000  # kept for the sheet to correct
_MOST_STATUSES: Final = 20


class Enqueue(Protocol):
    """What an import needs of the queue: `TaskService.enqueue_many`."""

    def __call__(self, ids: Sequence[str], /, *, fingerprints: Mapping[str, str]) -> Awaitable[object]:
        """Enqueue ids; `fingerprints` is the content they are enqueued with."""
        ...


@dataclass(slots=True)
class Lacking:
    """Rows of one brand (`nome_marca`), or else unit, that carry no address; `at_home` of them are visited."""

    name: str
    field: str
    rows: int = 0
    at_home: int = 0

    def as_dict(self) -> dict[str, str | int]:
        """For JSON."""
        return {self.field: self.name, "rows": self.rows, "at_home": self.at_home}


@dataclass(slots=True)
class ImportReport:
    """What an import did, or in a dry run would do.

    Attributes:
        import_id: None in a dry run.
        rows: usable rows, each key once.
        new, changed: to be normalized; `refreshed` (other fields only) and `equal` are not.
        unqueued: stored as `pendente` but not enqueued because Redis was away; the workers' reconcile takes them up.
        errors: one per row or cell that could not be used, masked.
        sheets, hidden_sheets, ignored_sheets: names of those read, hidden, and without a known header.
        emptied: texts that are stored and whose cells are empty now, by field; they stay unless `emptying` was said.
        unknown_statuses: those the backend has no name for, with their number of rows; the default is stored.
        unknown_columns: titles of columns that were not read because nobody knows what they carry.
        lacking: rows without an address, by brand or unit, under the scope a policy for them is kept under.
        proposals: what columns that were not read may carry, by what their cells hold.
        columns: every column that has a title, with what it is read as.
        told_columns: titles read by what an operator said of them, now or in an earlier import, with their field.
    """

    import_id: str | None
    dry_run: bool
    rows: int = 0
    new: int = 0
    changed: int = 0
    refreshed: int = 0
    equal: int = 0
    unqueued: int = 0
    errors: list[Problem] = field(default_factory=list)
    sheets: tuple[str, ...] = ()
    hidden_sheets: tuple[str, ...] = ()
    ignored_sheets: tuple[str, ...] = ()
    unknown_columns: tuple[str, ...] = ()
    told_columns: dict[str, str] = field(default_factory=dict)
    unknown_statuses: dict[str, int] = field(default_factory=dict)
    emptied: Counter[str] = field(default_factory=Counter)
    proposals: tuple[Proposal, ...] = ()
    lacking: dict[str, Lacking] = field(default_factory=dict)
    columns: tuple[ColumnSeen, ...] = ()

    def notes(self) -> ImportNotes:
        """For the record of an import that has ended."""
        counts = ImportNotes(new=self.new, changed=self.changed, refreshed=self.refreshed, equal=self.equal)
        told = ImportNotes(used=self.rows, unqueued=self.unqueued, problems=len(self.errors))
        return {**counts, **told, "state": ImportState.FINISHED}

    def as_dict(self) -> dict[str, Any]:
        """For JSON; problems as objects with their masked findings."""
        shown = {name: getattr(self, name) for name in _SHOWN}
        lacking = [one.as_dict() for one in self.lacking.values()]
        proposals = [one.as_dict() for one in self.proposals]
        return {**shown, "lacking": lacking, "proposals": proposals, "errors": [one.as_dict() for one in self.errors]}


_COUNTS: Final = ("rows", "new", "changed", "refreshed", "equal", "unqueued")
_SHOWN: Final = (
    *("import_id", "dry_run", *_COUNTS, "sheets", "hidden_sheets", "ignored_sheets", "unknown_columns"),
    *("told_columns", "unknown_statuses", "emptied"),
)


async def import_sheet(
    source: str | Path | bytes,
    *,
    store: AppointmentStore,
    enqueue: Enqueue,
    progress: Progress = unwatched,
    dry_run: bool = False,
    name: str | None = None,
    limits: Limits | None = None,
    vocabulary: Vocabulary | None = None,
    emptying: bool = False,
    import_id: str | None = None,
    seen: Callable[[Sequence[ImportRow]], None] = lambda _: None,
) -> ImportReport:
    """Store every usable row as `pendente` and enqueue what is new or changed, 1,000 rows a round trip.

    Args:
        source: a path or the file's bytes; the format is told by the bytes.
        store: where appointments are kept.
        enqueue: puts appointment ids in the queue.
        progress: called with (rows done, rows in all) before the first round trip and after each; while the file is
            read, with (rows read, 0).
        dry_run: compare with the store and report, write nothing.
        name: what messages call the file when `source` is bytes.
        limits: bounds on size.
        vocabulary: what titles mean beyond the known names.
        import_id: the id it was announced with; otherwise the store gives one.
        emptying: an empty cell empties what is stored; otherwise it stays, and `emptied` counts it.
        seen: told all rows that count, in another thread.

    Raises:
        InvalidInput: nothing of the file can be used; nothing was written.
        StoreUnavailable: the store went away. Rows written so far stay; the same import run again completes it.
    """
    opened: list[Spreadsheet] = []
    loop = asyncio.get_running_loop()

    def reading(done: int, rows: int) -> None:
        loop.call_soon_threadsafe(progress, done, rows)

    try:
        sheet, plan = await asyncio.to_thread(read_whole, source, name, limits, vocabulary, opened.append, reading)
    except asyncio.CancelledError:
        for one in opened:  # the thread would go on to the end
            one.close()
        raise
    about = ImportNotes(file=sheet.where, format=sheet.format, rows=plan.rows)
    import_id = None if dry_run else await store.imports.begin(import_id, **about)
    report = ImportReport(
        import_id,
        dry_run,
        rows=plan.rows,
        errors=plan.problems,
        sheets=tuple(info.name for info in sheet.sheets),
        hidden_sheets=sheet.hidden_sheets,
        ignored_sheets=sheet.ignored_sheets,
        unknown_columns=tuple(dict.fromkeys(title for info in sheet.sheets for title in info.header.unknown)),
        unknown_statuses=dict(plan.unknown_statuses.most_common(_MOST_STATUSES)),
        proposals=plan.proposals,
        columns=plan.columns,
        told_columns={title: told for info in sheet.sheets for title, told in info.header.told.items()},
    )
    log.info("import.begun", import_id=import_id, format=sheet.format, rows=plan.rows)
    if import_id is not None:
        await store.imports.note(
            import_id,
            titles=[SheetTitles(info.name, info.header.titles) for info in sheet.sheets],
            hidden_sheets=sheet.hidden_sheets,
            ignored_sheets=sheet.ignored_sheets,
            problems=len(plan.problems),
            written=0,
        )
        await _keep_problems(store, import_id, sheet, plan, plan.problems)
        await store.columns.remember(sheet.learned)
    sheet.rest()
    rows = plan.chosen_rows(emptying=emptying)
    feed = _Feed(enqueue)
    done, refused = 0, dict[str, str]()
    progress(done, plan.rows)
    while chunk := await asyncio.to_thread(_take, rows, seen):
        if import_id is None:
            _count(report, await store.preview_rows(chunk))
        else:
            upserted = await store.upsert_rows(chunk, import_id)
            _count(report, upserted)
            refused |= upserted.refused
            await feed.put({**upserted.new, **upserted.changed})
            await store.imports.note(import_id, written=done + len(chunk))
        _count_lacking(report.lacking, chunk)
        done += len(chunk)
        progress(done, plan.rows)
    if import_id is not None:
        report.unqueued = await feed.finish()
        if refused:
            report.rows -= len(refused)
            await _keep_problems(store, import_id, sheet, plan, plan.refuse(refused), first=_MOST_PROBLEM_ROWS)
        counts = {counted: getattr(report, counted) for counted in _COUNTS}
        await store.imports.end(import_id, **report.notes())
        log.info("import.finished", import_id=import_id, **counts, problems=len(report.errors))
    return report


class _Feed:
    """Puts ids in the queue as they are stored. Once Redis is away the rest waits and is tried again at the end."""

    def __init__(self, enqueue: Enqueue) -> None:
        self._enqueue = enqueue
        self._waiting: dict[str, str] = {}

    async def put(self, fingerprints: Mapping[str, str]) -> None:
        if self._waiting or (fingerprints and not await self._try(fingerprints)):
            self._waiting.update(fingerprints)

    async def finish(self) -> int:
        """Try what waits once more; returns how many stay unqueued (`pendente` in the store, so not lost)."""
        if self._waiting and await self._try(self._waiting):
            self._waiting = {}
        return len(self._waiting)

    async def _try(self, fingerprints: Mapping[str, str]) -> bool:
        try:
            await self._enqueue(list(fingerprints), fingerprints=fingerprints)
        except QueueUnavailable:
            return False
        return True


def _take(rows: Iterator[ImportRow], seen: Callable[[Sequence[ImportRow]], None]) -> list[ImportRow]:
    chunk = list(islice(rows, CHUNK))
    seen(chunk)
    return chunk


def _count(report: ImportReport, upserted: UpsertReport) -> None:
    report.new += len(upserted.new)
    report.changed += len(upserted.changed)
    report.refreshed += upserted.refreshed
    report.equal += upserted.equal
    report.emptied += upserted.emptied


def _count_lacking(lacking: dict[str, Lacking], rows: Sequence[ImportRow]) -> None:
    for row in rows:
        if row.fields.get("endereco_completo") or row.fields.get("endereco_coleta"):
            continue
        named = next((name for name in (BRAND, UNIT) if row.fields.get(name)), BRAND)
        name = str(row.fields.get(named) or UNNAMED[named])
        found = lacking.setdefault(scope_of(named, name) or named, Lacking(name, named))
        found.rows += 1
        found.at_home += is_home_collection(row.fields)


async def _keep_problems(
    store: AppointmentStore, import_id: str, sheet: Spreadsheet, plan: Plan, problems: Sequence[Problem], first: int = 0
) -> None:
    """Keep the rows with these problems, `first` in the order they are told in."""
    rows = await asyncio.to_thread(_problem_rows, sheet, problems, plan.keys_of(problems))
    await store.problems.keep(import_id, rows, first=first)


def _problem_rows(
    sheet: Spreadsheet, problems: Sequence[Problem], keys: Mapping[tuple[str, int], str]
) -> list[ProblemRow]:
    """Rows with problems, in the order of the sheet; without cells those that mean something else when read alone."""
    by_row: dict[tuple[str, int], list[CellProblem]] = {}
    for problem in problems:
        place = (problem.sheet, problem.row or 0)
        if place in by_row or len(by_row) < _MOST_PROBLEM_ROWS:
            told = CellProblem(problem.column, problem.expected, problem.found, problem.fix)
            by_row.setdefault(place, []).append(told)
    without = {(info.name, info.header.row) for info in sheet.sheets}
    without |= {(one.sheet, one.row or 0) for one in problems if one.beside}
    wanted = by_row.keys() - without
    read = sheet.cells_of(wanted) if wanted else ()
    cells = {(info.name, number): [text_of(cell) for cell in found] for info, number, found in read}
    order = {info.name: position for position, info in enumerate(sheet.sheets)}
    places = sorted(by_row, key=lambda place: (order.get(place[0], len(order)), place[1]))
    return [
        ProblemRow(name, row or None, by_row[name, row], cells.get((name, row), ()), keys.get((name, row)))
        for name, row in places
    ]


async def undo_import(
    record: ImportRecord,
    *,
    store: AppointmentStore,
    enqueue: Enqueue,
    cache: Cache | None = None,
    now: datetime | None = None,
) -> Undone:
    """Put back what the import wrote; rows that waited before wait again. How far it is, is noted as it goes.

    Args:
        record: the import, as the store gives it.
        store: what restores.
        enqueue: puts appointment ids in the queue. Redis away raises QueueUnavailable after all is restored; the
            workers' reconcile then takes the rows up.
        cache: what forgets a person's answers that are taken back.
        now: the time, UTC.

    Raises:
        InvalidInput: it is running, being undone, undone already, or older than a day; nothing was changed.
        StoreUnavailable: MongoDB went away; what is left can be undone again.
    """
    now = now or datetime.now(UTC)
    if record.undo_until(now) is None:
        raise _no_undo(record.state(now))
    import_id = record.id

    async def noted(undone: Undone) -> None:
        await store.imports.note(import_id, **_counts(undone))

    await store.imports.note(import_id, state=ImportState.UNDOING)
    try:
        undone = await store.undo(import_id, moved=noted)
    except BaseException:
        with contextlib.suppress(NormalizerError):
            await store.imports.note(import_id, state=ImportState.HALF_UNDONE)
        raise
    if cache is not None:
        await cache.forget_many(Kind.ADDRESS, undone.unsaid, manual=True)
    ended: ImportNotes = {**_counts(undone), "state": ImportState.UNDONE}
    await store.imports.end(import_id, **ended)
    for start in range(0, len(undone.pending), CHUNK):
        chunk = {item.id: item.fingerprint for item in undone.pending[start : start + CHUNK]}
        await enqueue(list(chunk), fingerprints=chunk)
    return undone


def _counts(undone: Undone) -> ImportNotes:
    return ImportNotes(removed=undone.removed, restored=undone.restored, kept=undone.kept)


def _no_undo(state: ImportState) -> InvalidInput:
    again = "Importe de novo a planilha anterior: só o que difere será mudado."
    found, fix = _NO_UNDO.get(state, ("uma importação mais antiga", again))
    hours = int(WINDOW.total_seconds() // 3600)
    return InvalidInput(where="desfazer", expected=f"uma importação das últimas {hours} horas", found=found, fix=fix)


_NO_UNDO: Final = {
    ImportState.RUNNING: ("uma importação em andamento", "Espere que termine e desfaça depois."),
    ImportState.UNDOING: ("uma importação que já está sendo desfeita", "Espere que termine."),
    ImportState.UNDONE: ("uma importação já desfeita", "Nada mais a fazer."),
}
