"""Reference pages: what can be asked, by the role of who reads it, and what each problem means. No foreign script."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute

from normalizer.api import problems
from normalizer.api.access import Reader, Role, is_for_operators
from normalizer.api.page import templates

router = APIRouter(include_in_schema=False)
_METHODS: Final = ("get", "post", "put", "patch", "delete")


@router.get("/problemas", response_class=HTMLResponse)
async def listed_problems(request: Request) -> Response:
    """What the `type` of a problem points to."""
    kinds = [(status, slug, problems.TITLES[status], advice) for status, (slug, advice) in problems.KINDS.items()]
    return templates.TemplateResponse(request, "problemas.html", {"kinds": kinds})


@router.get("/docs", response_class=HTMLResponse)
async def docs(request: Request, role: Reader) -> Response:
    """Every path that this key may ask."""
    document: dict[str, Any] = request.app.openapi()
    routes = [route for router in request.app.state.apis for route in router.routes if isinstance(route, APIRoute)]
    closed = [] if role >= Role.OPERATOR else [route for route in routes if is_for_operators(route)]
    forbidden = {(method, route.path) for route in closed for method in route.methods or ()}
    by_tag: dict[str, list[dict[str, Any]]] = {}
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if method in operations and (method.upper(), path) not in forbidden:
                operation = operations[method]
                by_tag.setdefault((operation.get("tags") or [""])[0], []).append(
                    {"method": method.upper(), "path": path, **operation}
                )
    return templates.TemplateResponse(request, "docs.html", {"by_tag": by_tag, "operator": role >= Role.OPERATOR})
