"""Events: those that no receiver took, and sending them again."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from normalizer.cli.app import Json, app, print_json
from normalizer.cli.language import OPTIONS, Command
from normalizer.domain.wording import many


@app.command(cls=Command, options_metavar=OPTIONS)
def events(
    resend: Annotated[bool, typer.Option("--resend", help="Envia de novo o que não foi entregue.")] = False,
    as_json: Json = False,
) -> None:
    """Lista os eventos que um destino não aceitou em 24 horas, ou recusou de vez."""
    from normalizer.runtime import open_producer
    from normalizer.store.outbox import DESTINATIONS, Delivery

    async def run() -> tuple[int, dict[str, list[Delivery]]]:
        async with open_producer() as producer:
            outbox = producer.store.outbox()
            again = sum([await outbox.send_again(name) for name in DESTINATIONS]) if resend else 0
            return again, {name: await outbox.failed(name) for name in DESTINATIONS}

    again, failed = asyncio.run(run())
    rows = [(name, one) for name, deliveries in failed.items() for one in deliveries]
    if as_json:
        told = [
            {"destino": name, "id": one.event.id, "tipo": one.event.type, "em": one.event.at, "motivo": one.error}
            for name, one in rows
        ]
        print_json({"reenviados": again, "nao_entregues": told})
        return
    if resend:
        typer.echo(f"{many(again, 'evento')} de volta à fila de envio.")
    table = Table(Column("id", no_wrap=True), "destino", "tipo", "quando (UTC)", "motivo")
    for name, one in rows:
        table.add_row(one.event.id, name, one.event.type, f"{one.event.at:%d/%m/%Y %H:%M}", one.error or "–")
    if rows:
        Console(highlight=False).print(table)
    elif not resend:
        typer.echo("Tudo o que havia a contar foi entregue, ou ainda está sendo enviado.")
