"""Events that no destination took: listed, shown on one dry page, and sent again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field

from normalizer.api.access import Operator, Reader, Role
from normalizer.api.live import TheBackend
from normalizer.api.problems import responses
from normalizer.api.rendering import templates
from normalizer.api.system import Requeued
from normalizer.store.outbox import DESTINATIONS

router = APIRouter(prefix="/api/webhook", tags=["sistema"], responses=responses(401, 403, 429, 503))
pages = APIRouter(include_in_schema=False)


class Undelivered(BaseModel):
    """An event that a destination did not take."""

    id: str = Field(examples=["msg_6740f0c2a1b2c3d4e5f60718"])
    destino: str = Field(examples=["webhook"])
    tipo: str = Field(examples=["appointments.normalized"])
    em: datetime
    tentativas: int
    motivo: str | None = Field(examples=["HTTP 500"])


@router.get("/falhas")
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


@router.post("/reenviar")
async def send_again(
    _: Operator,
    backend: TheBackend,
    evento: Annotated[str | None, Query(max_length=64, description="Só este; sem ele, todos.")] = None,
) -> Requeued:
    """Envia de novo o que não foi entregue."""
    outbox = backend.store.outbox()
    return Requeued(enfileirados=sum([await outbox.send_again(name, evento) for name in DESTINATIONS]))


@pages.get("/eventos-sem-entrega", response_class=HTMLResponse)
async def page(request: Request, role: Reader, backend: TheBackend) -> Response:
    """The same list for people, with a button."""
    context = {"events": await undelivered(role, backend), "operator": role >= Role.OPERATOR}
    return templates.TemplateResponse(request, "sem_entrega.html", context)


@pages.post("/eventos-sem-entrega")
async def send_again_from_page(role: Operator, backend: TheBackend) -> Response:
    """Send all of them again, and show what is left."""
    await send_again(role, backend)
    return RedirectResponse("/eventos-sem-entrega", 303)
