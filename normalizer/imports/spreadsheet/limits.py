"""Size limits of a sheet, and the checks made before anything is parsed."""

from __future__ import annotations

from dataclasses import dataclass

from normalizer.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one import. Generous for 100,000 rows × 30 columns, far below what would harm the process."""

    file_bytes: int = 100 * 2**20
    expanded_bytes: int = 512 * 2**20  # all parts of a workbook, uncompressed
    ratio: int = 100  # uncompressed to compressed, for parts above `ratio_from_bytes`; honest sheets stay below 50
    ratio_from_bytes: int = 2**20
    parts: int = 4_000
    cells: int = 8_000_000  # rows × columns of the area in use
    columns: int = 1_000
    line_chars: int = 1_000_000  # one line of a csv file


def too_large(where: str, *, found: str, limit: str) -> InvalidInput:
    """The error for a file beyond a limit."""
    return InvalidInput(
        where=where,
        expected=f"no máximo {limit}",
        found=found,
        mend="Divida a planilha em arquivos menores e importe um de cada vez.",
    )


def megabytes(size: int) -> str:
    """`209715200` → `200 MB`."""
    return f"{size / 2**20:.0f} MB"
