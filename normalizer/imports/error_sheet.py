"""Sheets out: the template to fill in, and the rows of an import that need a person, to be corrected and imported.

Cells are written as text, never as formulas or links: what a sheet brought in does nothing when it is opened again.
"""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import xlsxwriter

from normalizer.domain.appointment import Kind, Status
from normalizer.store import Filter

if TYPE_CHECKING:
    from normalizer.store import Desk, ImportRecord

ERROR, MEND = "Erro", "Como corrigir"
#: Stored fields under the titles a sheet is read by (normalizer.imports.spreadsheet.columns).
TITLES: Final = {
    "id_agendamento": "Id do agendamento",
    "nome_unidade": "Nome da Unidade",
    "nome_paciente": "Nome do Paciente",
    "data_agendamento": "Data Agendamento",
    "hora_agendamento": "Hora Agendamento",
    "tipo_consulta": "Tipo de Consulta",
    "endereco_coleta": "Endereço Coleta",
    "endereco_completo": "Endereço Completo",
    "cep": "CEP",
    "documento_completo": "Documento(s) do Paciente",
    "cpf": "CPF do Paciente",
    "rg": "RG do Paciente",
    "telefone": "Contato(s) do Paciente",
    "nome_convenio": "Nome do Convênio",
    "carteira_convenio": "Nr Carteira",
    "observacoes": "Observação",
}
_TEMPLATE: Final = (
    *("id_agendamento", "nome_unidade", "nome_paciente", "data_agendamento", "hora_agendamento", "tipo_consulta"),
    *("endereco_completo", "cep", "documento_completo", "telefone", "observacoes"),
)
_HELP: Final = (
    "Preencha uma linha por agendamento na primeira planilha e importe este arquivo.",
    "A primeira coluna identifica o agendamento: importar outra vez o mesmo número atualiza, não duplica.",
    "O endereço vai inteiro numa célula só, como for conhecido: rua, número, bairro, cidade e estado.",
    "O documento pode trazer CPF, RG ou os dois, por exemplo CPF: 000.000.000-00, RG: 00.000.000-0.",
    "Datas como 31/12/2026 e horas como 08:30.",
)
_REVIEW_HELP: Final = "Corrija o texto nesta linha e importe este arquivo, ou corrija na página."
_SHEET_NAME_CHARS: Final = 31
_MOST_REVIEW_ROWS: Final = 10_000
_NEVER_FORMULAS: Final = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}


def template() -> bytes:
    """An xlsx with the titles alone, and a sheet of instructions."""
    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {**_NEVER_FORMULAS, "in_memory": True}) as book:
        page = book.add_worksheet("Agendamentos")
        _head(book, page, [TITLES[name] for name in _TEMPLATE])
        guide = book.add_worksheet("Instruções")
        guide.set_column(0, 0, 110)
        for number, line in enumerate(_HELP):
            guide.write_string(number, 0, line)
    return out.getvalue()


def error_report(
    titles: Sequence[Mapping[str, Any]],
    rows: Iterable[Mapping[str, Any]],
    review: Iterable[Mapping[str, Any]] = (),
) -> bytes:
    """An xlsx of what needs a person: rows with their original columns, then appointments in review; each with why.

    Args:
        titles: per sheet of the import, `{planilha, titulos}`.
        rows: rows with problems, as `ImportJournal` keeps them; those of no row (a missing column) have no cells.
        review: appointments as stored, in review or failed.
    """
    out = io.BytesIO()
    waiting = list(review)
    kept = list(rows)
    with xlsxwriter.Workbook(out, {**_NEVER_FORMULAS, "in_memory": True}) as book:
        taken: set[str] = set()
        for sheet in titles:
            mine = [row for row in kept if row["planilha"] == sheet["planilha"] and row.get("celulas")]
            if mine:
                page = book.add_worksheet(_sheet_name(str(sheet["planilha"]), taken))
                _original(book, page, list(sheet["titulos"]), mine)
        if waiting:
            _review(book, book.add_worksheet(_sheet_name("Para revisar", taken)), waiting)
        whole = [row for row in kept if not row.get("celulas")]
        if whole or not taken:
            _whole(book.add_worksheet(_sheet_name("Avisos", taken)), whole)
    return out.getvalue()


async def gather(record: ImportRecord, *, desk: Desk) -> bytes:
    """The error report of one import: what its sheet could not give, and what of it is in review or failed now."""
    review: list[Mapping[str, Any]] = []
    for status in (Status.FAILED, Status.REVIEW):
        page = await desk.browse(Filter(status=status, import_id=record.id), limit=_MOST_REVIEW_ROWS)
        review += page.records
    return error_report(record.titles, await desk.problems(record.id), review)


def _original(book: Any, page: Any, titles: list[str], rows: Sequence[Mapping[str, Any]]) -> None:
    width = max([len(titles), *(len(row["celulas"]) for row in rows)])
    _head(book, page, [*titles, *[""] * (width - len(titles)), ERROR, MEND])
    for line, row in enumerate(rows, 1):
        for column, text in enumerate(row["celulas"]):
            _cell(page, line, column, text)
        _cell(page, line, width, "; ".join(_said(problem) for problem in row["problemas"]))
        _cell(page, line, width + 1, " ".join(dict.fromkeys(problem["corrigir"] for problem in row["problemas"])))


def _review(book: Any, page: Any, records: Sequence[Mapping[str, Any]]) -> None:
    names = [name for name in TITLES if any(record.get(name) for record in records)]
    _head(book, page, [*(TITLES[name] for name in names), ERROR, MEND])
    for line, record in enumerate(records, 1):
        for column, name in enumerate(names):
            _cell(page, line, column, _as_typed(record, name))
        _cell(page, line, len(names), "; ".join(causes_of(record)))
        _cell(page, line, len(names) + 1, _REVIEW_HELP)


def _as_typed(record: Mapping[str, Any], name: str) -> object:
    """A stored value as a sheet says it, so that importing it again changes nothing."""
    value = record.get(f"{name}_informado") or record.get(name)
    return f"{value:%d/%m/%Y}" if isinstance(value, dt.datetime) else value


def causes_of(record: Mapping[str, Any]) -> list[str]:
    """Why an appointment is in review or failed, for people."""
    about = record.get("normalizacao") or {}
    if about.get("status") == Status.FAILED and about.get("erro"):
        return [str(about["erro"])]
    labels = {Kind.ADDRESS: "endereço", Kind.DOCUMENT: "documento"}
    motives = [(labels[kind], (about.get(kind.value) or {}).get("motivo")) for kind in Kind]
    return [f"{label}: {motive}" for label, motive in motives if motive]


def _whole(page: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    page.set_column(0, 0, 120)
    if not rows:
        page.write_string(0, 0, "Nenhuma linha com problema.")
    for line, row in enumerate(rows):
        said = "; ".join(f"{_said(problem)}. {problem['corrigir']}" for problem in row["problemas"])
        _cell(page, line, 0, f"{row['planilha']}: {said}")


def _said(problem: Mapping[str, Any]) -> str:
    column = f"{problem['coluna']}: " if problem.get("coluna") else ""
    return f"{column}esperado {problem['esperado']}; encontrado {problem['encontrado']}"


def _head(book: Any, page: Any, titles: Sequence[str]) -> None:
    bold = book.add_format({"bold": True, "bottom": 1})
    page.freeze_panes(1, 0)
    for column, title in enumerate(titles):
        page.write_string(0, column, title, bold)
        page.set_column(column, column, max(14, min(48, len(title) + 6)))


def _cell(page: Any, line: int, column: int, value: object) -> None:
    if value is not None and value != "":
        page.write_string(line, column, str(value)[:32_767])


def _sheet_name(name: str, taken: set[str]) -> str:
    """A name Excel takes, no other sheet's."""
    plain = "".join(" " if char in "[]:*?/\\" else char for char in name).strip("' ")[:_SHEET_NAME_CHARS] or "Planilha"
    found, number = plain, 2
    while found.casefold() in taken:
        suffix = f" {number}"
        found, number = plain[: _SHEET_NAME_CHARS - len(suffix)] + suffix, number + 1
    taken.add(found.casefold())
    return found
