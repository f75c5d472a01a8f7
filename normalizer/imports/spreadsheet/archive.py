"""A zip looked at before it is trusted: what it says it holds, what it really holds, and how far its cells reach.

A zip bomb is small on disk and huge in memory, and its own headers may lie; a sheet of two cells at opposite corners is
a bomb too, because the reader lays out the whole area between them.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final

from normalizer.errors import InvalidInput
from normalizer.imports.spreadsheet.limits import Limits, megabytes, too_large

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCAL_HEADER: Final = struct.Struct("<4s5H3L2H")
_CHUNK: Final = 1 << 20
_COMPRESSED_CHUNK: Final = 1 << 16
_REFERENCE: Final = re.compile(rb"r\s*=\s*[\"']([A-Za-z]{1,5})([0-9]{1,9})[\"']")
_OVERLAP: Final = 64  # longer than any cell reference, so that one cut in two is seen in the next piece


def check_workbook(file: BinaryIO, where: str, limits: Limits) -> None:
    """Raise InvalidInput unless `file` is a whole, unencrypted xlsx of bearable size. Nothing is kept in memory."""
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, UnicodeError) as exc:
        raise _truncated(where) from exc
    names = {part.filename for part in parts}
    if not any(name.lower() == "xl/workbook.xml" for name in names):
        raise _other_zip(where, names)
    _check_declared(parts, where, limits)
    expanded = 0
    for part in parts:
        area = _Area()  # of every part: which of them are worksheets is for the file itself to say
        for piece in _inflate(file, part, where):
            expanded += len(piece)
            if expanded > limits.expanded_bytes:
                raise _bomb(where, f"mais de {megabytes(limits.expanded_bytes)} ao abrir")
            area.see(piece)
            area.check(where, limits)


def _check_declared(parts: list[zipfile.ZipInfo], where: str, limits: Limits) -> None:
    if len(parts) > limits.parts:
        raise _bomb(where, f"{len(parts)} arquivos internos")
    if any(part.flag_bits & 1 for part in parts):
        raise password_protected(where)
    expanded = sum(part.file_size for part in parts)
    if expanded > limits.expanded_bytes:
        raise _bomb(where, f"{megabytes(expanded)} ao abrir")
    for part in parts:
        if part.file_size > limits.ratio_from_bytes and part.file_size > limits.ratio * max(part.compress_size, 1):
            raise _bomb(where, f"parte que cresce {part.file_size // max(part.compress_size, 1)} vezes ao abrir")


def _inflate(file: BinaryIO, part: zipfile.ZipInfo, where: str) -> Iterator[bytes]:
    """Yield a part's real content in pieces, whatever size its header says; a larger part is refused."""
    file.seek(part.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size:
        raise _truncated(where)
    fields = _LOCAL_HEADER.unpack(header)
    file.seek(fields[-2] + fields[-1], io.SEEK_CUR)
    compressed = _pieces(file, part.compress_size)
    if part.compress_type == zipfile.ZIP_STORED:
        yield from compressed
        return
    if part.compress_type != zipfile.ZIP_DEFLATED:
        raise _other_zip(where, set())
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    seen = 0
    try:
        for given in compressed:
            piece = inflater.decompress(given, _CHUNK)
            while piece:
                seen += len(piece)
                if seen > part.file_size:
                    raise _bomb(where, "parte maior do que o próprio arquivo declara")
                yield piece
                piece = inflater.decompress(inflater.unconsumed_tail, _CHUNK)
    except zlib.error as exc:
        raise _truncated(where) from exc
    if not inflater.eof:
        raise _truncated(where)


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the next `size` bytes of the file, or as many as there are."""
    while size > 0 and (piece := file.read(min(size, _COMPRESSED_CHUNK))):
        size -= len(piece)
        yield piece


class _Area:
    """The corner farthest from A1 that any cell of one worksheet names."""

    def __init__(self) -> None:
        self.columns = self.rows = 0
        self._tail = b""

    def see(self, piece: bytes) -> None:
        piece = self._tail + piece
        found = _REFERENCE.findall(piece)
        if found:
            columns, rows = map(set, zip(*found, strict=True))
            self.rows = max(self.rows, *map(int, rows))
            self.columns = max(self.columns, *map(_column_number, columns))
        self._tail = piece[-_OVERLAP:]

    def check(self, where: str, limits: Limits) -> None:
        if self.columns > limits.columns or self.rows * self.columns > limits.cells:
            found = f"área de {self.rows} linhas × {self.columns} colunas"
            raise too_large(where, found=found, limit=f"{limits.cells} células e {limits.columns} colunas em uso")


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + letter - 64
    return number


def password_protected(where: str) -> InvalidInput:
    """The error for a workbook that only opens with a password."""
    return InvalidInput(
        where=where,
        expected="uma planilha sem senha",
        found="um arquivo protegido por senha",
        mend="Abra no Excel, retire a senha (Arquivo → Informações → Proteger Pasta de Trabalho) e salve de novo.",
    )


def _truncated(where: str) -> InvalidInput:
    return InvalidInput(
        where=where,
        expected="um arquivo .xlsx inteiro",
        found="um arquivo cortado ou danificado",
        mend="Exporte ou baixe a planilha outra vez.",
    )


def _other_zip(where: str, names: set[str]) -> InvalidInput:
    kind = "uma planilha binária (.xlsb)" if "xl/workbook.bin" in names else "um arquivo compactado que não é planilha"
    kind = "uma planilha do LibreOffice (.ods)" if "content.xml" in names else kind
    return InvalidInput(
        where=where, expected="uma planilha .xlsx, .xls ou .csv", found=kind, mend="Salve como .xlsx e importe de novo."
    )


def _bomb(where: str, found: str) -> InvalidInput:
    return InvalidInput(
        where=where,
        expected="uma planilha de tamanho razoável",
        found=f"conteúdo que explode ao ser descompactado ({found})",
        mend="Copie as linhas para uma planilha nova, salve como .xlsx e importe de novo.",
    )
