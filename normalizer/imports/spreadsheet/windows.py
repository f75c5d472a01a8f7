"""Windows of a large worksheet's rows, each a worksheet by itself.

The native reader lays out a worksheet whole, 60 bytes a cell: 100,000 rows × 30 columns take 180 MB. A window takes its
share of that, and costs a look at the texts that all of them share.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normalizer.imports.spreadsheet.archive import Archive

_BYTES: Final = 20 * 2**20
_FIRST_ROW: Final = re.compile(rb"<(\w+:)?sheetData\s*>\s*(?=<(?:\w+:)?row\b[^>]{0,200}?\br=)")


def windows(archive: Archive, part: str) -> Iterator[bytes] | None:
    """The windows of a worksheet in order; None for a small one, and where rows do not say their numbers."""
    if archive.size(part) <= _BYTES:
        return None
    pieces = archive.pieces(part)
    start = next(pieces, b"")
    found = _FIRST_ROW.search(start)
    return _windows(start, found, pieces) if found is not None else None


def _windows(start: bytes, found: re.Match[bytes], pieces: Iterator[bytes]) -> Iterator[bytes]:
    prefix = found[1] or b""
    head, kept = start[: found.end()], bytearray(start[found.end() :])
    row_ends, rest = b"</" + prefix + b"row>", b"</" + prefix + b"sheetData></" + prefix + b"worksheet>"
    for piece in pieces:
        kept += piece
        if len(kept) > _BYTES and (at := kept.rfind(row_ends)) >= 0:
            end = at + len(row_ends)
            window = [b"".join((head, memoryview(kept)[:end], rest))]
            kept = kept[end:]
            yield window.pop()  # no longer held here
    yield head + kept
