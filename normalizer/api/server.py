"""Server of the API: uvicorn with bounds on its connections, and an answer while MongoDB or Redis is away.

uvicorn waits for ever for a request that never comes. A connection that has not sent its head in time is closed; where
there are too many, those that have asked for nothing yet make room for the new one, the longest waiting first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Final

import structlog
import uvicorn
from cachetools import TTLCache
from fastapi.responses import HTMLResponse, JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from normalizer.api import problems
from normalizer.api.access import LOOPBACK, Access
from normalizer.api.app import create_app
from normalizer.api.rendering import templates
from normalizer.errors import Misconfigured, TransientError
from normalizer.queue.waiting import wait_for_event
from normalizer.runtime import open_backend

if TYPE_CHECKING:
    from socket import socket
    from types import FrameType

    from pydantic import SecretStr
    from starlette.types import ASGIApp, Receive, Scope, Send

    from normalizer.settings import Settings

log = structlog.get_logger(__name__)

_HEAD_S: Final = 10.0  # a browser sends its head at once; a phone on a bad line within seconds
_MOST: Final = 2_000  # in all: a page open in 500 browsers holds 500
_MOST_OF_ONE: Final = 1_000  # of one address: those 500 browsers may all come through one proxy
_LOG_EVERY_S: Final = 60.0
_AGAIN_S: Final = 3
_FIRST_S: Final = 10  # what is there is waited for: who calls at once is not told to come again


def serve(settings: Settings, *, host: str, port: int, listening: Callable[[str], None]) -> None:
    """Serve until told to stop; `listening` is given the address once connections are accepted there.

    While MongoDB or Redis is away it says so, and goes on by itself.

    Raises:
        Misconfigured: nobody could be kept out: production, or a host beyond this machine, without API_KEYS.
    """
    access = Access(_keys(settings.api_keys), _keys(settings.api_keys_readonly))
    if access.is_open and (settings.environment == "production" or host not in LOOPBACK):
        where = "ENVIRONMENT=production" if settings.environment == "production" else f"--host {host}"
        fix = "Gere uma chave com openssl rand -hex 24 e ponha-a em API_KEYS."
        raise Misconfigured(f"{where} pede uma chave, e nenhuma está configurada.", fix=fix)
    allow_open_files()
    asyncio.run(serve_here(settings, port=port, listening=listening, host=host, access=access))


async def serve_here(
    settings: Settings,
    *,
    port: int,
    listening: Callable[[str], None],
    host: str = "127.0.0.1",
    access: Access | None = None,
) -> None:
    """Serve until told to stop; as a demo does, without a key: this machine alone."""
    access = access or Access()

    @contextlib.asynccontextmanager
    async def opening() -> AsyncIterator[ASGIApp]:
        async with open_backend(settings) as backend:
            app = create_app(backend, access=access)
            async with app.router.lifespan_context(app):
                yield app

    waiting = UntilOpen(opening)
    config = uvicorn.Config(
        waiting,
        host=host,
        port=port,
        http=BoundedProtocol,
        loop="asyncio",  # what the image has
        ws="none",
        lifespan="off",  # what is served is opened beside it, as soon as that can be done
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    logging.getLogger("uvicorn.error").addFilter(OnceAMinute())
    log.info("api.serving", host=host, port=port, open=access.is_open)
    server = _Server(config, listening)
    async with waiting.running(lambda: setattr(server, "should_exit", True)):
        try:
            await server.serve()
        except SystemExit:  # how uvicorn ends when it cannot listen
            raise Misconfigured(f"Não se pode atender em {host}:{port}.", fix="Escolha outra porta.") from None
    if server.stopped_by is not None:
        signal.raise_signal(server.stopped_by)
        await asyncio.sleep(0)  # where an interrupt arrives


class _Server(uvicorn.Server):
    """uvicorn's, which says where it listens only once it does, and is ended by a signal without the process.

    Its own raises the signal again as soon as it has ended: SIGTERM left what was served open, with uploaded sheets.
    """

    def __init__(self, config: uvicorn.Config, listening: Callable[[str], None]) -> None:
        super().__init__(config)
        self._listening = listening
        self.stopped_by: int | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit, self.stopped_by = True, sig

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
            self._listening(f"http://{host}:{self.config.port}")


def _keys(given: SecretStr | None) -> list[str]:
    return [key.strip() for key in given.get_secret_value().split(",") if key.strip()] if given else []


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
                await wait_for_event(over, _AGAIN_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on to the app, or say what is waited for."""
        if self._app is not None:
            await self._app(scope, receive, send)
        elif scope["path"] == "/health/live":
            await JSONResponse({"estado": "ok"})(scope, receive, send)
        elif scope["path"] == "/":
            html = templates.get_template("esperando.html").render(missing=self._missing, again_s=_AGAIN_S)
            await HTMLResponse(html, 503, {"Retry-After": str(_AGAIN_S)})(scope, receive, send)
        else:
            answer = problems.problem(503, self._missing, headers={"Retry-After": str(_AGAIN_S)})
            await answer(scope, receive, send)


def allow_open_files() -> None:
    """Let this process hold as many connections as it may, whatever the shell's soft limit is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * _MOST + 512  # sheets that are being received or read, clients, libraries
    if soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


class OnceAMinute(logging.Filter):
    """Lets each message of uvicorn's through once a minute: what strangers send does not fill the disk."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._told: TTLCache[str, None] = TTLCache(1_000, _LOG_EVERY_S, timer=clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this text was not logged within the minute."""
        is_new = str(record.msg) not in self._told
        if is_new:
            self._told[str(record.msg)] = None
        return is_new


class Waiting:
    """The connections that have asked for nothing yet, the longest waiting first; told of in the log once a minute."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: OrderedDict[asyncio.Transport, str] = OrderedDict()
        self._dropped = 0
        self._told_at = -_LOG_EVERY_S

    def add(self, transport: asyncio.Transport, address: str) -> None:
        """A connection that has to say what it wants."""
        self._waiting[transport] = address

    def discard(self, transport: asyncio.Transport) -> None:
        """It has asked for something, or is gone."""
        self._waiting.pop(transport, None)

    def drop(self, transport: asyncio.Transport) -> None:
        """Close one at once, without waiting for what it was sent to arrive."""
        self.discard(transport)
        transport.abort()
        self._dropped += 1
        if self._clock() - self._told_at >= _LOG_EVERY_S:
            log.warning("api.connections.dropped", connections=self._dropped)
            self._dropped, self._told_at = 0, self._clock()

    def drop_longest(self, address: str | None = None) -> bool:
        """Close the one that has waited longest (of `address` alone if given); whether there was one."""
        fitting = (one for one, its_address in self._waiting.items() if address in {None, its_address})
        longest = next(fitting, None)
        if longest is not None:
            self.drop(longest)
        return longest is not None


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with a time limit for a request's head and a limit of connections."""

    head_s: ClassVar[float] = _HEAD_S
    most: ClassVar[int] = _MOST
    most_of_one: ClassVar[int] = _MOST_OF_ONE
    waiting: ClassVar[Waiting] = Waiting()
    addresses: ClassVar[Counter[str]] = Counter()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room if there is none, and start the clock."""
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        self.addresses[self._address] += 1
        if self.addresses[self._address] > self.most_of_one:
            found_room = self.waiting.drop_longest(self._address)
        else:
            found_room = len(self.connections) <= self.most or self.waiting.drop_longest()
        if found_room:
            self._await_head()
        else:
            self.waiting.drop(transport)

    def data_received(self, data: bytes) -> None:
        """Stop the clock once a head is complete; it starts anew with what follows the answer."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._head_came()

    def on_response_complete(self) -> None:
        """Wait for the next head."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._head_came()
        self.addresses[self._address] -= 1
        if not self.addresses[self._address]:
            del self.addresses[self._address]
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_came()
        self.waiting.add(self.transport, self._address)
        self._deadline = self.loop.call_later(self.head_s, self.waiting.drop, self.transport)

    def _head_came(self) -> None:
        self.waiting.discard(self.transport)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
