"""Policies over HTTP: what a missing address means for a brand or a unit, from now on and for what is stored."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from normalizer.api.access import Operator, Reader
from normalizer.api.live import TheBackend
from normalizer.api.problems import responses
from normalizer.api.rendering import templates
from normalizer.api.uploads import Started, TheUploads
from normalizer.domain.policy import BRAND, UNIT, WhenMissing, scope_of
from normalizer.operations.steering import begun, carry_out

router = APIRouter(prefix="/api/politicas/endereco", tags=["políticas"], responses=responses(401, 403, 429, 503))

pages = APIRouter(include_in_schema=False)

_Name = Annotated[str | None, Field(max_length=200)]


class PolicyView(BaseModel):
    """When a missing address is a question: `dispensado` never, `coleta` when somebody drives there, `sempre`."""

    escopo: str = Field(examples=["marca:clinica exemplo"])
    quando: WhenMissing


class PolicyChoice(BaseModel):
    """A policy for one brand or for one unit; a unit's own comes before its brand's."""

    model_config = ConfigDict(extra="forbid")

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


@router.get("")
async def policies(_: Reader, backend: TheBackend) -> list[PolicyView]:
    """O que se decidiu, por marca ou unidade; para as outras vale `dispensado`."""
    known = await backend.store.policies.read()
    return [PolicyView(escopo=scope, quando=when) for scope, when in sorted(known.by_scope.items())]


@router.put("", responses=responses(400, 413, 422))
async def decide(choice: PolicyChoice, _: Operator, backend: TheBackend) -> PolicyView:
    """Vale, em segundos, para o que for normalizado daqui em diante; `aplicar` leva-o ao que já está gravado."""
    scope = _scope(choice.marca, choice.unidade)
    await backend.store.policies.decide(scope, choice.quando)
    return PolicyView(escopo=scope, quando=choice.quando)


@router.delete("", status_code=204, responses=responses(404, 422))
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
    return templates.TemplateResponse(request, "politicas.html", {"known": await policies(role, backend)})


@router.post("/aplicar", status_code=202)
async def apply(_: Operator, backend: TheBackend, uploads: TheUploads) -> Started:
    """Passa os agendamentos gravados pelas políticas de agora; desfaz-se por 24 horas como uma importação."""
    import_id = await begun(backend.store)
    uploads.carry_out(carry_out(backend.store, import_id), import_id)
    return Started(id=import_id)
