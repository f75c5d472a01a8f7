"""The simulated provider's routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from normalizer.simulation.provider.faults import read_faults
from normalizer.simulation.provider.limits import Options
from normalizer.simulation.provider.model import Provider
from normalizer.simulation.provider.replies import MODEL, error


def build_app(labels: Mapping[str, Mapping[str, Any] | None], options: Options | None = None) -> Starlette:
    """Return the ASGI app; `app.state.provider` is the `Provider`."""
    provider = Provider(labels, options or Options())

    async def completions(request: Request) -> Response:
        return await provider.complete(orjson.loads(await request.body()))

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "simulated"}]})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if not provider.has(name):
            return error(404, "model_not_found", None)
        return JSONResponse({"id": name, "object": "model", "owned_by": "simulated"})

    async def stats(_: Request) -> Response:
        return JSONResponse(provider.stats())

    async def requests(_: Request) -> Response:
        return JSONResponse({"simulated": True, "requests": list(provider.requests)})

    async def faults(request: Request) -> Response:
        try:
            provider.faults[:] = read_faults(await request.json())
        except ValueError as unknown:
            return error(400, "unknown_fault_option", None, param=str(unknown))
        return JSONResponse({"simulated": True, "faults": len(provider.faults)})

    async def reset(_: Request) -> Response:
        provider.reset()
        return JSONResponse(provider.stats())

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", completions, methods=["POST"]),
            Route("/v1/models", models),
            Route("/v1/models/{name:path}", model),
            Route("/stats", stats),
            Route("/requests", requests),
            Route("/faults", faults, methods=["POST"]),
            Route("/reset", reset, methods=["POST"]),
        ]
    )
    app.state.provider = provider
    return app
