"""Commands that look after the system: queue, decisions, events, migration, the doctor, the answers kept in Redis."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Group as Lines
from rich.table import Column, Table

from normalizer.cli.app import Json, command, commands_of, print_json, stdout, tell, with_producer
from normalizer.domain.appointment import Status
from normalizer.domain.wording import many

if TYPE_CHECKING:
    from rich.console import RenderableType

    from normalizer.runtime import Producer
    from normalizer.store import Migrated
    from normalizer.store.outbox import Delivery

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
    _steer("pause", "Pausado.", as_json=as_json)


@command()
def drain(as_json: Json = False) -> None:
    """Como pause, e os grupos em andamento não começam mais nada."""
    _steer("drain", "Esvaziando.", as_json=as_json)


@command()
def resume(as_json: Json = False) -> None:
    """Retoma depois de pause ou drain; a IA também, se estava em pausa ou recusada."""
    _steer("resume", "Retomado.", as_json=as_json)


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


def _steer(order: str, said: str, *, as_json: bool) -> None:
    from normalizer.operations.steering import Order
    from normalizer.runtime import steer_queue
    from normalizer.settings import load_settings

    tell({"estado": asyncio.run(steer_queue(load_settings(), Order(order)))}, said, as_json=as_json)


@command()
def decisions(
    forget: Annotated[
        str | None, typer.Option("--forget", metavar="ID", help="Apaga as decisões sobre textos deste agendamento.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Exporta o que se decidiu na revisão, uma decisão por linha; com os textos: traz dados de pacientes."""
    from normalizer.operations.review import dataset

    async def run(producer: Producer) -> list[dict[str, Any]] | int:
        if forget is not None:
            return await producer.store.questions.forget(forget)
        return [one async for one in dataset(producer.store.questions, producer.cache)]

    found = with_producer(run)
    if isinstance(found, int):
        tell({"apagadas": found}, f"Apagado: {many(found, 'decisão', 'decisões')}.", as_json=as_json)
    elif as_json:
        print_json({"decisoes": found})
    else:
        sys.stdout.buffer.writelines(orjson.dumps(one) + b"\n" for one in found)


@command()
def events(
    resend: Annotated[bool, typer.Option("--resend", help="Envia de novo o que não foi entregue.")] = False,
    as_json: Json = False,
) -> None:
    """Lista os eventos que um destino não aceitou em 24 horas, ou recusou de vez."""
    from normalizer.store.outbox import DESTINATIONS

    async def run(producer: Producer) -> tuple[int, list[tuple[str, Delivery]]]:
        outbox = producer.store.outbox()
        again = sum([await outbox.send_again(name) for name in DESTINATIONS]) if resend else 0
        return again, [(name, one) for name in DESTINATIONS for one in await outbox.failed(name)]

    again, rows = with_producer(run)
    told = [
        {"destino": name, "id": one.event.id, "tipo": one.event.type, "em": one.event.at, "motivo": one.error}
        for name, one in rows
    ]
    shown: list[RenderableType] = [f"{many(again, 'evento')} de volta à fila de envio."] if resend else []
    if rows:
        shown.append(table := Table(Column("id", no_wrap=True), "destino", "tipo", "quando (UTC)", "motivo"))
        for name, one in rows:
            table.add_row(one.event.id, name, one.event.type, f"{one.event.at:%d/%m/%Y %H:%M}", one.error or "–")
    nothing = "Tudo o que havia a contar foi entregue, ou ainda está sendo enviado."
    tell({"reenviados": again, "nao_entregues": told}, Lines(*shown) if shown else nothing, as_json=as_json)


@command("migrate")
def migrate_command(
    apply: Annotated[bool, typer.Option("--apply/--dry-run", help="Grava; sem isto só conta.")] = False,
    as_json: Json = False,
) -> None:
    """Põe agendamentos de versões anteriores nas formas que o backend lê; sem --apply só ensaia. Desfaz-se por 24 h."""
    from normalizer.operations.steering import CHANGES, as_dict, migrate

    async def run(producer: Producer) -> tuple[str | None, Migrated]:
        return await migrate(producer.store, apply=apply)

    import_id, migrated = with_producer(run)
    done = "mudados" if apply else "a mudar"
    lines = [f"{migrated.seen} agendamentos vistos, {migrated.changed} {done}."]
    lines += [f"  {number} {CHANGES[name]}" for name, number in migrated.by_change.most_common()]
    if migrated.skipped:
        lines.append(f"  {migrated.skipped} mudaram enquanto isso ou não se leem: rode de novo.")
    if import_id is not None:
        lines.append(f"Para desfazer nas próximas 24 horas: normalizer undo {import_id}")
    elif migrated.changed:
        lines.append("Nada foi gravado. Para gravar: normalizer migrate --apply")
    tell(as_dict(import_id, migrated), "\n".join(lines), as_json=as_json)


@command()
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
    from normalizer.operations.doctor.privacy import processing_record
    from normalizer.settings import load_settings

    if registro and not lgpd:
        raise typer.BadParameter("--registro vem com --lgpd.")
    if registro:
        record = processing_record(load_settings())
        shown = "\n\n".join(f"{heading}\n  {text}." for heading, text in record.items())
        tell(record, shown, as_json=as_json)
        return
    report = asyncio.run(examine(lgpd=lgpd, offline=offline, logs=log or ()))
    if as_json:
        print_json(report.as_dict())
    else:
        report.show(stdout)
    raise typer.Exit(report.exit_code)


cache_command = commands_of("cache", "Respostas guardadas no Redis.")


@cache_command("stats")
def cache_stats(as_json: Json = False) -> None:
    """Conta as respostas guardadas: da geração atual, de gerações antigas e manuais."""
    from normalizer.runtime import open_cache

    async def run() -> dict[str, int]:
        async with open_cache() as stored:
            return await stored.count()

    names = {"current": "atuais", "older": "antigas", "manual": "manuais"}
    counts = {names[name]: number for name, number in asyncio.run(run()).items()}
    tell(counts, ", ".join(f"{number} {name}" for name, number in counts.items()), as_json=as_json)


@cache_command("purge")
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
    tell({"apagadas": removed}, f"{removed} respostas apagadas.", as_json=as_json)
