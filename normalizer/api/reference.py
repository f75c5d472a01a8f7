"""Reference pages: what can be asked, by the role of who reads it, and what each problem means. No foreign script."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute

from normalizer.api import problems
from normalizer.api.access import Reader, Role, is_for_operators
from normalizer.api.rendering import templates

router = APIRouter(include_in_schema=False)
_METHODS: Final = ("get", "post", "put", "patch", "delete")


@router.get("/problemas", response_class=HTMLResponse)
async def listed_problems(request: Request) -> Response:
    """What the `type` of a problem points to."""
    kinds = [(status, slug, problems.TITLES[status], advice) for status, (slug, advice) in problems.KINDS.items()]
    return templates.TemplateResponse(request, "problemas.html", {"kinds": kinds})


@router.get("/openapi.json")
async def description(request: Request, role: Reader) -> JSONResponse:
    """The OpenAPI document of what this key may ask."""
    return JSONResponse(_described(request, role))


@router.get("/docs", response_class=HTMLResponse)
async def docs(request: Request, role: Reader) -> Response:
    """Every path that this key may ask."""
    by_tag: dict[str, list[dict[str, Any]]] = {}
    for path, operations in _described(request, role)["paths"].items():
        for method in filter(operations.__contains__, _METHODS):
            operation = operations[method]
            shown = {"method": method.upper(), "path": path, **operation}
            by_tag.setdefault((operation.get("tags") or [""])[0], []).append(shown)
    return templates.TemplateResponse(request, "docs.html", {"by_tag": by_tag, "operator": role >= Role.OPERATOR})


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
