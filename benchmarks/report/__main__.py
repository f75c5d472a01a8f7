"""`python -m benchmarks.report [--check]`: writes `docs/BENCHMARKS.md`, its pictures and README's table.

Exit code 1 with `--check` when a document says something else than the result files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.report.sections import RESULTS, SECTIONS
from benchmarks.report.text import source, table

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).resolve().parent.parent.parent
REPORT: Final = ROOT / "docs" / "BENCHMARKS.md"
README: Final = ROOT / "README.md"
IMAGES: Final = ROOT / "docs" / "images"
BEGIN, END = "<!-- figures: begin (written by python -m benchmarks.report) -->", "<!-- figures: end -->"
_INTRODUCTION: Final = """\
# Benchmarks

This page is written by `python -m benchmarks.report` from the files in `benchmarks/results/`: no figure is typed.
`make bench` measures the side-by-side comparison anew and writes the page again; `make bench-quick` only shows that it
runs. The model provider is simulated everywhere: it answers from labels, takes its time, keeps limits and counts tokens
with the real tokenizer. Redis is a real Valkey. The store of the comparison is a server that speaks MongoDB's protocol
from memory, so that nobody is measured by a store's speed. All of it shares one machine: look at ratios, calls, tokens
and the workers' own processor time rather than at rows/s.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(prog="benchmarks.report", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    wanted = {REPORT: report(), README: with_headline(README.read_text(encoding="utf-8"))}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if options.check:
        print("\n".join(f"{path.name} says something else than benchmarks/results" for path in stale), end="")
        return 1 if stale else 0
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    draw(IMAGES)
    return 0


def report() -> str:
    """`docs/BENCHMARKS.md`."""
    lines = [_INTRODUCTION]
    for section in SECTIONS:
        for name, document in section.found():
            lines += [f"## {section.title}", "", source(name, document), f"Made by `{section.made_by}`.", ""]
            lines += section.render(document)
            for picture in section.pictures:
                lines += [f"![{section.title}](images/{picture})", ""]
    lines += _others()
    return "\n".join(lines).rstrip() + "\n"


def _others() -> list[str]:
    """The files that no section is made of, by name."""
    names = sorted(path.name for path in RESULTS.glob("*.json"))
    left = [name for name in names if not any(section.holds(name) for section in SECTIONS)]
    return ["## Other results", "", *(f"- `benchmarks/results/{name}`" for name in left)] if left else []


def with_headline(readme: str) -> str:
    """README with its table made anew; ValueError when it has no place for it."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md needs the lines {BEGIN!r} and {END!r}")
    rows = [
        (what, figure, f"`{name}`")
        for section in SECTIONS
        if section.headline
        for name, document in section.found()
        for what, figure in section.headline(document)
    ]
    lines = table(["what", "figure", "file"], rows)
    lines[1] = "|---|---|---|"
    return "\n".join([before + begin, *lines, end + after])


def draw(images: Path) -> None:
    """Draw every picture whose results are there."""
    for section in SECTIONS:
        for _, document in section.found():
            for picture, paint in section.pictures.items():
                paint(document, images / picture)


if __name__ == "__main__":
    sys.exit(main())
