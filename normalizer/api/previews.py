"""Dry runs of uploaded sheets: a small one is answered at once, a large one goes on and tells how far it is."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from normalizer.domain.policy import Policies
from normalizer.errors import NormalizerError
from normalizer.imports.estimate import SheetEstimate, SheetTexts, estimate_texts
from normalizer.imports.importing import ImportReport, import_sheet
from normalizer.imports.spreadsheet import ProblemGroup, grouped

if TYPE_CHECKING:
    from normalizer.api.uploads import Upload, Uploads
    from normalizer.imports.spreadsheet import Vocabulary
    from normalizer.runtime import Backend

T = TypeVar("T")

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
        tasks = [preview.task for preview in self._kept.values() if preview.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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
