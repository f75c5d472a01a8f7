"""The queue: its status, pause and resume, retry."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from normalizer.cli.app import Json, command, print_json, stdout, tell, with_producer
from normalizer.domain.appointment import Status
from normalizer.domain.wording import many
from normalizer.operations.steering import Order

if TYPE_CHECKING:
    from normalizer.runtime import Producer

_WATCH_S = 2.0


@command()
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Atualiza a cada 2 s, até Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Mostra a fila, os workers e os agendamentos."""
    from normalizer.operations.status import Overview, read_overview
    from normalizer.runtime import read_lane
    from normalizer.settings import load_settings

    lane = partial(read_lane, load_settings())

    async def run(producer: Producer) -> None:
        before: Overview | None = None
        while before is None or watch:
            if before is not None:
                await asyncio.sleep(_WATCH_S)
            before = await read_overview(producer.store, producer.tasks, before=before, lane=lane)
            if as_json:
                print_json(before.as_dict())
            else:
                before.show(stdout)

    with_producer(run)


@command()
def pause(as_json: Json = False) -> None:
    """Nenhum worker pega agendamentos até `normalizer resume`; os que já começaram terminam."""
    _steer(Order.PAUSE, "Pausado.", as_json=as_json)


@command()
def drain(as_json: Json = False) -> None:
    """Como pause, e os grupos em andamento não começam mais nada."""
    _steer(Order.DRAIN, "Esvaziando.", as_json=as_json)


@command()
def resume(as_json: Json = False) -> None:
    """Retoma depois de pause ou drain; a IA também, se estava em pausa ou recusada."""
    _steer(Order.RESUME, "Retomado.", as_json=as_json)


@command()
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
    from normalizer.operations.steering import requeue

    statuses = {Status.FAILED} if failed or not review else set()
    statuses |= {Status.REVIEW} if review else set()
    if again and not (failed or review):
        statuses = {Status.DONE, Status.REVIEW, Status.FAILED}

    async def run(producer: Producer) -> int:
        return await requeue(statuses, store=producer.store, tasks=producer.tasks, cache=producer.cache, again=again)

    queued = with_producer(run)
    tell({"enfileirados": queued}, f"{many(queued, 'agendamento')} de volta à fila.", as_json=as_json)


def _steer(order: Order, said: str, *, as_json: bool) -> None:
    from normalizer.runtime import steer_queue
    from normalizer.settings import load_settings

    tell({"estado": asyncio.run(steer_queue(load_settings(), order))}, said, as_json=as_json)
