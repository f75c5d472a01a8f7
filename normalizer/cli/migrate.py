"""The command that mends what earlier versions stored."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from normalizer.cli.app import Json, app, print_json
from normalizer.cli.language import OPTIONS, Command


@app.command("migrate", cls=Command, options_metavar=OPTIONS)
def migrate_command(
    apply: Annotated[bool, typer.Option("--apply/--dry-run", help="Grava; sem isto só conta.")] = False,
    as_json: Json = False,
) -> None:
    """Põe agendamentos de versões anteriores nas formas que o backend lê; sem --apply só ensaia. Desfaz-se por 24 h."""
    from normalizer.operations.migrate import CHANGES, as_dict, migrate
    from normalizer.runtime import open_producer

    async def run() -> None:
        async with open_producer() as producer:
            import_id, migrated = await migrate(producer.store, apply=apply)
        if as_json:
            print_json(as_dict(import_id, migrated))
            return
        done = "mudados" if apply else "a mudar"
        typer.echo(f"{migrated.seen} agendamentos vistos, {migrated.changed} {done}.")
        for name, number in migrated.by_change.most_common():
            typer.echo(f"  {number} {CHANGES[name]}")
        if migrated.skipped:
            typer.echo(f"  {migrated.skipped} mudaram enquanto isso ou não se leem: rode de novo.")
        if import_id is not None:
            typer.echo(f"Para desfazer nas próximas 24 horas: normalizer undo {import_id}")
        elif migrated.changed:
            typer.echo("Nada foi gravado. Para gravar: normalizer migrate --apply")

    asyncio.run(run())
