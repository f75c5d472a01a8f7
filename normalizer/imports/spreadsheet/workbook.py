"""Workbooks through calamine, in a process of its own: xlsx (whatever its name says) and the old binary xls."""

from __future__ import annotations

import contextlib
import marshal
import mmap
import struct
import subprocess
import sys
import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from normalizer.errors import InvalidInput
from normalizer.imports.spreadsheet.archive import check_workbook, password_protected
from normalizer.imports.spreadsheet.table import NumberedRows, Opened, Table

if TYPE_CHECKING:
    from normalizer.imports.spreadsheet.limits import Limits

_CHILD: Final = Path(__file__).with_name("child.py")
_ROWS_A_TRIP: Final = 500
_LENGTH: Final = struct.Struct("<I")
# Streams of an Office file encrypted with a password ([MS-OFFCRYPTO] 2.3), as named in the OLE directory.
_ENCRYPTED: Final = tuple(name.encode("utf-16-le") for name in ("EncryptedPackage", "EncryptionInfo"))
_BIFF_STREAMS: Final = tuple(name.encode("utf-16-le") for name in ("Workbook", "Book"))


def open_xlsx(file: BinaryIO, where: str, limits: Limits) -> Opened:
    """Open an xlsx whose size and reach have been checked first. Raises InvalidInput. `file` is a real one."""
    check_workbook(file, where, limits)
    return _open("xlsx", file, where)


def open_ole(file: BinaryIO, where: str) -> Opened:
    """Open an OLE file: a real xls. A password-protected workbook or another Office document is InvalidInput."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        encrypted = any(data.find(name) >= 0 for name in _ENCRYPTED)
        is_workbook = any(data.find(name) >= 0 for name in _BIFF_STREAMS)
    if encrypted:
        raise password_protected(where)
    if not is_workbook:
        raise InvalidInput(
            where=where,
            expected="uma planilha .xlsx, .xls ou .csv",
            found="outro documento do Office (ou um .xls cortado)",
            mend="Abra o arquivo no Excel e salve como .xlsx.",
        )
    return _open("xls", file, where)


def _open(kind: str, file: BinaryIO, where: str) -> Opened:
    reader = _Reader(file, where)
    sheets = reader.sheets()
    tables = tuple(Table(name, partial(reader.rows, name)) for name, visible in sheets if visible)
    return Opened(kind, tables, tuple(name for name, visible in sheets if not visible))


class _Reader:
    """The child that holds the workbook. It ends with this object; it keeps the sheet read last laid out."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._where = where
        descriptor = file.fileno()
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", str(_CHILD), str(descriptor)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it holds nothing an operator could use: stack traces of the native reader
            pass_fds=(descriptor,),
        )
        weakref.finalize(self, _end, self._process)

    def sheets(self) -> list[tuple[str, bool]]:
        """Return each sheet's name and whether it is visible: what the child says first, once."""
        kind, answer = self._answer()
        if kind != "sheets":
            raise self._refusal(answer)
        return [(name, visible) for name, visible in answer]

    def rows(self, name: str) -> NumberedRows:
        at = 0
        while rows := self._ask([name, at, _ROWS_A_TRIP]):
            if rows[0] == "refused":
                raise self._refusal(rows[1])
            yield from enumerate(rows, start=at + 1)
            at += len(rows)

    def _ask(self, request: Any) -> Any:
        body = marshal.dumps(request)
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # the child is gone, and has nothing to say
                self._process.stdin.write(_LENGTH.pack(len(body)) + body)
                self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        stream = self._process.stdout
        head = stream.read(_LENGTH.size) if stream is not None else b""
        reply = stream.read(_LENGTH.unpack(head)[0]) if stream is not None and len(head) == _LENGTH.size else b""
        if not reply:  # the child is gone: out of memory or of its limits
            raise self._refusal("damaged")
        return marshal.loads(reply)  # noqa: S302 — our own child's

    def _refusal(self, why: str) -> InvalidInput:
        if why == "password":
            return password_protected(self._where)
        return InvalidInput(
            where=self._where,
            expected="uma planilha íntegra",
            found="um arquivo cortado ou danificado",
            mend="Abra no Excel e salve de novo como .xlsx, ou exporte outra vez.",
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                continue
