"""Workbooks through calamine: xlsx (whatever its name says) and the old binary xls."""

from __future__ import annotations

import io
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from python_calamine import CalamineSheet, CalamineWorkbook, PasswordError, SheetTypeEnum, SheetVisibleEnum

from normalizer.errors import InvalidInput
from normalizer.spreadsheet.archive import check_workbook, password_protected
from normalizer.spreadsheet.table import NumberedRows, Opened, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normalizer.spreadsheet.limits import Limits

# Streams of an Office file encrypted with a password ([MS-OFFCRYPTO] 2.3), as named in the OLE directory.
_ENCRYPTED: Final = tuple(name.encode("utf-16-le") for name in ("EncryptedPackage", "EncryptionInfo"))
_BIFF_STREAMS: Final = tuple(name.encode("utf-16-le") for name in ("Workbook", "Book"))


def open_xlsx(data: bytes, where: str, limits: Limits) -> Opened:
    """Open an xlsx whose size and reach have been checked first. Raises InvalidInput."""
    check_workbook(data, where, limits)
    return _open("xlsx", data, where)


def open_ole(data: bytes, where: str) -> Opened:
    """Open an OLE file: a real xls. A password-protected workbook or another Office document is InvalidInput."""
    if any(name in data for name in _ENCRYPTED):
        raise password_protected(where)
    if not any(name in data for name in _BIFF_STREAMS):
        raise InvalidInput(
            where=where,
            expected="uma planilha .xlsx, .xls ou .csv",
            found="outro documento do Office (ou um .xls cortado)",
            mend="Abra o arquivo no Excel e salve como .xlsx.",
        )
    return _open("xls", data, where)


def _open(kind: str, data: bytes, where: str) -> Opened:
    with _readable(where):
        book = CalamineWorkbook.from_filelike(io.BytesIO(data))
        sheets = [sheet for sheet in book.sheets_metadata if sheet.typ == SheetTypeEnum.WorkSheet]
    loader = _Loader(book, where)
    visible = tuple(
        Table(sheet.name, partial(loader.rows, sheet.name))
        for sheet in sheets
        if sheet.visible == SheetVisibleEnum.Visible
    )
    hidden = tuple(sheet.name for sheet in sheets if sheet.visible != SheetVisibleEnum.Visible)
    return Opened(kind, visible, hidden)


class _Loader:
    """Keeps the sheet read last, so that looking for its header and reading its rows parse it once."""

    def __init__(self, book: CalamineWorkbook, where: str) -> None:
        self._book, self._where = book, where
        self._sheet: CalamineSheet | None = None

    def rows(self, name: str) -> NumberedRows:
        with _readable(self._where):
            if self._sheet is None or self._sheet.name != name:
                self._sheet = None  # let go of it before the next one is laid out
                self._sheet = self._book.get_sheet_by_name(name)
            yield from enumerate(self._sheet.iter_rows(), start=1)


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """Turn whatever the parser throws at a damaged file, panics of its Rust side included, into InvalidInput."""
    try:
        yield
    except PasswordError as exc:
        raise password_protected(where) from exc
    except InvalidInput:
        raise
    except BaseException as exc:
        if isinstance(exc, Exception) or type(exc).__name__ == "PanicException":
            raise InvalidInput(
                where=where,
                expected="uma planilha íntegra",
                found="um arquivo cortado ou danificado",
                mend="Abra no Excel e salve de novo como .xlsx, ou exporte outra vez.",
            ) from exc
        raise
