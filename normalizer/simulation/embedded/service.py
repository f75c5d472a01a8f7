"""A child that serves a port of its own, started until it answers."""

from __future__ import annotations

import http.client
import os
import random
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from normalizer.errors import Misconfigured
from normalizer.simulation.embedded.process import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_START_S = 30.0
_POLL_S = 0.01
# Below Linux's ephemeral range (32768-60999): no outgoing connection can take the port while its server restarts.
_PORTS = range(15_000, 32_000)
_PORT_TRIES = 5


class Service(Child):
    """A child that serves a port. `start()` returns once it answers on its own protocol."""

    scheme = "http"

    def __init__(self, name: str, *, directory: Path, env: Mapping[str, str] | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        directory = directory.resolve()
        super().__init__(name, [], log=directory / f"{name}.log", env=os.environ if env is None else env, cwd=directory)
        self.directory = directory
        self.port: int | None = None

    @property
    def url(self) -> str:
        """Where clients connect; valid after the first start, the same over restarts."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start and wait until ready. The first start picks a port (again, should it be lost to another process)."""
        if self.running:
            return self
        if self.port is not None:
            self._launch(self.port)
            return self
        for attempt in range(_PORT_TRIES):
            try:
                self._launch(port := _free_port())
            except Misconfigured:
                if attempt + 1 == _PORT_TRIES or not self._lost_port():
                    raise
            else:
                self.port = port
                break
        return self

    def restart(self, *, kill: bool = False) -> None:
        """Stop (or SIGKILL) and start again on the same port and data."""
        if kill:
            self.kill()
        else:
            self.stop()
        self.start()

    def command(self, port: int) -> list[str]:
        """The program and its arguments."""
        raise NotImplementedError

    def ready(self, port: int) -> bool:
        """Ask once, on the real protocol; OSError counts as no."""
        raise NotImplementedError

    def _launch(self, port: int) -> None:
        self.argv = self.command(port)
        super().start()
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if not self.running:
                break
            if _answers(self.ready, port) and _listens(self.pid, port):
                return
            time.sleep(_POLL_S)
        ended = self.process.poll()
        self.kill()
        why = f"não respondeu em {_START_S:.0f} s" if ended is None else f"terminou com código {ended}"
        raise Misconfigured(f"{self.name} {why}:\n{self.tail()}", fix=f"Veja {self.log}.")

    def _lost_port(self) -> bool:
        return "address already in use" in self.tail().lower()


def _answers(ready: Callable[[int], bool], port: int) -> bool:
    try:
        return ready(port)
    except (OSError, http.client.HTTPException):
        return False


def _listens(pid: int, port: int) -> bool:
    """Whether the answer came from our child: another process may have taken the port. Always true without /proc."""
    try:
        sockets = Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        held = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        return not Path("/proc/self/fd").exists()
    local, listening = f"0100007F:{port:04X}", "0A"
    rows = (line.split() for line in sockets)
    return any(row[1] == local and row[3] == listening and f"socket:[{row[9]}]" in held for row in rows)


def _free_port() -> int:
    for port in random.sample(_PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise Misconfigured("Nenhuma porta livre entre 15000 e 31999.", fix="Feche programas que escutam nessas portas.")
