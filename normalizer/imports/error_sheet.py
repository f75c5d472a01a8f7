"""Sheets out: the template to fill in, and the rows of an import that need a person, to be corrected and imported.

Cells are written as text, never as formulas or links: what a sheet brought in does nothing when it is opened again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

import xlsxwriter

from normalizer.domain.appointment import Kind, Status
from normalizer.imports.spreadsheet import KEY_FIELD
from normalizer.store import Attention, CellProblem, Filter, ProblemRow

if TYPE_CHECKING:
    from normalizer.store import AppointmentStore, ImportRecord, StoredAppointment

ERROR, MEND = "Erro", "Como corrigir"
#: Stored fields under the titles a sheet is read by (normalizer.imports.spreadsheet.titles).
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
        _fill(book, page, [TITLES[name] for name in _TEMPLATE])
        guide = book.add_worksheet("Instruções")
        guide.set_column(0, 0, 110)
        for number, line in enumerate(_HELP):
            guide.write_string(number, 0, line)
    return out.getvalue()


def _report(record: ImportRecord, rows: Sequence[ProblemRow], review: Sequence[StoredAppointment]) -> bytes:
    """Rows with problems under their original columns, then appointments in review or failed; each with why.

    Rows without cells (a missing column) are told in words. A sheet without a name of its own is called by its file.
    """
    out = io.BytesIO()
    with _uncollected(), xlsxwriter.Workbook(out, {**_NEVER_FORMULAS, "in_memory": True}) as book:
        taken: set[str] = set()
        for sheet in record.titles:
            if mine := [row for row in rows if row.sheet == sheet.sheet and row.cells]:
                named = sheet.sheet if sheet.sheet != "csv" else PurePath(record.file).stem
                _original(book, book.add_worksheet(_sheet_name(named, taken)), sheet.titles, mine)
        if review:
            _review(book, book.add_worksheet(_sheet_name("Para revisar", taken)), review)
        whole = [row for row in rows if not row.cells]
        if whole or not taken:
            _whole(book.add_worksheet(_sheet_name("Avisos", taken)), whole)
    return out.getvalue()


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which would look at every cell again and again and let no other thread run."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


async def gather(record: ImportRecord, *, store: AppointmentStore) -> bytes:
    """The error report of one import: what is still wrong of its sheet, and what of it needs a person now.

    Each appointment stands in it once, and imported untouched it changes nothing.
    """
    review: list[StoredAppointment] = []
    wanted = [Filter(status=status, import_id=record.id) for status in (Status.FAILED, Status.REVIEW)]
    for chosen in (*wanted, Filter(status=Status.DONE, import_id=record.id, attention=Attention.CONFLICT)):
        async for found in store.each(chosen, most=_MOST_REVIEW_ROWS):
            review += found
    rows = await store.problems.of(record.id)
    since = await store.written_since(record.id, [row.key for row in rows if row.key is not None])
    rows = [row for row in rows if row.key is None or row.key not in since]
    told = {row.key for row in rows if row.cells}
    waiting = {one.fields.get(KEY_FIELD): _why(one) for one in review}
    rows = [_with_causes(row, waiting.get(row.key, [])) if row.key is not None else row for row in rows]
    review = [one for one in review if one.fields.get(KEY_FIELD) not in told]
    # In a thread: 20,000 rows take seconds, in which everybody else's requests go on.
    return await asyncio.to_thread(_report, record, rows, review)


def _with_causes(row: ProblemRow, causes: Sequence[str]) -> ProblemRow:
    """A row of the sheet with what its appointment waits for as well."""
    also = [CellProblem(None, "", cause, _REVIEW_HELP) for cause in causes]
    return replace(row, problems=[*row.problems, *also])


def _original(book: Any, page: Any, titles: Sequence[str], rows: Sequence[ProblemRow]) -> None:
    left_out = {at for at, title in enumerate(titles) if title in {ERROR, MEND}}
    shown = [title for title in titles if title not in {ERROR, MEND}]
    shown += [""] * max(len(row.cells) - len(left_out) - len(shown) for row in rows)
    lines = []
    for row in rows:
        cells = [text for at, text in enumerate(row.cells) if at not in left_out]
        cells += [""] * (len(shown) - len(cells))
        fixes = dict.fromkeys(problem.fix for problem in row.problems)
        lines.append([*cells, "; ".join(map(_said, row.problems)), " ".join(fixes)])
    _fill(book, page, [*shown, ERROR, MEND], lines)


def _review(book: Any, page: Any, appointments: Sequence[StoredAppointment]) -> None:
    names = [name for name in TITLES if any(name in one.fields for one in appointments)]
    lines = [[*map(one.fields.get, names), "; ".join(_why(one)), _REVIEW_HELP] for one in appointments]
    _fill(book, page, [*(TITLES[name] for name in names), ERROR, MEND], lines)


def _why(one: StoredAppointment) -> list[str]:
    evidence = one.texts[Kind.ADDRESS].evidence
    return [*one.causes, *(evidence.objections if evidence else ())]


def _whole(page: Any, rows: Sequence[ProblemRow]) -> None:
    page.set_column(0, 0, 120)
    if not rows:
        page.write_string(0, 0, "Nenhuma linha com problema.")
    for line, row in enumerate(rows):
        said = "; ".join(f"{_said(problem)}. {problem.fix}" for problem in row.problems)
        _cell(page, line, 0, f"{row.sheet}{f', linha {row.number}' if row.number else ''}: {said}")


def _said(problem: CellProblem) -> str:
    if not problem.expected:
        return problem.found
    column = f"{problem.column}: " if problem.column else ""
    return f"{column}esperado {problem.expected}; encontrado {problem.found}"


def _fill(book: Any, page: Any, titles: Sequence[str], lines: Sequence[Sequence[object]] = ()) -> None:
    bold = book.add_format({"bold": True, "bottom": 1})
    page.freeze_panes(1, 0)
    for column, title in enumerate(titles):
        page.write_string(0, column, title, bold)
        page.set_column(column, column, max(14, min(48, len(title) + 6)))
    for number, cells in enumerate(lines, 1):
        for column, value in enumerate(cells):
            _cell(page, number, column, value)


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
