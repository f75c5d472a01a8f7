"""The reading process: opens one file, and gives out its rows as they are asked for, within bounds it sets itself.

Argument: the number of an inherited descriptor of the file. Frames on stdin and stdout: four bytes of length, then
`marshal`. First frame in: `[kind, limits, meanings of titles, whether far cells are left out]`; out: `["opened",
[format, [[name, visible], …], doubts]]`, or `["refused", [expected, found, fix, where]]`, as instead of any other.
Then, as often as asked, `[sheet, again]` in, the next rows out (from the first one when `again`): `["rows", [numbers,
rows, unreadable cells, broken rows]]`, at the end `["rows", []]`. End of input ends the process.
"""

from __future__ import annotations

import marshal
import os
import struct
import sys
from dataclasses import astuple
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, TypeAlias

from normalizer.errors import InvalidInput
from normalizer.imports.spreadsheet.limits import OUT_OF_MEMORY, Limits, allow_no_descriptor, bounded, confine
from normalizer.imports.spreadsheet.table import BrokenRow, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from normalizer.imports.spreadsheet.table import Cells, Opened

#: How the reading process is to read it; `other` is no sheet.
Kind: TypeAlias = Literal["zip", "ole", "markup", "mhtml", "csv", "other"]

_ZIP: Final = b"PK\x03\x04"
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OTHERS: Final = (b"%PDF", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"{\\rtf", b"Rar!", b"7z\xbc\xaf", b"\x1f\x8b", b"PK")


def kind_of(start: bytes) -> Kind:
    """The kind of a file that begins so (64 KB of it are enough)."""
    if start.startswith(_ZIP):
        return "zip"
    if start.startswith(_OLE):
        return "ole"
    if start.startswith(_OTHERS):
        return "other"
    if _is_markup(start):
        return "markup"
    return "mhtml" if _is_mhtml(start) else "csv"


def _is_markup(start: bytes) -> bool:
    """Whether the first bytes of a file are a table in markup."""
    head = start.lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \r\n\t").replace(b"\0", b"")[:65536].lower()
    return head.startswith(b"<") and any(tag in head for tag in (b"<table", b"<html", b"<tr", b"workbook"))


def _is_mhtml(start: bytes) -> bool:
    """Whether the first bytes are those of a web page saved as one file."""
    head = start[:4096].lower()
    return b"mime-version:" in head and (b"multipart/" in head or b"text/html" in head)


#: Of a frame, before it.
LENGTH: Final = struct.Struct("<I")
_ROWS_A_TRIP: Final = 500
_CHARS_A_TRIP: Final = 1_000_000


def main() -> None:
    """Serve one file until the parent closes the pipe."""
    descriptor, given, answer = int(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer
    kind, most, meanings, compact = _receive(given)
    open_source, limits = opener(kind, meanings, compact=compact), Limits(**most)
    file = open(descriptor, "rb", closefd=False)  # noqa: SIM115 — it lives as long as the process
    confine(os.fstat(descriptor).st_size, limits)
    try:
        source = open_source(file, limits)
        allow_no_descriptor()
        sheets = [[table.name, table.visible] for table in source.tables]
        _send(answer, "opened", [source.format, sheets, [list(astuple(one)) for one in source.doubts]])
        _serve(source, given, answer, limits)
    except InvalidInput as refused:
        _send(answer, "refused", [refused.expected, refused.found, refused.fix, refused.where])
    except BrokenPipeError:
        return
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)
    except BaseException as error:  # noqa: BLE001 — panics of the native side are no Exception
        if isinstance(error, KeyboardInterrupt):
            return
        _send(answer, "refused", _DAMAGED)


def opener(kind: Kind, meanings: Sequence[Any], *, compact: bool) -> Callable[[BinaryIO, Limits], Opened]:
    """What reads a file of this kind, with no parser loaded that does not."""
    if kind == "csv":
        from normalizer.imports.spreadsheet import delimited, vocabulary

        return partial(delimited.open_csv, also=vocabulary.Vocabulary(*meanings).of_header)
    if kind in {"markup", "mhtml"}:
        from normalizer.imports.spreadsheet import markup

        return markup.open_markup if kind == "markup" else markup.open_mhtml
    from normalizer.imports.spreadsheet import workbook

    return partial(workbook.open_zip if kind == "zip" else workbook.open_ole, compact=compact)


_DAMAGED: Final = [
    "uma planilha íntegra",
    "um arquivo cortado ou danificado",
    "Abra no Excel e salve de novo como .xlsx, ou exporte outra vez.",
    "",
]


def _serve(source: Opened, given: BinaryIO, answer: BinaryIO, limits: Limits) -> None:
    rows: Iterator[tuple[int, Cells, int]] = iter(())
    while (request := _receive(given)) is not None:
        sheet, again = request
        if again:
            rows = iter(())  # let go of the last one before the next is laid out
            rows = bounded(source.tables[sheet].rows(), limits)
        _send(answer, "rows", _chunk(rows))


def _chunk(rows: Iterator[tuple[int, Cells, int]]) -> list[Any]:
    """The next rows as plain values: what cannot be read beside them, by its place."""
    numbers: list[int] = []
    plain: list[list[Any]] = []
    cells: dict[tuple[int, int], list[str]] = {}
    broken: dict[int, list[str]] = {}
    chars = 0
    for number, row, size in islice(rows, _ROWS_A_TRIP):
        at = len(plain)
        if isinstance(row, BrokenRow):
            broken[at] = [row.expected, row.found, row.fix]
        plain.append(list(row))
        if Unreadable in set(map(type, row)):
            for column, cell in enumerate(row):
                if isinstance(cell, Unreadable):
                    cells[at, column], plain[at][column] = [cell.expected, cell.found], None
        numbers.append(number)
        chars += size
        if chars > _CHARS_A_TRIP:
            break
    return [numbers, plain, cells, broken] if plain else []


def _receive(stream: BinaryIO) -> Any:
    head = stream.read(LENGTH.size)
    return marshal.loads(stream.read(LENGTH.unpack(head)[0])) if len(head) == LENGTH.size else None  # noqa: S302


def _send(stream: BinaryIO, kind: str, value: Any) -> None:
    body = marshal.dumps([kind, value])
    stream.write(LENGTH.pack(len(body)) + body)
    stream.flush()
