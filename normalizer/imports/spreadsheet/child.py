"""The workbook reader's own process: a damaged file can make native code run out of memory, and that ends a process.

Run by path with nothing of this package imported; its one argument is the number of an inherited descriptor of the
file, so that nobody holds the file's bytes in memory. Frames on stdin and stdout: four bytes of length, then `marshal`.
First frame out: `["sheets", [[name, visible], …]]` or `["refused", "password" | "damaged"]`. Then, as often as asked:
`[name, start, count]` in, that many rows from 0-based `start` out, fewer at the end. End of input ends the process.
"""

from __future__ import annotations

import datetime as dt
import marshal
import resource
import struct
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO

from python_calamine import CalamineSheet, CalamineWorkbook, PasswordError, SheetTypeEnum, SheetVisibleEnum

MEMORY_BYTES = 2 * 2**30
CPU_S = 600
_LENGTH = struct.Struct("<I")


def main() -> None:
    """Serve one workbook until the parent closes the pipe."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    given, answer = sys.stdin.buffer, sys.stdout.buffer
    try:
        book = CalamineWorkbook.from_path(f"/dev/fd/{sys.argv[1]}")
        sheets = [sheet for sheet in book.sheets_metadata if sheet.typ == SheetTypeEnum.WorkSheet]
        _send(answer, ["sheets", [[sheet.name, sheet.visible == SheetVisibleEnum.Visible] for sheet in sheets]])
        _serve(book, given, answer)
    except PasswordError:
        _send(answer, ["refused", "password"])
    except BaseException as error:  # noqa: BLE001 — panics of the native side are no Exception
        if isinstance(error, KeyboardInterrupt | BrokenPipeError):
            return
        _send(answer, ["refused", "damaged"])


def _serve(book: CalamineWorkbook, given: BinaryIO, answer: BinaryIO) -> None:
    name: str | None = None
    sheet: CalamineSheet | None = None
    rows: Iterator[list[Any]] = iter(())
    at = 0
    while (request := _receive(given)) is not None:
        wanted, start, count = request
        if wanted != name:
            sheet = None  # let go of it before the next one is laid out
            sheet = book.get_sheet_by_name(wanted)
            name, at = wanted, -1
        if sheet is not None and start != at:
            rows, at = islice(sheet.iter_rows(), start, None), start
        chunk = [[_plain(cell) for cell in row] for row in islice(rows, count)]
        at += len(chunk)
        _send(answer, chunk)


def _plain(cell: Any) -> Any:
    if isinstance(cell, dt.datetime):
        return f"{cell:%d/%m/%Y %H:%M:%S}"
    if isinstance(cell, dt.date):
        return f"{cell:%d/%m/%Y}"
    if isinstance(cell, dt.time):
        return f"{cell:%H:%M:%S}"
    return cell if cell is None or isinstance(cell, str | float | int | bool) else str(cell)


def _receive(stream: BinaryIO) -> Any:
    head = stream.read(_LENGTH.size)
    return marshal.loads(stream.read(_LENGTH.unpack(head)[0])) if len(head) == _LENGTH.size else None  # noqa: S302


def _send(stream: BinaryIO, value: Any) -> None:
    body = marshal.dumps(value)
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


if __name__ == "__main__":
    main()
