"""Records of binary workbooks, xls ([MS-XLS]) and xlsb ([MS-XLSB]), in the reading process.

Where their cells stand, which hold an error value, which are merged: what the native reader does not tell.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Final, TypeAlias

from normalizer.imports.spreadsheet.table import Unreadable, error_value

#: By 0-based row and column, cells that hold something and no value.
Flaws: TypeAlias = dict[int, dict[int, Unreadable]]
Range: TypeAlias = tuple[tuple[int, int], tuple[int, int]]

_ERRORS: Final = {0: "#NULL!", 7: "#DIV/0!", 15: "#VALUE!", 23: "#REF!", 29: "#NAME?", 36: "#NUM!", 42: "#N/A"}
_MOST_CELLS: Final = 4_000_000  # that are laid out: 24 bytes each and what they hold
_FAR_ROWS, _FAR_COLUMNS = 1_000, 100  # so many empty ones end a table that is too large to be laid out


@dataclass(slots=True)
class Notes:
    """What is to be known of one sheet beside its values."""

    flaws: Flaws = field(default_factory=dict)
    merged: list[Range] = field(default_factory=list)

    def error(self, place: tuple[int, int], code: int) -> None:
        """An error value stands there."""
        row, column = place
        self.flaws.setdefault(row, {})[column] = error_value(_ERRORS.get(code, f"nº {code}"))


class Extent:
    """How far a sheet's cells reach (0-based), and how far its table: a cell far from all others is none of its."""

    def __init__(self, cells: Iterable[tuple[int, int]]) -> None:
        rows, columns = set[int](), set[int]()
        for row, column in cells:
            rows.add(row)
            columns.add(column)
        self._row, self._column = max(rows, default=0), max(columns, default=0)
        self.row, self.column = self._row, self._column
        if self.is_too_large:
            self.column = _until_gap(columns, _FAR_COLUMNS)
        if self.is_too_large:
            self.row = _until_gap(rows, _FAR_ROWS)

    @property
    def is_too_large(self) -> bool:
        """Whether the table cannot be laid out."""
        return (self.row + 1) * (self.column + 1) > _MOST_CELLS

    @property
    def leaves_out(self) -> bool:
        """Whether there are cells beyond the table."""
        return (self.row, self.column) != (self._row, self._column)

    def holds(self, row: int, column: int) -> bool:
        """Whether that cell is one of the table."""
        return row <= self.row and column <= self.column


def _until_gap(used: set[int], gap: int) -> int:
    ordered = sorted(used)
    return next((before for before, after in pairwise(ordered) if after - before > gap), ordered[-1])


# -- xls --------------------------------------------------------------------------------------------------------------

_EOF, _BOF, _BOUNDSHEET, _DIMENSIONS, _BLANK, _STRING = 0x0A, 0x809, 0x85, 0x200, 0x201, 0x207
_FORMULAS: Final = frozenset({0x06, 0x206, 0x406})
_XLS_CELLS: Final = _FORMULAS | {0x203, 0x204, 0x205, 0x27E, 0xBD, 0xD6, 0xFD}
_SST, _SHARED = 0xFC, 0xFD
_PAIR, _PAIRS = struct.Struct("<HH"), struct.Struct("<II")


class Ole:
    """A compound file ([MS-CFB]): one stream out of its sectors, and where each of them lies. Raises ValueError."""

    def __init__(self, data: bytes) -> None:
        self._data, self._size = data, 1 << min(data[30], 20)
        self._fat: list[int] = []
        for sector in self._fat_sectors():
            self._fat += self._words(sector)

    def _fat_sectors(self) -> Iterator[int]:
        following, more = struct.unpack_from("<II", self._data, 68)
        listed = list(struct.unpack_from("<109I", self._data, 76))
        for _ in range(min(more, len(self._data) // self._size)):
            *others, following = self._words(following)
            listed += others
        return (sector for sector in listed if sector < 0xFFFFFFFA)

    def _chain(self, sector: int, fat: list[int]) -> Iterator[int]:
        for _ in range(len(fat)):
            if sector >= len(fat):
                return
            yield sector
            sector = fat[sector]

    def stream(self, *names: str) -> Stream:
        """The stream of one of these names, in small letters."""
        entries = [place + at for place in self._places(self._word(48)) for at in range(0, self._size, 128)]
        found = next((at for at in entries if self._name(at) in names), None)
        if found is None:
            raise ValueError("no such stream")
        first, length = struct.unpack_from("<II", self._data, found + 116)
        if length >= self._word(56):
            return Stream(self._data, self._places(first), self._size, length)
        root, step = self._places(self._word(entries[0] + 116)), self._size // 64
        small = [link for sector in self._chain(self._word(60), self._fat) for link in self._words(sector)]
        places = [root[n // step] + n % step * 64 for n in self._chain(first, small)]
        return Stream(self._data, places, 64, length)

    def _places(self, sector: int) -> list[int]:
        return [(number + 1) * self._size for number in self._chain(sector, self._fat)]

    def _name(self, entry: int) -> str:
        length = int.from_bytes(self._data[entry + 64 : entry + 66], "little")
        return self._data[entry : entry + max(length - 2, 0)].decode("utf-16-le", "replace").lower()

    def _word(self, at: int) -> int:
        return int.from_bytes(self._data[at : at + 4], "little")

    def _words(self, sector: int) -> tuple[int, ...]:
        start = (sector + 1) * self._size
        content = self._data[start : start + self._size].ljust(self._size, b"\0")
        return struct.unpack(f"<{self._size // 4}I", content)


class Stream:
    """The bytes of one stream, and where in the file its pieces lie."""

    def __init__(self, data: bytes, places: list[int], size: int, length: int) -> None:
        self.places, self._size = places, size
        self.content = b"".join(data[at : at + size] for at in places)[:length]

    def place(self, at: int) -> int:
        """Where the byte at that position of the stream lies in the file."""
        return self.places[at // self._size] + at % self._size


def xls_notes(content: bytes) -> tuple[list[Notes], bool]:
    """Of each sheet in the order they are listed, what is to be known of it; and whether all seems to be there.

    No sum tells a damaged xls. But it says how often its texts are shown, each of them somewhere, and cells follow each
    other: a lost record leaves a text that no cell shows, and a changed place breaks the order.
    """
    found, shown, ordered = [], list[int](), True
    for start in _xls_sheets(content):
        found.append(notes := Notes())
        last = (-1, -1)
        for kind, at, size in _xls_records(content, start):
            if kind in _XLS_CELLS and size > 3:
                ordered, last = ordered and _place(content, at) > last, _place(content, at)
            if kind == _SHARED and size > 9:
                shown.append(int.from_bytes(content[at + 6 : at + 10], "little"))
            elif kind == 0x205 and size > 7 and content[at + 7] == 1:
                notes.error(_place(content, at), content[at + 6])
            elif kind in _FORMULAS and content[at + 12 : at + 14] == b"\xff\xff" and content[at + 6] == 2:
                notes.error(_place(content, at), content[at + 8])
    said = next((_PAIRS.unpack_from(content, at) for kind, at, size in _xls_records(content, 0) if kind == _SST), None)
    used = set(shown)
    whole = said is None or (said == (len(shown), len(used)) and max(used, default=-1) < said[1])
    return found, ordered and whole


def xls_without_far_cells(data: bytes) -> tuple[bytes, bool]:
    """A file in which cells far from their table are blank, and whether there are any. Raises ValueError.

    How far a sheet says that it reaches is taken out as well: room for all of it would be made at once.
    """
    stream = Ole(data).stream("workbook", "book")
    mended, leaves_out = bytearray(data), False
    for start in _xls_sheets(stream.content):
        extent = Extent(place for _, place in _xls_cells(stream.content, start))
        leaves_out |= extent.leaves_out
        far = (at for at, place in _xls_cells(stream.content, start) if not extent.holds(*place))
        said = (at - 4 for kind, at, _ in _xls_records(stream.content, start) if kind == _DIMENSIONS)
        for at in chain(far, said):
            for offset, byte in enumerate(_BLANK.to_bytes(2, "little")):
                mended[stream.place(at + offset)] = byte
    return bytes(mended), leaves_out


def _xls_sheets(content: bytes) -> Iterator[int]:
    for kind, at, size in _xls_records(content, 0):
        if kind == _BOUNDSHEET and size > 6:
            yield int.from_bytes(content[at : at + 4], "little")


def _xls_cells(content: bytes, start: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Where each cell's record begins, and its row and column; with a formula's text, which follows it."""
    place = (0, 0)
    for kind, at, size in _xls_records(content, start):
        if kind in _XLS_CELLS and size > 3:
            place = _place(content, at)
            yield at - 4, place
        elif kind == _STRING:
            yield at - 4, place


def _place(content: bytes, at: int) -> tuple[int, int]:
    row, column = _PAIR.unpack_from(content, at)
    return row, column


def _xls_records(content: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Kind, position and size of each record up to the end of the substream that begins at `at`."""
    depth, end, unpack = 0, len(content) - 4, _PAIR.unpack_from
    while at <= end:
        kind, size = unpack(content, at)
        at += 4
        depth += (kind == _BOF) - (kind == _EOF)
        yield kind, at, size
        if kind == _EOF and depth <= 0:
            return
        at += size


# -- xlsb -------------------------------------------------------------------------------------------------------------

_ROW, _ERROR, _ERROR_OF_FORMULA, _MERGED = 0, 3, 11, 176
_XLSB_CELLS: Final = range(2, 12)
_SHORT_CELLS: Final = range(12, 19)  # they name no column, and the native reader puts them all into the first


def xlsb_notes(pieces: Iterable[bytes]) -> Notes:
    """What is to be known of one worksheet. Raises ValueError where its cells would not come out whole."""
    notes = Notes()
    for kind, _, row, body in _xlsb_records(pieces):
        if kind in _SHORT_CELLS:
            raise ValueError("short cells")
        if kind in {_ERROR, _ERROR_OF_FORMULA} and len(body) > 8:
            notes.error((row, int.from_bytes(body[:4], "little")), body[8])
        elif kind == _MERGED and len(body) >= 16:
            top, bottom, left, right = struct.unpack_from("<4I", body)
            notes.merged.append(((top, left), (bottom, right)))
    return notes


def xlsb_names(workbook: bytes) -> Iterator[tuple[str, str]]:
    """Each sheet's relation and its name, in order."""
    for kind, _, _, body in _xlsb_records([workbook]):
        if kind == 156:
            end = 12 + 2 * int.from_bytes(body[8:12], "little")
            yield body[12:end].decode("utf-16-le", "replace"), body[end + 4 :].decode("utf-16-le", "replace")


def xlsb_without_far_cells(content: bytes) -> tuple[bytes, bool]:
    """A worksheet in which cells far from its table are blank, and whether there are any."""
    cells = (record for record in _xlsb_records([content]) if record[0] in _XLSB_CELLS)
    extent, kept = Extent((row, int.from_bytes(body[:4], "little")) for _, _, row, body in cells), []
    for kind, head, row, body in _xlsb_records([content]):
        far = kind in _XLSB_CELLS and not extent.holds(row, int.from_bytes(body[:4], "little"))
        kept.append((b"\x01" + head[1:] if far else head) + body)
    return b"".join(kept), extent.leaves_out


def _xlsb_records(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes, int, bytes]]:
    """Kind and head of each record, the row it is in, and its body."""
    data, row = b"", 0
    for piece in pieces:
        data, at = data + piece, 0
        while (found := _head(data, at)) is not None and found[1] + found[2] <= len(data):
            kind, start, size = found
            if kind == _ROW:
                row = int.from_bytes(data[start : start + min(size, 4)], "little")
            yield kind, data[at:start], row, data[start : start + size]
            at = start + size
        data = data[at:]


def _head(data: bytes, at: int) -> tuple[int, int, int] | None:
    """A record's kind, where its body begins, and its size; None where the data ends before."""
    numbers = []
    for most in (2, 4):
        value = 0
        for shift in range(most):
            if at >= len(data):
                return None
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << (7 * shift)
            if byte < 0x80:
                break
        numbers.append(value)
    return numbers[0], at, numbers[1]
