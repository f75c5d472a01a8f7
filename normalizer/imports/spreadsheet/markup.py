"""Tables in markup named .xls: HTML exports and Excel 2003 XML. Nothing outside is resolved: no DTD, file or URL."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import IO, TYPE_CHECKING, Final

from normalizer.imports.spreadsheet import encoding
from normalizer.imports.spreadsheet.limits import too_large
from normalizer.imports.spreadsheet.table import Cells, NumberedRows, Opened, Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from normalizer.imports.spreadsheet.limits import Limits

_CHUNK: Final = 1 << 16
_ROW_TAGS: Final = frozenset({"tr", "row", "ss:row"})
_CELL_TAGS: Final = frozenset({"td", "th", "cell", "ss:cell"})
_BREAK_TAGS: Final = frozenset({"br", "p", "div"})
_HIDDEN_TAGS: Final = frozenset({"script", "style", "head", "comment", "ss:comment"})


def open_markup(open_binary: Callable[[], IO[bytes]], where: str, limits: Limits) -> Opened:
    """Open the rows of all tables of an HTML or Excel 2003 XML file, one after the other, as one table."""
    charset = encoding.detect(open_binary)

    def rows() -> NumberedRows:
        reader = _RowReader(limits)
        number = 0
        with open_binary() as stream:
            for piece in charset.lines(stream, _CHUNK):
                reader.feed(piece)
                if reader.too_large or len(reader.rawdata) > limits.line_chars:
                    raise too_large(f"{where}, linha {number + 1}", found="uma célula enorme", limit="1 MB por célula")
                for cells in reader.take():
                    number += 1
                    yield number, cells
        reader.close()
        for cells in reader.take():
            number += 1
            yield number, cells

    return Opened("html", (Table("html", rows),), doubts=charset.doubts)


def is_markup(start: bytes) -> bool:
    """Whether the first bytes of a file are a table in markup."""
    head = start.lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \r\n\t").replace(b"\0", b"")[:65536].lower()
    return head.startswith(b"<") and any(
        tag in head for tag in (b"<table", b"<html", b"<tr", b"<workbook", b"<ss:workbook")
    )


class _RowReader(HTMLParser):
    """Collects finished rows. Character references are resolved by the parser's fixed table, nothing else is."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(convert_charrefs=True)
        self._limits = limits
        self._rows: list[Cells] = []
        self._cells: list[object] | None = None
        self._text: list[str] | None = None
        self._chars = 0
        self._hidden = 0
        self.too_large = False

    def take(self) -> list[Cells]:
        rows, self._rows = self._rows, []
        return rows

    def close(self) -> None:
        super().close()
        self._end_row()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _HIDDEN_TAGS:
            self._hidden += 1
        elif tag in _ROW_TAGS:
            self._end_row()
            self._cells = []
        elif tag in _CELL_TAGS:
            self._end_cell()
            self._start_cell(dict(attrs))
        elif tag in _BREAK_TAGS and self._text is not None:
            self._text.append("\n")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in _HIDDEN_TAGS:
            self._hidden = max(0, self._hidden - 1)
        elif tag in _CELL_TAGS:
            self._end_cell()
        elif tag in _ROW_TAGS or tag in {"table", "worksheet", "ss:worksheet"}:
            self._end_row()

    def handle_data(self, data: str) -> None:
        if self._text is not None and not self._hidden:
            self._chars += len(data)
            self.too_large = self.too_large or self._chars > self._limits.line_chars
            self._text.append(data)

    def _start_cell(self, attributes: dict[str, str | None]) -> None:
        if self._cells is None:
            self._cells = []
        index = attributes.get("ss:index")  # Excel 2003 XML leaves empty cells out
        if index and index.isdecimal():
            self._pad(int(index) - 1)
        self._text, self._chars = [], 0

    def _pad(self, columns: int) -> None:
        if self._cells is not None:
            missing = min(columns, self._limits.columns) - len(self._cells)
            self._cells.extend([""] * max(0, missing))

    def _end_cell(self) -> None:
        if self._cells is not None and self._text is not None:
            self._cells.append("".join(self._text).strip())
            self.too_large = self.too_large or len(self._cells) > self._limits.columns
        self._text = None

    def _end_row(self) -> None:
        self._end_cell()
        if self._cells:
            self._rows.append(self._cells)
        self._cells = None
