"""A child process that dies with its parent, and what a test does to one."""

from __future__ import annotations

import importlib.util
import os
import queue
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from normalizer.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What a worker may inherit. Settings of the caller's shell must not leak in: a real key would make a demo cost money.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "TIKTOKEN_CACHE_DIR")

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


class _Spawner(threading.Thread):
    """Starts every child from one thread that never ends.

    PR_SET_PDEATHSIG fires when the *thread* that spawned the child ends, so a pool's thread must not spawn.
    """

    def __init__(self) -> None:
        super().__init__(name="embedded-spawner", daemon=True)
        self._orders: queue.SimpleQueue[tuple[Future[subprocess.Popen[bytes]], Sequence[str], dict[str, Any]]]
        self._orders = queue.SimpleQueue()
        self.start()

    def spawn(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        born: Future[subprocess.Popen[bytes]] = Future()
        self._orders.put((born, argv, options))
        return born.result()

    def run(self) -> None:
        while True:
            born, argv, options = self._orders.get()
            try:
                born.set_result(subprocess.Popen(argv, **options))
            except BaseException as error:  # noqa: BLE001 — handed to the caller, who waits for it
                born.set_exception(error)


_spawner_lock = threading.Lock()
_spawner: _Spawner | None = None


def _spawn(argv: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path) -> subprocess.Popen[bytes]:
    global _spawner  # noqa: PLW0603 — one thread per process, started at first use
    with _spawner_lock:
        if _spawner is None or not _spawner.is_alive():
            _spawner = _Spawner()
    shimmed = [sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), *argv]
    with log.open("ab") as out:
        return _spawner.spawn(
            shimmed,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
        )


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
        """The process id; the shim became the program, so this is the program's own."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
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
        """Send a signal; nothing happens when it has ended."""
        self.process.send_signal(number)

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
            self.process.wait(grace_s)
        except subprocess.TimeoutExpired:
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
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def output(self) -> str:
        """Everything written to stdout and stderr so far, over all starts."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def tail(self, lines: int = 15) -> str:
        """The last lines of `output()`, for a failure's message."""
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
