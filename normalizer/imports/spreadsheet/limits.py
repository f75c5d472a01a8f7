"""Limits of one import: of a sheet, before it is parsed and in what comes out, and of the process that reads it."""

from __future__ import annotations

import codecs
import ctypes
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from normalizer.errors import InvalidInput
from normalizer.imports.spreadsheet.table import BrokenRow, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normalizer.imports.spreadsheet.table import Cells, NumberedRows


#: What helps where a file holds more than its rows.
COPY_ROWS: Final = "Copie as linhas para uma planilha nova, salve como .xlsx e importe de novo."


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one import. Generous for 100,000 rows × 30 columns, far below what would harm the process."""

    file_bytes: int = 100 * 2**20
    expanded_bytes: int = 512 * 2**20  # all parts of a workbook, uncompressed
    ratio: int = 100  # uncompressed to compressed, for parts above `ratio_from_bytes`; honest sheets stay below 50
    ratio_from_bytes: int = 2**20
    parts: int = 4_000
    reader_bytes: int = 300 * 2**20  # of the reading process; 100,000 rows × 30 columns of an .xlsx take 180
    cell_chars: int = 32_767  # what Excel allows
    line_chars: int = 1_000_000  # one row, one line of a csv file
    sheet_chars: int = 256 * 2**20
    sheet_rows: int = 1_048_576  # Excel's own

    def memory_for(self, content_bytes: int) -> int:
        """Bytes the reading process may add to its own for a file of this size, unpacked: little for a small one."""
        return min(self.reader_bytes, 64 * 2**20 + 16 * content_bytes)

    def cpu_s_for(self, file_bytes: int) -> int:
        """Seconds of processor time for all that is asked of the reading process."""
        return 8 + 2 * (file_bytes >> 20)


def bounded(rows: NumberedRows, limits: Limits) -> Iterator[tuple[int, Cells, int]]:
    """The rows and their characters, with what is too long taken out and said so. InvalidInput when all is too much."""
    total = 0
    for number, cells in rows:
        size = sum([len(cell) for cell in cells if type(cell) is str])
        yield number, cells if size <= limits.cell_chars else _shortened(cells, limits), size
        if number > limits.sheet_rows:
            raise too_large("uma planilha com mais do que isso", f"{limits.sheet_rows} linhas", f", linha {number}")
        total += min(size, limits.line_chars)
        if total > limits.sheet_chars:
            limit = f"{megabytes(limits.sheet_chars)} de texto"
            raise too_large("uma planilha com mais do que isso", limit, f", linha {number}")


def _shortened(cells: Cells, limits: Limits) -> Cells:
    most = limits.cell_chars
    bearable = [
        Unreadable(f"no máximo {most} caracteres numa célula", f"{len(cell)} caracteres")
        if isinstance(cell, str) and len(cell) > most
        else cell
        for cell in cells
    ]
    size = sum(len(cell) for cell in bearable if isinstance(cell, str))
    if isinstance(cells, BrokenRow) or size > limits.line_chars:
        expected = f"no máximo {limits.line_chars} caracteres por linha"
        fix = "Confira se essa linha é de um agendamento; ela não foi usada."
        return BrokenRow([], expected, "uma linha maior do que isso", fix)
    return bearable


def refusal(expected: str, found: str, fix: str, where: str = "") -> InvalidInput:
    """The error for a file of which nothing is used. Who opened it knows its name, and puts it before `where`."""
    return InvalidInput(where=where, expected=expected, found=found, fix=fix)


def too_large(found: str, limit: str, where: str) -> InvalidInput:
    """The error for a file beyond a limit."""
    fix = "Divida a planilha em arquivos menores e importe um de cada vez."
    return refusal(f"no máximo {limit}", found, fix, where)


def not_a_sheet(found: str, where: str = "") -> InvalidInput:
    """The error for something else than a sheet."""
    fix = "Confira se escolheu o arquivo certo; no Excel, use Salvar como → .xlsx."
    return refusal("uma planilha .xlsx, .xls ou .csv", found, fix, where)


def megabytes(size: int) -> str:
    """`209715200` → `200 MB`."""
    return f"{size / 2**20:.0f} MB"


#: How a reading process ends that wanted more memory than it was allowed.
OUT_OF_MEMORY: Final = 3

_trim: Final = getattr(ctypes.CDLL(None), "malloc_trim", None)
_CODECS: Final = ("utf-8-sig", "utf-16", "utf-32", "cp1252", "cp850", "mac_roman", "latin-1", "utf-16-le", "utf-16-be")


def confine(file_bytes: int, limits: Limits) -> None:
    """No more of anything than reading a file of this size takes. What is needed later is loaded now."""
    for name in _CODECS:
        codecs.lookup(name)
    allow_memory(limits.memory_for(file_bytes))
    seconds = limits.cpu_s_for(file_bytes)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    for what in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
        resource.setrlimit(what, (0, 0))
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, free + 1))  # calamine opens the file anew


def allow_memory(more: int) -> None:
    """That many bytes above what the process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    now = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more, resource.RLIM_INFINITY))


def give_back() -> None:
    """Let the system have what was freed in pieces; only glibc keeps it."""
    if _trim is not None:
        _trim(0)


def allow_no_descriptor() -> None:
    """A socket is a descriptor as a file is: from here on neither can be had, and what is open stays open."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
