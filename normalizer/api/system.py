"""Health, metrics, status, cost and steering of the system; its undelivered events, and its policies.

A policy says what a missing address means for a brand or a unit, from now on and for what is stored.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterable
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from normalizer.api.access import Operator, Reader, Role
from normalizer.api.live import CostView, LastEventId, Snapshot, StatusView, TheBackend, TheLive, WorkerView
from normalizer.api.problems import responses
from normalizer.api.rendering import html
from normalizer.api.uploads import Started, TheUploads
from normalizer.api.views import Body
from normalizer.domain.appointment import BRAND, UNIT, Status, WhenMissing, scope_of
from normalizer.errors import NormalizerError
from normalizer.observability.prometheus import CONTENT_TYPE_LATEST
from normalizer.operations.status import worker_fields
from normalizer.operations.steering import Order, begun, carry_out, requeue, steer
from normalizer.store.outbox import DESTINATIONS

_READY_S: Final = 4.0

health = APIRouter(tags=["saúde"])
router = APIRouter(prefix="/api", tags=["sistema"], responses=responses(401, 403, 429, 503))
policy_router = APIRouter(prefix="/api/politicas/endereco", tags=["políticas"], responses=responses(401, 403, 429, 503))
pages = APIRouter(include_in_schema=False)


class Health(BaseModel):
    """`ok`, or it would be a problem."""

    estado: str = Field(examples=["ok"])


class QueueState(BaseModel):
    """The queue's state after an order."""

    estado: str = Field(examples=["paused"])


class RetryRequest(BaseModel):
    """Which appointments to put back into the queue."""

    status: list[Status] = Field(default=[Status.FAILED], min_length=1, max_length=2, examples=[["falhou"]])
    causas: list[str] | None = Field(default=None, max_length=50, examples=[["sem chave de IA configurada"]])


class Requeued(BaseModel):
    """How many went back into the queue."""

    enfileirados: int = Field(examples=[12])


@health.get("/health/live")
async def live() -> Health:
    """O processo responde."""
    return Health(estado="ok")


@health.get("/health/ready", responses=responses(503))
async def ready(backend: TheBackend) -> Health:
    """Redis e MongoDB respondem."""
    try:
        async with asyncio.timeout(_READY_S):
            await backend.store.ping()
            await backend.tasks.status()
    except (NormalizerError, TimeoutError) as error:
        raise HTTPException(503, f"Ainda não: {type(error).__name__}.") from None
    return Health(estado="ok")


@health.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **responses(401)})
async def metrics(_: Reader, backend: TheBackend) -> Response:
    """Métricas para o Prometheus."""
    return Response(await backend.exposition.render(), media_type=CONTENT_TYPE_LATEST)


@router.get("/status", response_model=StatusView, response_model_exclude_unset=True)
async def status(role: Reader, live: TheLive) -> dict[str, Any]:
    """Fila, agendamentos, importações e workers, como `normalizer status --json` e mais."""
    return (await live.now()).seen_by(role).as_dict()


@router.get("/workers", response_model=list[WorkerView])
async def workers(_: Reader, backend: TheBackend) -> list[dict[str, Any]]:
    """Os workers que deram sinal nos últimos segundos."""
    return [worker_fields(replica) for replica in (await backend.tasks.status()).replicas]


@router.post("/workers/{worker_id}/dispensar", status_code=204)
async def dismiss(worker_id: Annotated[str, InPath(max_length=200)], _: Operator, backend: TheBackend) -> None:
    """Tira da vista um worker que morreu, depois de visto."""
    await backend.tasks.dismiss(worker_id)


@router.get("/custo", response_model=CostView)
async def cost(_: Reader, backend: TheBackend) -> dict[str, Any]:
    """Quanto a IA custou hoje, no mês (UTC) e por importação, em US$, e se ela atende."""
    found = await backend.read_lane(backend.tasks)
    if found is None:
        raise HTTPException(503, "O Redis não respondeu.")
    return found.as_dict()


@router.post("/fila/{ordem}")
async def order(ordem: Order, _: Operator, backend: TheBackend) -> QueueState:
    """pause: ninguém pega mais nada; drain: além disso, devolve o que não começou; resume: retoma."""
    await steer(ordem, tasks=backend.tasks, state=backend.store.durable_state)
    if ordem is Order.RESUME:
        await backend.reopen_lane(backend.tasks)
    return QueueState(estado=(await backend.tasks.status()).state)


@router.post("/retry", responses=responses(400, 413, 422))
async def retry(wanted: RetryRequest, _: Operator, backend: TheBackend) -> Requeued:
    """Coloca de novo na fila o que falhou ou está em revisão."""
    allowed = {Status.FAILED, Status.REVIEW}
    if not set(wanted.status) <= allowed:
        raise HTTPException(422, "Só o que falhou ou está em revisão volta à fila.")
    queued = await requeue(
        set(wanted.status), store=backend.store, tasks=backend.tasks, cache=backend.cache, reasons=wanted.causas
    )
    return Requeued(enfileirados=queued)


@router.get("/eventos", response_class=EventSourceResponse)
async def events(role: Reader, live: TheLive, seen: LastEventId = None) -> AsyncIterable[ServerSentEvent]:
    """Acompanha tudo por Server-Sent Events: `status`, a cada mudança. Com `Last-Event-ID`, só o que veio depois."""
    async for snapshot in live.watch():
        if snapshot.id != seen:
            yield live.once(snapshot, ("status", role), partial(_status_event, role=role))


def _status_event(snapshot: Snapshot, *, role: Role) -> ServerSentEvent:
    said = json.dumps(snapshot.seen_by(role).as_dict(), ensure_ascii=False)
    return ServerSentEvent(event="status", id=snapshot.id, raw_data=said)


class Undelivered(BaseModel):
    """An event that a destination did not take."""

    id: str = Field(examples=["msg_6740f0c2a1b2c3d4e5f60718"])
    destino: str = Field(examples=["webhook"])
    tipo: str = Field(examples=["appointments.normalized"])
    em: datetime
    tentativas: int
    motivo: str | None = Field(examples=["HTTP 500"])


@router.get("/webhook/falhas")
async def undelivered(_: Reader, backend: TheBackend) -> list[Undelivered]:
    """Os eventos que um destino não aceitou em 24 horas, ou recusou de vez (410), dos últimos sete dias."""
    outbox = backend.store.outbox()
    return [
        Undelivered(
            id=one.event.id, destino=name, tipo=one.event.type, em=one.event.at, tentativas=one.tries, motivo=one.error
        )
        for name in DESTINATIONS
        for one in await outbox.failed(name)
    ]


@router.post("/webhook/reenviar")
async def send_again(
    _: Operator,
    backend: TheBackend,
    evento: Annotated[str | None, Query(max_length=64, description="Só este; sem ele, todos.")] = None,
) -> Requeued:
    """Envia de novo o que não foi entregue."""
    outbox = backend.store.outbox()
    return Requeued(enfileirados=sum([await outbox.send_again(name, evento) for name in DESTINATIONS]))


@pages.get("/eventos-sem-entrega", response_class=HTMLResponse)
async def undelivered_page(request: Request, role: Reader, backend: TheBackend) -> Response:
    """The same list for people, with a button."""
    return html(request, "sem_entrega.html", events=await undelivered(role, backend))


@pages.post("/eventos-sem-entrega")
async def send_again_from_page(role: Operator, backend: TheBackend) -> Response:
    """Send all of them again, and show what is left."""
    await send_again(role, backend)
    return RedirectResponse("/eventos-sem-entrega", 303)


_Name = Annotated[str | None, Field(max_length=200)]


class PolicyView(BaseModel):
    """When a missing address is a question: `dispensado` never, `coleta` when somebody drives there, `sempre`."""

    escopo: str = Field(examples=["marca:clinica exemplo"])
    quando: WhenMissing


class PolicyChoice(Body):
    """A policy for one brand or for one unit; a unit's own comes before its brand's."""

    marca: _Name = Field(default=None, examples=["Clínica Exemplo"])
    unidade: _Name = None
    quando: WhenMissing


def _scope(brand: str | None, unit: str | None) -> str:
    """What a policy is kept under. 422 unless exactly one name was given."""
    given = [(BRAND, brand), (UNIT, unit)]
    found = [scope for name, value in given if (scope := scope_of(name, value)) is not None]
    if len(found) != 1:
        raise HTTPException(422, "Informe marca ou unidade: uma das duas, com o nome.")
    return found[0]


@policy_router.get("")
async def policies(_: Reader, backend: TheBackend) -> list[PolicyView]:
    """O que se decidiu, por marca ou unidade; para as outras vale `dispensado`."""
    known = await backend.store.policies.read()
    return [PolicyView(escopo=scope, quando=when) for scope, when in sorted(known.by_scope.items())]


@policy_router.put("", responses=responses(400, 413, 422))
async def decide(choice: PolicyChoice, _: Operator, backend: TheBackend) -> PolicyView:
    """Vale, em segundos, para o que for normalizado daqui em diante; `aplicar` leva-o ao que já está gravado."""
    scope = _scope(choice.marca, choice.unidade)
    await backend.store.policies.decide(scope, choice.quando)
    return PolicyView(escopo=scope, quando=choice.quando)


@policy_router.delete("", status_code=204, responses=responses(404, 422))
async def remove(
    _: Operator,
    backend: TheBackend,
    marca: Annotated[str | None, Query(max_length=200)] = None,
    unidade: Annotated[str | None, Query(max_length=200)] = None,
) -> None:
    """Tira a política de uma marca ou unidade: volta a valer a da marca, ou `dispensado`."""
    if not await backend.store.policies.forget(_scope(marca, unidade)):
        raise HTTPException(404, "Esta marca ou unidade não tem política.")


@pages.get("/pagina/politicas", response_class=HTMLResponse)
async def shown(request: Request, role: Operator, backend: TheBackend) -> Response:
    """The same for the page."""
    return html(request, "politicas.html", known=await policies(role, backend))


@policy_router.post("/aplicar", status_code=202)
async def apply(_: Operator, backend: TheBackend, uploads: TheUploads) -> Started:
    """Passa os agendamentos gravados pelas políticas de agora; desfaz-se por 24 horas como uma importação."""
    import_id = await begun(backend.store)
    uploads.carry_out(carry_out(backend.store, import_id), import_id)
    return Started(id=import_id)
