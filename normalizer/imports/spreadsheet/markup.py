"""Tables in markup, in the reading process: HTML exports named .xls, Excel 2003 XML, MHTML, OpenDocument.

One pass of a native parser, fed in pieces: no tree is built, nothing outside is fetched, no entity but characters is
resolved. Columns stay where they are drawn (`grid`).
"""

from __future__ import annotations

import contextlib
import email
import html
import html.entities
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Final, TypeAlias

from lxml import etree

from normalizer.imports.spreadsheet import encoding
from normalizer.imports.spreadsheet.archive import password_protected
from normalizer.imports.spreadsheet.grid import MOST_COLUMNS, MOST_ROWS, Grid
from normalizer.imports.spreadsheet.table import NO_FORMULA, Doubt, NumberedRows, Opened, Table, error_value

if TYPE_CHECKING:
    from normalizer.imports.spreadsheet.archive import Archive
    from normalizer.imports.spreadsheet.limits import Limits

Pieces: TypeAlias = Callable[[], Iterable[str]]

_SNIFFED_LINES: Final = 40
_TAIL_CHARS: Final = 4_096
_WORKBOOK: Final = re.compile(r"<(?:\w+:)?workbook[\s>]", re.IGNORECASE)
_END: Final = re.compile(r"</(?:\w+:)?(?:table|body|html|workbook)\s*>", re.IGNORECASE)
_HIDDEN_STYLE: Final = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_BLANKS: Final = re.compile(r"[\t\r\n]+ *| {2,}[ \t\r\n]*")
_REFERENCE: Final = re.compile(r"&(#?\w{1,31});|&")
_REFERENCE_CHARS: Final = 33
_CONTROLS: Final = {code: None for code in range(32) if code not in {9, 10, 13}}
_XML_ENTITIES: Final = frozenset({"amp", "lt", "gt", "quot", "apos"})
_ERROR: Final = re.compile(r"#[A-ZÀ-Ý/0!?_]+|Err:\d+")
_MOMENT: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d))?(?:[.,]\d+)?)?Z?")
_DURATION: Final = re.compile(r"PT(\d{1,4})H(\d{1,2})M(\d{1,2})(?:[.,]\d+)?S")
_NO_DAY: Final = frozenset({"1899-12-30", "1899-12-31", "1900-01-00", "1904-01-01"})  # of a time of day


def open_markup(file: BinaryIO, limits: Limits) -> Opened:
    """Open an HTML file, all its tables as one, or an Excel 2003 XML file, each worksheet on its own."""
    charset = encoding.detect(partial(encoding.rewound, file))
    if _WORKBOOK.search("".join(islice(charset.lines(), _SNIFFED_LINES))):
        return _of_sheets("xml", _Excel2003, lambda: map(_bytes, _literal(charset.lines())), limits, charset.doubts)
    return Opened("html", [Table("html", partial(_html, [charset.lines], limits))], charset.doubts)


def open_mhtml(file: BinaryIO, limits: Limits) -> Opened:
    """Open a web page saved as one file: the tables of all its HTML parts as one."""
    file.seek(0)
    parts = [
        bytes(part.get_payload(decode=True) or b"")
        for part in email.message_from_binary_file(file).walk()
        if part.get_content_type() == "text/html"
    ]
    return Opened("html", [Table("html", partial(_html, [partial(_page, part) for part in parts], limits))])


def open_ods(archive: Archive, limits: Limits) -> Opened:
    """Open an OpenDocument spreadsheet."""
    if b"encryption-data" in archive.read("META-INF/manifest.xml"):
        raise password_protected()
    return _of_sheets("ods", _OpenDocument, lambda: archive.pieces("content.xml"), limits)


def _page(content: bytes) -> Iterator[str]:
    return encoding.detect(partial(io.BytesIO, content)).lines()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


# -- passes -----------------------------------------------------------------------------------------------------------


def _html(pages: Sequence[Pieces], limits: Limits) -> NumberedRows:
    target = _Html(limits)
    for page in pages:
        tail = ""

        def watched(page: Pieces = page) -> Iterator[bytes]:
            nonlocal tail
            for piece in page():
                tail = (tail + piece)[-_TAIL_CHARS:]
                yield _bytes(piece)

        yield from _pass(etree.HTMLParser(target=target, encoding="utf-8"), target, watched())
        if not _END.search(tail):
            target.grid.break_off()
            yield from target.grid.take()


def _of_sheets(
    form: str,
    dialect: type[_Sheets],
    pieces: Callable[[], Iterable[bytes]],
    limits: Limits,
    doubts: tuple[Doubt, ...] = (),
) -> Opened:
    """Look through the file for its sheets; each is read in a pass of its own."""
    seen = dialect(limits, None)
    for _ in _xml_pass(seen, pieces()):
        pass

    def rows(wanted: int) -> NumberedRows:
        target = dialect(limits, wanted)
        yield from _xml_pass(target, pieces())
        if target.depth:
            target.grid.break_off()
        yield from target.grid.take()

    tables = [Table(name, partial(rows, at), visible) for at, (name, visible) in enumerate(seen.sheets)]
    return Opened(form, tables, doubts)


def _xml_pass(target: _Sheets, pieces: Iterable[bytes]) -> NumberedRows:
    safe = {"resolve_entities": False, "no_network": True, "load_dtd": False}
    return _pass(etree.XMLParser(target=target, encoding="utf-8", recover=True, **safe), target, pieces)


def _pass(parser: Any, target: _Target, pieces: Iterable[bytes]) -> NumberedRows:
    for piece in pieces:
        parser.feed(piece)
        yield from target.grid.take()
    target.grid.is_cut = target.grid.in_row
    with contextlib.suppress(etree.XMLSyntaxError):  # nothing in it
        parser.close()
    target.grid.end_row()
    yield from target.grid.take()


def _literal(pieces: Iterable[str]) -> Iterator[str]:
    """XML in which every reference is a character, and whatever else looks like one is text."""
    kept = ""
    for piece in pieces:
        text = kept + piece
        cut = text.rfind("&", max(0, len(text) - _REFERENCE_CHARS))
        cut = len(text) if cut < 0 or ";" in text[cut:] else cut
        text, kept = text[:cut], text[cut:]
        yield _REFERENCE.sub(_character, text).translate(_CONTROLS) if "&" in text else text.translate(_CONTROLS)
    yield _REFERENCE.sub(_character, kept)


def _character(reference: re.Match[str]) -> str:
    name = reference[1] or ""
    if name in _XML_ENTITIES:
        return reference[0]
    known = html.unescape(f"&{name};") if name.startswith("#") else html.entities.html5.get(f"{name};", "")
    return html.escape(known.translate(_CONTROLS)) if known else f"&amp;{reference[0][1:]}"


# -- dialects ---------------------------------------------------------------------------------------------------------


class _Target:
    """What the parser tells of: collects the text of the cell that is open, skips what is not shown."""

    SKIPPED: ClassVar[frozenset[str]] = frozenset()
    ROW: ClassVar = "row"

    def __init__(self, limits: Limits) -> None:
        self.grid = Grid()
        self.depth = 0
        self._most = limits.cell_chars + 1  # one more shows that it was longer
        self._text: list[str] | None = None
        self._chars = self._skipped = 0
        self._repeated = 1

    def start(self, tag: str, attrib: Mapping[str, str]) -> None:
        self.depth += 1
        name = _local(tag)
        if self._skipped or self.is_skipped(name, attrib):
            self._skipped += 1
        else:
            self.begin(name, attrib)

    def end(self, tag: str) -> None:
        self.depth -= 1
        if self._skipped:
            self._skipped -= 1
        else:
            self.finish(_local(tag))

    def data(self, data: str) -> None:
        if self._text is not None and not self._skipped and self._chars < self._most:
            self._chars += len(data)
            self._text.append(data)

    def close(self) -> None:
        """Nothing is kept."""

    def is_skipped(self, name: str, attrib: Mapping[str, str]) -> bool:
        return name in self.SKIPPED

    def begin(self, name: str, attrib: Mapping[str, str]) -> None:
        """An element that is not skipped."""

    def finish(self, name: str) -> None:
        """The end of an element that is not skipped."""
        if name == self.ROW:
            self.grid.end_row(self._repeated)
        elif name == "table":
            self.grid.end_table()

    def listen(self) -> None:
        self._text, self._chars = [], 0

    def heard(self) -> str:
        text, self._text = "".join(self._text or ())[: self._most], None
        return text


class _Html(_Target):
    ROW = "tr"
    SKIPPED = frozenset({"script", "style", "noscript", "template"})
    _STRUCTURE: Final = frozenset({"html", "body", "table", "thead", "tbody", "tfoot", "tr", "td", "th"})
    _BREAKS: Final = frozenset({"br", "p", "div", "li"})

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._span = (1, 1)

    def is_skipped(self, name: str, attrib: Mapping[str, str]) -> bool:
        if name in self._STRUCTURE:
            return False
        return name in self.SKIPPED or _HIDDEN_STYLE.search(attrib.get("style", "")) is not None

    def begin(self, name: str, attrib: Mapping[str, str]) -> None:
        if name == "tr":
            self._end_cell()
            self.grid.begin_row()
        elif name in {"td", "th"}:
            self._end_cell()
            down = _number(attrib.get("rowspan")) or MOST_ROWS if attrib else 1
            self._span = _number(attrib.get("colspan")) if attrib else 1, down
            self.listen()
        elif name == "table":
            self._end_cell()
            self.grid.begin_table()
        elif name in self._BREAKS and self._text is not None:
            self._text.append("\v")

    def data(self, data: str) -> None:
        if self._text is not None:
            super().data(_BLANKS.sub(" ", data))

    def finish(self, name: str) -> None:
        if name in {"td", "th"}:
            self._end_cell()
        else:
            super().finish(name)

    def _end_cell(self) -> None:
        if self._text is not None:
            text = self.heard().strip()
            if "\v" in text:
                text = "\n".join(filter(None, map(str.strip, text.split("\v"))))
            self.grid.put(text, across=self._span[0], down=self._span[1])


class _Sheets(_Target):
    """A file of several sheets, of which one is read; with none wanted, they are only named.

    Attributes:
        sheets: name and whether it is visible, of those seen so far.
    """

    def __init__(self, limits: Limits, wanted: int | None) -> None:
        super().__init__(limits)
        self.sheets: list[tuple[str, bool]] = []
        self._wanted = wanted
        self._cell: dict[str, str] = {}

    @property
    def _reads(self) -> bool:
        return self._wanted == len(self.sheets) - 1


class _Excel2003(_Sheets):
    """[MS-XMLSS] Spreadsheet Markup Language of Office 2003."""

    SKIPPED = frozenset({"comment", "phonetictext", "styles"})

    def __init__(self, limits: Limits, wanted: int | None) -> None:
        super().__init__(limits, wanted)
        self._value: object = ""
        self._kind = ""

    def begin(self, name: str, attrib: Mapping[str, str]) -> None:
        if name == "worksheet":
            self.sheets.append((_local_names(attrib).get("name", f"Planilha {len(self.sheets) + 1}"), True))
        elif name == "visible":
            self.listen()
        elif not self._reads:
            return
        elif name == "table":
            self.grid.begin_table()
        elif name == "row":
            index = _local_names(attrib).get("index")
            self.grid.begin_row(_number(index) if index else None)
        elif name == "cell":
            self._cell, self._value = _local_names(attrib), ""
        elif name == "data":
            self._kind = _local_names(attrib).get("type", "").lower()
            self.listen()

    def finish(self, name: str) -> None:
        if name == "visible" and self.heard().strip().lower() in {"sheethidden", "sheetveryhidden"} and self.sheets:
            self.sheets[-1] = (self.sheets[-1][0], False)
        elif not self._reads:
            return
        elif name == "data":
            self._value = _typed(self._kind, self.heard().strip())
        elif name == "cell":
            self._put()
        else:
            super().finish(name)

    def _put(self) -> None:
        about, value = self._cell, self._value
        if value == "" and "formula" in about and self._kind != "string":
            value = NO_FORMULA
        index = about.get("index")
        across, down = _number(about.get("mergeacross"), 0) + 1, _number(about.get("mergedown"), 0) + 1
        self.grid.put(value, across=across, down=down, column=_number(index) - 1 if index else None)
        self._kind = ""


class _OpenDocument(_Sheets):
    """OASIS OpenDocument 1.3, part 3, chapter 9."""

    ROW = "table-row"
    SKIPPED = frozenset({"annotation", "tracked-changes", "shapes", "frame"})

    def __init__(self, limits: Limits, wanted: int | None) -> None:
        super().__init__(limits, wanted)
        self._style = ""
        self._hidden_styles: set[str] = set()

    def begin(self, name: str, attrib: Mapping[str, str]) -> None:
        about = _local_names(attrib)
        if name == "style":
            self._style = about.get("name", "")
        elif name == "table-properties" and about.get("display") == "false":
            self._hidden_styles.add(self._style)
        elif name == "table":
            self.sheets.append((about.get("name", ""), about.get("style-name") not in self._hidden_styles))
            if self._reads:
                self.grid.begin_table()
        elif not self._reads:
            return
        elif name == "table-row":
            self._repeated = _number(about.get("number-rows-repeated"))
            self.grid.begin_row()
        elif name in {"table-cell", "covered-table-cell"}:
            self._cell = about
            self.listen()
        elif self._text is not None:
            self._text.append(_SPACES.get(name, "")[:1] * _number(about.get("c")))

    def finish(self, name: str) -> None:
        if not self._reads:
            return
        if name == "covered-table-cell":
            self.heard()
            self.grid.cover(_number(self._cell.get("number-columns-repeated")))
        elif name == "table-cell":
            self._put(self.heard().strip())
        else:
            super().finish(name)

    def _put(self, text: str) -> None:
        about = self._cell
        kind = about.get("value-type", "")
        value: object = _typed(kind, about.get(f"{kind}-value", about.get("value", text)))
        if "formula" in about and value == "" and kind != "string":
            value = NO_FORMULA
        elif "formula" in about and _ERROR.fullmatch(text):
            value = error_value(text)
        repeated = _number(about.get("number-columns-repeated"))
        if value == "":
            self.grid.cover(repeated)
            return
        down = _number(about.get("number-rows-spanned"))
        for _ in range(min(repeated, MOST_COLUMNS)):
            self.grid.put(value, down=down)


_SPACES: Final = {"s": " ", "tab": "\t", "line-break": "\n", "p": "\n"}


@lru_cache(maxsize=512)
def _local(tag: str) -> str:
    return tag.rpartition("}")[2].rpartition(":")[2].lower()


def _local_names(attrib: Mapping[str, str]) -> dict[str, str]:
    return {_local(name): value for name, value in attrib.items()}


def _number(text: str | None, otherwise: int = 1) -> int:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 8 else otherwise


def _typed(kind: str, text: str) -> object:
    """A value by its declared type; text where it is none of that."""
    if kind in {"number", "float", "percentage", "currency"}:
        with contextlib.suppress(ValueError):
            return float(text)
    elif kind in {"datetime", "date"} and (found := _MOMENT.fullmatch(text)):
        return _moment(found)
    elif kind == "time" and (found := _DURATION.fullmatch(text)):
        return f"{int(found[1]):02}:{int(found[2]):02}:{int(found[3]):02}"
    elif kind == "boolean" and text.lower() in {"1", "0", "true", "false"}:
        return text.lower() in {"1", "true"}
    elif kind == "error":
        return error_value(text)
    return text


def _moment(found: re.Match[str]) -> str:
    year, month, day, hour, minute, second = found.groups()
    time = f"{hour or '00'}:{minute or '00'}:{second or '00'}"
    if f"{year}-{month}-{day}" in _NO_DAY:
        return time
    return f"{day}/{month}/{year}" if time == "00:00:00" else f"{day}/{month}/{year} {time}"
