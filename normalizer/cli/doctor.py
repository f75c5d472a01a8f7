"""The doctor, and the answers kept in Redis: commands that look after the system."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from normalizer.cli.app import Json, app, print_json
from normalizer.cli.language import OPTIONS, SUBCOMMAND, Command, Group


@app.command(cls=Command, options_metavar=OPTIONS)
def doctor(
    lgpd: Annotated[bool, typer.Option("--lgpd", help="Também: o que fica onde, cifrado ou não, e se vaza.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Não chama a IA.")] = False,
    registro: Annotated[
        bool, typer.Option("--registro", help="Com --lgpd: só o registro de operações (art. 37) desta instalação.")
    ] = False,
    log: Annotated[list[Path] | None, typer.Option(help="Procura dados pessoais neste arquivo de log.")] = None,
    as_json: Json = False,
) -> None:
    """Examina configuração, Redis, workers, MongoDB e IA, e diz em uma linha como corrigir cada problema."""
    from normalizer.operations.doctor import examine

    if registro:
        _print_record(lgpd=lgpd, as_json=as_json)
        return
    report = asyncio.run(examine(lgpd=lgpd, offline=offline, logs=log or ()))
    if as_json:
        print_json(report.as_dict())
    else:
        report.show(Console(highlight=False))
    raise typer.Exit(report.exit_code)


def _print_record(*, lgpd: bool, as_json: bool) -> None:
    from normalizer.operations.doctor.processing_record import processing_record
    from normalizer.settings import load_settings

    if not lgpd:
        raise typer.BadParameter("--registro vem com --lgpd.")
    record = processing_record(load_settings())
    if as_json:
        print_json(dict(record))
    else:
        typer.echo("\n\n".join(f"{heading}\n  {text}." for heading, text in record.items()))


cache = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    options_metavar=OPTIONS,
    subcommand_metavar=SUBCOMMAND,
    help="Respostas guardadas no Redis.",
)
app.add_typer(cache, name="cache")


@cache.command("stats", cls=Command, options_metavar=OPTIONS)
def cache_stats(as_json: Json = False) -> None:
    """Conta as respostas guardadas: da geração atual, de gerações antigas e manuais."""
    from normalizer.runtime import open_cache

    async def run() -> dict[str, int]:
        async with open_cache() as stored:
            return await stored.count()

    counts = asyncio.run(run())
    names = {"current": "atuais", "older": "antigas", "manual": "manuais"}
    if as_json:
        print_json({names[name]: number for name, number in counts.items()})
    else:
        typer.echo(", ".join(f"{number} {names[name]}" for name, number in counts.items()))


@cache.command("purge", cls=Command, options_metavar=OPTIONS)
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
        print_json({"apagadas": removed})
    else:
        typer.echo(f"{removed} respostas apagadas.")
