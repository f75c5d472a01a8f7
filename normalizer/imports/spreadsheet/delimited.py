"""csv as Brazil exports it, in the reading process: any usual delimiter, quoted or not, any line end, one dialect.

A record that does not fit is never stretched until it does: it is read again as another program would have written it,
and kept where exactly one row of the header's width comes of it. Otherwise it is reported with its line, and reading
goes on at the next physical line, so that an open quote costs one row and mixes no two patients.
"""

from __future__ import annotations

import contextlib
import csv
import re
from collections import Counter, deque
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, Final

from normalizer.domain.stored_form import parse_moment
from normalizer.errors import InvalidInput
from normalizer.imports.spreadsheet import encoding
from normalizer.imports.spreadsheet.columns import find_header, header_within
from normalizer.imports.spreadsheet.limits import megabytes, not_a_sheet, refusal, too_large
from normalizer.imports.spreadsheet.table import BrokenRow, NumberedRows, Opened, Table, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from normalizer.imports.spreadsheet.columns import Also, Header
    from normalizer.imports.spreadsheet.limits import Limits

_DELIMITERS: Final = (";", ",", "\t", "|", "^")
_SAMPLE_LINES: Final = 150
_SAMPLE_CHARS: Final = 1_000_000
_CELL_LINES: Final = 64  # lines a quoted cell may go over
_CELL_CHARS: Final = 32_767
_EMPTY: Final = frozenset({"\n", "\r\n", "\r", '""\n', '""\r\n'})
_MOST_COLUMNS: Final = 16_384
_MOST_BROKEN: Final = 1_000
_NO_TEXT: Final = {0: None, 0x1A: None}  # what DOS ends a file with
_BLANKS: Final = re.compile(r"[ \t]*")
_FIGURES: Final = re.compile(r"[^\W\d_]")
_TEXT_FORMULA: Final = re.compile(r'="([^"]*)"')
_APOSTROPHE: Final = re.compile(r"'(?=[0-9=+@-])")
_SEPARATOR_LINE: Final = re.compile(r"sep=(.)\s*", re.IGNORECASE)


def open_csv(file: BinaryIO, limits: Limits, also: Also | None = None) -> Opened:
    """Open a delimited text; its dialect is the one under which the header row is found. Raises InvalidInput."""
    charset = encoding.detect(partial(encoding.rewound, file))
    if not charset.codec.startswith(("utf-16", "utf-32")) and encoding.is_binary(charset.open().read(4096)):
        raise not_a_sheet("um arquivo que não é planilha nem texto")

    def lines() -> Iterator[str]:
        return _bounded(charset.lines(limits.line_chars + 1), limits)

    dialect = _dialect(_sample(lines()), also)

    def rows() -> NumberedRows:
        read = _Records(lines(), dialect).rows()
        return read if charset.lost is None else _flagged(read, charset.lost, dialect.header_row)

    return Opened("csv", [Table("csv", rows)], charset.doubts)


def _bounded(lines: Iterable[str], limits: Limits) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if len(line) > limits.line_chars:
            limit = f"{megabytes(limits.line_chars)} por linha"
            raise too_large("uma linha maior do que isso", limit, f", linha {number}")
        yield line.translate(_NO_TEXT) if "\0" in line or "\x1a" in line else line


def _sample(lines: Iterable[str]) -> list[str]:
    """The first lines, as far as they can be read and are not endless."""
    sample: list[str] = []
    chars = 0
    try:
        for line in islice(lines, _SAMPLE_LINES):
            sample.append(line)
            chars += len(line)
            if chars > _SAMPLE_CHARS:
                break
    except InvalidInput:
        pass  # told when its row is read
    return sample


def _flagged(rows: NumberedRows, lost: re.Pattern[str], header_row: int) -> NumberedRows:
    """Cells in which letters were lost on the way are no values; titles are told apart by what is left of them."""
    for number, cells in rows:
        whole = isinstance(cells, BrokenRow) or number <= header_row
        yield number, cells if whole else [_LOST if lost.search(str(cell)) else cell for cell in cells]


_LOST: Final = Unreadable("um texto com seus acentos", "letras perdidas na exportação (“?” ou “�”)")


# -- the dialect ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Dialect:
    """How one file parts its records.

    Attributes:
        wrapped: every line is quoted once more as a whole, as a csv pasted into one column comes out.
        header_row: the number of the header row; 0 where that is not known.
        width: cells of the header row, or of most rows.
        ragged: half of the rows and more leave out what is empty at their end.
        figures: by column, the shapes of its figures (`000.000.000-00`) in the first good rows.
    """

    delimiter: str
    quote: str = '"'
    wrapped: bool = False
    blanks: bool = False
    header_row: int = 0
    width: int = 0
    ragged: bool = False
    figures: tuple[frozenset[str], ...] = ()

    def split(self, lines: Iterable[str], *, backslash: bool = False) -> list[str]:
        """The first record by the book, over as many lines as it takes. Raises csv.Error where quotes do not pair."""
        reader = csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote,
            escapechar="\\" if backslash else None,
            skipinitialspace=self.blanks,
            strict=True,
        )
        return next(reader, [])

    def tolerate(self, line: str) -> list[str] | None:
        """One line in which only a quote before a delimiter closes, others are text; None if one stays open."""
        line, cells, at = line.rstrip("\r\n"), list[str](), 0
        while at <= len(line):
            start = _blank(line, at)
            start += line.startswith("=" + self.quote, start)
            if line.startswith(self.quote, start):
                end, at = self._closing(line, start + 1)
                if end < 0:
                    return None
                cells.append(line[start + 1 : end].replace(self.quote * 2, self.quote))
            else:
                end = line.find(self.delimiter, at)
                end = len(line) if end < 0 else end
                cells.append(line[at:end])
                at = end + 1
        return cells

    def _closing(self, line: str, at: int) -> tuple[int, int]:
        """Where the quote is that closes a cell, and where the next cell begins; -1 where none does."""
        while (end := line.find(self.quote, at)) >= 0:
            after = _blank(line, end + 1)
            if line.startswith(self.quote, end + 1):
                at = end + 2
            elif after == len(line) or line.startswith(self.delimiter, after):
                return end, after + 1
            else:
                at = end + 1
        return -1, -1

    def resembles(self, cells: Sequence[object]) -> tuple[int, int]:
        """How many figures stand in a column of their shape, and how many in a column of another."""
        own = foreign = 0
        for index, cell in enumerate(cells):
            if shape := _shape(str(cell)):
                fits = index < len(self.figures) and shape in self.figures[index]
                own += fits
                foreign += not fits and any(shape in shapes for shapes in self.figures)
        return own, foreign

    def joined_at_blanks(self, cells: Iterable[str]) -> list[str]:
        """`["Rua A, 10", " Centro", "111"]` → `["Rua A, 10; Centro", "111"]`: in running text a blank follows."""
        joined: list[str] = []
        for cell in cells:
            if joined and cell.startswith(" "):
                joined[-1] += self.delimiter + cell
            else:
                joined.append(cell)
        return joined

    def swallows_rows(self, cells: Iterable[str]) -> bool:
        """Whether a cell of several lines holds what looks like rows of its own: its quote was never closed."""
        return any(
            self._begins_a_row(line) for cell in cells if "\n" in cell or "\r" in cell for line in cell.splitlines()
        )

    def _begins_a_row(self, line: str) -> bool:
        parts = re.split(re.escape(self.delimiter) + r"(?! )", line)
        if len(parts) < 2:
            return False
        shapes = {shape for part in parts if (shape := _shape(part.strip(f" {self.quote}")))}
        return len(parts) >= max(self.width, 2) or any(shapes & known for known in self.figures)


def _blank(line: str, at: int) -> int:
    found = _BLANKS.match(line, at)
    return found.end() if found else at


def _shape(cell: str) -> str:
    """`111.444.777-35` → `000.000.000-00`; empty for words and for short numbers."""
    cell = cell.strip()
    if len(cell) > 40 or sum(char.isdigit() for char in cell) < 5 or _FIGURES.search(cell):
        return ""
    return re.sub(r"\d", "0", cell)


def _dialect(sample: list[str], also: Also | None) -> _Dialect:
    """The way of reading under which most titles are known; where none is, under which most rows are of one width."""
    best = max(_candidates(sample), key=lambda one: _rank(one, sample, also))
    rows = list(_Records(sample, best).rows())
    header = find_header(rows, also)
    widths = Counter(len(cells) for _, cells in rows if len(cells) > 1)
    width = len(header.titles) if header is not None else max(widths, key=lambda one: widths[one], default=0)
    good = [cells for number, cells in rows if len(cells) == width and (header is None or number > header.row)]
    figures = tuple(frozenset(shape for cells in good if (shape := _shape(str(cells[at])))) for at in range(width))
    found = replace(best, header_row=0 if header is None else header.row, width=width, figures=figures)
    below = [cells for number, cells in rows if any(cells) and (header is None or number > header.row)]
    short = [cells for cells in below if len(cells) < width]
    ragged = 2 * len(short) >= len(below) > 0 and not any(found.resembles(cells)[1] for cells in short)
    return replace(found, ragged=ragged)


def _candidates(sample: list[str]) -> Iterator[_Dialect]:
    told = next((found[1] for line in sample[:1] if (found := _SEPARATOR_LINE.fullmatch(line))), "")
    filled = [line.strip() for line in sample if line.strip() and line not in sample[: bool(told)]]
    wrapped = len(filled) > 1 and all(len(line) > 1 and line[0] == line[-1] == '"' for line in filled)
    for delimiter in told or _DELIMITERS:
        single = bool(filled) and filled[0].startswith("'") and f"'{delimiter}'" in filled[0]
        quote = "'" if single else '"'
        after = filled[0].split(delimiter)[1:] if filled else []
        spaced = bool(after) and all(part.startswith(" ") for part in after)
        blanks = spaced or any(f"{delimiter} {quote}" in line for line in filled)
        yield _Dialect(delimiter, quote, blanks=blanks)
        if wrapped:
            yield _Dialect(delimiter, quote, wrapped=True)


def _rank(dialect: _Dialect, sample: list[str], also: Also | None) -> tuple[int, int, int]:
    rows = list(_Records(sample, dialect).rows())
    header: Header | None = find_header(rows, also)
    widths = Counter(len(cells) for _, cells in rows if len(cells) > 1)
    likely = max(widths, key=lambda one: (widths[one], one), default=0)
    return (0 if header is None else len(header.columns)), widths[likely], likely


# -- the records ------------------------------------------------------------------------------------------------------


class _Records:
    """One pass over the records of a file. A cell of several lines is one row, as Excel numbers them."""

    def __init__(self, lines: Iterable[str], dialect: _Dialect) -> None:
        self._lines = map(_unwrapped, lines) if dialect.wrapped else iter(lines)
        self._dialect = dialect
        self._ahead: deque[str] = deque()
        self._broken = 0

    def rows(self) -> NumberedRows:
        number, was_empty = 0, False
        while (line := self._next()) is not None:
            number += 1
            is_empty = line in _EMPTY
            if is_empty and was_empty:  # of empty rows in a line only the first is given out
                continue
            was_empty = is_empty
            cells = self._record(line)
            if isinstance(cells, BrokenRow):
                self._broken += 1
                if self._broken > max(_MOST_BROKEN, number // 5):
                    raise refusal(
                        "um CSV com aspas em pares e o mesmo número de células em cada linha",
                        f"{self._broken} linhas que não cabem no cabeçalho",
                        "Salve a planilha como .xlsx e importe de novo.",
                        f", linha {number}",
                    )
            yield number, cells

    def _next(self) -> str | None:
        return self._ahead.popleft() if self._ahead else next(self._lines, None)

    def _record(self, line: str) -> list[str] | BrokenRow:
        dialect = self._dialect
        quoted = dialect.quote in line
        cells = self._quoted(line) if quoted else line.rstrip("\r\n").split(dialect.delimiter)
        if len(cells) > _MOST_COLUMNS:
            return self._report([], f"{len(cells)} células")
        if dialect.width and len(cells) != dialect.width:
            return self._settle(line, _plain(cells))
        return _plain(cells) if quoted or "'" in line else cells

    def _quoted(self, line: str) -> list[str]:
        """The record that begins with `line`, over as many lines as its quotes ask for; empty where they are odd."""
        dialect, alone = self._dialect, list[str]()
        for backslash in (True, False) if "\\" in line else (False,):
            ahead: list[str] = []
            try:
                cells = dialect.split(self._with_following(line, ahead), backslash=backslash)
            except csv.Error:
                cells = []
            if cells and len(cells) == (dialect.width or len(cells)) and not dialect.swallows_rows(cells):
                return cells
            self._ahead.extendleft(reversed(ahead))
            alone = alone if ahead else cells
        return alone or dialect.tolerate(line) or []

    def _with_following(self, line: str, ahead: list[str]) -> Iterator[str]:
        yield line
        chars = 0
        while len(ahead) < _CELL_LINES and chars < _CELL_CHARS and (following := self._next()) is not None:
            ahead.append(following)
            chars += len(following)
            yield following

    def _settle(self, line: str, cells: list[str]) -> list[str] | BrokenRow:
        """A record of another width than the header's: as another program would have written it, or reported."""
        dialect, foreign = self._dialect, self._dialect.resembles(cells)[1]
        for likely in self._readings(line, cells):
            if len(likely) == dialect.width and not dialect.resembles(likely)[1]:
                return likely
        if not cells:
            return self._report(line.split(dialect.delimiter), "uma célula com aspas sem par")
        if not any(cells):
            return cells
        if len(cells) > 1 and header_within(0, cells) is not None:  # of another table below
            self._dialect = replace(dialect, width=len(cells), figures=())
            return cells
        # empty cells left out at the end, as this file does (half a row is none), or what parts the days
        is_short = dialect.ragged and len(cells) < dialect.width and line.endswith(("\n", "\r"))
        if (is_short and not foreign) or (len(cells) == 1 and parse_moment(cells[0]).date is not None):
            return cells
        return self._report(cells, f"{len(cells)} células" if len(cells) > 1 else "uma célula só")

    def _readings(self, line: str, cells: list[str]) -> Iterator[list[str]]:
        dialect, width = self._dialect, self._dialect.width
        if len(cells) > width:
            is_blank = not any(cell.strip() for cell in cells[width:])
            yield cells[:width] if is_blank or dialect.blanks else dialect.joined_at_blanks(cells)
        for delimiter in _DELIMITERS if len(cells) < width else ():
            if delimiter != dialect.delimiter and delimiter in line:
                with contextlib.suppress(csv.Error):
                    other = _plain(replace(dialect, delimiter=delimiter).split([line]))
                    if dialect.resembles(other)[0]:
                        yield other

    def _report(self, cells: Sequence[str], found: str) -> BrokenRow:
        expected = f"uma linha com {self._dialect.width} células, aspas em pares"
        fix = "Corrija as aspas ou os separadores nessa linha, ou salve a planilha como .xlsx; ela não foi usada."
        return BrokenRow([cell.rstrip("\r\n") for cell in cells], expected, found, fix)


def _unwrapped(line: str) -> str:
    text = line.strip()
    return text[1:-1].replace('""', '"') + "\n" if len(text) > 1 and text[0] == text[-1] == '"' else line


def _plain(cells: list[str]) -> list[str]:
    """Cells as Excel shows them: without the marks that make a number text."""
    return [_unmarked(cell) if cell.startswith(("=", "'")) else cell for cell in cells]


def _unmarked(cell: str) -> str:
    if len(cell) > 1 and cell[0] == cell[-1] == "'":
        return cell[1:-1].replace("''", "'")
    found = _TEXT_FORMULA.fullmatch(cell)
    return found[1] if found else _APOSTROPHE.sub("", cell, count=1)
