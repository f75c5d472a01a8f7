"""`normalizer demo` as a newcomer runs it, and what it leaves behind when it is interrupted or killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# A terminal, or nohup, may have left the hangup ignored: a program in a terminal heeds it.
HEED = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); from normalizer.cli import main; main()"
DEMO = [sys.executable, "-c", HEED, "demo"]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    return tmp_path / "kept"


def processes(workplace: Path) -> list[str]:
    """Command lines of every process that works in `workplace`."""
    return [line for line in _command_lines() if str(workplace) in line and "normalizer.cli" not in line]


def _command_lines() -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            working = (process / "cwd").readlink()
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, UnicodeDecodeError):
            continue
        yield f"{working} {command}"


def wait_until(condition: object, *, seconds: float = 100.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ends_with_a_summary_in_which_every_row_is_accounted_for(workplace: Path) -> None:
    ran = subprocess.run(
        [*DEMO, "--rows", "300", "--json", "--keep", workplace], capture_output=True, text=True, check=True
    )

    summary = json.loads(ran.stdout)
    assert summary["rows"] == 300
    assert summary["concluido"] + summary["revisar"] == 300
    assert (summary["falhou"], summary["pendente"]) == (0, 0)
    assert summary["usable_concluido"] >= 0.97 * summary["usable"]
    assert sum(summary["motivos"].values()) >= summary["revisar"]
    assert summary["llm_calls"] <= 15
    assert summary["calls_one_per_field"] > 500
    assert summary["tokens_one_per_field"] > 20 * (summary["tokens_in"] + summary["tokens_out"])
    assert summary["provider"] == "simulated"
    assert set(summary) >= {"por_origem", "seconds", "rows_per_second"}
    assert all(summary["cpu_s"][part] > 0 for part in ("workers", "MongoDB embutido"))
    assert processes(workplace) == []
    for log in workplace.glob("worker-*.log"):
        assert "Starting ARQ Background Worker" in log.read_text(encoding="utf-8")


def test_the_summary_for_people_masks_documents(workplace: Path) -> None:
    ran = subprocess.run([*DEMO, "--rows", "60", "--keep", workplace], capture_output=True, text=True, check=True)

    assert "simulado" in ran.stdout
    assert "Antes → depois" in ran.stdout
    assert "O que limitou: " in ran.stdout
    assert "µs de CPU por linha" in ran.stdout
    for line in ran.stdout.splitlines():
        if "CPF" in line:
            assert sum(character.isdigit() for character in line) <= 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_stops_every_process_it_started(workplace: Path, number: signal.Signals) -> None:
    demo = subprocess.Popen(
        [*DEMO, "--rows", "2000", "--keep", workplace],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until((workplace / "worker-2.log").exists)
    assert processes(workplace)

    demo.send_signal(number)
    code = demo.wait(timeout=100)

    assert code == (-signal.SIGKILL if number is signal.SIGKILL else 130)
    wait_until(lambda: processes(workplace) == [])


def test_a_folder_in_use_is_refused(workplace: Path) -> None:
    workplace.mkdir()
    (workplace / "mine.txt").touch()

    ran = subprocess.run([*DEMO, "--keep", workplace], capture_output=True, text=True, check=False)

    assert ran.returncode == 2
    assert "não está vazia" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    ran = subprocess.run([*DEMO, "--keep", tmp_path / "file"], capture_output=True, text=True, check=False)

    assert ran.returncode == 2
    assert "--keep" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_live_without_a_key_says_so(workplace: Path) -> None:
    ran = subprocess.run(
        [*DEMO, "--live", "--keep", workplace],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )

    assert ran.returncode == 2
    assert "OPENAI_API_KEY" in ran.stderr
    assert processes(workplace) == []
