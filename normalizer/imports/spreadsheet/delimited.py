"""csv in the spellings Brazil exports: `;`, `,` or tab, utf-8 or Windows-1252, quoted or not, lines of any ending."""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from itertools import count
from typing import IO, TYPE_CHECKING, Final

from normalizer.errors import InvalidInput
from normalizer.imports.spreadsheet import encoding
from normalizer.imports.spreadsheet.columns import find_header
from normalizer.imports.spreadsheet.limits import megabytes, too_large
from normalizer.imports.spreadsheet.table import NumberedRows, Opened, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from normalizer.imports.spreadsheet.columns import Also
    from normalizer.imports.spreadsheet.limits import Limits

_DELIMITERS: Final = (";", ",", "\t", "|")


def open_csv(open_binary: Callable[[], IO[bytes]], where: str, limits: Limits, also: Also | None = None) -> Opened:
    """Open a delimited text; the delimiter is the one under which the header row is found. Raises InvalidInput."""
    charset = encoding.detect(open_binary)
    if _looks_binary(open_binary, charset):
        raise InvalidInput(
            where=where,
            expected="uma planilha .xlsx, .xls ou .csv",
            found="um arquivo que não é planilha nem texto",
            mend="Confira se escolheu o arquivo certo; no Excel, use Salvar como → .xlsx.",
        )

    def rows(delimiter: str) -> NumberedRows:
        with open_binary() as stream:
            yield from _rows(_lines(stream, charset, where, limits), delimiter, where)

    delimiter = max(_DELIMITERS, key=lambda one: (_score(rows(one), also), _width(rows(one))))
    return Opened("csv", (Table("csv", lambda: rows(delimiter)),))


def _score(rows: NumberedRows, also: Also | None) -> int:
    """How many columns of the header row are known, looking no further than the first row that cannot be read."""
    header = find_header(_until_broken(rows), also)
    return 0 if header is None else len(header.columns)


def _width(rows: NumberedRows) -> int:
    """How many cells the first row has: where no title is known, the delimiter that parts it is the likely one."""
    return next((len(cells) for _, cells in _until_broken(rows)), 0)


def _until_broken(rows: NumberedRows) -> NumberedRows:
    with suppress(InvalidInput):
        yield from rows


def _looks_binary(open_binary: Callable[[], IO[bytes]], charset: str) -> bool:
    with open_binary() as stream:
        start = stream.read(4096)
    return not charset.startswith("utf-16") and b"\0" in start


def _lines(stream: IO[bytes], charset: str, where: str, limits: Limits) -> Iterator[str]:
    """Yield decoded lines, never holding more of a line than the limit allows."""
    text = codecs_reader(stream, charset)
    number = 0
    while line := text.readline(limits.line_chars + 1):
        number += 1
        if len(line) > limits.line_chars:
            limit = f"{megabytes(limits.line_chars)} por linha"
            raise too_large(f"{where}, linha {number}", found="uma linha maior do que isso", limit=limit)
        yield line


def codecs_reader(stream: IO[bytes], charset: str) -> IO[str]:
    """Decode a binary stream; bytes Windows-1252 leaves undefined become U+FFFD. Line endings stay as they are."""
    return io.TextIOWrapper(stream, encoding=charset, errors="replace", newline="")


def _rows(lines: Iterator[str], delimiter: str, where: str) -> NumberedRows:
    reader = csv.reader(lines, delimiter=delimiter)
    for number in count(1):  # a cell of several lines is one row, as Excel numbers them
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:
            raise InvalidInput(
                where=f"{where}, linha {number}",
                expected="células de até 131.072 caracteres, com aspas em pares",
                found="uma célula sem fim (aspas abertas?)",
                mend="Corrija as aspas nessa linha, ou salve a planilha como .xlsx.",
            ) from exc
        yield number, cells
