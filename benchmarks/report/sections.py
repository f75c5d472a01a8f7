"""The registry: which result files there may be, and what each becomes. The report holds those that are there.

A file that nothing here is made of is named at the end of the report, so that none is left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from benchmarks import scaling
from benchmarks.report import parts, peers, pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

RESULTS: Final = Path(__file__).resolve().parent.parent / "results"
Document: TypeAlias = "Mapping[str, Any]"


@dataclass(frozen=True, slots=True)
class Section:
    """One kind of result.

    Attributes:
        files: its name in `benchmarks/results`, or a pattern (`tune*.json`): each file becomes a section.
        title: of the section; `made_by` is the command that writes the file.
        render: the file's content as lines of Markdown.
        headline: what README says of it, (what, figure).
        pictures: file name under docs/images, and what draws it there.
    """

    files: str
    title: str
    made_by: str
    render: Callable[[Document], list[str]]
    headline: Callable[[Document], list[tuple[str, str]]] | None = None
    pictures: Mapping[str, Callable[[Document, Path], None]] = field(default_factory=dict)

    def holds(self, name: str) -> bool:
        """Whether a file of this name is one of this kind."""
        return fnmatch(name, self.files)

    def found(self, results: Path = RESULTS) -> Iterator[tuple[str, Document]]:
        """Name and content of each file that is there."""
        for path in sorted(results.glob(self.files)):
            yield path.name, json.loads(path.read_text(encoding="utf-8"))


SECTIONS: Final = (
    Section(
        "run.json",
        "Side by side",
        "python -m benchmarks.run",
        peers.render,
        peers.headline,
        {"bench-peers.png": pictures.peers, "bench-limited.png": pictures.limited},
    ),
    Section("run_earlier.json", "Side by side, on another day", "python -m benchmarks.run", peers.again),
    Section(
        "cost.json",
        "What a sheet costs",
        "python -m benchmarks.cost --out benchmarks/results/cost.json",
        parts.cost,
        parts.cost_headline,
    ),
    Section("queue.json", "The queue alone", "python -m benchmarks.queue", parts.queue, parts.queue_headline),
    Section("rows.json", "One row in one worker", "python -m benchmarks.rows", parts.rows, parts.rows_headline),
    Section("imports.json", "A large sheet", "python -m benchmarks.imports", parts.imports, parts.imports_headline),
    Section(
        "quality.json",
        "The rules, alone and with a small model",
        "make quality ARGS=--update",
        parts.quality,
        parts.quality_headline,
    ),
    Section(
        "quality_before.json",
        "The rules before they were mended",
        "python -m benchmarks.quality, on that commit's rules",
        parts.quality_before,
        parts.quality_before_headline,
    ),
    Section(
        "answer_formats.json",
        "Answer formats",
        "python -m benchmarks.answer_formats --count-only --rows 160 --out benchmarks/results/answer_formats.json",
        parts.answer_formats,
    ),
    Section(
        "answer_formats_model.json",
        "Answer formats asked of a model",
        "python -m benchmarks.answer_formats --base-url URL --model NAME --rows 24 --sizes 8,24,1, and --rows 48 "
        "--sizes 48, --out benchmarks/results/answer_formats_model.json",
        parts.answers_of_a_model,
    ),
    Section(
        "answer_formats_dev.json",
        "The whole development set asked of a model",
        "python -m benchmarks.answer_formats --base-url URL --model NAME --rows 160 --formats array --sizes 8 "
        "--out benchmarks/results/answer_formats_dev.json",
        parts.answers_of_a_model,
    ),
    Section("scale.json", "Scale", "python -m benchmarks.scale", parts.told_in("SCALING.md"), scaling.headline),
    Section("tune*.json", "Tuning", "python -m benchmarks.tune", parts.told_in("TUNING.md")),
    Section("provider.json", "The simulated provider", "python -m benchmarks.provider_speed", parts.provider),
)
