"""The demo, a worker, its health check, and the API: commands that run something."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from normalizer.cli.app import FAILED, NOT_READY, Json, command, escaped, print_json, stderr, stdout

if TYPE_CHECKING:
    from normalizer.settings import Settings
    from normalizer.simulation.demo import Summary


@command()
def demo(
    rows: Annotated[int, typer.Option(min=1, max=200_000, help="Linhas da planilha sintética.")] = 2_000,
    keep: Annotated[Path | None, typer.Option(help="Guarda planilha, bancos e logs nesta pasta.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Usa o modelo do ambiente em vez do simulado.")] = False,
    page: Annotated[bool, typer.Option("--page", help="Ao fim, serve a página com o resultado, até Ctrl-C.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Porta da página.")] = 8000,
    as_json: Json = False,
) -> None:
    """Faz o trabalho principal de ponta a ponta, com Redis e MongoDB embutidos e dois workers."""
    from normalizer.simulation.demo import run_demo

    def show(summary: Summary) -> None:
        if as_json:
            print_json(summary.as_dict())
        else:
            summary.show(stdout)

    async def serve_page(settings: Settings, summary: Summary) -> None:
        from normalizer.api import serve_here

        show(summary)
        await serve_here(
            settings, port=port, listening=lambda url: stderr.print(f"\n[bold]{url}[/bold]  (Ctrl-C termina)")
        )

    summary = run_demo(rows=rows, keep=keep, live=live, console=stderr, then=serve_page if page else None)
    if not page:
        show(summary)
    if summary.falhou or summary.pendente:
        raise typer.Exit(FAILED)


@command()
def worker() -> None:
    """Inicia um worker, como `python workers.py`."""
    from normalizer.worker.main import main as run_worker

    raise typer.Exit(run_worker())


@command()
def health(as_json: Json = False) -> None:
    """Sai com 0 só se o worker deste contêiner está vivo e o laço dele responde."""
    from normalizer.operations.status import own_replica_problem
    from normalizer.queue.service import TaskService

    async def run() -> str | None:
        async with TaskService(attempts=1) as tasks:
            return await own_replica_problem(tasks)

    problem = asyncio.run(run())
    if as_json:
        print_json({"ok": problem is None, "problema": problem})
    elif problem is None:
        typer.echo("ok")
    else:
        stderr.print(f"[red]Erro:[/red] {escaped(problem)}")
    if problem is not None:
        raise typer.Exit(NOT_READY)


@command()
def serve(
    host: Annotated[str, typer.Option(help="Onde atender; fora desta máquina, API_KEYS é obrigatória.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Porta.")] = 8000,
) -> None:
    """Serve a API e a página ao vivo."""
    from normalizer.api import serve as run_server
    from normalizer.runtime import start_logging
    from normalizer.settings import load_settings
    from normalizer.worker.main import spare_the_collector

    settings = load_settings()
    start_logging(settings)
    spare_the_collector()
    run_server(settings, host=host, port=port, listening=stderr.print)
