"""Connections that say nothing, heads and bodies that never end: they cost the one who sends them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from normalizer.api.server import BoundedProtocol, Waiting
from normalizer.runtime import Backend
from tests.integration.test_api import AS_OPERATOR, OPERATOR, backend, serving

__all__ = ["backend"]  # the fixture

IDLE, STALLED = 1_500, 60


class Impatient(BoundedProtocol):
    """The limits, small enough to be met."""

    head_s = 0.3
    waiting: ClassVar[Waiting] = Waiting()


class Few(BoundedProtocol):
    """Ten of one address; nobody is dropped for taking long."""

    head_s = 600.0
    most_of_one = 10
    waiting: ClassVar[Waiting] = Waiting()


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_a_head_that_never_ends_is_not_waited_for(backend: Backend) -> None:
    async with serving(backend, http=Impatient) as client, connected(client.base_url.port or 0) as (reader, writer):
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        async with asyncio.timeout(30):
            assert await reader.read() == b""


async def test_who_says_nothing_makes_room_for_who_asks(backend: Backend) -> None:
    async with serving(backend, http=Few) as client:
        silent = [await asyncio.open_connection("127.0.0.1", client.base_url.port or 0) for _ in range(30)]
        assert (await client.get("/health/live")).status_code == 200
        async with asyncio.timeout(30):
            assert await silent[0][0].read() == b""  # the longest waiting went first
        for _, writer in silent:
            writer.close()


async def test_1500_silent_connections_and_60_stalled_uploads_keep_nobody_waiting(
    backend: Backend,
    own_temporary_folder: Path,
) -> None:
    async with serving(backend, http=BoundedProtocol, body_s=3.0) as client:
        port = client.base_url.port or 0
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(IDLE)]
        stalled = [await asyncio.open_connection("127.0.0.1", port) for _ in range(STALLED)]
        for _, writer in stalled:
            head = f"POST /api/imports HTTP/1.1\r\nHost: x\r\nX-API-Key: {OPERATOR}\r\nContent-Length: 1000000\r\n\r\n"
            writer.write(head.encode() + b"Nome do Paciente;")

        for path in ("/health/live", "/api/status"):
            assert (await client.get(path, headers=AS_OPERATOR)).status_code == 200
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*(reader.readline() for reader, _ in stalled))

        assert {line.split()[1] for line in answers} == {b"408"}
        assert list(own_temporary_folder.glob("*planilha*")) == []
        for _, writer in [*silent, *stalled]:
            writer.close()
