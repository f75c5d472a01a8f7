"""The queue: its status, pause and resume, retry."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

import typer
from rich.console import Console

from normalizer.cli.app import Json, app, print_json
from normalizer.cli.language import OPTIONS, Command
from normalizer.domain.appointment import Status
from normalizer.domain.wording import many
from normalizer.operations.steering import Order

_WATCH_S = 2.0


@app.command(cls=Command, options_metavar=OPTIONS)
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Atualiza a cada 2 s, até Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Mostra a fila, os workers e os agendamentos."""
    from normalizer.operations.status import Overview, read_overview
    from normalizer.runtime import open_producer, read_lane
    from normalizer.settings import load_settings

    settings = load_settings()

    async def run() -> None:
        async with open_producer(settings) as producer:
            before: Overview | None = None
            while True:
                lane = partial(read_lane, settings)
                before = await read_overview(producer.store, producer.tasks, before=before, lane=lane)
                if as_json:
                    print_json(before.as_dict())
                else:
                    before.show(Console(highlight=False))
                if not watch:
                    return
                await asyncio.sleep(_WATCH_S)

    asyncio.run(run())


@app.command(cls=Command, options_metavar=OPTIONS)
def pause(as_json: Json = False) -> None:
    """Nenhum worker pega agendamentos até `normalizer resume`; os que já começaram terminam."""
    _steer(Order.PAUSE, "Pausado.", as_json=as_json)


@app.command(cls=Command, options_metavar=OPTIONS)
def drain(as_json: Json = False) -> None:
    """Como pause, e os grupos em andamento não começam mais nada."""
    _steer(Order.DRAIN, "Esvaziando.", as_json=as_json)


@app.command(cls=Command, options_metavar=OPTIONS)
def resume(as_json: Json = False) -> None:
    """Retoma depois de pause ou drain; a IA também, se estava em pausa ou recusada."""
    _steer(Order.RESUME, "Retomado.", as_json=as_json)


@app.command(cls=Command, options_metavar=OPTIONS)
def retry(
    failed: Annotated[bool, typer.Option("--failed", help="Os que falharam.")] = False,
    review: Annotated[bool, typer.Option("--review", help="Os que estão em revisão.")] = False,
    again: Annotated[
        bool,
        typer.Option(
            "--again",
            help="Refaz tudo, também o que já está pronto: troca até resultados do backend e correções de pessoas. "
            "Com --failed ou --review, só esses.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Coloca de novo na fila o que falhou ou está em revisão (sem opção: o que falhou)."""
    from normalizer.operations.retry import requeue
    from normalizer.runtime import open_producer

    statuses = {Status.FAILED} if failed or not review else set()
    statuses |= {Status.REVIEW} if review else set()
    if again and not (failed or review):
        statuses = {Status.DONE, Status.REVIEW, Status.FAILED}

    async def run() -> int:
        async with open_producer() as producer:
            return await requeue(
                statuses, store=producer.store, tasks=producer.tasks, cache=producer.cache, again=again
            )

    queued = asyncio.run(run())
    if as_json:
        print_json({"enfileirados": queued})
    else:
        typer.echo(f"{many(queued, 'agendamento')} de volta à fila.")


def _steer(order: Order, said: str, *, as_json: bool) -> None:
    from normalizer.runtime import steer_queue
    from normalizer.settings import load_settings

    state = asyncio.run(steer_queue(load_settings(), order))
    if as_json:
        print_json({"estado": state})
    else:
        typer.echo(said)
