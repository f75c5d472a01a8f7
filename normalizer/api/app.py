"""The app put together, what every answer carries, and what can be asked, by the role of who reads it.

One process serves API and page; workers are processes apart. No page of it loads a foreign script.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException

from normalizer import __version__
from normalizer.api import appointments, page, problems, review, sheets, system
from normalizer.api.access import Access, Admission, Reader, Role, is_for_operators
from normalizer.api.live import Live
from normalizer.api.rendering import HERE, html
from normalizer.api.uploads import PATIENCE_S, Previews, Uploads
from normalizer.imports.spreadsheet import Limits
from normalizer.runtime import Backend

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


_BODY_BYTES: Final = 256 * 1024
_TOO_LARGE: Final = "O corpo do pedido é grande demais."
_BODY_S: Final = 30.0
_SLOWEST_BYTES_PER_S: Final = 4_096  # a tenth of what a phone's line gives at its worst: 20 MB in 82 minutes
_UPLOADS: Final = frozenset({"/api/imports", "/api/imports/previa", "/pagina/previa"})
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send our own forms as Origin: null
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_ABOUT: Final = (
    "Importa planilhas de agendamentos, acompanha a normalização de endereços e documentos, e corrige o que precisa "
    "de uma pessoa. Chave em `X-API-Key` ou `Authorization: Bearer`. Erros em application/problem+json."
)
_METHODS: Final = ("get", "post", "put", "patch", "delete")

pages = APIRouter(include_in_schema=False)


def create_app(
    backend: Backend,
    *,
    access: Access,
    limits: Limits | None = None,
    every_s: float = 2.0,
    patience_s: float = PATIENCE_S,
    body_s: float = _BODY_S,
) -> FastAPI:
    """The API and the live page.

    Args:
        backend: what is served; opened and closed by the caller.
        access: keys and roles; without keys only this machine is served.
        limits: bounds on uploaded sheets.
        every_s: seconds between two readings of the live page.
        patience_s: seconds a request waits for a preview or an undo before it is told where to look.
        body_s: seconds a body may take beyond what the slowest line needs.
    """

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        app.state.backend = backend
        app.state.live = Live(backend, every_s=every_s)
        app.state.uploads = Uploads(backend, limits=limits)
        app.state.previews = Previews(backend, app.state.uploads)
        try:
            yield
        finally:
            await app.state.live.close()
            await app.state.previews.close()
            await app.state.uploads.close()

    # FastAPI's docs load scripts from a third party, and its document knows no roles: ours are below.
    app = FastAPI(
        title="normalizer",
        version=__version__,
        description=_ABOUT,
        lifespan=life,
        openapi_url=None,
    )
    app.state.access = access
    app.state.patience_s = patience_s
    tables = (sheets.router, appointments.router, system.policy_router, review.router)
    app.state.apis = (system.health, system.router, *tables)
    for each in (*app.state.apis, page.router, review.pages, system.pages, pages):
        app.include_router(each)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    problems.install(app)
    app.add_middleware(Admission, access=access)
    app.add_middleware(_Edge, body_s=body_s)
    _describe(app)
    return app


@pages.get("/problemas", response_class=HTMLResponse)
async def listed_problems(request: Request) -> Response:
    """What the `type` of a problem points to."""
    kinds = [(status, slug, problems.TITLES[status], advice) for status, (slug, advice) in problems.KINDS.items()]
    return html(request, "problemas.html", kinds=kinds)


@pages.get("/openapi.json")
async def description(request: Request, role: Reader) -> JSONResponse:
    """The OpenAPI document of what this key may ask."""
    return JSONResponse(_described(request, role))


@pages.get("/docs", response_class=HTMLResponse)
async def docs(request: Request, role: Reader) -> Response:
    """Every path that this key may ask."""
    by_tag: dict[str, list[dict[str, Any]]] = {}
    for path, operations in _described(request, role)["paths"].items():
        for method in filter(operations.__contains__, _METHODS):
            operation = operations[method]
            shown = {"method": method.upper(), "path": path, **operation}
            by_tag.setdefault((operation.get("tags") or [""])[0], []).append(shown)
    return html(request, "docs.html", by_tag=by_tag)


def _described(request: Request, role: Role) -> dict[str, Any]:
    """The document without the operations that this role may not ask."""
    document: dict[str, Any] = request.app.openapi()
    if role >= Role.OPERATOR:
        return document
    routes = [route for router in request.app.state.apis for route in router.routes if isinstance(route, APIRoute)]
    closed = {(name.lower(), one.path) for one in routes if is_for_operators(one) for name in one.methods or ()}
    paths = {
        path: left
        for path, operations in document["paths"].items()
        if (left := {name: one for name, one in operations.items() if (name, path) not in closed})
    }
    return {**document, "paths": paths}


def _describe(app: FastAPI) -> None:
    """Give the OpenAPI document the schema every error refers to."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        document = plain()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = problems.Problem.model_json_schema()
        for path in document["paths"].values():
            for operation in path.values():
                operation["summary"] = _first_sentence(operation.get("description") or operation["summary"])
                if "422" in operation["responses"]:  # FastAPI describes its own shape, which is never sent
                    operation["responses"] |= {str(status): one for status, one in problems.responses(422).items()}
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        return document

    app.openapi = described  # type: ignore[method-assign]


def _first_sentence(text: str) -> str:
    return re.split(r"[.:;](?:\s|$)|\n", text.strip(), maxsplit=1)[0]


class _Edge:
    """What holds for every request: a bounded body that keeps coming, headers that keep the page to itself."""

    def __init__(self, app: ASGIApp, *, body_s: float) -> None:
        self._app, self._body_s = app, body_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        most = None if path in _UPLOADS else _BODY_BYTES  # a sheet is bounded where it is written to its file
        length = Headers(scope=scope).get("content-length", "")
        if most is not None and length.isdecimal() and int(length) > most:
            await problems.problem(413, _TOO_LARGE)(scope, receive, _dressed(path, send))
            return
        await self._app(scope, _Body(receive, most=most, patience_s=self._body_s), _dressed(path, send))


class _Body:
    """An ASGI `receive` that ends a body which is too large, or comes too slowly to ever end.

    Raises 413 and 408, where the application reads.
    """

    def __init__(self, receive: Receive, *, most: int | None, patience_s: float) -> None:
        self._receive, self._most, self._patience_s = receive, most, patience_s
        self._seen, self._whole = 0, False
        self._began_at: float | None = None

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()  # what is left to hear is that the other side has gone
        try:
            async with asyncio.timeout_at(self._deadline()):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "O corpo do pedido parou de chegar: envie de novo.") from None
        self._seen += len(message.get("body") or b"")
        self._whole = not message.get("more_body", False)
        if self._most is not None and self._seen > self._most:
            raise HTTPException(413, _TOO_LARGE)
        return message

    def _deadline(self) -> float:
        """A body may take as long as a very slow line needs for what has come so far, and some patience."""
        now = asyncio.get_running_loop().time()
        self._began_at = now if self._began_at is None else self._began_at
        return max(self._began_at + self._patience_s + self._seen / _SLOWEST_BYTES_PER_S, now)


def _dressed(path: str, send: Send) -> Send:
    async def send_dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            headers["Cache-Control"] = "no-cache" if path.startswith("/static/") else "no-store"
        await send(message)

    return send_dressed
