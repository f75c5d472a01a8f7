"""A simulated OpenAI-compatible provider: answers from labels, takes its time, keeps limits, and fails on demand.

`python -m normalizer.simulation.provider --port 9999 --labels labels.jsonl --latency-ms 400 --tokens-per-s 80 --rpm 60`

POST /v1/chat/completions and GET /v1/models as the real ones; GET /stats, GET /requests (the last bodies), POST /faults
(a list of faults, see `Fault`; `--faults FILE.json` is the same from the start), POST /reset. Every answer and header
says "simulated". Labels are JSON Lines `{"text", "expected"}`; a text without a label is answered with nulls. Tokens
are counted with the real tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from normalizer.simulation.provider.faults import Fault, error, read_faults
from normalizer.simulation.provider.model import MODEL, Options, Provider

__all__ = ["Fault", "Options", "Provider", "build_app"]


def build_app(labels: Mapping[str, Mapping[str, Any] | None], options: Options | None = None) -> Starlette:
    """Return the ASGI app; `app.state.provider` is the `Provider`."""
    provider = Provider(labels, options or Options())

    async def completions(request: Request) -> Response:
        return await provider.complete(orjson.loads(await request.body()))

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_model(MODEL)]})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        return JSONResponse(_model(name)) if provider.has(name) else error(404, "model_not_found")

    async def stats(_: Request) -> Response:
        return JSONResponse(provider.stats())

    async def requests(_: Request) -> Response:
        return JSONResponse({"simulated": True, "requests": list(provider.requests)})

    async def faults(request: Request) -> Response:
        try:
            provider.faults[:] = read_faults(await request.json())
        except ValueError as unknown:
            return error(400, "unknown_fault_option", param=str(unknown))
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


def _model(name: str) -> dict[str, str]:
    return {"id": name, "object": "model", "owned_by": "simulated"}
