"""Refusals of a whole file, each in one sentence that says how to mend it."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Final

from normalizer.errors import InvalidInput
from normalizer.imports.spreadsheet.columns import HEADER_SEARCH_ROWS, Header
from normalizer.imports.spreadsheet.proposals import SAMPLE, propose
from normalizer.imports.spreadsheet.table import BrokenRow
from normalizer.imports.spreadsheet.vocabulary import LABELS, UnknownColumns

if TYPE_CHECKING:
    from pathlib import Path

    from normalizer.imports.spreadsheet.table import Opened, Table

_EXPECTED: Final = (
    "um cabeçalho com “Endereço Coleta” (ou “Endereço Completo”) e “Documento(s) do Paciente” (ou “CPF”, “RG”)"
)
_EXPLAIN: Final = (
    "Diga o que é cada coluna (na página, ou com --map “Título=endereco_completo”); da próxima vez já se sabe."
)
_FIGURES: Final = re.compile(r"[0-9]{3}|@")
_MOST_TITLES: Final = 100
_MOST_PROPOSED: Final = 6


def size_of(path: Path, where: str) -> int:
    """Bytes of a file that is to be read. Raises InvalidInput where it cannot be."""
    try:
        if path.is_dir():
            raise not_a_sheet(where, "uma pasta")
        return path.stat().st_size
    except OSError as exc:
        raise InvalidInput(
            where=where,
            expected="uma planilha que se possa ler",
            found="nenhum arquivo nesse caminho" if isinstance(exc, FileNotFoundError) else "um arquivo sem acesso",
            fix="Confira o caminho e as permissões.",
        ) from exc


def no_header(where: str, opened: Opened, useless: list[Header]) -> InvalidInput:
    """The error for a file in which no column is known to carry an address or a document."""
    if useless:
        header = useless[0]
        known = ", ".join(f"“{header.titles[i]}”" for i in header.columns)
        titles = {at: title for at, title in enumerate(header.titles) if title in header.unknown}
        table = next(table for table in opened.tables if _holds(table, header))
        return _unknown(f"{where}, linha {header.row}", f"só as colunas {known[:200]}", titles, table, header)
    if all(not any(True for _ in table.rows()) for table in opened.tables):
        hidden = f" ({len(opened.hidden)} ocultas não são lidas)" if opened.hidden else ""
        return empty(where, f"nenhuma linha nas planilhas visíveis{hidden}")
    nothing = f"nenhum título conhecido nas primeiras {HEADER_SEARCH_ROWS} linhas"
    for table in opened.tables:
        row, titles = _likely_titles(table)
        if titles:
            return _unknown(where, nothing, titles, table, Header(row, {}, (), ()))
    table = next(table for table in opened.tables if any(True for _ in table.rows()))
    letters = dict(enumerate(untitled(table)))
    found = _unknown(where, nothing, letters, table, Header(0, {}, (), ()))
    if found.proposals:
        return found
    fix = "Confira se é a planilha de agendamentos e se a linha de títulos não foi apagada."
    return UnknownColumns(where=where, expected=_EXPECTED, found=nothing, fix=fix, titles=())


def _unknown(where: str, found: str, titles: dict[int, str], table: Table, header: Header) -> UnknownColumns:
    below = (cells for number, cells in table.rows() if number > header.row and not isinstance(cells, BrokenRow))
    proposals = propose(titles, list(islice(below, SAMPLE)), header.columns)
    said = "; ".join(
        f"“{one.title}” pode ser {LABELS[one.field]}: {one.evidence}" for one in proposals[:_MOST_PROPOSED]
    )
    fix = f"{_EXPLAIN}{f' Pelo conteúdo, {said}.' if said else ''}" if titles else "Acrescente as colunas que faltam."
    return UnknownColumns(
        where=where,
        expected=_EXPECTED,
        found=found,
        fix=fix,
        titles=tuple(titles.values())[:_MOST_TITLES] if header.row else (),
        untitled=() if header.row else tuple(titles.values()),
        proposals=proposals,
    )


def _holds(table: Table, header: Header) -> bool:
    return any(number == header.row for number, _ in islice(table.rows(), HEADER_SEARCH_ROWS))


def _likely_titles(table: Table) -> tuple[int, dict[int, str]]:
    """The first row that reads like titles: words alone, each once, and no figures as addresses and documents have."""
    for number, cells in islice(table.rows(), HEADER_SEARCH_ROWS):
        titles = {at: cell.strip() for at, cell in enumerate(cells) if isinstance(cell, str) and cell.strip()}
        filled = [cell for cell in cells if cell is not None and cell != ""]
        if len(titles) >= 2 and len(titles) == len(filled) == len(set(titles.values())):  # noqa: SIM102
            if not any(_FIGURES.search(title) or len(title) > 80 for title in titles.values()):
                return number, titles
    return 0, {}


def untitled(table: Table) -> list[str]:
    """Names for the columns of a sheet without titles, as Excel letters them: `Coluna A` and so on."""
    width = max((len(cells) for _, cells in islice(table.rows(), HEADER_SEARCH_ROWS)), default=0)
    return [f"Coluna {_letters(index)}" for index in range(min(width, _MOST_TITLES))]


def _letters(index: int) -> str:
    before, last = divmod(index, 26)
    return (_letters(before - 1) if before else "") + chr(ord("A") + last)


def empty(where: str, found: str) -> InvalidInput:
    """The error for a file in which nothing stands."""
    return InvalidInput(
        where=where,
        expected="uma planilha com cabeçalho e linhas",
        found=found,
        fix="Exporte a planilha de agendamentos outra vez.",
    )


def not_a_sheet(where: str, found: str) -> InvalidInput:
    """The error for something else than a sheet."""
    return InvalidInput(
        where=where,
        expected="uma planilha .xlsx, .xls ou .csv",
        found=found,
        fix="Confira se escolheu o arquivo certo; no Excel, use Salvar como → .xlsx.",
    )
