"""What processes took: processor time and peak memory from /proc, and the machine they ran on."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_ROOT: Final = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor seconds so far, and the most memory held at once, of a process and all its descendants."""

    cpu_s: float
    peak_rss_mb: float


def usage(pid: int) -> Usage:
    """Read one process and every descendant, ended ones included in their parent's time. Linux only."""
    family = _family(pid)
    return Usage(sum(map(_cpu_s, family)), round(sum(map(_peak_rss_mb, family)), 1))


def _family(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, _read(children).split())
    return found


def _cpu_s(pid: int) -> float:
    # proc(5): utime, stime, cutime, cstime are fields 14-17; the name in field 2 may hold spaces.
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS_PER_S


def _peak_rss_mb(pid: int) -> float:
    lines = _read(Path(f"/proc/{pid}/status")).splitlines()
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""  # it ended meanwhile


def environment() -> dict[str, Any]:
    """Where and of what a result was measured: machine, how busy it was, interpreter, commit."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "commit": _git("rev-parse", "--short", "HEAD") or "unknown",
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no", "--", "normalizer", "benchmarks/*.py")),
    }


def _git(*arguments: str) -> str:
    ran = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=_ROOT)
    return ran.stdout.strip()
