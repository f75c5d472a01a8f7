"""A sheet into the store and the queue: read whole first, then written, so that a bad file leaves nothing behind.

The same code serves the dry run and the import. Importing a file twice changes nothing: rows are known by
`Id do agendamento`, else by a key made of what names an appointment, and the store leaves equal rows alone.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import structlog

from normalizer.domain.stored_form import status_of, stored_form
from normalizer.errors import InvalidInput, QueueUnavailable
from normalizer.imports.spreadsheet import (
    ADDRESS_FIELDS,
    DOCUMENT_FIELDS,
    KEY_FIELD,
    Limits,
    Problem,
    Row,
    Spreadsheet,
    Vocabulary,
    read,
)
from normalizer.store import ImportRow, UpsertReport

log = structlog.get_logger(__name__)

CHUNK: Final = 1_000
_MOST_STATUSES: Final = 20
# What names an appointment where a sheet carries no id. The address and the documents are left out on purpose: a
# corrected one is the same appointment, to be normalized again.
_IDENTITY: Final = ("nome_paciente", "data_agendamento", "hora_agendamento", "nome_unidade", "tipo_consulta")

_TIMES: Final = ("hora_agendamento", "hora_confirmacao")
_TEXTS: Final = ADDRESS_FIELDS | DOCUMENT_FIELDS

Progress: TypeAlias = Callable[[int, int], None]


class Store(Protocol):
    """What an import needs of the store; `AppointmentStore` is one."""

    async def create_import(self, about: Mapping[str, Any]) -> str:
        """Note that an import begins; returns its id."""
        ...

    async def finish_import(self, import_id: str, outcome: Mapping[str, Any]) -> None:
        """Note how it ended."""
        ...

    async def upsert_rows(self, rows: Sequence[ImportRow], import_id: str) -> UpsertReport:
        """Write rows; equal ones are not touched."""
        ...

    async def preview_rows(self, rows: Sequence[ImportRow]) -> UpsertReport:
        """The same comparison, nothing written."""
        ...


class Journal(Protocol):
    """Who follows an import from outside its process; `normalizer.imports.progress.ImportJournal` is one."""

    async def begun(self, import_id: str, sheet: Spreadsheet, problems: Sequence[Problem]) -> None:
        """The file could be read whole; nothing is written yet."""

    async def moved(self, import_id: str, done: int) -> None:
        """So many rows are written."""


class Enqueue(Protocol):
    """What an import needs of the queue: `TaskService.enqueue_many`."""

    def __call__(self, ids: Sequence[str], /, *, fingerprints: Mapping[str, str]) -> Awaitable[object]:
        """Enqueue ids; `fingerprints` is the content they are enqueued with."""
        ...


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
        unknown_statuses: those the backend has no name for, with their number of rows; the default is stored.
        unknown_columns: titles of columns that were not read because nobody knows what they carry.
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

    def as_dict(self) -> dict[str, Any]:
        """For JSON; problems as objects with their masked findings."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        names = {name: list(getattr(self, name)) for name in _NAMES}
        titles = {"told_columns": self.told_columns, "unknown_statuses": self.unknown_statuses}
        errors = [problem.as_dict() for problem in self.errors]
        return {"import_id": self.import_id, "dry_run": self.dry_run, **counts, **names, **titles, "errors": errors}


_COUNTS: Final = ("rows", "new", "changed", "refreshed", "equal", "unqueued")
_NAMES: Final = ("sheets", "hidden_sheets", "ignored_sheets", "unknown_columns")


async def import_sheet(
    source: str | Path | bytes,
    *,
    store: Store,
    enqueue: Enqueue,
    progress: Progress | None = None,
    dry_run: bool = False,
    name: str | None = None,
    limits: Limits | None = None,
    vocabulary: Vocabulary | None = None,
    journal: Journal | None = None,
) -> ImportReport:
    """Store every usable row as `pendente` and enqueue what is new or changed, 1,000 rows a round trip.

    Args:
        source: a path or the file's bytes; the format is told by the bytes.
        store: where appointments are kept.
        enqueue: puts appointment ids in the queue.
        progress: called with (rows done, rows in all) after each round trip.
        dry_run: compare with the store and report, write nothing.
        name: what messages call the file when `source` is bytes.
        limits: bounds on size.
        vocabulary: what titles mean beyond the known names.
        journal: told when the import has its id, and after each round trip; not in a dry run.

    Raises:
        InvalidInput: nothing of the file can be used; nothing was written.
        StoreUnavailable: the store went away. Rows written so far stay; the same import run again completes it.
    """
    sheet, plan = await asyncio.to_thread(_read_whole, source, name, limits, vocabulary)
    about = {"arquivo": sheet.where, "formato": sheet.format, "linhas": plan.rows}
    import_id = None if dry_run else await store.create_import(about)
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
        told_columns={title: told for info in sheet.sheets for title, told in info.header.told.items()},
    )
    log.info("import.begun", import_id=import_id, format=sheet.format, rows=plan.rows)
    if import_id is not None and journal is not None:
        await journal.begun(import_id, sheet, plan.problems)
    rows = _chosen_rows(sheet, plan)
    feed = _Feed(enqueue)
    done = 0
    while chunk := await asyncio.to_thread(_take, rows):
        if import_id is None:
            _count(report, await store.preview_rows(chunk))
        else:
            upserted = await store.upsert_rows(chunk, import_id)
            _count(report, upserted)
            await feed.put({**upserted.new, **upserted.changed})
        done += len(chunk)
        if import_id is not None and journal is not None:
            await journal.moved(import_id, done)
        if progress is not None:
            progress(done, report.rows)
    if import_id is not None:
        report.unqueued = await feed.finish()
        counts = {counted: getattr(report, counted) for counted in _COUNTS}
        await store.finish_import(import_id, {**counts, "problemas": len(report.errors)})
        log.info("import.finished", import_id=import_id, **counts, problems=len(report.errors))
    return report


def usable_rows(
    source: str | Path | bytes,
    *,
    name: str | None = None,
    limits: Limits | None = None,
    vocabulary: Vocabulary | None = None,
) -> tuple[Iterator[ImportRow], Sequence[Problem]]:
    """The rows an import of this file would store, each appointment once, and what it would complain of.

    Raises InvalidInput as `import_sheet` does.
    """
    sheet, plan = _read_whole(source, name, limits, vocabulary)
    return _chosen_rows(sheet, plan), plan.problems


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


@dataclass(slots=True)
class _Plan:
    """What the first pass found: which row counts for each key, and every problem."""

    last: dict[str, tuple[str, int]]
    problems: list[Problem]
    unknown_statuses: Counter[str]

    @property
    def rows(self) -> int:
        return len(self.last)


def _read_whole(
    source: str | Path | bytes, name: str | None, limits: Limits | None, vocabulary: Vocabulary | None
) -> tuple[Spreadsheet, _Plan]:
    """Read every row once, so that a file that breaks off halfway is refused before the first write."""
    sheet = read(source, name=name, limits=limits, vocabulary=vocabulary)
    last: dict[str, tuple[str, int]] = {}
    repeated: list[Problem] = []
    statuses: Counter[str] = Counter()
    for row in sheet.rows():
        key = key_of(row)
        if key in last:
            repeated.append(_repeated(sheet, row, *last[key]))
        last[key] = (row.sheet, row.number)
        if (status := row.values.get("status")) is not None and (status in statuses or status_of(status) is None):
            statuses[status] += 1
    if not last:
        headers = {(info.name, info.header.row) for info in sheet.sheets}
        unusable = [problem for problem in sheet.problems if (problem.sheet, problem.row) not in headers]
        raise InvalidInput(
            where=sheet.where,
            expected="ao menos uma linha de agendamento abaixo do cabeçalho",
            found="só o cabeçalho"
            if not unusable
            else f"nenhuma que se aproveite ({'; '.join(map(str, unusable[:3]))})",
            mend="Confira se a planilha foi exportada com os agendamentos.",
        )
    return sheet, _Plan(last, [*sheet.problems, *repeated], statuses)


def _repeated(sheet: Spreadsheet, row: Row, earlier_sheet: str, earlier: int) -> Problem:
    header = next(info.header for info in sheet.sheets if info.name == row.sheet)
    return Problem(
        earlier_sheet,
        earlier,
        header.title_of(KEY_FIELD),
        "cada agendamento uma só vez",
        f"o mesmo agendamento na linha {row.number}" + ("" if row.sheet == earlier_sheet else f" de “{row.sheet}”"),
        "Valeu a última linha; apague a repetida.",
    )


def _chosen_rows(sheet: Spreadsheet, plan: _Plan) -> Iterator[ImportRow]:
    # A text whose cell has been emptied is gone; one whose column the sheet does not have is left as it is stored.
    empty = {info.name: dict.fromkeys(sorted(info.header.fields & _TEXTS)) for info in sheet.sheets}
    for row in sheet.rows():
        key = key_of(row)
        if plan.last.get(key) == (row.sheet, row.number):
            values = {name: value for name, value in row.values.items() if name != KEY_FIELD}
            yield ImportRow(key, {**empty[row.sheet], **stored_form(values)})


def _take(rows: Iterator[ImportRow]) -> list[ImportRow]:
    return list(islice(rows, CHUNK))


def key_of(row: Row) -> str:
    """The natural key of a row, else one made of what names the appointment (patient, time, unit, exam).

    A row that names neither a patient nor a date is known by all it holds: changed, it is another row.
    """
    if row.key is not None:
        return row.key
    # Times count with their seconds, as the first versions stored them: a key never changes.
    values = {name: f"{text}:00" if name in _TIMES else text for name, text in row.values.items()}
    named = "nome_paciente" in values and "data_agendamento" in values
    parts = [values.get(name, "") for name in _IDENTITY] if named else [f"{k}={values[k]}" for k in sorted(values)]
    digest = hashlib.blake2b("\0".join(parts).casefold().encode(), digest_size=16)
    return f"linha:{digest.hexdigest()}"


def _count(report: ImportReport, upserted: UpsertReport) -> None:
    report.new += len(upserted.new)
    report.changed += len(upserted.changed)
    report.refreshed += upserted.refreshed
    report.equal += upserted.equal
