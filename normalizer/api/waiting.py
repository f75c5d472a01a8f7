"""What is served while MongoDB or Redis cannot be reached at the start: the page comes up and says what is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final

import structlog
from fastapi.responses import HTMLResponse, JSONResponse

from normalizer.api import problems
from normalizer.api.rendering import templates
from normalizer.errors import TransientError
from normalizer.queue.waiting import wait_for_event

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

log = structlog.get_logger(__name__)

_AGAIN_S: Final = 3
_FIRST_S: Final = 10  # what is there is waited for: who calls at once is not told to come again


class UntilOpen:
    """An ASGI app that stands in for another one until that can be opened, and tries again every few seconds.

    Args:
        opening: opens the app that is waited for; its TransientError says what is away.
    """

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[ASGIApp]]) -> None:
        self._opening = opening
        self._app: ASGIApp | None = None
        self._missing = "Iniciando."
        self._tried = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self, stop: Callable[[], None]) -> AsyncIterator[None]:
        """Open the app as soon as that can be done, and close it at the end. What no waiting mends calls `stop`.

        Entered once it is open, or something it needs was found to be away.
        """
        over = asyncio.Event()
        task = asyncio.create_task(self._open(over))
        task.add_done_callback(lambda _: self._tried.set())
        task.add_done_callback(lambda _: stop())
        try:
            await wait_for_event(self._tried, _FIRST_S)
            if not task.done():
                yield
        finally:
            over.set()
            await task

    async def _open(self, over: asyncio.Event) -> None:
        while not over.is_set():
            try:
                async with self._opening() as app:
                    self._app = app
                    self._tried.set()
                    await over.wait()
            except TransientError as error:
                self._missing = str(error)
                self._tried.set()
                log.warning("api.waiting", error=type(error).__name__)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), _AGAIN_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on to the app, or say what is waited for."""
        if scope["type"] == "lifespan":
            await _empty_lifespan(receive, send)
        elif self._app is not None:
            await self._app(scope, receive, send)
        elif scope["path"] == "/health/live":
            await JSONResponse({"estado": "ok"})(scope, receive, send)
        elif scope["path"] == "/":
            html = templates.get_template("esperando.html").render(missing=self._missing, again_s=_AGAIN_S)
            await HTMLResponse(html, 503, {"Retry-After": str(_AGAIN_S)})(scope, receive, send)
        else:
            answer = problems.problem(503, self._missing, headers={"Retry-After": str(_AGAIN_S)})
            await answer(scope, receive, send)


async def _empty_lifespan(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
