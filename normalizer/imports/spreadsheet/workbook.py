"""Workbooks, in the reading process: xlsx and xlsb (whatever their name says), the old binary xls, ods.

calamine reads the Microsoft formats. What it leaves out is looked up beside it: merged cells, error values, formulas
without their result; what it stumbles over is mended in a copy.
"""

from __future__ import annotations

import datetime as dt
import io
import mmap
import re
import zipfile
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from python_calamine import (
    CalamineError,
    CalamineSheet,
    CalamineWorkbook,
    PasswordError,
    SheetTypeEnum,
    SheetVisibleEnum,
)

from normalizer.imports.spreadsheet import records
from normalizer.imports.spreadsheet.archive import Archive, attributes, password_protected
from normalizer.imports.spreadsheet.limits import allow_memory, give_back, refusal
from normalizer.imports.spreadsheet.records import Extent, Flaws, Notes, Range
from normalizer.imports.spreadsheet.table import (
    NO_FORMULA,
    Doubt,
    NumberedRows,
    Opened,
    Table,
    Unreadable,
    error_value,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from normalizer.imports.spreadsheet.limits import Limits

# Streams of an Office file encrypted with a password ([MS-OFFCRYPTO] 2.3), as named in the OLE directory.
_ENCRYPTED: Final = tuple(name.encode("utf-16-le") for name in ("EncryptedPackage", "EncryptionInfo"))
_BIFF_STREAM: Final = re.compile(rb"(?i)w\0o\0r\0k\0b\0o\0o\0k\0|(?<=\0)b\0o\0o\0k\0\0\0")
# An xls begins with BOF; FILEPASS (0x2F) follows, with WRITEPROT (0x86) at most between ([MS-XLS] 2.1.7.20.3).
_FILEPASS: Final = re.compile(
    rb"\x09\x08[\x08\x10]\x00\x00[\x05\x06]\x05\x00.{4,12}?(?:\x86\x00\x00\x00)?\x2f\x00[\x04-\xff]\x00", re.DOTALL
)

_SHEET_NAME: Final = re.compile(rb"<(?:\w+:)?sheet\b([^>]{1,2000})>")
_CELL: Final = re.compile(rb"<(?:\w+:)?c\b([^>]*[^>/])>.*?</(?:\w+:)?c>", re.DOTALL)
_TAG: Final = re.compile(rb"<(?:\w+:)?(row|c|f|v|is)\b([^>]*)>([^<]{0,40})")
_REFERENCE: Final = re.compile(rb"\br=[\"']([A-Za-z]{1,3})([0-9]{1,10})[\"']")
_MERGED: Final = re.compile(
    rb"<(?:\w+:)?mergeCell\b[^>]*?\bref=[\"']([A-Za-z]{1,3})([0-9]{1,7}):([A-Za-z]{1,3})([0-9]{1,7})"
)
_ERROR_CELL: Final = re.compile(rb"\bt=[\"']e[\"']")
_TEXT_CELL: Final = re.compile(rb"\bt=[\"']str[\"']")
_SUSPECT: Final = (b"<f", b":f>", b":f ", b't="e"', b"t='e'")
_STYLED_NUMBER: Final = re.compile(
    rb"(<(?:\w+:)?c\b[^>]*?) s=\"\d+\"([^>]*>(?:<(?:\w+:)?f\b[^>]*>[^<]*</(?:\w+:)?f>)?"
    rb"<(?:\w+:)?v>(?:\d{8,}|\d\.\d+[eE]\+?\d))"
)
_LONG: Final = dt.timedelta(days=366)  # a longer time of day is a number that was only shown as one


def open_zip(file: BinaryIO, limits: Limits, *, compact: bool = False) -> Opened:
    """Open a zip that is a workbook, once it holds what it says; `compact` without cells far from their table."""
    archive = Archive(file, limits)
    allow_memory(limits.memory_for(archive.expanded))
    kind = archive.kind()
    archive.check()
    if kind == "ods":
        from normalizer.imports.spreadsheet.markup import open_ods

        return open_ods(archive, limits)
    far: list[str] = []
    mended = partial(_mended, archive, far if compact else None)
    try:
        book = mended() if compact else CalamineWorkbook.from_path(f"/dev/fd/{file.fileno()}")
    except PasswordError:
        raise password_protected() from None
    except CalamineError:
        book = mended()
    if kind == "xlsb":
        return _source(kind, _Book(book, _xlsb_notes(archive), mended), far)
    return _source(kind, _Book(book, partial(_xlsx_notes, archive), mended, None if compact else archive), far)


def open_ole(file: BinaryIO, limits: Limits, *, compact: bool = False) -> Opened:
    """Open an OLE file: a real xls. A password-protected workbook or another Office document is InvalidInput."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        encrypted = any(data.find(name) >= 0 for name in _ENCRYPTED) or _FILEPASS.search(data)
        is_workbook = _BIFF_STREAM.search(data)
    if encrypted:
        raise password_protected()
    if not is_workbook:
        what = "outro documento do Office (ou um .xls cortado)"
        raise refusal("uma planilha .xlsx, .xls ou .csv", what, "Abra o arquivo no Excel e salve como .xlsx.")
    file.seek(0)
    content, far = file.read(), list[str]()
    if compact:
        content, leaves_out = records.xls_without_far_cells(content)
        far += ["xls"] if leaves_out else []
    book = CalamineWorkbook.from_filelike(io.BytesIO(content))
    found, is_whole = records.xls_notes(records.Ole(content).stream("workbook", "book").content)
    by_name = dict(zip((one.name for one in book.sheets_metadata), found, strict=False))
    doubts = () if is_whole or far else (_NOT_WHOLE,)
    return _source("xls", _Book(book, lambda name: by_name.get(name, Notes()), None), far, doubts)


def _source(kind: str, book: _Book, far: Sequence[str], doubts: tuple[Doubt, ...] = ()) -> Opened:
    sheets = [Table(name, partial(book.rows, name), visible) for name, visible in book.sheets.items()]
    return Opened(kind, sheets, (_FAR, *doubts) if far else doubts)


_FAR: Final = Doubt(
    "células perto da tabela",
    "células soltas muito longe dela, que não foram lidas",
    "Se não forem sobras, traga-as para junto da tabela; se forem, apague-as (Ctrl+End no Excel mostra a última).",
)


_NOT_WHOLE: Final = Doubt(
    "um .xls em que cada texto guardado está numa célula, e as células em ordem",
    "um arquivo que pode estar danificado",
    "Confira as linhas na prévia; na dúvida, abra-o no Excel e salve como .xlsx.",
)


_WHOLE: Final = -1  # in place of a window's number


class _Book:
    """A workbook that lays out one sheet at a time, from a mended copy where the file itself cannot be read.

    A large sheet of `archive` is laid out in windows, and the workbook itself let go of.
    """

    def __init__(
        self,
        book: CalamineWorkbook,
        notes: Callable[[str], Notes],
        open_again: Callable[[], CalamineWorkbook] | None,
        archive: Archive | None = None,
    ) -> None:
        self._book: CalamineWorkbook | None = book
        self._notes, self._open_again, self._archive = notes, open_again, archive
        self._is_mended = False
        self._sheet: tuple[str, int, CalamineSheet] | None = None  # the one that is laid out, and its window
        found = [one for one in book.sheets_metadata if one.typ == SheetTypeEnum.WorkSheet]
        self.sheets = {one.name: one.visible == SheetVisibleEnum.Visible for one in found}
        self._parts = _worksheets(archive) if archive is not None else {}

    def rows(self, name: str) -> NumberedRows:
        notes = self._notes(name)
        if self._archive is not None and (parts := self._archive.windows(self._parts.get(name, ""))) is not None:
            return _spread(self._in_windows(self._archive, name, parts), 0, notes.merged, notes)
        sheet = self._laid_out(name)
        left = sheet.start[1] if sheet.start else 0
        return _spread(self._cells(name), left, notes.merged or sheet.merged_cell_ranges or (), notes)

    def _laid_out(self, name: str) -> CalamineSheet:
        if self._sheet is None or self._sheet[:2] != (name, _WHOLE):
            self._sheet = None  # let go of it before the next one is laid out
            try:
                found = (self._book or self._mend()).get_sheet_by_name(name)
            except CalamineError:
                found = self._mend().get_sheet_by_name(name)
            self._sheet = (name, _WHOLE, found)
        return self._sheet[2]

    def _mend(self) -> CalamineWorkbook:
        if self._open_again is None or (self._is_mended and self._book is not None):
            raise CalamineError("nothing to mend")
        self._book, self._sheet, self._is_mended = None, None, True
        self._book = self._open_again()
        return self._book

    def _cells(self, name: str) -> Iterator[list[Any]]:
        at = 0
        try:
            for row in self._laid_out(name).iter_rows():
                yield row
                at += 1
        except (OverflowError, ValueError):  # a number shown as a time of day
            self._mend()
            yield from islice(self._laid_out(name).iter_rows(), at, None)

    def _in_windows(self, archive: Archive, name: str, parts: Iterator[bytes]) -> Iterator[list[Any]]:
        """The rows from the first column on; from a mended copy laid out whole where a window cannot be read."""
        at, number = 0, 0
        try:
            while content := [*islice(parts, 1)]:
                for row in _from_first_column(self._window(archive, name, number, content), at):
                    yield row
                    at += 1
                number += 1
        except (CalamineError, OverflowError, ValueError):
            self._mend()
            yield from _from_first_column(self._laid_out(name), at)

    def _window(self, archive: Archive, name: str, number: int, content: list[bytes]) -> CalamineSheet:
        """That window of a sheet; its content is let go of as soon as it is packed."""
        if self._sheet is None or self._sheet[:2] != (name, number):
            self._sheet = self._book = None
            give_back()
            this, sheets = self._parts[name].lower(), {part.lower() for part in self._parts.values()}

            def given(part: str) -> bytes | None:
                return None if part.lower() not in sheets else content.pop() if part.lower() == this else b""

            book = CalamineWorkbook.from_filelike(archive.rebuilt(given, zipfile.ZIP_STORED))
            self._sheet = (name, number, book.get_sheet_by_name(name))
        return self._sheet[2]


def _from_first_column(sheet: CalamineSheet, at: int) -> Iterator[list[Any]]:
    before = [""] * (sheet.start[1] if sheet.start else 0)
    return (before + row for row in islice(sheet.iter_rows(), at, None))


def _spread(rows: Iterator[list[Any]], left: int, ranges: Iterable[Range], notes: Notes) -> NumberedRows:
    """Rows by their number, cut behind their last cell; of empty ones in a line only the first."""
    merged, flaws = _Merged(ranges, left), notes.flaws
    was_empty = False
    for index, cells in enumerate(rows):
        row = cells if _PLAIN.issuperset(map(type, cells)) else [_plain(cell) for cell in cells]
        for column, flaw in flaws.get(index, {}).items():
            if 0 <= column - left < len(row):
                row[column - left] = flaw
        while row and row[-1] == "":
            row.pop()
        merged.fill(index, row)
        if row or not was_empty:
            yield index + 1, row
        was_empty = not row


class _Merged:
    """Values that were merged downwards, for each row that has anything of its own."""

    def __init__(self, ranges: Iterable[tuple[tuple[int, int], tuple[int, int]]], left: int) -> None:
        self._begins: dict[int, list[tuple[int, int]]] = {}
        for (top, column), (bottom, _) in ranges:
            if bottom > top and column >= left:
                self._begins.setdefault(top, []).append((column - left, bottom))
        self._open: dict[int, tuple[int, Any]] = {}  # by column: the last row, the value

    def fill(self, index: int, row: list[Any]) -> None:
        self._open = {column: one for column, one in self._open.items() if one[0] >= index}
        for column, (_, value) in self._open.items() if row else ():
            row.extend([""] * (column + 1 - len(row)))
            row[column] = value if row[column] == "" else row[column]
        for column, bottom in self._begins.get(index, ()):
            if column < len(row) and row[column] != "":
                self._open[column] = (bottom, row[column])


def _plain(cell: Any) -> Any:
    return cell if type(cell) in _PLAIN else _time(cell) if isinstance(cell, dt.timedelta) else text_of(cell)


_PLAIN: Final = frozenset({str, float, bool, int, type(None)})


def _time(cell: dt.timedelta) -> str | float:
    if not dt.timedelta() <= cell < _LONG:
        return cell / dt.timedelta(days=1)
    minutes, seconds = divmod(round(cell.total_seconds()), 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"


# -- what calamine does not tell --------------------------------------------------------------------------------------


def _mended(archive: Archive, far: list[str] | None) -> CalamineWorkbook:
    """A copy without what stops calamine: error values it does not know, numbers shown as impossible times.

    Where there is a list for their sheets, without cells far from the others either.
    """

    def mend(name: str) -> bytes:
        content = archive.read(name)
        if far is not None and name.endswith(".bin") and "worksheets/" in name:
            content, leaves_out = records.xlsb_without_far_cells(content)
            far.extend([name] if leaves_out else [])
        if b"sheetData" not in content[:8192] or not name.endswith(".xml"):
            return content
        if far is not None:
            content, leaves_out = _without_far_cells(content)
            far.extend([name] if leaves_out else [])
        return _without_stumbling(content)

    return CalamineWorkbook.from_filelike(archive.rebuilt(mend))


def _without_stumbling(content: bytes) -> bytes:
    content = content.replace(b't="e"', b't="str"').replace(b"t='e'", b"t='str'")
    return _STYLED_NUMBER.sub(rb"\1\2", content)


def _without_far_cells(content: bytes) -> tuple[bytes, bool]:
    """A worksheet in which cells far from its table are left out, and whether there are any."""

    def place(cell: re.Match[bytes]) -> tuple[int, int]:
        found = _REFERENCE.search(cell[1])
        return _place(found[1], found[2]) if found else (0, 0)

    extent = Extent(map(place, _CELL.finditer(content)))
    if not extent.leaves_out:
        return content, False
    return _CELL.sub(lambda cell: cell[0] if extent.holds(*place(cell)) else b"", content), True


def _worksheets(archive: Archive) -> dict[str, str]:
    """The part of each worksheet by the name of the sheet."""
    main = archive.main_part()
    targets = archive.relations(main)
    if main.endswith(".bin"):
        return {name: targets.get(relation, "") for relation, name in records.xlsb_names(archive.read(main))}
    sheets: dict[str, str] = {}
    for found in _SHEET_NAME.finditer(archive.read(main)):
        about = attributes(found[1])
        relation = next((value for key, value in about.items() if key.endswith(":id")), "")
        sheets[about.get("name", "")] = targets.get(relation, "")
    return sheets


def _xlsb_notes(archive: Archive) -> Callable[[str], Notes]:
    try:
        found = {name: records.xlsb_notes(archive.pieces(part)) for name, part in _worksheets(archive).items()}
    except ValueError:
        short = "uma planilha binária (.xlsb) com células abreviadas"
        fix = "Abra no Excel ou no LibreOffice e salve como .xlsx."
        raise refusal("uma planilha que se leia por inteiro", short, fix) from None
    return lambda name: found.get(name, Notes())


def _xlsx_notes(archive: Archive, name: str) -> Notes:
    """Where one sheet's cells hold an error value or a formula without its result."""
    flaws: Flaws = {}
    kept = b""
    for piece in archive.pieces(_worksheets(archive).get(name, "")):
        block, _, kept = (kept + piece).rpartition(b"row>")
        if len(kept) > 1 << 20 and b"mergeCell" not in kept:  # a row without end
            kept = b""
        _look(block, flaws)
    _look(kept, flaws)
    merged = [(_place(one[1], one[2]), _place(one[3], one[4])) for one in _MERGED.finditer(kept)]
    return Notes(flaws, merged)


def _look(block: bytes, flaws: Flaws) -> None:
    if not any(mark in block for mark in _SUSPECT):
        return
    cell, formula = b"", False
    for tag in _TAG.finditer(block):
        kind, attributes, text = tag.groups()
        if kind == b"f":
            formula = True
        elif kind in {b"v", b"is"}:
            if kind == b"v" and _ERROR_CELL.search(cell):
                _note(flaws, cell, error_value(text.decode("utf-8", "replace")))
            formula = formula and not text.strip() and not _TEXT_CELL.search(cell)
        else:
            if formula:
                _note(flaws, cell, NO_FORMULA)
            cell, formula = attributes if kind == b"c" else b"", False
    if formula:
        _note(flaws, cell, NO_FORMULA)


def _note(flaws: Flaws, cell: bytes, flaw: Unreadable) -> None:
    if found := _REFERENCE.search(cell):
        row, column = _place(found[1], found[2])
        flaws.setdefault(row, {})[column] = flaw


def _place(letters: bytes, digits: bytes) -> tuple[int, int]:
    """`B7` → row 6, column 1."""
    column = 0
    for letter in letters.upper():
        column = column * 26 + letter - 64
    return int(digits) - 1, column - 1
