"""The text of csv and HTML files: which encoding, without reading more than a piece at a time."""

from __future__ import annotations

import codecs
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK: Final = 1 << 20
_BOMS: Final = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def detect(open_binary: Callable[[], IO[bytes]]) -> str:
    """Return the encoding: a byte-order mark decides, then valid UTF-8, else Windows-1252, as Excel here writes.

    Every byte is looked at, a megabyte at a time, so one odd byte late in a file is no surprise to the reader.
    """
    with open_binary() as stream:
        start = stream.read(4)
        for bom, name in _BOMS:
            if start.startswith(bom):
                return name
        decoder = codecs.getincrementaldecoder("utf-8")()
        chunk = start
        try:
            while chunk:
                decoder.decode(chunk)
                chunk = stream.read(_CHUNK)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8"
