"""Edits of single cells, made by an operator who looked at a preview: said beside the file, which stays as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from normalizer.errors import InvalidInput

if TYPE_CHECKING:
    from normalizer.imports.spreadsheet.columns import Header
    from normalizer.imports.spreadsheet.table import Cells

_MOST_CELLS: Final = 20_000
_LONGEST: Final = 500


@dataclass(frozen=True, slots=True)
class CellEdits:
    """The text that stands for a cell, by (sheet, row) and column title."""

    by_row: Mapping[tuple[str, int], Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, said: Iterable[tuple[str, str, Iterable[int], str]]) -> Self:
        """From (sheet, column title, rows, text); the last word on a cell counts. Raises InvalidInput."""
        found: dict[tuple[str, int], dict[str, str]] = {}
        for sheet, title, rows, text in said:
            if len(text) > _LONGEST:
                raise _refused(f"até {_LONGEST} caracteres por célula", f"{len(text)}")
            for row in rows:
                found.setdefault((sheet, row), {})[title] = text
            if len(found) > _MOST_CELLS:
                raise _refused(f"até {_MOST_CELLS} linhas editadas", "mais")
        return cls(found)

    def applied(self, sheet: str, number: int, header: Header, cells: Cells) -> Cells:
        """The row's cells as they were edited."""
        wanted = self.by_row.get((sheet, number))
        if wanted is None:
            return cells
        changed = list(cells) + [""] * max(0, len(header.titles) - len(cells))
        for title, text in wanted.items():
            if title in header.titles:
                changed[header.titles.index(title)] = text
        return changed


def _refused(expected: str, found: str) -> InvalidInput:
    return InvalidInput(where="edicoes", expected=expected, found=found, fix="Corrija a planilha e envie-a de novo.")
