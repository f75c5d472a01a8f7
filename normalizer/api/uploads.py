"""A sheet sent as the body of a request: to a temporary file, bounded, then previewed or imported.

The body is the file itself (`curl --data-binary @agenda.xlsx`), or a form with it (`curl -F arquivo=@agenda.xlsx`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import structlog
from fastapi import HTTPException, Query
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from normalizer.api.access import of_app
from normalizer.api.views import Body
from normalizer.domain.appointment import Policies
from normalizer.errors import InvalidInput, NormalizerError, QueueUnavailable, TransientError
from normalizer.imports.estimate import SheetEstimate, SheetTexts, estimate_texts
from normalizer.imports.importing import ImportReport, import_sheet, undo_import
from normalizer.imports.spreadsheet import CellEdits, Limits, ProblemGroup, grouped, megabytes
from normalizer.queue.waiting import cancel_and_wait
from normalizer.store import ImportNotes, ImportRecord, ImportState

if TYPE_CHECKING:
    from fastapi import Request

    from normalizer.imports.spreadsheet import Vocabulary
    from normalizer.runtime import Backend

log = structlog.get_logger(__name__)

T = TypeVar("T")

_FIELD_BYTES: Final = 1024 * 1024
_MOST_FIELDS: Final = 20
_FORM: Final = b"multipart/form-data"
_UNREADABLE: Final = "O formulário não se lê: envie o arquivo com curl -F arquivo=@agenda.xlsx ou --data-binary."
_NO_FILE: Final = "O formulário não traz arquivo: envie um, por exemplo com curl -F arquivo=@agenda.xlsx."


class FilePart:
    """The first file of a form, and its name once that has come; `fields` are the form's others, bounded."""

    def __init__(self, boundary: bytes) -> None:
        self.name: str | None = None
        self.fields: dict[str, bytearray] = {}
        self._current: bytearray | None = None
        self._is_in_file = False
        self._is_file = self._is_over = False
        self._field, self._value = bytearray(), bytearray()
        self._pieces: list[bytes] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._on_header_end,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
            },
        )

    def feed(self, piece: bytes) -> bytes:
        """What of the file is in this piece of the body. Raises 422 for what is no form."""
        self._pieces.clear()
        try:
            self._parser.write(piece)
        except FormParserError:
            raise HTTPException(422, _UNREADABLE) from None
        return b"".join(self._pieces)

    def close(self) -> None:
        """The body has ended. Raises 422 where no file was in it."""
        if not self._is_over:
            raise HTTPException(422, _NO_FILE if not self._is_file else _UNREADABLE)

    def _on_header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            options = parse_options_header(bytes(self._value))[1]
            given = options.get(b"filename")
            self._current = bytearray() if given is None else None
            if self._current is not None and len(self.fields) < _MOST_FIELDS:
                self.fields[options.get(b"name", b"").decode("utf-8", "replace")] = self._current
            elif given is not None and not self._is_over:
                self._is_file = self._is_in_file = True
                self.name = given.decode("utf-8", "replace") or self.name
        self._field.clear()
        self._value.clear()

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_in_file:
            self._pieces.append(data[start:end])
        elif self._current is not None:
            self._current += data[start:end]
            if len(self._current) > _FIELD_BYTES:
                raise HTTPException(413, "Um campo do formulário é grande demais.")

    def _on_part_end(self) -> None:
        self._is_over = self._is_over or self._is_in_file
        self._is_in_file, self._current = False, None


def file_part_of(request: Request) -> FilePart | None:
    """How the file is to be taken out of this request's body; None where the body is the file. Raises 422."""
    kind, options = parse_options_header(request.headers.get("content-type", "").encode("latin-1"))
    if kind != _FORM:
        return None
    if not options.get(b"boundary"):
        raise HTTPException(422, _UNREADABLE)
    return FilePart(options[b"boundary"])


#: How long a request waits for what it asked before it is told where to look.
PATIENCE_S: Final = 10.0
#: Of that, what a preview gets: half a second, so that the answer comes as soon as the file is received.
FIRST_LOOK: Final = 0.05
_FORECAST_S: Final = 60.0
_KEPT_S: Final = 15 * 60.0
_MOST_KEPT: Final = 32
_MOST_PROBLEMS: Final = 200


@dataclass(slots=True)
class Preview:
    """One dry run: under way, ready, or refused.

    Attributes:
        done, rows: rows compared so far, of how many; while the file is read, rows read so far, of 0.
        report: with its first problems only; `problems` counts them all.
        told: titles and what was said of them in this request.
        groups: equal problems together, the most frequent first.
        policies: what is decided about missing addresses.
        foreseen: None where it takes too long to tell (`normalizer estimate` has the time).
        refused: why nothing of it can be used, or what went wrong.
    """

    id: str
    name: str
    began: float
    phase: str = "na fila"
    done: int = 0
    rows: int = 0
    report: ImportReport | None = None
    problems: int = 0
    told: dict[str, str] = field(default_factory=dict)
    groups: list[ProblemGroup] = field(default_factory=list)
    policies: Policies = field(default_factory=Policies)
    foreseen: SheetEstimate | None = None
    refused: NormalizerError | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def is_over(self) -> bool:
        """Whether it is ready or refused."""
        return self.task is not None and self.task.done()

    async def wait(self, patience_s: float) -> None:
        """Wait for its end, if it comes in time. Raises what was not expected."""
        if self.task is not None and await patiently(self.task, patience_s):
            await self.task


class Previews:
    """The dry runs of this process.

    Args:
        backend: what the sheets are compared with.
        uploads: whose places they share.
        clock: seconds, for forgetting them.
    """

    def __init__(self, backend: Backend, uploads: Uploads, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._backend, self._uploads, self._clock = backend, uploads, clock
        self._kept: dict[str, Preview] = {}

    def begin(self, upload: Upload, vocabulary: Vocabulary) -> Preview:
        """Take the file over and begin."""
        self._forget()
        kept = upload.path.rename(upload.path.with_suffix(".previa"))
        told = dict(zip(vocabulary.titles, vocabulary.said.values(), strict=False))
        preview = Preview(secrets.token_hex(12), upload.name, self._clock(), told=told)
        preview.task = asyncio.create_task(self._run(preview, kept, replace(vocabulary, edits=upload.edits)))
        self._kept[preview.id] = preview
        return preview

    def find(self, preview_id: str) -> Preview | None:
        """One that was begun in the last minutes."""
        self._forget()
        return self._kept.get(preview_id)

    async def close(self) -> None:
        """Stop what runs."""
        await cancel_and_wait(*(preview.task for preview in self._kept.values() if preview.task is not None))

    async def _run(self, preview: Preview, path: Path, vocabulary: Vocabulary) -> None:
        try:
            async with self._uploads.place():
                preview.phase, texts = "lendo", SheetTexts()
                await self._compare(preview, path, vocabulary, texts)
                preview.phase = "estimando"
                await self._foresee(preview, texts)
        except NormalizerError as error:
            preview.refused = error
        finally:
            path.unlink(missing_ok=True)  # noqa: ASYNC240 — one entry of the temporary directory

    async def _compare(self, preview: Preview, path: Path, vocabulary: Vocabulary, texts: SheetTexts) -> None:
        def moved(done: int, rows: int) -> None:
            preview.phase, preview.done, preview.rows = "comparando" if rows else "lendo", done, rows

        report = await import_sheet(
            path,
            store=self._backend.store,
            enqueue=self._backend.tasks.enqueue_many,
            progress=moved,
            dry_run=True,
            name=preview.name,
            limits=self._uploads.limits,
            vocabulary=vocabulary,
            seen=texts.note,
        )
        preview.policies = await self._backend.store.policies.read()
        preview.problems = texts.problems = len(report.errors)
        preview.groups = grouped(report.errors)
        del report.errors[_MOST_PROBLEMS:]
        preview.report = report

    async def _foresee(self, preview: Preview, texts: SheetTexts) -> None:
        backend = self._backend
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FORECAST_S):
                preview.foreseen = await estimate_texts(texts, lane=backend.lane, cache=backend.cache)

    def _forget(self) -> None:
        old = [one for one in self._kept.values() if one.is_over and self._clock() - one.began > _KEPT_S]
        over = [one for one in self._kept.values() if one.is_over and one not in old]
        for one in [*old, *over[: max(0, len(over) - _MOST_KEPT)]]:
            del self._kept[one.id]


async def patiently(task: asyncio.Task[T], patience_s: float) -> bool:
    """Wait for what goes on by itself, whoever leaves; False when it needs longer. What it raised is not raised."""
    await asyncio.wait({task}, timeout=patience_s)
    return task.done()


_AT_ONCE: Final = 2
_WAITING: Final = 8
_NAME_CHARS: Final = 120
#: How long a request waits for its sheet to be refused, or for its rows to be known.
_SNIFF_S: Final = 0.3
_READ_PAST: Final = 20  # times the limit: who is still sending when the connection ends never reads why


class Busy(TransientError):
    """Too many sheets at once."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was received whole."""

    path: Path
    name: str
    digest: str = ""
    edits: CellEdits = field(default_factory=CellEdits)


@contextlib.asynccontextmanager
async def received(request: Request, name: str | None, *, limits: Limits) -> AsyncIterator[Upload]:
    """The request's body as a file, which is deleted afterwards unless it was moved. 413 beyond the limit."""
    most = limits.file_bytes
    descriptor, path = tempfile.mkstemp(prefix="normalizer-", suffix=".planilha")
    try:
        with os.fdopen(descriptor, "wb") as file:
            form, size, digest = file_part_of(request), 0, hashlib.blake2b(digest_size=16)
            async for piece in request.stream():
                size += len(piece)
                if size <= most:
                    content = form.feed(piece) if form is not None else piece
                    file.write(content)
                    digest.update(content)
                elif size > _READ_PAST * most:
                    break
        if size > most:
            raise HTTPException(413, f"A planilha passa de {megabytes(most)}: divida-a.")
        edits = CellEdits()
        if form is not None:
            form.close()
            name = name or form.name
            said = bytes(form.fields.get("edicoes", b""))
            edits = edits_of(said)
            digest.update(said)
        yield Upload(Path(path), file_name(name), digest.hexdigest(), edits)
    finally:
        Path(path).unlink(missing_ok=True)  # noqa: ASYNC240 — one entry of the temporary directory


class CellEdit(Body):
    """A text for the cells of one column, in these rows; the file stays as it is."""

    planilha: str = Field(examples=["Agenda"])
    coluna: str = Field(examples=["Data Agendamento"])
    linhas: list[int] = Field(min_length=1, max_length=20_000, examples=[[7, 12]])
    valor: str = Field(examples=["28/02/2026"])


_EDITS: Final = TypeAdapter(list[CellEdit])


def edits_of(said: bytes) -> CellEdits:
    """Of the form's field `edicoes`, a JSON list of `CellEdit`. 422 for anything else."""
    if not said:
        return CellEdits()
    try:
        found = _EDITS.validate_json(said)
    except ValidationError:
        raise HTTPException(422, "edicoes: esperada uma lista de {planilha, coluna, linhas, valor}.") from None
    return CellEdits.of((one.planilha, one.coluna, one.linhas, one.valor) for one in found)


def file_name(given: str | None) -> str:
    """A file's name fit to be stored and shown: no path, no control character, bounded."""
    last = (given or "").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(char for char in last if char.isprintable()).strip()[:_NAME_CHARS] or "planilha enviada"


class Uploads:
    """Runs imports of uploaded sheets in this process, a few at a time."""

    def __init__(self, backend: Backend, *, limits: Limits | None = None) -> None:
        self._backend, self.limits = backend, limits or Limits()
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()  # kept, so that none is collected while it runs

    async def start(
        self, upload: Upload, vocabulary: Vocabulary, *, emptying: bool = False, key: str | None = None
    ) -> str:
        """Begin the import and return its id at once; reading and writing go on by themselves.

        Args:
            upload: the file, which is taken over.
            vocabulary: what titles mean.
            emptying: whether an empty cell empties what is stored.
            key: what the client calls this request by; the same once more is the same import.

        Raises:
            InvalidInput: nothing of it can be used, and that was seen within a moment; later, the import is `recusada`.
        """
        store = self._backend.store
        import_id = await store.imports.id_of(key)
        is_new = await store.imports.announce(import_id, file=upload.name, content=upload.digest)
        if not is_new and not await self._was_cut_short(import_id, upload):
            return import_id
        kept = upload.path.rename(upload.path.with_suffix(".importando"))
        vocabulary = replace(vocabulary, edits=upload.edits)
        begun = asyncio.Event()
        task = self._go_on(self._run(kept, upload.name, vocabulary, begun, import_id=import_id, emptying=emptying))
        known = asyncio.create_task(begun.wait())
        await asyncio.wait({task, known}, timeout=_SNIFF_S, return_when=asyncio.FIRST_COMPLETED)
        known.cancel()
        if task.done() and (error := task.exception()) is not None:
            await store.imports.forget(import_id)
            raise error
        self._go_on(self._note_refusal(task, import_id))
        return import_id

    async def _was_cut_short(self, import_id: str, upload: Upload) -> bool:
        """Whether an import known by its key is to be done again. 422 when the key came with another file."""
        record = await self._backend.store.imports.get(import_id)
        if record is None or record.content != upload.digest:
            raise HTTPException(422, "Esta Idempotency-Key já foi usada com outro arquivo: use outra.")
        return record.state(datetime.now(UTC)) is ImportState.BROKEN

    async def _note_refusal(self, task: asyncio.Task[None], import_id: str) -> None:
        """Once nobody waits for the answer any more: what was refused, or broke before it began, is noted."""
        await asyncio.wait({task})
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        ended = ImportNotes(state=ImportState.BROKEN)
        if isinstance(error, InvalidInput):
            ended = ImportNotes(state=ImportState.REFUSED, refusal=str(error))
        log.warning("api.import.refused", import_id=import_id, error=type(error).__name__)
        with contextlib.suppress(NormalizerError):
            await self._backend.store.imports.end(import_id, **ended)

    def undo(self, record: ImportRecord) -> asyncio.Task[None]:
        """Undo an import; it goes on whoever waits for it. What `undo_import` refuses, the task raises."""
        return self._go_on(self._undo(record))

    def carry_out(self, work: Coroutine[Any, Any, Any], import_id: str) -> None:
        """Do what is followed and undone by this id, as an import is; it goes on by itself."""
        self._go_on(self._note_refusal(self._go_on(work), import_id))

    async def close(self) -> None:
        """Stop what runs; the same sheet imported again, or undone again, completes it."""
        await cancel_and_wait(*self._tasks, ask_every_s=1.0)  # each notes first that it was broken off

    def _go_on(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _undo(self, record: ImportRecord) -> None:
        backend = self._backend
        with contextlib.suppress(QueueUnavailable):  # all is restored; the workers take up what waits
            enqueue = backend.tasks.enqueue_many
            await undo_import(record, store=backend.store, enqueue=enqueue, cache=backend.cache)

    async def _run(
        self,
        path: Path,
        name: str,
        vocabulary: Vocabulary,
        begun: asyncio.Event,
        *,
        import_id: str,
        emptying: bool,
    ) -> None:
        backend = self._backend

        def progress(done: int, rows: int) -> None:
            if rows:
                begun.set()
            else:
                self._go_on(self._note_reading(import_id, done))

        try:
            async with self.place():
                await import_sheet(
                    path,
                    store=backend.store,
                    enqueue=backend.tasks.enqueue_many,
                    name=name,
                    limits=self.limits,
                    vocabulary=vocabulary,
                    progress=progress,
                    emptying=emptying,
                    import_id=import_id,
                )
        except BaseException as error:
            if not begun.is_set():
                raise
            log.warning("api.import.interrupted", import_id=import_id, error=type(error).__name__)
            with contextlib.suppress(NormalizerError):
                await backend.store.imports.end(import_id, state=ImportState.BROKEN)
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            path.unlink(missing_ok=True)  # noqa: ASYNC240

    async def _note_reading(self, import_id: str, count: int) -> None:
        with contextlib.suppress(NormalizerError):
            await self._backend.store.imports.note(import_id, read=count)

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """One of the few sheets that are read at once. Raises Busy when too many wait already."""
        if self._waiting >= _WAITING:
            raise Busy("Há planilhas demais sendo lidas agora.", retry_after_s=30)
        self._waiting += 1
        try:
            async with self._places:
                yield
        finally:
            self._waiting -= 1


#: Parameter types of path operations; `Patience` is how many seconds it waits for work that goes on by itself.
TheUploads = Annotated[Uploads, of_app("uploads")]
ThePreviews = Annotated[Previews, of_app("previews")]
Patience = Annotated[float, of_app("patience_s")]
FileName = Annotated[str | None, Query(max_length=300, description="Como as mensagens chamam o arquivo.")]


class Started(BaseModel):
    """An import that goes on by itself."""

    id: str = Field(examples=["6740f0c2a1b2c3d4e5f60718"])
