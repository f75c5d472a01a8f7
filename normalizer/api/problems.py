"""Every error as application/problem+json (RFC 9457), in Portuguese, without anything the request carried."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, TypeVar

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from normalizer.errors import InvalidInput, Misconfigured, NormalizerError, TransientError
from normalizer.imports.spreadsheet import UnknownColumns

log = structlog.get_logger(__name__)

T = TypeVar("T")

MEDIA_TYPE: Final = "application/problem+json"
TITLES: Final = {
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

#: The last word of a problem's `type`, and what is to be done about any of its kind; the page at `LISTED` says so.
LISTED: Final = "/problemas"
KINDS: Final = {
    400: ("pedido-invalido", "O corpo não é o JSON que se espera: confira aspas, vírgulas e o Content-Type."),
    401: ("chave-necessaria", "Mande a chave em X-API-Key ou Authorization: Bearer; se a mandou, confira-a."),
    403: ("nao-permitido", "A chave é só de leitura, ou o pedido vem de outro site: use uma chave de operador."),
    404: ("nao-encontrado", "Não há nada com este id, ou foi apagado: confira o endereço."),
    405: ("metodo-nao-permitido", "O endereço existe, e o método não: o cabeçalho Allow diz quais valem."),
    408: ("demorou-demais", "O corpo parou de chegar: envie de novo."),
    409: ("em-conflito", "Alguém mudou isto depois que foi lido: leia de novo e repita com a revisão nova."),
    413: ("grande-demais", "O arquivo ou o corpo passa do limite: divida-o."),
    415: ("tipo-nao-aceito", "Mande o corpo no tipo que a documentação diz."),
    422: ("nao-se-aproveita", "Cada item de errors diz o campo, o que se esperava e, onde cabe, como corrigir."),
    429: ("tentativas-demais", "Espere os segundos de Retry-After; chaves erradas esperam cada vez mais."),
    500: ("erro-interno", "O log do servidor diz o quê; se repetir, avise o suporte."),
    503: ("indisponivel", "Redis ou MongoDB não respondem, ou há trabalho demais: espere Retry-After e repita."),
}


def type_of(status: int) -> str:
    """The `type` of a problem with this status: where it can be looked up."""
    return f"{LISTED}#{KINDS[status][0]}" if status in KINDS else "about:blank"


# What FastAPI says by itself.
_IN_PORTUGUESE: Final = {"There was an error parsing the body": "O corpo do pedido não é JSON que se possa ler."}


class Problem(BaseModel):
    """What went wrong and what to do."""

    type: str = Field(examples=["/problemas#nao-se-aproveita"], description="Onde se lê o que fazer.")
    title: str = Field(examples=["Conteúdo que não se aproveita"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["cidade: esperado um município de SP; encontrado outro nome."])
    errors: list[dict[str, str]] = Field(
        default_factory=list, examples=[[{"campo": "cidade", "esperado": "um município de SP"}]]
    )


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a path operation's `responses`."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": TITLES[status], "content": content} for status in statuses}


def problem(
    status: int, detail: str, *, errors: list[dict[str, str]] | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    """One answer."""
    title = TITLES.get(status) or HTTPStatus(status).phrase
    body = Problem(type=type_of(status), title=title, status=status, detail=detail, errors=errors or [])
    return JSONResponse(body.model_dump(), status, headers, MEDIA_TYPE)


def known(found: T | None, missing: str) -> T:
    """What was looked for. 404 where there is none."""
    if found is None:
        raise HTTPException(404, missing)
    return found


def _methods(request: Request) -> set[str]:
    """All that the resource takes; each route knows its own only. A path named as it stands is that one."""
    paths = request.app.openapi()["paths"]
    path = request.url.path
    fitting = (
        [path] if path in paths else [one for one in paths if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", one), path)]
    )
    return {method.upper() for one in fitting for method in paths[one]}


def expected_of(error: Mapping[str, Any]) -> str:
    """What a field has to be, in Portuguese; nothing of what it was. `error` is one of pydantic's."""
    kind, context = str(error["type"]), error.get("ctx") or {}
    if kind in {"enum", "literal_error"}:
        return f"um destes: {str(context.get('expected', '')).replace(' or ', ', ').replace(chr(39), '')}"
    for name, words in _BOUNDS.items():
        if name in context:
            return words.format(context[name])
    return next((words for start, words in _EXPECTED.items() if kind.startswith(start)), "outro valor")


_MOST_SAID: Final = 5
_BOUNDS: Final = {
    "ge": "no mínimo {}",
    "le": "no máximo {}",
    "min_length": "ao menos {}",
    "max_length": "no máximo {} (caracteres ou itens)",
}
_EXPECTED: Final = {
    "missing": "um valor: é obrigatório",
    "extra_forbidden": "nenhum campo com este nome",
    "int": "um número inteiro",
    "float": "um número",
    "bool": "true ou false",
    "date": "uma data como 2026-10-31",
    "json": "JSON que se possa ler",
    "list": "uma lista",
    "model": "um objeto",
    "dict": "um objeto",
    "string": "um texto",
}


def install(app: FastAPI) -> None:
    """Answer every error of `app` this way."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        said, headers = str(error.detail), dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(sorted(_methods(request))) or headers.get("Allow", "")
        detail = TITLES.get(error.status_code, said) if said == HTTPStatus(error.status_code).phrase else said
        return problem(error.status_code, _IN_PORTUGUESE.get(detail, detail), headers=headers)

    @app.exception_handler(RequestValidationError)
    async def unusable(_: Request, error: RequestValidationError) -> JSONResponse:
        errors = [{"campo": ".".join(map(str, one["loc"][1:])), "esperado": expected_of(one)} for one in error.errors()]
        said = "; ".join(f"{one['campo'] or 'corpo'}: esperado {one['esperado']}" for one in errors[:_MOST_SAID])
        return problem(422, f"O pedido tem campos que não se aproveitam. {said}.", errors=errors)

    @app.exception_handler(NormalizerError)
    async def ours(_: Request, error: NormalizerError) -> JSONResponse:
        if isinstance(error, InvalidInput):
            every = (error, *error.also)
            errors = [{"campo": one.where, "esperado": one.expected, "corrigir": one.fix} for one in every]
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

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> JSONResponse:
        return problem(408, "O pedido foi interrompido por quem o fez.")  # nobody reads it, and nothing has failed

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        log.error("api.failed", exc_info=error)
        return problem(500, "O servidor não pôde atender: veja o log.")
