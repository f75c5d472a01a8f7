"""A file of any accepted format as rows by stored field name, with what could not be used beside them.

A file of which nothing can be used is refused in one sentence that says how to mend it.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TypeAlias

from normalizer.imports.spreadsheet.child import kind_of
from normalizer.imports.spreadsheet.columns import HEADER_SEARCH_ROWS, Header, find_header, header_at
from normalizer.imports.spreadsheet.limits import Limits, megabytes, not_a_sheet, refusal, too_large
from normalizer.imports.spreadsheet.process import open_in_child
from normalizer.imports.spreadsheet.proposals import SAMPLE, ColumnSeen, Proposal, contradictions, propose, seen
from normalizer.imports.spreadsheet.rows import Problem, Row, RowReader
from normalizer.imports.spreadsheet.table import BrokenRow, text_of, texts_at
from normalizer.imports.spreadsheet.titles import ADDRESS_FIELDS, DOCUMENT_FIELDS
from normalizer.imports.spreadsheet.vocabulary import LABELS, CellEdits, UnknownColumns, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence

    from normalizer.errors import InvalidInput
    from normalizer.imports.spreadsheet.table import Cells, NumberedRows, Opened, Table

Source: TypeAlias = "str | Path | bytes"

_SNIFFED_BYTES: Final = 65_536
_EXPECTED: Final = (
    "um cabeçalho com “Endereço Coleta” (ou “Endereço Completo”) e “Documento(s) do Paciente” (ou “CPF”, “RG”)"
)
_EXPLAIN: Final = (
    "Diga o que é cada coluna (na página, ou com --map “Título=endereco_completo”); da próxima vez já se sabe."
)
_FIGURES: Final = re.compile(r"[0-9]{3}|@")
_MOST_TITLES: Final = 100
_MOST_PROPOSED: Final = 6


@dataclass(frozen=True, slots=True)
class SheetInfo:
    """One sheet that is read: its name, where its header stands and what each column carries.

    `sample` is its first rows of data, once it was read.
    """

    name: str
    header: Header
    rows: Callable[[], NumberedRows] = field(repr=False)
    sample: list[Cells] = field(default_factory=list, repr=False)


@dataclass(slots=True)
class Spreadsheet:
    """An opened file. `rows()` starts a fresh pass over all its sheets and collects `problems` anew.

    `learned` is what was said of its titles, by scope, for the next sheet like it. `close()` lets go of the file at
    once, and who is reading it gets InvalidInput; what is dropped is closed by itself. `rest()` lets go of what reading
    holds; asked for cells once more, it begins anew.
    """

    where: str
    format: str
    sheets: tuple[SheetInfo, ...]
    hidden_sheets: tuple[str, ...]
    ignored_sheets: tuple[str, ...]
    learned: Mapping[str, Mapping[str, str]]
    close: Callable[[], None] = field(repr=False)
    rest: Callable[[], None] = field(repr=False)
    _standing: Sequence[Problem]
    _edits: CellEdits = field(repr=False)
    problems: list[Problem] = field(default_factory=list, repr=False)

    def proposals(self) -> tuple[Proposal, ...]:
        """What the columns nobody knows may carry, by the rows of the last pass."""
        found: list[Proposal] = []
        for info in self.sheets:
            titles = {at: title for at, title in enumerate(info.header.titles) if title in info.header.unknown}
            found += propose(titles, info.sample, info.header.columns)
            found += contradictions(info.header.columns, info.header.titles, info.sample)
        return tuple(found)

    def rows(self) -> Iterator[Row]:
        """Yield the usable rows in order. What is wrong with a row is appended to `problems`; its neighbours go on."""
        self.problems = list(self._standing)
        for info in self.sheets:
            info.sample.clear()
            readers = self._readers(info.name, info.header)
            above: Cells = ()
            for number, cells in self._cells(info):
                if number < info.header.row:
                    readers[0].note_title(cells)
                if number <= info.header.row:
                    continue
                if readers[0].header.is_repeated_by(cells):
                    readers[0].repeated()
                elif isinstance(cells, BrokenRow):
                    self.problems.append(Problem(info.name, number, None, cells.expected, cells.found, cells.fix))
                elif (second := readers[0].second_header(number, cells, above)) is not None:
                    readers = self._readers(info.name, second)
                else:
                    if len(info.sample) < SAMPLE:
                        info.sample.append(cells)
                    yield from filter(None, [reader.read(number, cells) for reader in readers])
                above = cells

    def _cells(self, info: SheetInfo) -> NumberedRows:
        """The rows of a sheet, with what an operator edited."""
        if not self._edits.by_row:
            yield from info.rows()
            return
        for number, cells in info.rows():
            whole = isinstance(cells, BrokenRow)
            yield number, cells if whole else self._edits.applied(info.name, number, info.header, cells)

    def columns(self) -> tuple[ColumnSeen, ...]:
        """Every column that has a title or a value, with what it is taken for, by the rows of the last pass."""
        proposed = {one.title: one for one in self.proposals()}
        found: dict[str, ColumnSeen] = {}
        for info in self.sheets:
            header = info.header
            for at, title in enumerate(header.titles):
                if title:  # of equal ones the first counts, and stands where the last does
                    texts = texts_at(at, info.sample)
                    one = seen(title, header.columns.get(at), texts, proposed.get(title), title in header.told)
                    found[title] = found.pop(title, one)
        return tuple(found.values())

    def _readers(self, name: str, header: Header) -> list[RowReader]:
        names = (name, Path(self.where).stem)
        return [RowReader(name, one, self.problems, names) for one in (header, *header.beside)]

    def cells_of(self, wanted: Container[tuple[str, int]]) -> Iterator[tuple[SheetInfo, int, Cells]]:
        """Yield the cells of the rows named by (sheet, number)."""
        for info in self.sheets:
            for number, cells in self._cells(info):
                if (info.name, number) in wanted:
                    yield info, number, cells


def read(
    source: Source, *, name: str | None = None, limits: Limits | None = None, vocabulary: Vocabulary | None = None
) -> Spreadsheet:
    """Open a sheet by its bytes, whatever its name says: xlsx, xls, HTML or Excel 2003 XML, csv.

    `source` is a path or the bytes themselves; `name` is what messages call it; `vocabulary` is what titles mean beyond
    the known names. Only the header is read here, `rows()` reads the rest. Raises InvalidInput, one clear sentence,
    when nothing of the file can be used.
    """
    limits, vocabulary = limits or Limits(), vocabulary or Vocabulary()
    where = name or (Path(source).name if isinstance(source, str | Path) else "arquivo enviado")
    opened = _open(source, where, limits, vocabulary)
    hidden = tuple(table.name for table in opened.tables if not table.visible)
    tables = [table for table in opened.tables if table.visible]
    found = [(table, header) for table in tables if (header := _header_of(table, vocabulary)) is not None]
    vocabulary.check_used([header for _, header in found], where)
    useful = ADDRESS_FIELDS | DOCUMENT_FIELDS
    chosen = [(table, header) for table, header in found if not header.fields.isdisjoint(useful)]
    if not chosen:
        raise _no_columns(where, *found[0]) if found else _no_header(where, tables, hidden)
    learned: dict[str, dict[str, str]] = {}
    for table, header in chosen:
        if header.row > 0:  # columns without titles are known by nothing that another sheet could be known by
            for scope, meanings in vocabulary.learned(header, _brand_of(table, header)).items():
                learned.setdefault(scope, {}).update(meanings)
    standing = [problem for table, header in chosen for problem in _about_columns(table.name, header)]
    standing += [Problem(chosen[0][0].name, None, None, one.expected, one.found, one.fix) for one in opened.doubts]
    sheets = tuple(SheetInfo(table.name, header, table.rows) for table, header in chosen)
    used = [table for table, _ in chosen]
    return Spreadsheet(
        where=where,
        format=opened.format,
        sheets=sheets,
        hidden_sheets=hidden,
        ignored_sheets=tuple(table.name for table in tables if table not in used),
        learned=learned,
        close=opened.close,
        rest=opened.rest,
        _standing=standing,
        _edits=vocabulary.edits,
        problems=list(standing),
    )


def _header_of(table: Table, vocabulary: Vocabulary) -> Header | None:
    header = find_header(table.rows(), vocabulary.of_header)
    if header is None and vocabulary.is_of_letters:
        return header_at(0, _untitled(table), vocabulary.of_header)
    if header is None or not vocabulary.remembered or not (brand := _brand_of(table, header)):
        return header
    cells = next(cells for number, cells in table.rows() if number == header.row)
    return header_at(header.row, cells, partial(vocabulary.of_brand, brand))


def _brand_of(table: Table, header: Header) -> str:
    """The clinic's brand: the first one that stands near the top."""
    column = next((index for index, name in header.columns.items() if name == "nome_marca"), None)
    if column is None:
        return ""
    for number, cells in islice(table.rows(), header.row + HEADER_SEARCH_ROWS):
        if number > header.row and column < len(cells) and (brand := text_of(cells[column])):
            return brand
    return ""


def _open(source: Source, where: str, limits: Limits, vocabulary: Vocabulary) -> Opened:
    size = len(source) if isinstance(source, bytes) else _size_of(Path(source), where)
    if size == 0:
        raise _empty(where, "um arquivo vazio (0 bytes)")
    if size > limits.file_bytes:
        raise too_large(megabytes(size), megabytes(limits.file_bytes), where)
    with _real_file(source) as file:
        start = file.read(_SNIFFED_BYTES)
        if (kind := kind_of(start)) == "other":
            raise not_a_sheet("outro tipo de arquivo", where)
        if kind == "csv" and not start.strip(b"\xef\xbb\xbf \r\n\t;,"):
            raise _empty(where, "um arquivo sem conteúdo")
        return open_in_child(kind, file, where, limits, vocabulary)


def _size_of(path: Path, where: str) -> int:
    """Bytes of a file that is to be read. Raises InvalidInput where it cannot be."""
    try:
        if path.is_dir():
            raise not_a_sheet("uma pasta", where)
        return path.stat().st_size
    except OSError as exc:
        found = "nenhum arquivo nesse caminho" if isinstance(exc, FileNotFoundError) else "um arquivo sem acesso"
        fix = "Confira o caminho e as permissões."
        raise refusal("uma planilha que se possa ler", found, fix, where) from exc


@contextlib.contextmanager
def _real_file(source: Source) -> Iterator[BinaryIO]:
    """The file, or an unnamed temporary one with these bytes: another process is to read it."""
    if not isinstance(source, bytes):
        with Path(source).open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as unnamed:
        unnamed.write(source)
        unnamed.seek(0)
        yield unnamed


def _about_columns(sheet: str, header: Header) -> list[Problem]:
    """What an operator should know of a header: a field that no column carries, and one that two could."""
    expected = []
    if not header.fields & ADDRESS_FIELDS:
        expected.append("uma coluna de endereço (“Endereço Coleta” ou “Endereço Completo”)")
    if not header.fields & DOCUMENT_FIELDS:
        expected.append("uma coluna de documento (“Documento(s) do Paciente”, “CPF” ou “RG”)")
    fix = "Sem ela esse campo não é normalizado; acrescente a coluna se a tiver."
    missing = [Problem(sheet, header.row, None, one, "nenhuma", fix) for one in expected]
    if (general := header.general_address) is not None and (taken := header.title_of("endereco_coleta")) is not None:
        missing.append(_passed_over(sheet, header.row, general, taken))
    return missing + [_passed_over(sheet, header.row, title, taken) for title, taken in header.passed_over.items()]


def _passed_over(sheet: str, row: int, title: str, taken: str) -> Problem:
    fix = f"Valeu “{taken}”; se a certa é “{title}”, indique-a (na página, ou com --map)."
    return Problem(sheet, row, title, "um só título para cada campo", f"também “{taken}”", fix)


def _no_columns(where: str, table: Table, header: Header) -> InvalidInput:
    """The error for a file whose header is known, and in it neither an address nor a document."""
    known = ", ".join(f"“{header.titles[i]}”" for i in header.columns)
    titles = {at: title for at, title in enumerate(header.titles) if title in header.unknown}
    return _unknown(f"{where}, linha {header.row}", f"só as colunas {known[:200]}", titles, table, header)


def _no_header(where: str, tables: Sequence[Table], hidden: Sequence[str]) -> InvalidInput:
    """The error for a file in which no row could be the header."""
    filled = [table for table in tables if any(True for _ in table.rows())]
    if not filled:
        beside = f" ({len(hidden)} ocultas não são lidas)" if hidden else ""
        return _empty(where, f"nenhuma linha nas planilhas visíveis{beside}")
    nothing = f"nenhum título conhecido nas primeiras {HEADER_SEARCH_ROWS} linhas"
    for table in tables:
        row, titles = _likely_titles(table)
        if titles:
            return _unknown(where, nothing, titles, table, Header(row, {}, (), ()))
    letters = dict(enumerate(_untitled(filled[0])))
    found = _unknown(where, nothing, letters, filled[0], Header(0, {}, (), ()))
    if found.proposals:
        return found
    fix = "Confira se é a planilha de agendamentos e se a linha de títulos não foi apagada."
    return UnknownColumns(where=where, expected=_EXPECTED, found=nothing, fix=fix)


def _unknown(where: str, found: str, titles: dict[int, str], table: Table, header: Header) -> UnknownColumns:
    below = (cells for number, cells in table.rows() if number > header.row and not isinstance(cells, BrokenRow))
    proposals = propose(titles, list(islice(below, SAMPLE)), header.columns)
    said = "; ".join(
        f"“{one.title}” pode ser {LABELS[one.field]}: {one.evidence}" for one in proposals[:_MOST_PROPOSED]
    )
    fix = f"{_EXPLAIN}{f' Pelo conteúdo, {said}.' if said else ''}" if titles else "Acrescente as colunas que faltam."
    refused = UnknownColumns(where=where, expected=_EXPECTED, found=found, fix=fix)
    if header.row:
        refused.titles = tuple(titles.values())[:_MOST_TITLES]
    else:
        refused.untitled = tuple(titles.values())
    refused.proposals = proposals
    return refused


def _likely_titles(table: Table) -> tuple[int, dict[int, str]]:
    """The first row that reads like titles: words alone, each once, and no figures as addresses and documents have."""
    for number, cells in islice(table.rows(), HEADER_SEARCH_ROWS):
        titles = {at: cell.strip() for at, cell in enumerate(cells) if isinstance(cell, str) and cell.strip()}
        filled = [cell for cell in cells if cell is not None and cell != ""]
        plain = not any(_FIGURES.search(title) or len(title) > 80 for title in titles.values())
        if plain and 2 <= len(titles) == len(filled) == len(set(titles.values())):
            return number, titles
    return 0, {}


def _untitled(table: Table) -> list[str]:
    """Names for the columns of a sheet without titles, as Excel letters them: `Coluna A` and so on."""
    width = max((len(cells) for _, cells in islice(table.rows(), HEADER_SEARCH_ROWS)), default=0)
    return [f"Coluna {_letters(index)}" for index in range(min(width, _MOST_TITLES))]


def _letters(index: int) -> str:
    before, last = divmod(index, 26)
    return (_letters(before - 1) if before else "") + chr(ord("A") + last)


def _empty(where: str, found: str) -> InvalidInput:
    fix = "Exporte a planilha de agendamentos outra vez."
    return refusal("uma planilha com cabeçalho e linhas", found, fix, where)
