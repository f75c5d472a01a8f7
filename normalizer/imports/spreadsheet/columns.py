"""Columns and the stored fields they carry: the header is found by how many known titles a row holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Final, TypeAlias

from normalizer.imports.spreadsheet.table import BrokenRow, Unreadable
from normalizer.imports.spreadsheet.titles import (
    ADDRESS_FIELDS,
    ADDRESS_PARTS,
    ASIDE,
    DOCUMENT_FIELDS,
    FIELD_OF_NAME,
    IGNORED,
    IGNORED_NAMES,
    JOINED_FIELDS,
    RANK,
    field_of,
    is_of_others,
    name_of,
    normalize_title,
    without_prefix,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

#: What a row of normalized titles means beyond the known names: title to field, or `IGNORED`.
Also: TypeAlias = Callable[[Sequence[str]], Mapping[str, str]]

HEADER_SEARCH_ROWS: Final = 100
_MIN_SCORE: Final = 2
_TOLD_SCORE: Final = 2  # a title that was explained makes a header by itself
_VALUE: Final = re.compile(r"[0-9]{3}|@|[0-9]{1,2}[/:][0-9]{2}")


@dataclass(frozen=True, slots=True)
class Header:
    """Where the header stands (1-based row) and which column (0-based) carries which stored field.

    Several columns may carry one field: parts of an address, equal titles, several phones.

    Attributes:
        titles: as written, of every column.
        unknown: titles of columns nobody knows.
        told: titles that are read by what was said of them, with their field.
        passed_over: titles that could be it, with the more specific one that was taken instead.
        beside: the headers of tables that stand to the right in the same rows.
        score: how many titles of the row are known, less what reads like a value.
    """

    row: int
    columns: dict[int, str]
    titles: tuple[str, ...]
    unknown: tuple[str, ...]
    told: Mapping[str, str] = field(default_factory=dict)
    passed_over: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[Header, ...] = ()
    score: int = 0

    def title_of(self, field: str) -> str | None:
        """The title as written of the column that carries `field`."""
        return next((self.titles[i] for i, name in self.columns.items() if name == field), None)

    @property
    def fields(self) -> frozenset[str]:
        """The stored fields some column carries."""
        parts = frozenset(self.columns.values())
        return parts | {"endereco_completo"} if "logradouro" in parts else parts

    @property
    def address_field(self) -> str:
        """The field that the parts of an address belong to."""
        found = set(self.columns.values())
        parts = (self.titles[index] for index, carried in self.columns.items() if carried in ADDRESS_PARTS)
        of_collection = any("coleta" in normalize_title(title) for title in parts)
        own = of_collection or found.isdisjoint({"endereco_completo", "logradouro"})
        return "endereco_coleta" if own and "endereco_coleta" in found else "endereco_completo"

    @property
    def general_address(self) -> str | None:
        """The title of a plain “Endereço” beside one of collection, which is the more specific of the two."""
        title = self.title_of("endereco_completo")
        beside = "endereco_coleta" in self.columns.values() and name_of(title) == "endereco"
        return title if beside else None

    def is_of(self, cells: Sequence[object]) -> bool:
        """Whether a row below is surely one of data: addresses or documents stand where this header says so."""
        telling = [index for index, carried in self.columns.items() if carried in ADDRESS_FIELDS | DOCUMENT_FIELDS]
        values = [cells[index] for index in telling if index < len(cells)]
        return any(_is_value(value) for value in values) and self.row > 0

    def sources(self) -> dict[str, list[list[int]]]:
        """Per field its columns: titles in one list mean the same, and the filled one counts; lists are joined."""
        found: dict[str, dict[str, list[int]]] = {}
        for index, carried in self.columns.items():
            title = self.titles[index]
            name = "" if title in self.told or carried in JOINED_FIELDS else name_of(title)
            found.setdefault(carried, {}).setdefault(name or normalize_title(title), []).append(index)
        return {carried: list(columns.values()) for carried, columns in found.items()}

    def is_repeated_by(self, cells: Sequence[object]) -> bool:
        """Whether a data row is the header once more, as page breaks leave it."""
        return all(index < len(cells) and cells[index] == self.titles[index] for index in self.columns)


def find_header(rows: Iterable[tuple[int, Sequence[object]]], also: Also | None = None) -> Header | None:
    """Return the row that holds the most known titles among the first ones, or None when no row holds two of them.

    The first of equals wins, and any that has data below it, of which none may be lost to another table's. Titles cut
    over two rows are read together where that makes more of them known. One title alone is a header where nothing else
    could be one.
    """
    best: Header | None = None
    best_score = _MIN_SCORE - 1
    single: list[Header] = []
    above: Sequence[object] = ()
    for number, cells in islice(rows, HEADER_SEARCH_ROWS):
        if isinstance(cells, BrokenRow):
            continue
        if best is not None and best.is_of(cells):
            break
        header = header_at(number, cells, also, above)
        if header.score == 1 and (sum(map(_is_filled, cells)) == 1 or _is_titled(header, cells)):
            single.append(header)
        if header.score > best_score:
            best, best_score = header, header.score
        header = header_at(number, _over(above, cells), also, above)
        if header.score > best_score + (not _columns_of_others(above, cells)):
            best, best_score = header, header.score
        above = cells if any(map(_is_filled, cells)) else ()
    return best if best is not None or len(single) != 1 else single[0]


def header_within(number: int, cells: Sequence[object], above: Sequence[object] = ()) -> Header | None:
    """A row of data read as the header of a second table, where it can be nothing else: titles alone, known ones."""
    header = header_at(number, cells, None, () if any(map(_is_value, above)) else above)
    filled = sum(map(_is_filled, cells))
    useful = header.fields & (ADDRESS_FIELDS | DOCUMENT_FIELDS)
    return header if useful and header.score >= max(_MIN_SCORE, (filled + 1) // 2) else None


def _is_titled(header: Header, cells: Sequence[object]) -> bool:
    """Whether a row of one known title may be the header: words alone, and that one useful."""
    useful = header.fields & (ADDRESS_FIELDS | DOCUMENT_FIELDS)
    return bool(useful) and all(isinstance(cell, str) and not _is_value(cell) for cell in cells if _is_filled(cell))


def _over(above: Sequence[object], cells: Sequence[object]) -> Sequence[object]:
    """Titles cut in two: each with what stands above it; alone where the two make no known name."""
    return [_joined(above[index] if index < len(above) else None, cell) for index, cell in enumerate(cells)]


def _joined(upper: object, lower: object) -> object:
    if not (isinstance(upper, str) and upper.strip()):
        return lower
    if not (isinstance(lower, str) and lower.strip()):
        return upper
    both = f"{upper.strip()} {lower.strip()}"
    return both if field_of(both) or not field_of(lower) else lower


def _is_filled(cell: object) -> bool:
    return bool(cell.strip()) if isinstance(cell, str) else cell is not None


def header_at(number: int, cells: Sequence[object], also: Also | None = None, above: Sequence[object] = ()) -> Header:
    """That row read as the header, under the one `above`."""
    names = [normalize_title(cell) for cell in cells]
    meanings = also(names) if also is not None else {}
    told = {index: meanings[name] for index, name in enumerate(names) if name in meanings}
    others = _columns_of_others(above, cells)
    bare = enumerate(without_prefix(cells))
    known = {index: name for index, cell in bare if index not in told and (name := name_of(cell))}
    fields = {
        index: FIELD_OF_NAME[name] for index, name in known.items() if name in FIELD_OF_NAME and index not in others
    }
    blocks = _side_by_side({at: known[at] for at in fields}, [at for at, name in enumerate(names) if not name])
    titles = tuple("" if cell is None or isinstance(cell, Unreadable) else str(cell) for cell in cells)
    said = {titles[index]: carried for index, carried in told.items()}
    first, *beside = [_columns(told if at == 0 else {}, block, known) for at, block in enumerate(blocks)]
    columns, passed = first
    read = {*told, *columns, *(index for more, _ in beside for index in more)}
    read |= {index for index, name in known.items() if name in IGNORED_NAMES} | passed.keys()
    unknown = tuple(titles[index] for index, name in enumerate(names) if name and index not in read)
    score = _TOLD_SCORE * len(told) + sum(index not in told for index in read) - sum(map(_is_value, cells))
    over = {titles[index]: titles[taken] for index, taken in passed.items()}
    tables = tuple(Header(number, more, titles, ()) for more, _ in beside)
    return Header(number, columns, titles, unknown, said, over, tables, score)


def _columns_of_others(above: Sequence[object], cells: Sequence[object]) -> set[int]:
    """Columns under a group title of somebody else: "Responsável" over "Nome" and "CPF"."""
    if sum(map(_is_filled, above)) >= sum(map(_is_filled, cells)):
        return set()
    found: set[int] = set()
    group: object = None
    for index in range(len(cells)):
        group = above[index] if index < len(above) and _is_filled(above[index]) else group
        if is_of_others(group):
            found.add(index)
    return found


def _side_by_side(known: Mapping[int, str], untitled: Sequence[int]) -> list[dict[int, str]]:
    """The columns by table: one begins behind an untitled column, or where all titles come again."""
    ends = pairwise([-1, *untitled, max(known, default=0) + 1])
    parted = [{index: name for index, name in known.items() if after < index < end} for after, end in ends]
    if len(parted := list(filter(None, parted))) > 1 and all(map(_is_a_table, parted)):
        return parted
    names, indices = list(known.values()), list(known)
    step = next((at for at in range(2, len(names) // 2 + 1) if _comes_again(names, at)), len(names) or 1)
    return [
        {index: known[index] for index in indices[start : start + step]} for start in range(0, len(names) or 1, step)
    ]


def _is_a_table(names: Mapping[int, str]) -> bool:
    fields = {FIELD_OF_NAME[name] for name in names.values()}
    return "nome_paciente" in fields and not fields.isdisjoint(ADDRESS_FIELDS | DOCUMENT_FIELDS | {"logradouro"})


def _comes_again(names: Sequence[str], width: int) -> bool:
    whole = len(names) % width == 0 and list(names) == [*names[:width]] * (len(names) // width)
    return whole and "nome_paciente" in {FIELD_OF_NAME[name] for name in names[:width]}


def _columns(
    told: Mapping[int, str], block: Mapping[int, str], names: Mapping[int, str]
) -> tuple[dict[int, str], dict[int, int]]:
    """The field of each column that is read, and the columns passed over with the one that was taken instead."""
    columns = {index: carried for index, carried in told.items() if carried != IGNORED}
    passed: dict[int, int] = {}
    same: dict[str, list[int]] = {}
    for index, name in block.items():
        if FIELD_OF_NAME[name] not in columns.values():
            same.setdefault(FIELD_OF_NAME[name], []).append(index)
    for carried, indices in same.items():
        taken = min(indices, key=lambda index: RANK[names[index]])
        for index in indices:
            if carried in JOINED_FIELDS or names[index] == names[taken]:
                columns[index] = carried
            else:
                passed[index] = taken
    passed = dict(sorted(passed.items()))
    return _settled(_without_loose_parts(dict(sorted(columns.items()))), names), passed


def _without_loose_parts(columns: dict[int, str]) -> dict[int, str]:
    """Numbers, districts and cities are an address's only beside a street; a check digit, beside its number."""
    found = set(columns.values())
    loose = set() if found & {"logradouro", "endereco_completo", "endereco_coleta"} else set(ADDRESS_PARTS)
    loose |= set() if found & DOCUMENT_FIELDS else {"digito", "tipo_documento"}
    loose |= set() if "nome_paciente" in found else {"sobrenome"}
    return {index: carried for index, carried in columns.items() if carried not in loose}


def _settled(columns: dict[int, str], names: Mapping[int, str]) -> dict[int, str]:
    """Titles that mean what their neighbours make of them: “Tipo” of a street or a document, a lone “Convênio”."""
    settled = dict(columns)
    for index, name in names.items():
        if name == "tipo" and "documento_completo" in (columns.get(index - 1), columns.get(index + 1)):
            settled[index] = "tipo_documento"
        elif name == "tipo" and columns.get(index + 1) != "logradouro":
            settled.pop(index, None)
        elif name == "convenio" and index in columns and "nome_convenio" not in columns.values():
            settled[index] = "nome_convenio"
    return settled


def _is_value(cell: object) -> bool:
    """Whether a cell reads like data, not like a title."""
    if isinstance(cell, str):
        return _VALUE.search(ASIDE.sub("", cell)) is not None
    return cell is not None and cell != "" and not isinstance(cell, Unreadable)
