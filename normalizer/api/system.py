"""Health, metrics, status, cost and steering of the queue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterable
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Response
from fastapi import Path as InPath
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from normalizer.api.access import Operator, Reader, Role
from normalizer.api.live import CostView, LastEventId, Snapshot, StatusView, TheBackend, TheLive, WorkerView
from normalizer.api.problems import responses
from normalizer.domain.appointment import Status
from normalizer.errors import NormalizerError
from normalizer.observability.prometheus import CONTENT_TYPE_LATEST
from normalizer.operations.status import worker_fields
from normalizer.operations.steering import Order, requeue, steer

_READY_S: Final = 4.0

health = APIRouter(tags=["saúde"])
router = APIRouter(prefix="/api", tags=["sistema"], responses=responses(401, 403, 429, 503))


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
