"""What people decided on the review desk: exported, and erased with an appointment."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any

import orjson
import typer

from normalizer.cli.app import Json, app, print_json
from normalizer.cli.language import OPTIONS, Command
from normalizer.domain.wording import many


@app.command(cls=Command, options_metavar=OPTIONS)
def decisions(
    forget: Annotated[
        str | None, typer.Option("--forget", metavar="ID", help="Apaga as decisões sobre textos deste agendamento.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Exporta o que se decidiu na revisão, uma decisão por linha; com os textos: traz dados de pacientes."""
    from normalizer.operations.review import dataset
    from normalizer.runtime import open_producer

    async def run() -> list[dict[str, Any]] | int:
        async with open_producer() as producer:
            if forget is not None:
                return await producer.store.questions.forget(forget)
            return [one async for one in dataset(producer.store.questions, producer.cache)]

    found = asyncio.run(run())
    if isinstance(found, int):
        if as_json:
            print_json({"apagadas": found})
        else:
            typer.echo(f"Apagado: {many(found, 'decisão', 'decisões')}.")
    elif as_json:
        print_json({"decisoes": found})
    else:
        sys.stdout.buffer.writelines(orjson.dumps(one) + b"\n" for one in found)
