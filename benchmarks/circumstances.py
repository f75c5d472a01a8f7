"""A measurement's circumstances, and the file it is kept in: machine, load, interpreter, commit."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_ROOT: Final = Path(__file__).resolve().parent.parent


def environment() -> dict[str, Any]:
    """Where and of what a result was measured: machine, how busy it was, interpreter, commit."""
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "commit": _git("rev-parse", "--short", "HEAD") or "unknown",
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no", "--", "normalizer", "benchmarks/*.py")),
    }


def keep(out: Path, document: Mapping[str, Any]) -> None:
    """Write a result as its file has it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def keep_parts(out: Path, parts: Mapping[str, Any]) -> None:
    """Write some parts of a result; the others of the file stay."""
    keep(out, {**(json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}), **parts})


def asked(url: str, content: bytes | None = None, *, timeout_s: float = 300.0, **headers: str) -> Any:
    """The JSON that a server of ours answers with; `x_api_key` becomes `x-api-key`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, content, named)  # noqa: S310 — our own server, on loopback
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
        return json.load(answer)


def _git(*arguments: str) -> str:
    ran = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=_ROOT)
    return ran.stdout.strip()
