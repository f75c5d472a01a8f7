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
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import structlog

from normalizer.domain.stored_form import status_of, stored_form
from normalizer.domain.text import fold
from normalizer.errors import InvalidInput, QueueUnavailable
from normalizer.imports.spreadsheet import (
    ADDRESS_FIELDS,
    DOCUMENT_FIELDS,
    KEY_FIELD,
    Header,
    Limits,
    Problem,
    Proposal,
    Row,
    Spreadsheet,
    Vocabulary,
    read,
)
from normalizer.store import ImportNotes, ImportRow, ImportState, UpsertReport

if TYPE_CHECKING:
    from normalizer.store import AppointmentStore

log = structlog.get_logger(__name__)

CHUNK: Final = 1_000
_MOST_STATUSES: Final = 20
_TOLD_EVERY: Final = 5_000  # rows read
# What names an appointment where a sheet carries no id. The address and the documents are left out on purpose: a
# corrected one is the same appointment, to be normalized again.
_IDENTITY: Final = ("nome_paciente", "data_agendamento", "hora_agendamento", "nome_unidade", "tipo_consulta")

_TIMES: Final = ("hora_agendamento", "hora_confirmacao")
_TEXTS: Final = ADDRESS_FIELDS | DOCUMENT_FIELDS
_DOCUMENTS: Final = sorted(DOCUMENT_FIELDS)

Progress: TypeAlias = Callable[[int, int], None]


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
        emptied: texts that are stored and whose cells are empty now, by field; they stay unless `emptying` was said.
        unknown_statuses: those the backend has no name for, with their number of rows; the default is stored.
        unknown_columns: titles of columns that were not read because nobody knows what they carry.
        proposals: what columns that were not read may carry, by what their cells hold.
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

    def notes(self) -> ImportNotes:
        """For the record of an import that has ended."""
        counts = ImportNotes(new=self.new, changed=self.changed, refreshed=self.refreshed, equal=self.equal)
        told = ImportNotes(used=self.rows, unqueued=self.unqueued, problems=len(self.errors))
        return {**counts, **told, "state": ImportState.FINISHED}

    def as_dict(self) -> dict[str, Any]:
        """For JSON; problems as objects with their masked findings."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        names = {name: list(getattr(self, name)) for name in _NAMES}
        about = {"told_columns": self.told_columns, "unknown_statuses": self.unknown_statuses}
        about["emptied"] = dict(self.emptied)
        proposed = [one.as_dict() for one in self.proposals]
        errors = [problem.as_dict() for problem in self.errors]
        return {
            "import_id": self.import_id,
            "dry_run": self.dry_run,
            **counts,
            **names,
            **about,
            "proposals": proposed,
            "errors": errors,
        }


_COUNTS: Final = ("rows", "new", "changed", "refreshed", "equal", "unqueued")
_NAMES: Final = ("sheets", "hidden_sheets", "ignored_sheets", "unknown_columns")


async def import_sheet(
    source: str | Path | bytes,
    *,
    store: AppointmentStore,
    enqueue: Enqueue,
    progress: Progress | None = None,
    dry_run: bool = False,
    name: str | None = None,
    limits: Limits | None = None,
    vocabulary: Vocabulary | None = None,
    journal: Journal | None = None,
    emptying: bool = False,
    import_id: str | None = None,
    reading: Callable[[int], None] | None = None,
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
        import_id: the id it was announced with; otherwise the store gives one.
        reading: called from another thread with the number of rows read, before any is written.
        emptying: an empty cell empties what is stored; otherwise it stays, and `emptied` counts it.

    Raises:
        InvalidInput: nothing of the file can be used; nothing was written.
        StoreUnavailable: the store went away. Rows written so far stay; the same import run again completes it.
    """
    opened: list[Spreadsheet] = []
    try:
        sheet, plan = await asyncio.to_thread(_read_whole, source, name, limits, vocabulary, opened.append, reading)
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
        told_columns={title: told for info in sheet.sheets for title, told in info.header.told.items()},
    )
    log.info("import.begun", import_id=import_id, format=sheet.format, rows=plan.rows)
    if import_id is not None and journal is not None:
        await journal.begun(import_id, sheet, plan.problems)
    rows = _chosen_rows(sheet, plan, emptying=emptying)
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
        await store.imports.end(import_id, **report.notes())
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


@dataclass(frozen=True, slots=True)
class _Seen:
    """A row of the first pass: where it stands, whose it is, and a hash of all it holds."""

    sheet: str
    number: int
    patient: str
    content: int

    @property
    def place(self) -> tuple[str, int]:
        return self.sheet, self.number


class _Plan:
    """What the first pass found: which row counts for each appointment, and every problem.

    Rows of one key that are two patients' are two appointments: each has its patient in its key.
    """

    def __init__(self, sheet: Spreadsheet) -> None:
        self._sheet = sheet
        self._last: dict[str, _Seen] = {}
        self._shared: dict[str, list[_Seen]] = {}
        self.problems: list[Problem] = []
        self.proposals: tuple[Proposal, ...] = ()
        self.unknown_statuses: Counter[str] = Counter()

    @property
    def rows(self) -> int:
        return len(self._last) - len(self._shared) + sum(map(len, self._shared.values()))

    def note(self, row: Row) -> None:
        """Take up the next row of the sheet."""
        key, seen = key_of(row), _Seen(row.sheet, row.number, _patient_of(row), hash(frozenset(row.values.items())))
        earlier = self._shared.get(key) or [self._last.get(key, seen)]
        same = next((at for at, one in enumerate(earlier) if _is_same(row, one.patient, seen.patient)), None)
        if earlier[0] is seen:
            self._last[key] = seen
        elif same is not None:
            self.problems.append(
                _repeated(self._sheet, row, earlier[same], equal=earlier[same].content == seen.content)
            )
            self._last[key] = earlier[same] = seen
        else:
            self._shared[key] = [*earlier, seen]
            if row.key is not None:
                self.problems.append(_not_unique(self._sheet, row, earlier[-1]))
        if (status := row.values.get("status")) is not None and status_of(status) is None:
            self.unknown_statuses[status] += 1

    def key_of(self, row: Row) -> str | None:
        """The key under which a row is stored; None where a later one took its place."""
        key = key_of(row)
        if key not in self._shared:
            return key if self._last[key].place == (row.sheet, row.number) else None
        mine = next((one for one in self._shared[key] if one.place == (row.sheet, row.number)), None)
        return None if mine is None else f"{key}:{_digest([mine.patient])}"


def _patient_of(row: Row) -> str:
    """Whose a row is, beyond what its key says: by name under an id, else by the digits of the documents."""
    if row.key is not None:
        return fold(row.values.get("nome_paciente", ""))
    return "".join(filter(str.isdigit, "".join(row.values.get(name, "") for name in _DOCUMENTS)))


def _is_same(row: Row, one: str, other: str) -> bool:
    """Whether two rows may be one patient's: nothing of either speaks against it."""
    if row.key is None:
        return one in other or other in one
    names, others = set(one.split()), set(other.split())
    return names <= others or others <= names


def _read_whole(
    source: str | Path | bytes,
    name: str | None,
    limits: Limits | None,
    vocabulary: Vocabulary | None,
    opened: Callable[[Spreadsheet], None] = lambda _: None,
    reading: Callable[[int], None] | None = None,
) -> tuple[Spreadsheet, _Plan]:
    """Read every row once, so that a file that breaks off halfway is refused before the first write."""
    sheet = read(source, name=name, limits=limits, vocabulary=vocabulary)
    opened(sheet)
    plan = _Plan(sheet)
    for count, row in enumerate(sheet.rows(), 1):
        plan.note(row)
        if reading is not None and count % _TOLD_EVERY == 0:
            reading(count)
    if not plan.rows:
        headers = {(info.name, info.header.row) for info in sheet.sheets}
        unusable = [problem for problem in sheet.problems if (problem.sheet, problem.row) not in headers]
        found = f"nenhuma que se aproveite ({'; '.join(map(str, unusable[:3]))})"
        raise InvalidInput(
            where=sheet.where,
            expected="ao menos uma linha de agendamento abaixo do cabeçalho",
            found=found if unusable else "só o cabeçalho",
            mend="Confira se a planilha foi exportada com os agendamentos.",
        )
    plan.problems[:0] = sheet.problems
    plan.proposals = sheet.proposals()
    return sheet, plan


def _repeated(sheet: Spreadsheet, row: Row, earlier: _Seen, *, equal: bool) -> Problem:
    column = _header_of(sheet, row).title_of(KEY_FIELD)
    telling = "dê a cada um o seu id" if row.key is not None else "preencha o id, a data, a hora ou o CPF"
    return Problem(
        earlier.sheet,
        earlier.number,
        column,
        "cada agendamento uma só vez",
        f"o mesmo agendamento na linha {row.number}" + _of_sheet(row.sheet, earlier.sheet),
        f"Valeu a última linha; {'apague a repetida' if equal else f'se são agendamentos diferentes, {telling}'}.",
    )


def _not_unique(sheet: Spreadsheet, row: Row, earlier: _Seen) -> Problem:
    return Problem(
        row.sheet,
        row.number,
        _header_of(sheet, row).title_of(KEY_FIELD),
        "um id para cada agendamento",
        f"o id de outro paciente, da linha {earlier.number}" + _of_sheet(earlier.sheet, row.sheet),
        "Entraram como agendamentos diferentes; dê a cada um o seu id, para que outra importação os reconheça.",
    )


def _of_sheet(name: str, here: str) -> str:
    return "" if name == here else f" de “{name}”"


def _header_of(sheet: Spreadsheet, row: Row) -> Header:
    return next(info.header for info in sheet.sheets if info.name == row.sheet)


def _chosen_rows(sheet: Spreadsheet, plan: _Plan, *, emptying: bool = False) -> Iterator[ImportRow]:
    # A text whose column the sheet does not have is left as it is stored; one whose cell is empty, unless it was said.
    empty = {info.name: dict.fromkeys(sorted(info.header.fields & _TEXTS)) for info in sheet.sheets}
    for row in sheet.rows():
        if (key := plan.key_of(row)) is not None:
            values = {name: value for name, value in row.values.items() if name != KEY_FIELD}
            fields = {name: None for name in empty[row.sheet] if name not in row.unread} | stored_form(values)
            kept = row.unread if emptying else row.unread | (empty[row.sheet].keys() - values.keys())
            yield ImportRow(key, fields, kept)


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
    return f"linha:{_digest(parts)}"


def _digest(parts: Sequence[str]) -> str:
    return hashlib.blake2b("\0".join(parts).casefold().encode(), digest_size=16).hexdigest()


def _count(report: ImportReport, upserted: UpsertReport) -> None:
    report.new += len(upserted.new)
    report.changed += len(upserted.changed)
    report.refreshed += upserted.refreshed
    report.equal += upserted.equal
    report.emptied += upserted.emptied
