"""A TCP proxy that misbehaves on command: the network between a worker and its services.

    with TcpProxy(port) as proxy:       # connect to 127.0.0.1:proxy.port
        proxy.swallow()                 # connections stay open, bytes vanish: a half-open link
        proxy.swallow_answer_to(b"…")   # the request arrives, its answer and all later ones vanish
        proxy.cut()                     # close what is open, refuse what comes: the other side is away
        proxy.delay(0.2)                # every piece of data arrives so much later, both ways
        proxy.heal()                    # pass everything again; what was swallowed is gone, and so are its connections

It lives in a thread of its own, so it goes on while the test's event loop is busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Self


class TcpProxy:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`target`, as long as it is told to."""

    def __init__(self, target: int) -> None:
        self._target, self.port = target, 0
        self._to_server, self._to_client, self._open = True, True, True
        self._marker: bytes | None = None
        self._delay_s = 0.0
        self._tainted: set[asyncio.StreamWriter] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def swallow(self) -> None:
        """From now on bytes vanish both ways."""
        self._call(lambda: self._set(to_server=False, to_client=False, accept=True))

    def swallow_answer_to(self, marker: bytes) -> None:
        """Pass requests; as soon as one holds `marker`, no answer comes back any more."""

        def arm() -> None:
            self._marker = marker

        self._call(arm)

    def cut(self) -> None:
        """Close every connection and every new one."""

        def cut() -> None:
            self._set(to_server=False, to_client=False, accept=False)
            self._close(self._writers)

        self._call(cut)

    def delay(self, seconds: float) -> None:
        """Pass everything, late; 0 ends it, as does `heal()`."""

        def slow() -> None:
            self._delay_s = seconds

        self._call(slow)

    def heal(self) -> None:
        """Pass everything again. Connections that lost bytes are closed: their stream is broken."""

        def heal() -> None:
            self._delay_s = 0.0
            self._set(to_server=True, to_client=True, accept=True)
            self._close(self._tainted)

        self._call(heal)

    def _set(self, *, to_server: bool, to_client: bool, accept: bool) -> None:
        self._marker = None
        self._to_server, self._to_client, self._open = to_server, to_client, accept

    def _call(self, act: object) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (act(), done.set()))  # type: ignore[operator]
        done.wait()

    def _close(self, writers: set[asyncio.StreamWriter]) -> None:
        for writer in list(writers):
            writer.transport.abort()
        writers.clear()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()
        while self._handlers:  # one may be on its way to the target: what it opened is closed in the next turn
            self._close(self._writers)
            await asyncio.wait(self._handlers, timeout=0.1)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)
        with contextlib.suppress(OSError):
            remote_reader, remote_writer = await asyncio.open_connection("127.0.0.1", self._target)
            both = {writer, remote_writer}
            self._writers |= both
            await asyncio.gather(
                self._pump(reader, remote_writer, lambda: self._to_server, both),
                self._pump(remote_reader, writer, lambda: self._to_client, both),
            )
            self._writers -= both
        writer.transport.abort()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        passes: object,
        both: set[asyncio.StreamWriter],
    ) -> None:
        try:
            while data := await source.read(65_536):
                if self._marker and self._marker in data:
                    self._to_client = False
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                if passes():  # type: ignore[operator]
                    sink.write(data)
                    await sink.drain()
                else:
                    self._tainted |= both
        except OSError:
            pass
        finally:
            for writer in both:
                writer.close()
