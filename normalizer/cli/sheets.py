"""Commands about sheets: import, what it would cost, undo, and what is to be corrected."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from normalizer.cli.app import Json, bar, command, escaped, print_json, stderr, tell, with_producer
from normalizer.domain.stored_form import DEFAULT_STATUS
from normalizer.domain.wording import many, number
from normalizer.errors import InvalidInput
from normalizer.imports.spreadsheet.rows import Problem, grouped
from normalizer.imports.spreadsheet.vocabulary import LABELS

if TYPE_CHECKING:
    from normalizer.imports.importing import ImportReport
    from normalizer.runtime import Producer
    from normalizer.store import ImportRecord, Undone

_KINDS_SHOWN = 20
_LINES_SHOWN = 5
_LACKING = "só são pergunta onde a política da marca ou unidade o diz (PUT /api/politicas/endereco)"


def _checked(columns: list[str] | None) -> list[str] | None:
    """A slip in `--map` is one of usage, told before anything is opened."""
    from normalizer.imports.spreadsheet import Vocabulary

    try:
        Vocabulary.of(columns or ())
    except InvalidInput as error:
        raise typer.BadParameter(str(error), param_hint="--map") from None
    return columns


Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="TÍTULO=CAMPO",
        callback=_checked,
        help="O que é uma coluna de título desconhecido: “Onde mora=endereco_completo” (ou =ignorar); "
        "pode repetir-se. Ao importar, fica lembrado para planilhas de mesmo cabeçalho e para a mesma marca.",
    ),
]


@command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Planilha: xlsx, xls ou csv.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Mostra o que mudaria, sem gravar nada.")] = False,
    columns: Columns = None,
    emptying: Annotated[
        bool, typer.Option("--clear-empty", help="Apaga o texto gravado onde a célula veio vazia; sem isto, ele fica.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Importa uma planilha: grava os agendamentos como pendentes e coloca-os na fila."""
    from normalizer.imports.importing import import_sheet
    from normalizer.imports.spreadsheet import Vocabulary

    async def run(producer: Producer) -> ImportReport:
        with bar(file.name) as moved:
            return await import_sheet(
                file,
                store=producer.store,
                enqueue=producer.tasks.enqueue_many,
                progress=moved,
                dry_run=dry_run,
                vocabulary=Vocabulary.of(columns or (), await producer.store.columns.known()),
                emptying=emptying,
            )

    report = with_producer(run)
    if as_json:
        print_json(report.as_dict())
        return
    for notice in [*_grouped(report.errors), *_notices(report), *_emptied(report, emptying=emptying)]:
        stderr.print(f"[yellow]Aviso:[/yellow] {escaped(notice)}")
    typer.echo(_summary(report))
    if report.import_id is not None:
        stderr.print(f"Acompanhe: normalizer status. Desfazer, por 24 h: normalizer undo {report.import_id}")
        if report.errors:
            stderr.print(
                f"O que corrigir, numa planilha: normalizer export-errors {report.import_id} para-corrigir.xlsx"
            )


def _emptied(report: ImportReport, *, emptying: bool) -> Iterator[str]:
    """What is stored and stands empty in the sheet: it is asked for, never taken for granted."""
    if report.emptied:
        names = ", ".join(f"{LABELS[name]} ({number(rows)})" for name, rows in report.emptied.items())
        end = "será apagado" if report.dry_run else "foi apagado"
        kept = "fica como está. Para apagá-lo, importe com --clear-empty"
        yield f"células vazias onde há texto gravado: {names}. O texto gravado {end if emptying else kept}."


def _grouped(problems: Sequence[Problem]) -> Iterator[str]:
    """Problems of one kind together, most frequent first, with the lines they are on."""
    found = grouped(problems)
    for group in found[:_KINDS_SHOWN]:
        one, rows = group.problem, group.rows
        if len(rows) <= 1:
            yield str(replace(one, row=rows[0] if rows else None))
            continue
        lines = ", ".join(map(str, rows[:_LINES_SHOWN])) + (" …" if len(rows) > _LINES_SHOWN else "")
        what = f"coluna “{one.column}”: " if one.column is not None else ""
        yield f"{number(len(rows))} × {what}{group.said} (linhas {lines}). {one.fix}"
    if rest := sum(len(group.rows) for group in found[_KINDS_SHOWN:]):
        yield f"… e mais {many(rest, 'problema')}."


def _summary(report: ImportReport) -> str:
    one = report.rows == 1
    read = (
        ("seria importada" if one else "seriam importadas") if report.dry_run else "importada" if one else "importadas"
    )
    return (
        f"{many(report.rows, 'linha')} {read}: {many(report.new, 'nova')}, "
        f"{many(report.changed, 'alterada')}, {many(report.equal, 'igual', 'iguais')}, "
        f"{number(len(report.errors))} com problema."
    )


def _notices(report: ImportReport) -> Iterator[str]:
    """What was left out without being an error of a row."""
    for lacking in report.lacking.values() if report.dry_run else ():
        visited = f", {number(lacking.at_home)} de coleta em casa" if lacking.at_home else ""
        yield f"{many(lacking.rows, 'linha')} de {lacking.name} sem endereço{visited}: {_LACKING}."
    for name in report.hidden_sheets:
        yield f"a planilha oculta “{name}” não foi lida. Se tem agendamentos, reexiba-a no Excel e importe de novo."
    for name in report.ignored_sheets:
        yield f"a planilha “{name}” não foi lida: nenhum título conhecido."
    if report.unknown_columns:
        names = ", ".join(f"“{title}”" for title in report.unknown_columns[:20])
        yield f"colunas que não se reconhecem e não foram lidas: {names}. Se uma importa: --map “TÍTULO=CAMPO”."
    for one in report.proposals:
        shown = ", ".join(one.examples)
        yield (
            f"a coluna “{one.title}” parece {LABELS[one.field]}: {one.evidence} ({shown}). "
            f"Se é, use --map “{one.title}={one.field}”."
        )
    if report.unknown_statuses:
        names = ", ".join(f"“{status}” ({rows})" for status, rows in report.unknown_statuses.items())
        yield f"situações que o sistema não conhece, gravadas como “{DEFAULT_STATUS}” (o texto fica guardado): {names}."
    if report.unqueued:
        yield (
            f"{report.unqueued} agendamentos gravados não entraram na fila porque o Redis não respondeu. "
            "Nada a fazer: os workers os acham no MongoDB em alguns minutos."
        )


@command()
def estimate(
    file: Annotated[Path, typer.Argument(help="Planilha: xlsx, xls ou csv.")],
    columns: Columns = None,
    as_json: Json = False,
) -> None:
    """Diz antes de importar o que a planilha custaria: textos, chamadas, tokens, US$ e minutos. Não grava nada."""
    from normalizer.imports.estimate import SheetEstimate, estimate_sheet
    from normalizer.imports.spreadsheet import Vocabulary
    from normalizer.runtime import known_columns, lane_of, open_known_answers
    from normalizer.settings import load_settings

    settings = load_settings()

    async def run() -> SheetEstimate:
        remembering = asyncio.create_task(known_columns(settings))
        async with open_known_answers(settings) as known:
            vocabulary = Vocabulary.of(columns or (), await remembering)
            return await estimate_sheet(file, lane=lane_of(settings), cache=known, vocabulary=vocabulary)

    foreseen = asyncio.run(run())
    tell(foreseen.as_dict(), "\n".join(foreseen.lines()), as_json=as_json)


@command()
def undo(
    import_id: Annotated[str, typer.Argument(help="Id da importação, como `normalizer imports` o mostra.")],
    as_json: Json = False,
) -> None:
    """Desfaz uma importação das últimas 24 horas: apaga o que ela criou, restaura o que ela mudou."""
    from normalizer.imports.importing import undo_import

    async def run(producer: Producer) -> Undone:
        record = await _known_import(producer, import_id)
        enqueue = producer.tasks.enqueue_many
        return await undo_import(record, store=producer.store, enqueue=enqueue, cache=producer.cache)

    undone = with_producer(run)
    counts = {"removidos": undone.removed, "restaurados": undone.restored, "mantidos": undone.kept}
    tell(counts, ", ".join(f"{number} {name}" for name, number in counts.items()), as_json=as_json)


@command("export-errors")
def export_errors(
    import_id: Annotated[str, typer.Argument(help="Id da importação, como `normalizer imports` o mostra.")],
    out: Annotated[Path, typer.Argument(help="Planilha .xlsx a gravar.")],
    as_json: Json = False,
) -> None:
    """Grava o que precisa de uma pessoa, com as colunas originais, "Erro" e "Como corrigir": corrija e importe."""
    from normalizer.imports.error_sheet import gather

    async def run(producer: Producer) -> bytes:
        return await gather(await _known_import(producer, import_id), store=producer.store)

    content = with_producer(run)
    try:
        out.write_bytes(content)
    except OSError as error:
        raise InvalidInput(
            where=str(out),
            expected="um caminho em que se possa gravar",
            found=error.strerror or "erro de escrita",
            fix="Confira a pasta e a permissão.",
        ) from None
    tell({"arquivo": str(out), "bytes": len(content)}, str(out), as_json=as_json)


@command()
def imports(as_json: Json = False) -> None:
    """Lista as últimas importações, com o id que `undo` e `export-errors` pedem."""
    from normalizer.api.views import import_view

    async def run(producer: Producer) -> list[ImportRecord]:
        return await producer.store.imports.recent()

    found = list(map(import_view, with_producer(run)))
    table = Table(Column("id", no_wrap=True), "arquivo", "quando (UTC)", "estado", "linhas", "problemas", "desfaz até")
    for one in found:
        moments = [f"{moment:%d/%m/%Y %H:%M}" if moment else "–" for moment in (one.criada_em, one.desfaz_ate)]
        counts = (number(one.linhas), number(one.problemas))
        table.add_row(one.id, escaped(one.arquivo), moments[0], one.estado, *counts, moments[1])
    tell({"importacoes": [one.model_dump(exclude={"progresso"}) for one in found]}, table, as_json=as_json)


async def _known_import(producer: Producer, import_id: str) -> ImportRecord:
    found = await producer.store.imports.get(import_id)
    if found is None:
        fix = "`normalizer imports` lista os ids."
        raise InvalidInput(where=import_id, expected="o id de uma importação", found="nenhuma com este id", fix=fix)
    return found
