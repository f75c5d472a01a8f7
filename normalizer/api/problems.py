"""Every error as application/problem+json (RFC 9457), in Portuguese, without anything the request carried."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from normalizer.errors import InvalidInput, Misconfigured, NormalizerError, TransientError
from normalizer.imports.spreadsheet import UnknownColumns

log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
_TITLES: Final = {
    400: "Pedido inválido",
    401: "Chave necessária",
    403: "Não permitido",
    404: "Não encontrado",
    405: "Método não permitido",
    408: "Demorou demais",
    409: "Em conflito com o estado atual",
    413: "Grande demais",
    415: "Tipo de conteúdo não aceito",
    422: "Conteúdo que não se aproveita",
    429: "Tentativas demais",
    500: "Erro interno",
    503: "Indisponível por enquanto",
}


# What FastAPI says by itself.
_IN_PORTUGUESE: Final = {"There was an error parsing the body": "O corpo do pedido não é JSON que se possa ler."}


class Problem(BaseModel):
    """What went wrong and what to do."""

    type: str = Field(default="about:blank", examples=["about:blank"])
    title: str = Field(examples=["Conteúdo que não se aproveita"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["cidade: esperado um município de SP; encontrado outro nome."])
    errors: list[dict[str, str]] = Field(
        default_factory=list, examples=[[{"campo": "cidade", "esperado": "um município de SP"}]]
    )


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a path operation's `responses`."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _TITLES[status], "content": content} for status in statuses}


def problem(
    status: int, detail: str, *, errors: list[dict[str, str]] | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    """One answer."""
    title = _TITLES.get(status) or HTTPStatus(status).phrase
    body = Problem(title=title, status=status, detail=detail, errors=errors or [])
    return JSONResponse(body.model_dump(), status, headers, MEDIA_TYPE)


def _methods(request: Request) -> set[str]:
    """All that the resource takes; each route knows its own only. A path named as it stands is that one."""
    paths = request.app.openapi()["paths"]
    path = request.url.path
    fitting = (
        [path] if path in paths else [one for one in paths if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", one), path)]
    )
    return {method.upper() for one in fitting for method in paths[one]}


def install(app: FastAPI) -> None:
    """Answer every error of `app` this way."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        said, headers = str(error.detail), dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(sorted(_methods(request))) or headers.get("Allow", "")
        detail = _TITLES.get(error.status_code, said) if said == HTTPStatus(error.status_code).phrase else said
        return problem(error.status_code, _IN_PORTUGUESE.get(detail, detail), headers=headers)

    @app.exception_handler(RequestValidationError)
    async def unusable(_: Request, error: RequestValidationError) -> JSONResponse:
        errors = [{"campo": ".".join(map(str, one["loc"])), "esperado": one["type"]} for one in error.errors()]
        return problem(422, "O pedido tem campos que não se aproveitam: veja errors.", errors=errors)

    @app.exception_handler(NormalizerError)
    async def ours(_: Request, error: NormalizerError) -> JSONResponse:
        if isinstance(error, InvalidInput):
            errors = [{"campo": error.where, "esperado": error.expected, "corrigir": error.mend}]
            if isinstance(error, UnknownColumns):
                proposed = {one.title: {"proposta": one.field, "evidencia": one.evidence} for one in error.proposals}
                titles = error.titles or error.untitled
                errors += [{"campo": one, "esperado": "coluna=título=campo", **proposed.get(one, {})} for one in titles]
            return problem(422, str(error), errors=errors)
        if isinstance(error, TransientError):
            log.warning("api.unavailable", error=type(error).__name__)
            wait_s = max(1, round(error.retry_after_s or 5))
            return problem(503, str(error), headers={"Retry-After": str(wait_s)})
        log.error("api.misconfigured" if isinstance(error, Misconfigured) else "api.failed", error=type(error).__name__)
        return problem(503 if isinstance(error, Misconfigured) else 500, "O servidor não pôde atender: veja o log.")

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        log.error("api.failed", exc_info=error)
        return problem(500, "O servidor não pôde atender: veja o log.")
