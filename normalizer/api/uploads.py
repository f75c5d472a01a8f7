"""A sheet sent as the body of a request: to a temporary file, bounded, then previewed or imported.

The body is the file itself (`curl --data-binary @agenda.xlsx`), or a form with it (`curl -F arquivo=@agenda.xlsx`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog
from fastapi import HTTPException

from normalizer.api.forms import file_part_of
from normalizer.errors import NormalizerError, QueueUnavailable, TransientError
from normalizer.imports.importing import import_sheet
from normalizer.imports.progress import ImportJournal
from normalizer.imports.spreadsheet import Limits, megabytes
from normalizer.imports.undo import undo_import
from normalizer.store import ImportRecord, ImportState

if TYPE_CHECKING:
    from fastapi import Request

    from normalizer.imports.spreadsheet import Vocabulary
    from normalizer.runtime import Backend

log = structlog.get_logger(__name__)

_AT_ONCE: Final = 2
_WAITING: Final = 8
_NAME_CHARS: Final = 120
_READ_PAST: Final = 20  # times the limit: who is still sending when the connection ends never reads why


class Busy(TransientError):
    """Too many sheets at once."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was received whole."""

    path: Path
    name: str


@contextlib.asynccontextmanager
async def received(request: Request, name: str | None, *, limits: Limits) -> AsyncIterator[Upload]:
    """The request's body as a file, which is deleted afterwards unless it was moved. 413 beyond the limit."""
    descriptor, path = tempfile.mkstemp(prefix="normalizer-", suffix=".planilha")
    try:
        with os.fdopen(descriptor, "wb") as file:
            form, size = file_part_of(request), 0
            async for piece in request.stream():
                size += len(piece)
                if size <= limits.file_bytes:
                    file.write(form.feed(piece) if form is not None else piece)
                elif size > _READ_PAST * limits.file_bytes:
                    break
        if size > limits.file_bytes:
            raise HTTPException(413, f"A planilha passa de {megabytes(limits.file_bytes)}: divida-a.")
        if form is not None:
            form.close()
            name = name or form.name
        yield Upload(Path(path), file_name(name))
    finally:
        Path(path).unlink(missing_ok=True)  # noqa: ASYNC240 — one entry of the temporary directory


def file_name(given: str | None) -> str:
    """A file's name fit to be stored and shown: no path, no control character, bounded."""
    last = (given or "").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(char for char in last if char.isprintable()).strip()[:_NAME_CHARS] or "planilha enviada"


class Imports:
    """Runs imports of uploaded sheets in this process, a few at a time."""

    def __init__(self, backend: Backend, *, limits: Limits | None = None) -> None:
        self._backend, self.limits = backend, limits or Limits()
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()  # kept, so that none is collected while it runs

    async def start(self, upload: Upload, vocabulary: Vocabulary, *, emptying: bool = False) -> str:
        """Begin the import and return its id as soon as the file is known to be usable; the rest goes on by itself.

        Raises InvalidInput when nothing of it can be used.
        """
        kept = upload.path.rename(upload.path.with_suffix(".importando"))
        journal = ImportJournal(self._backend.store.desk())
        task = self._go_on(self._run(kept, upload.name, vocabulary, journal, emptying=emptying))
        began = asyncio.create_task(journal.began.wait())
        await asyncio.wait({task, began}, return_when=asyncio.FIRST_COMPLETED)
        began.cancel()
        if journal.import_id is None:
            await task  # raises what went wrong
            raise RuntimeError("an import ended before it began")
        return journal.import_id

    def undo(self, record: ImportRecord) -> asyncio.Task[None]:
        """Undo an import; it goes on whoever waits for it. What `undo_import` refuses, the task raises."""
        return self._go_on(self._undo(record))

    async def close(self) -> None:
        """Stop what runs; the same sheet imported again, or undone again, completes it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _go_on(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _undo(self, record: ImportRecord) -> None:
        backend = self._backend
        with contextlib.suppress(QueueUnavailable):  # all is restored; the workers take up what waits
            await undo_import(record, desk=backend.store.desk(), enqueue=backend.tasks.enqueue_many)

    async def _run(
        self, path: Path, name: str, vocabulary: Vocabulary, journal: ImportJournal, *, emptying: bool
    ) -> None:
        backend = self._backend
        try:
            async with self.place():
                await import_sheet(
                    path,
                    store=backend.store,
                    enqueue=backend.tasks.enqueue_many,
                    name=name,
                    limits=self.limits,
                    vocabulary=vocabulary,
                    journal=journal,
                    emptying=emptying,
                )
        except BaseException as error:
            if journal.import_id is None:
                raise
            log.warning("api.import.interrupted", import_id=journal.import_id, error=type(error).__name__)
            with contextlib.suppress(NormalizerError):
                ended = {"status": ImportState.BROKEN.value, "finished_at": datetime.now(UTC)}
                await backend.store.desk().note(journal.import_id, ended)
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            path.unlink(missing_ok=True)  # noqa: ASYNC240

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
