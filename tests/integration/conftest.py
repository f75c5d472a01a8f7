"""Commands run in this process, on real services."""

from __future__ import annotations

import io
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from motor.motor_asyncio import AsyncIOMotorClient

from normalizer import cli
from normalizer.store import AppointmentStore
from tests.integration.command import Ran


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Ran]:
    """`run("import", "agenda.csv", stdin=b"")`: in a folder of its own, without this machine's keys and secrets."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENROUTER_API_KEY", "CACHE_SECRET", "REDIS_PASSWORD"):
        monkeypatch.delenv(name, raising=False)

    def command(*arguments: str, stdin: bytes = b"") -> Ran:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["normalizer", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    return command


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch, redis_url: str, mongo_url: str, database: str) -> str:
    """The environment of commands points at this test's services; gives the Redis URL."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("MONGODB_URL", mongo_url)
    monkeypatch.setenv("DATABASE_NAME", database)
    return redis_url


@pytest.fixture
async def store(mongo_url: str, database: str) -> AsyncIterator[AppointmentStore]:
    """The store, empty, with its indexes."""
    async with AppointmentStore(AsyncIOMotorClient(mongo_url), database, owned=True) as opened:
        await opened.ensure_indexes()
        yield opened
