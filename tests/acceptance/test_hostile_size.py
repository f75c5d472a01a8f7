"""A gigabyte in one line: refused clearly by the API and the command line, while the import beside it goes on."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from benchmarks.fleet import memory_mb
from normalizer.simulation import embedded
from tests.acceptance.fuzz import KEYS, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GIGABYTE = 2**30
HEADER = b"Id do agendamento;Nome do Paciente;Data Agendamento;Endere\xc3\xa7o Completo;Documento\n"
AS_OPERATOR = {"X-API-Key": KEYS["operator"]}
#: What is read past the limit is thrown away: a server that kept it would hold many times this.
MOST_MB = 350

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
]


@pytest.fixture
def environment(redis_url: str, mongo_url: str, database: str) -> dict[str, str]:
    return {
        "REDIS_URL": redis_url,
        "MONGODB_URL": mongo_url,
        "DATABASE_NAME": database,
        "ENVIRONMENT": "production",
        "API_KEYS": KEYS["operator"],
    }


def one_line(size: int) -> Iterator[bytes]:
    yield HEADER
    for _ in range(size // 2**20):
        yield b"a" * 2**20


def test_the_api_refuses_it_and_finishes_the_import_beside_it(environment: dict[str, str], tmp_path: Path) -> None:
    rows = "".join(f"g{n};Ana;10/10/2026 08:00:00;Av. Brasil, {n}, Centro, Cascavel, PR;\n" for n in range(2_000))
    with (
        embedded.spawn_worker(environment, log=tmp_path / "worker.log"),
        serving(environment, tmp_path / "serve.log") as (url, server),
        httpx.Client(base_url=url, headers=AS_OPERATOR, timeout=120) as client,
    ):
        begun = client.post("/api/imports", content=HEADER + rows.encode())
        answer = client.post("/api/imports", content=one_line(GIGABYTE))
        refused = client.post("/api/imports", content=one_line(90 * 2**20))

        assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
        assert "passa de 100 MB" in answer.json()["detail"]
        assert refused.status_code == 202  # received; what is wrong with it is found while it is read
        assert "por linha" in _refusal(client, refused.headers["location"])
        assert memory_mb(server.pid, "VmHWM") < MOST_MB
        _until_normalized(client, begun.headers["location"], rows=2_000)
        assert [one["estado"] for one in client.get("/api/imports").json()] == ["recusada", "concluida"]


def _refusal(client: httpx.Client, where: str) -> str:
    deadline = time.monotonic() + 120
    while (told := client.get(where).json())["estado"] != "recusada":
        assert time.monotonic() < deadline, told
        time.sleep(0.25)
    return str(told["recusa"])


def _until_normalized(client: httpx.Client, where: str, *, rows: int) -> None:
    deadline = time.monotonic() + 120
    while (told := client.get(where).json())["estado"] != "concluida" or told["progresso"]["pendente"]:
        assert time.monotonic() < deadline, told
        time.sleep(0.25)
    assert told["novas"] == rows
    assert told["progresso"]["total"] == rows


def test_the_command_line_refuses_it_without_reading_it(environment: dict[str, str], tmp_path: Path) -> None:
    sheet = tmp_path / "agenda.csv"
    with sheet.open("wb") as file:
        file.write(HEADER)
        file.truncate(GIGABYTE)  # the rest is a hole: nothing is written
    command = [sys.executable, "-c", "from normalizer.cli import main; main()", "import", str(sheet)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    assert ran.returncode != 0
    assert "1024 MB" in ran.stderr
    assert "Divida a planilha" in ran.stderr
    assert "Traceback" not in ran.stderr
