"""The command line. Results go to stdout (`--json`: one document), everything else to stderr.

Exit codes: 0 ok, 1 failed, 2 usage or a wrong setting, 3 not ready (a service cannot be reached).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console

from normalizer.domain.appointment import Kind, Status
from normalizer.errors import InvalidInput, Misconfigured, NormalizerError, TransientError
from normalizer.telemetry import configure_logging

if TYPE_CHECKING:
    from normalizer.imports import ImportReport
    from normalizer.settings import Settings

OK, FAILED, USAGE, NOT_READY = 0, 1, 2, 3
_WATCH_S = 2.0

app = typer.Typer(
    name="normalizer",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
_stderr = Console(stderr=True, highlight=False, soft_wrap=True)  # a sentence is one line, also in a log

Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="TÍTULO=CAMPO",
        help="O que é uma coluna de título desconhecido: “Onde mora=endereco_completo” (ou =ignorar); "
        "pode repetir-se. Ao importar, fica lembrado para planilhas de mesmo cabeçalho e para a mesma marca.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Um único documento JSON na saída padrão.")]


def main() -> None:
    """Entry point: run the command; turn our own errors into one sentence and an exit code."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except NormalizerError as error:
        _stderr.print(f"[red]Erro:[/red] {_escaped(error)}")
        sys.exit(exit_code(error))


def exit_code(error: NormalizerError) -> int:
    """The documented exit code of an error."""
    if isinstance(error, TransientError):
        return NOT_READY
    if isinstance(error, Misconfigured):
        return USAGE
    return FAILED


@app.callback()
def _quiet() -> None:
    """Normaliza endereços e documentos de agendamentos, em lotes e sem inventar nada."""
    configure_logging("WARNING", json_lines=False)  # a worker configures it again, from LOG_LEVEL


@app.command()
def demo(
    rows: Annotated[int, typer.Option(min=1, max=200_000, help="Linhas da planilha sintética.")] = 2_000,
    keep: Annotated[Path | None, typer.Option(help="Guarda planilha, bancos e logs nesta pasta.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Usa o modelo do ambiente em vez do simulado.")] = False,
    page: Annotated[bool, typer.Option("--page", help="Ao fim, serve a página com o resultado, até Ctrl-C.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Porta da página.")] = 8000,
    as_json: Json = False,
) -> None:
    """Faz o trabalho principal de ponta a ponta, com Redis e MongoDB embutidos e dois workers."""
    from normalizer.demo import Summary, run_demo

    def show(summary: Summary) -> None:
        if as_json:
            _print_json(summary.as_dict())
        else:
            summary.show(Console(highlight=False))

    async def serve_page(settings: Settings, summary: Summary) -> None:
        from normalizer.api import serve_here

        show(summary)
        _stderr.print(f"\n[bold]http://127.0.0.1:{port}[/bold]  (Ctrl-C termina)")
        await serve_here(settings, port=port)

    summary = run_demo(rows=rows, keep=keep, live=live, console=_stderr, then=serve_page if page else None)
    if not page:
        show(summary)
    if summary.falhou or summary.pendente:
        raise typer.Exit(FAILED)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Planilha: xlsx, xls ou csv.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Mostra o que mudaria, sem gravar nada.")] = False,
    columns: Columns = None,
    as_json: Json = False,
) -> None:
    """Importa uma planilha: grava os agendamentos como pendentes e coloca-os na fila."""
    from normalizer.imports import import_sheet
    from normalizer.journal import ImportJournal
    from normalizer.runtime import open_producer
    from normalizer.spreadsheet import Vocabulary

    Vocabulary.of(columns or ())  # a slip is told before anything is opened

    async def run() -> Any:
        async with open_producer() as producer:
            desk = producer.store.desk()
            return await import_sheet(
                file,
                store=producer.store,
                enqueue=producer.tasks.enqueue_many,
                dry_run=dry_run,
                vocabulary=Vocabulary.of(columns or (), await desk.columns()),
                journal=ImportJournal(desk),
            )

    report = asyncio.run(run())
    if as_json:
        _print_json(report.as_dict())
        return
    for problem in report.errors[:20]:
        _stderr.print(f"[yellow]Aviso:[/yellow] {_escaped(problem)}")
    if len(report.errors) > 20:
        _stderr.print(f"[yellow]Aviso:[/yellow] … e mais {len(report.errors) - 20} problemas.")
    for notice in _notices(report):
        _stderr.print(f"[yellow]Aviso:[/yellow] {_escaped(notice)}")
    verb = "seriam importadas" if dry_run else "importadas"
    typer.echo(
        f"{report.rows} linhas {verb}: {report.new} novas, {report.changed} alteradas, "
        f"{report.equal} iguais, {len(report.errors)} com problema."
    )


def _notices(report: ImportReport) -> Iterator[str]:
    """What was left out without being an error of a row."""
    for name in report.hidden_sheets:
        yield f"a planilha oculta “{name}” não foi lida. Se tem agendamentos, reexiba-a no Excel e importe de novo."
    for name in report.ignored_sheets:
        yield f"a planilha “{name}” não foi lida: nenhum título conhecido."
    if report.unknown_columns:
        names = ", ".join(f"“{title}”" for title in report.unknown_columns[:20])
        yield f"colunas que não se reconhecem e não foram lidas: {names}. Se uma importa: --map “TÍTULO=CAMPO”."
    if report.unqueued:
        yield (
            f"{report.unqueued} agendamentos gravados não entraram na fila porque o Redis não respondeu. "
            "Nada a fazer: os workers os acham no MongoDB em alguns minutos."
        )


@app.command()
def estimate(
    file: Annotated[Path, typer.Argument(help="Planilha: xlsx, xls ou csv.")],
    columns: Columns = None,
    as_json: Json = False,
) -> None:
    """Diz antes de importar o que a planilha custaria: textos, chamadas, tokens, US$ e minutos. Não grava nada."""
    from normalizer.forecast import Forecast, forecast
    from normalizer.runtime import known_columns, lane_of, open_known_answers
    from normalizer.settings import load_settings
    from normalizer.spreadsheet import Vocabulary

    Vocabulary.of(columns or ())  # a slip is told before anything is opened
    settings = load_settings()

    async def run() -> Forecast:
        remembering = asyncio.create_task(known_columns(settings))
        async with open_known_answers(settings) as known:
            vocabulary = Vocabulary.of(columns or (), await remembering)
            return await forecast(file, lane=lane_of(settings), cache=known, vocabulary=vocabulary)

    foreseen = asyncio.run(run())
    if as_json:
        _print_json(foreseen.as_dict())
    else:
        typer.echo("\n".join(foreseen.lines()))


@app.command()
def normalize(
    kind: Annotated[str, typer.Argument(help="address ou document", metavar="address|document")],
    file: Annotated[
        Path | None, typer.Argument(help="JSON Lines com id e text; - ou nada lê a entrada padrão.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Só regras; nenhuma chamada ao modelo.")] = False,
) -> None:
    """Normaliza textos avulsos: {"id","text"} por linha, {"id","result","origem","motivo"} na mesma ordem."""
    from normalizer.runtime import open_normalization
    from normalizer.settings import load_settings
    from normalizer.texts import TextAnswer, normalize_lines

    if kind not in _KINDS:
        raise typer.BadParameter(f"esperado address ou document; encontrado {kind!r}.", param_hint="address|document")
    lines = _lines(file)
    settings = load_settings()

    async def run() -> list[TextAnswer]:
        async with open_normalization(settings, offline=offline) as pipeline:
            return await normalize_lines(_KINDS[kind], lines, pipeline=pipeline, timeout_s=settings.arq_job_timeout)

    bad = 0
    for answer in asyncio.run(run()):
        sys.stdout.buffer.write(orjson.dumps(answer.as_dict()) + b"\n")
        if answer.error:
            bad += 1
            _stderr.print(f"[yellow]Aviso:[/yellow] {_escaped(answer.error)}")
    sys.stdout.buffer.flush()
    if bad:
        raise typer.Exit(FAILED)


@app.command()
def worker() -> None:
    """Inicia um worker, como `python workers.py`."""
    from normalizer.runtime import main as run_worker

    raise typer.Exit(run_worker())


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Atualiza a cada 2 s, até Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Mostra a fila, os workers e os agendamentos."""
    from normalizer.runtime import open_producer, read_lane
    from normalizer.settings import load_settings
    from normalizer.status import Overview, read_overview

    settings = load_settings()

    async def run() -> None:
        async with open_producer(settings) as producer:
            before: Overview | None = None
            while True:
                lane = partial(read_lane, settings)
                before = await read_overview(producer.store, producer.tasks, before=before, lane=lane)
                if as_json:
                    _print_json(before.as_dict())
                else:
                    before.show(Console(highlight=False))
                if not watch:
                    return
                await asyncio.sleep(_WATCH_S)

    asyncio.run(run())


@app.command()
def health() -> None:
    """Sai com 0 só se o worker deste contêiner está vivo e o laço dele responde."""
    from normalizer.queue.service import TaskService
    from normalizer.status import own_replica_problem

    async def run() -> str | None:
        async with TaskService(attempts=1) as tasks:
            return await own_replica_problem(tasks)

    problem = asyncio.run(run())
    if problem is not None:
        _stderr.print(f"[red]Erro:[/red] {_escaped(problem)}")
        raise typer.Exit(NOT_READY)
    typer.echo("ok")


@app.command()
def doctor(
    lgpd: Annotated[bool, typer.Option("--lgpd", help="Também: o que fica onde, cifrado ou não, e se vaza.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Não chama a IA.")] = False,
    log: Annotated[list[Path] | None, typer.Option(help="Procura dados pessoais neste arquivo de log.")] = None,
    as_json: Json = False,
) -> None:
    """Examina configuração, Redis, workers, MongoDB e IA, e diz em uma linha como corrigir cada problema."""
    from normalizer.doctor import examine

    report = asyncio.run(examine(lgpd=lgpd, offline=offline, logs=log or ()))
    if as_json:
        _print_json(report.as_dict())
    else:
        report.show(Console(highlight=False))
    raise typer.Exit(report.exit_code)


cache = typer.Typer(no_args_is_help=True, help="Respostas guardadas no Redis.")
app.add_typer(cache, name="cache")


@cache.command("stats")
def cache_stats(as_json: Json = False) -> None:
    """Conta as respostas guardadas: da geração atual, de gerações antigas e manuais."""
    from normalizer.runtime import open_cache

    async def run() -> dict[str, int]:
        async with open_cache() as stored:
            return await stored.count()

    counts = asyncio.run(run())
    names = {"current": "atuais", "older": "antigas", "manual": "manuais"}
    if as_json:
        _print_json({names[name]: number for name, number in counts.items()})
    else:
        typer.echo(", ".join(f"{number} {names[name]}" for name, number in counts.items()))


@cache.command("purge")
def cache_purge(
    older_only: Annotated[bool, typer.Option("--older", help="Só as de outro modelo, prompt ou regras.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Confirma que é para apagar todas.")] = False,
    as_json: Json = False,
) -> None:
    """Apaga as respostas das máquinas (a IA será paga de novo por elas); as correções manuais ficam."""
    from normalizer.runtime import open_cache

    if not (yes or older_only):
        raise typer.BadParameter("isto apaga todas as respostas, e a IA será paga de novo; confirme com --yes.")

    async def run() -> int:
        async with open_cache() as stored:
            return await stored.purge(older_only=older_only)

    removed = asyncio.run(run())
    if as_json:
        _print_json({"apagadas": removed})
    else:
        typer.echo(f"{removed} respostas apagadas.")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Onde atender; fora desta máquina, API_KEYS é obrigatória.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Porta.")] = 8000,
) -> None:
    """Serve a API e a página ao vivo."""
    from normalizer.api import serve as run_server
    from normalizer.runtime import start_logging
    from normalizer.settings import load_settings

    settings = load_settings()
    start_logging(settings)
    _stderr.print(f"http://{host}:{port}")
    run_server(settings, host=host, port=port)


@app.command()
def undo(
    import_id: Annotated[str, typer.Argument(help="Id da importação, como `import --json` o mostra.")],
    as_json: Json = False,
) -> None:
    """Desfaz uma importação das últimas 24 horas: apaga o que ela criou, restaura o que ela mudou."""
    from normalizer.runtime import open_producer
    from normalizer.undo import undo_import

    async def run() -> Any:
        async with open_producer() as producer:
            record = await _known_import(producer, import_id)
            desk, enqueue = producer.store.desk(), producer.tasks.enqueue_many
            return await undo_import(record, desk=desk, enqueue=enqueue)

    undone = asyncio.run(run())
    counts = {"removidos": undone.removed, "restaurados": undone.restored, "mantidos": undone.kept}
    if as_json:
        _print_json(counts)
    else:
        typer.echo(", ".join(f"{number} {name}" for name, number in counts.items()))


@app.command("export-errors")
def export_errors(
    import_id: Annotated[str, typer.Argument(help="Id da importação, como `import --json` o mostra.")],
    out: Annotated[Path, typer.Argument(help="Planilha .xlsx a gravar.")],
) -> None:
    """Grava o que precisa de uma pessoa, com as colunas originais, "Erro" e "Como corrigir": corrija e importe."""
    from normalizer.reports import gather
    from normalizer.runtime import open_producer

    async def run() -> bytes:
        async with open_producer() as producer:
            record = await _known_import(producer, import_id)
            return await gather(record, desk=producer.store.desk())

    content = asyncio.run(run())
    try:
        out.write_bytes(content)
    except OSError as error:
        raise InvalidInput(
            where=str(out),
            expected="um caminho em que se possa gravar",
            found=error.strerror or "erro de escrita",
            mend="Confira a pasta e a permissão.",
        ) from None
    typer.echo(str(out))


async def _known_import(producer: Any, import_id: str) -> dict[str, Any]:
    found: dict[str, Any] | None = await producer.store.get_import(import_id)
    if found is None:
        mend = "O id aparece em `normalizer import --json`."
        raise InvalidInput(where=import_id, expected="o id de uma importação", found="nenhuma com este id", mend=mend)
    return found


@app.command()
def pause() -> None:
    """Nenhum worker pega agendamentos até `normalizer resume`; os que já começaram terminam."""
    _steer("pause", "Pausado.")


@app.command()
def drain() -> None:
    """Como pause, e os grupos em andamento não começam mais nada."""
    _steer("drain", "Esvaziando.")


@app.command()
def resume() -> None:
    """Retoma depois de pause ou drain."""
    _steer("resume", "Retomado.")


@app.command()
def retry(
    failed: Annotated[bool, typer.Option("--failed", help="Os que falharam.")] = False,
    review: Annotated[bool, typer.Option("--review", help="Os que estão em revisão.")] = False,
    as_json: Json = False,
) -> None:
    """Coloca de novo na fila o que falhou ou está em revisão (sem opção: o que falhou)."""
    from normalizer.retry import put_back
    from normalizer.runtime import open_producer

    statuses = [Status.FAILED] if failed or not review else []
    statuses += [Status.REVIEW] if review else []

    async def run() -> int:
        async with open_producer() as producer:
            return await put_back(statuses, store=producer.store, tasks=producer.tasks, cache=producer.cache)

    queued = asyncio.run(run())
    if as_json:
        _print_json({"enfileirados": queued})
    else:
        typer.echo(f"{queued} agendamentos de volta à fila.")


def _steer(order: str, said: str) -> None:
    from normalizer.queue.service import TaskService

    async def run() -> None:
        async with TaskService() as tasks:
            await getattr(tasks, order)()

    asyncio.run(run())
    typer.echo(said)


_NO_FILE: dict[type[OSError], str] = {
    FileNotFoundError: "nenhum arquivo nesse caminho",
    IsADirectoryError: "uma pasta",
    PermissionError: "um arquivo sem permissão de leitura",
}
_KINDS = {"address": Kind.ADDRESS, "document": Kind.DOCUMENT}


def _lines(file: Path | None) -> list[bytes]:
    if file is None or str(file) == "-":
        return sys.stdin.buffer.read().splitlines()
    try:
        return file.read_bytes().splitlines()
    except OSError as error:
        raise InvalidInput(
            where=str(file),
            expected="um arquivo que possa ser lido",
            found=_NO_FILE.get(type(error), "erro de leitura"),
            mend="Confira o caminho e a permissão.",
        ) from None


def _print_json(document: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    sys.stdout.buffer.flush()


def _escaped(value: object) -> str:
    return str(value).replace("[", r"\[")
