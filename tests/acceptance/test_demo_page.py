"""`normalizer demo --page`: the page over everything the demo started, until somebody says stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tests.acceptance.harness import until


def _get(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 — our own http URL
            text: str = answer.read().decode()
            return text
    except (urllib.error.URLError, OSError):
        return None


def test_the_page_shows_the_demo_until_it_is_stopped(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from normalizer.cli import main; main()", "demo", "--rows", "20", "--page"]
    log = tmp_path / "demo.log"
    with log.open("wb") as out:
        demo = subprocess.Popen(
            [*command, "--port", str(port)], cwd=tmp_path, env=dict(os.environ), stdout=out, stderr=subprocess.STDOUT
        )
    try:
        page = until(
            lambda: demo.poll() is not None or _get(f"http://127.0.0.1:{port}/"),
            timeout_s=90,
            what="the page",
            words=lambda: log.read_text("utf-8"),
        )
        assert isinstance(page, str), log.read_text("utf-8")
        assert "20 ao todo" in page
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 130
    finally:
        demo.kill()
        demo.wait()
    assert _get(f"http://127.0.0.1:{port}/") is None
    assert "Traceback" not in log.read_text("utf-8")
