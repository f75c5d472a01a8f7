"""A zip looked at before it is trusted: which kind of sheet it is, and whether it holds what it says it holds.

A zip bomb is small on disk and huge in memory, and its own headers may lie. Names inside may be written with
backslashes or in other letters, and the main part may lie anywhere; `rebuilt` puts them where every reader looks.
"""

from __future__ import annotations

import copy
import html
import io
import posixpath
import re
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final

from normalizer.imports.spreadsheet.limits import COPY_ROWS, Limits, megabytes, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from normalizer.errors import InvalidInput

_LOCAL_HEADER: Final = struct.Struct("<4s5H3L2H")
_SIZES_FOLLOW: Final = 8  # a part's flag: they stand behind it
_CHUNK: Final = 1 << 20
_COMPRESSED_CHUNK: Final = 1 << 16
_RELATION: Final = re.compile(rb"<(?:\w+:)?Relationship\b([^>]{1,2000})>", re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(rb"([\w:]{1,40})\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")

# The native reader lays out a worksheet whole, 60 bytes a cell: 100,000 rows × 30 columns take 180 MB. A window of it
# takes its share of that, and costs a look at the texts that all of them share.
_WINDOW_BYTES: Final = 20 * 2**20
_FIRST_ROW: Final = re.compile(rb"<(\w+:)?sheetData\s*>\s*(?=<(?:\w+:)?row\b[^>]{0,200}?\br=)")


class Archive:
    """The parts of a zip by their names as they should be: with slashes, without a leading one."""

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        self._file, self._limits = file, limits
        try:
            with zipfile.ZipFile(file) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, UnicodeError) as exc:
            raise _truncated() from exc
        _check_declared(infos, limits)
        self._parts = {info.filename.replace("\\", "/").lstrip("/"): info for info in infos}
        self._names = {name.lower(): name for name in self._parts}
        self.expanded = sum(info.file_size for info in infos)

    def kind(self) -> str:
        """`xlsx`, `xlsb` or `ods`. Raises InvalidInput for any other zip."""
        if "content.xml" in self._names:
            return "ods"
        main = self.main_part().lower()
        if main.endswith(".bin"):
            return "xlsb"
        if main.endswith(".xml") and "word/" not in main and "ppt/" not in main:
            return "xlsx"
        raise _other_zip()

    def main_part(self) -> str:
        """The name of the workbook's own part, wherever it lies; empty where there is none."""
        told = [target.lower() for one, target in self.relations("").items() if one.endswith("/officeDocument")]
        likely = (*told, "xl/workbook.xml", "xl/workbook.bin")
        return next((self._names[name] for name in likely if name in self._names), "")

    def relations(self, part: str) -> dict[str, str]:
        """The parts that one points to, by id and by type; those of the whole for an empty name."""
        home, name = posixpath.split(part)
        found: dict[str, str] = {}
        for one in _RELATION.finditer(self.read(posixpath.join(home, "_rels", f"{name}.rels"))):
            about = attributes(one[1])
            target = about.get("target", "").replace("\\", "/")
            target = target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(home, target))
            found |= dict.fromkeys((about.get("id", ""), about.get("type", "")), target)
        return found

    def read(self, name: str) -> bytes:
        """A part's content, whole: for the small ones. Empty where there is none of that name."""
        return b"".join(self.pieces(name))

    def pieces(self, name: str) -> Iterator[bytes]:
        """A part's real content in pieces, whatever size its header says; a larger part is refused."""
        info = self._info(name)
        return iter(()) if info is None else _inflate(self._file, info)

    def windows(self, part: str) -> Iterator[bytes] | None:
        """The rows of a large worksheet in order, in parts that are each a worksheet by itself.

        None for a small one, and where rows do not say their numbers.
        """
        info = self._info(part)
        if info is None or info.file_size <= _WINDOW_BYTES:
            return None
        pieces = self.pieces(part)
        start = next(pieces, b"")
        found = _FIRST_ROW.search(start)
        return _windows(start, found, pieces) if found is not None else None

    def _info(self, name: str) -> zipfile.ZipInfo | None:
        return self._parts.get(self._names.get(name.lower(), ""))

    def check(self) -> None:
        """Raise InvalidInput unless every part is whole and no larger than it says."""
        expanded = 0
        for info in self._parts.values():
            checksum = 0
            for piece in _inflate(self._file, info):
                checksum = zlib.crc32(piece, checksum)
                expanded += len(piece)
                if expanded > self._limits.expanded_bytes:
                    raise _bomb(f"mais de {megabytes(self._limits.expanded_bytes)} ao abrir")
            if checksum != info.CRC:
                raise _truncated()

    def rebuilt(self, content: Callable[[str], bytes | None], packing: int = zipfile.ZIP_DEFLATED) -> io.BytesIO:
        """The same archive with its main part where calamine looks for it, and what `content` says in place of a part.

        What it says nothing of is copied as it is packed.
        """
        main = self.main_part()
        home, kept = posixpath.dirname(main), io.BytesIO()
        with zipfile.ZipFile(kept, "w", packing, compresslevel=1) as archive:
            for name, info in self._parts.items():
                moved = _moved(name, main, home)
                if (given := content(name)) is not None:
                    archive.writestr(moved, given)
                else:
                    self._copy(info, moved, archive, kept)
        kept.seek(0)
        return kept

    def _copy(self, info: zipfile.ZipInfo, name: str, archive: zipfile.ZipFile, to: io.BytesIO) -> None:
        one = copy.copy(info)
        one.filename, one.header_offset, one.extra = name, archive.start_dir, b""
        one.flag_bits &= ~_SIZES_FOLLOW
        to.seek(archive.start_dir)
        to.write(one.FileHeader(zip64=False))
        to.writelines(_packed(self._file, info))
        archive.filelist.append(one)
        archive.NameToInfo[name] = one
        archive.start_dir = to.tell()


def attributes(tag: bytes) -> dict[str, str]:
    """The attributes inside a tag, their names in small letters."""
    return {
        found[1].decode().lower(): html.unescape((found[2] or found[3] or b"").decode("utf-8", "replace"))
        for found in _ATTRIBUTE.finditer(tag)
    }


def _moved(name: str, main: str, home: str) -> str:
    """Where calamine looks for a part, in small letters: the workbook's folder is `xl`, the workbook `workbook`."""
    name, main, home = name.lower(), main.lower(), home.lower()
    whole = f"workbook{posixpath.splitext(main)[1]}"
    if name == main:
        return f"xl/{whole}"
    if name == posixpath.join(home, "_rels", f"{posixpath.basename(main)}.rels"):
        return f"xl/_rels/{whole}.rels"
    inside = name.startswith(f"{home}/") if home else not name.startswith(("_rels/", "docprops/", "[content"))
    return f"xl/{name[len(home) :].lstrip('/')}" if inside else name


def _check_declared(parts: list[zipfile.ZipInfo], limits: Limits) -> None:
    if len(parts) > limits.parts:
        raise _bomb(f"{len(parts)} arquivos internos")
    if any(part.flag_bits & 1 for part in parts):
        raise password_protected()
    expanded = sum(part.file_size for part in parts)
    if expanded > limits.expanded_bytes:
        raise _bomb(f"{megabytes(expanded)} ao abrir")
    for part in parts:
        if part.file_size > limits.ratio_from_bytes and part.file_size > limits.ratio * max(part.compress_size, 1):
            raise _bomb(f"parte que cresce {part.file_size // max(part.compress_size, 1)} vezes ao abrir")


def _inflate(file: BinaryIO, part: zipfile.ZipInfo) -> Iterator[bytes]:
    if part.compress_type == zipfile.ZIP_STORED:
        yield from _packed(file, part)
        return
    if part.compress_type != zipfile.ZIP_DEFLATED:
        raise _other_zip()
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    seen = 0
    try:
        for given in _packed(file, part):
            piece = inflater.decompress(given, _CHUNK)
            while piece:
                seen += len(piece)
                if seen > part.file_size:
                    raise _bomb("parte maior do que o próprio arquivo declara")
                yield piece
                piece = inflater.decompress(inflater.unconsumed_tail, _CHUNK)
    except zlib.error as exc:
        raise _truncated() from exc
    if not inflater.eof and part.compress_size > 2:  # an empty part needs no end
        raise _truncated()


def _packed(file: BinaryIO, part: zipfile.ZipInfo) -> Iterator[bytes]:
    """A part's content as it is packed, or as much of it as there is."""
    file.seek(part.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size:
        raise _truncated()
    *_, name, extra = _LOCAL_HEADER.unpack(header)
    at, size = part.header_offset + _LOCAL_HEADER.size + int(name) + int(extra), part.compress_size
    while size > 0:
        file.seek(at)
        piece = file.read(min(size, _COMPRESSED_CHUNK))
        if not piece:
            return
        at, size = at + len(piece), size - len(piece)
        yield piece


def password_protected() -> InvalidInput:
    """The error for a workbook that only opens with a password."""
    fix = "Abra no Excel, retire a senha (Arquivo → Informações → Proteger Pasta de Trabalho) e salve de novo."
    return refusal("uma planilha sem senha", "um arquivo protegido por senha", fix)


def _truncated() -> InvalidInput:
    fix = "Exporte ou baixe a planilha outra vez."
    return refusal("um arquivo .xlsx inteiro", "um arquivo cortado ou danificado", fix)


def _other_zip() -> InvalidInput:
    found = "um arquivo compactado que não é planilha"
    return refusal("uma planilha .xlsx, .xlsb, .ods, .xls ou .csv", found, "Salve como .xlsx e importe de novo.")


def _bomb(found: str) -> InvalidInput:
    found = f"conteúdo que explode ao ser descompactado ({found})"
    return refusal("uma planilha de tamanho razoável", found, COPY_ROWS)


def _windows(start: bytes, found: re.Match[bytes], pieces: Iterator[bytes]) -> Iterator[bytes]:
    prefix = found[1] or b""
    head, kept = start[: found.end()], bytearray(start[found.end() :])
    row_ends, rest = b"</" + prefix + b"row>", b"</" + prefix + b"sheetData></" + prefix + b"worksheet>"
    for piece in pieces:
        kept += piece
        if len(kept) > _WINDOW_BYTES and (at := kept.rfind(row_ends)) >= 0:
            end = at + len(row_ends)
            window = [b"".join((head, memoryview(kept)[:end], rest))]
            kept = kept[end:]
            yield window.pop()  # no longer held here
    yield head + kept
