"""Kind of a file by its first bytes, whatever its name says."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

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
