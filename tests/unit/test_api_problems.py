"""What an error of the API is answered and logged as."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from structlog.testing import capture_logs

from normalizer.api import problems


@pytest.mark.parametrize(
    ("error", "status", "logged"), [(ClientDisconnect(), 408, []), (RuntimeError("x"), 500, ["api.failed"])]
)
async def test_who_hangs_up_is_no_failure(error: Exception, status: int, logged: list[str]) -> None:
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    async def fails() -> None:
        raise error

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        with capture_logs() as told:
            answer = await client.get("/")

    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert [event["event"] for event in told] == logged
