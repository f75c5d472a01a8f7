"""Refusals of a whole file, each in one sentence that says how to mend it."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Final

from normalizer.errors import InvalidInput
from normalizer.imports.spreadsheet.columns import HEADER_SEARCH_ROWS
from normalizer.imports.spreadsheet.vocabulary import UnknownColumns

if TYPE_CHECKING:
    from pathlib import Path

    from normalizer.imports.spreadsheet.columns import Header
    from normalizer.imports.spreadsheet.table import Opened, Table

_EXPECTED: Final = (
    "um cabeçalho com “Endereço Coleta” (ou “Endereço Completo”) e “Documento(s) do Paciente” (ou “CPF”, “RG”)"
)
_EXPLAIN: Final = (
    "Diga o que é cada coluna (na página, ou com --map “Título=endereco_completo”); da próxima vez já se sabe."
)
_FIGURES: Final = re.compile(r"[0-9]{3}|@")
_MOST_TITLES: Final = 100


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
            mend="Confira o caminho e as permissões.",
        ) from exc


def no_header(where: str, opened: Opened, useless: list[Header]) -> InvalidInput:
    """The error for a file in which no column is known to carry an address or a document."""
    if useless:
        header = useless[0]
        known = ", ".join(f"“{header.titles[i]}”" for i in header.columns)
        return UnknownColumns(
            where=f"{where}, linha {header.row}",
            expected=_EXPECTED,
            found=f"só as colunas {known[:200]}",
            mend=_EXPLAIN if header.unknown else "Acrescente as colunas que faltam.",
            titles=header.unknown[:_MOST_TITLES],
        )
    if all(not any(True for _ in table.rows()) for table in opened.tables):
        hidden = f" ({len(opened.hidden)} ocultas não são lidas)" if opened.hidden else ""
        return empty(where, f"nenhuma linha nas planilhas visíveis{hidden}")
    titles = next((found for table in opened.tables if (found := _likely_titles(table))), ())
    return UnknownColumns(
        where=where,
        expected=_EXPECTED,
        found=f"nenhum título conhecido nas primeiras {HEADER_SEARCH_ROWS} linhas",
        mend=_EXPLAIN if titles else "Confira se é a planilha de agendamentos e se a linha de títulos não foi apagada.",
        titles=titles[:_MOST_TITLES],
    )


def _likely_titles(table: Table) -> tuple[str, ...]:
    """The first row that reads like titles: words alone, each once, and no figures as addresses and documents have."""
    for _, cells in islice(table.rows(), HEADER_SEARCH_ROWS):
        titles = [cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()]
        filled = [cell for cell in cells if cell is not None and cell != ""]
        if len(titles) >= 2 and len(titles) == len(filled) == len(set(titles)):  # noqa: SIM102 — two questions
            if not any(_FIGURES.search(title) or len(title) > 80 for title in titles):
                return tuple(titles)
    return ()


def empty(where: str, found: str) -> InvalidInput:
    """The error for a file in which nothing stands."""
    return InvalidInput(
        where=where,
        expected="uma planilha com cabeçalho e linhas",
        found=found,
        mend="Exporte a planilha de agendamentos outra vez.",
    )


def not_a_sheet(where: str, found: str) -> InvalidInput:
    """The error for something else than a sheet."""
    return InvalidInput(
        where=where,
        expected="uma planilha .xlsx, .xls ou .csv",
        found=found,
        mend="Confira se escolheu o arquivo certo; no Excel, use Salvar como → .xlsx.",
    )
