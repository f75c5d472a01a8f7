"""A receiver that is away, and killed, learns of every appointment from workers that are killed."""

from __future__ import annotations

import base64
import http.server
import json
import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pymongo
import pytest
import standardwebhooks

from normalizer.domain.text import fold
from tests.acceptance.harness import ROOT, Deployment, make_rows

ROWS = 300
SECRET = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"


class Backend:
    """The backend's own part: checks the signature and brings a client of the clinic up to date, once for each CPF."""

    def __init__(self) -> None:
        self.database: Any = None
        self.bodies: list[bytes] = []
        self.told: dict[str, list[str]] = defaultdict(list)
        self.seen: dict[str, bytes] = {}
        self.deaths = 0
        self.server: http.server.ThreadingHTTPServer | None = None
        self.port = 0

    def live_beside(self, deployment: Deployment) -> Any:
        self.database = pymongo.MongoClient(deployment.mongo_url)[deployment.database]
        self.database["clients"].create_index("cpf", unique=True)
        return self.database

    def start(self) -> None:
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                event = standardwebhooks.Webhook(SECRET).verify(body, dict(self.headers))
                backend.take(self.headers["webhook-id"], body, event)
                if backend.deaths:  # killed after the work, before the answer
                    backend.deaths -= 1
                    self.close_connection = True
                    return
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()

    def take(self, event_id: str, body: bytes, event: dict[str, Any]) -> None:
        assert self.seen.setdefault(event_id, body) == body, "a repeat is the same to the byte"
        self.bodies.append(body)
        for one in event["data"].get("appointments", ()):
            self.told[one["id"]].append(event["type"])
            found = self.database["appointments"].find_one({"id": one["id"]})
            if found and found.get("cpf"):
                client = {"$setOnInsert": {"created_at": datetime.now(UTC)}}
                self.database["clients"].update_one({"cpf": found["cpf"]}, client, upsert=True)


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend()
    made.start()
    yield made
    made.stop()


def test_every_id_arrives_although_receiver_and_workers_are_killed(deploy: Any, backend: Backend) -> None:
    settings = {"WEBHOOK_URL": f"http://127.0.0.1:{backend.port}/", "WEBHOOK_SECRET": SECRET, "EVENTS_STREAM": "events"}
    deployment: Deployment = deploy(rows=ROWS, hard=0.1, latency_ms=100, settings=settings)
    mongo = backend.live_beside(deployment)
    backend.stop()
    first = deployment.start_ready_worker()
    rows = make_rows(ROWS, hard=0.1)
    deployment.put(rows)
    deployment.wait(lambda: deployment.ended() >= ROWS // 3, "a third ended")
    first.kill()
    second = deployment.start_ready_worker()
    backend.deaths = 2
    backend.start()
    deployment.wait(lambda: backend.bodies, "the receiver is told something")
    second.kill()
    deployment.start_ready_worker()
    deployment.wait_until_all_ended()
    deployment.wait(lambda: len(backend.told) == ROWS, "every id is told", timeout_s=120)
    deployment.wait(lambda: not mongo["normalizer_events"].count_documents({}), "nothing is left", timeout_s=60)

    assert mongo["clients"].count_documents({}) == len({row.cpf for row in rows})
    assert set(backend.told) == {one["id"] for one in mongo["appointments"].find({}, {"id": 1})}
    said = fold(b" ".join(backend.bodies).decode())
    values = {value for row in rows for value in (row.cpf, row.rg, row.address["rua"], row.address["bairro"]) if value}
    assert not [value for value in values if fold(value) in said]


def test_the_receiver_of_the_docs_reads_what_a_worker_sends(deploy: Any, tmp_path: Path, free_port: int) -> None:
    environment = {**os.environ, "WEBHOOK_SECRET": SECRET}
    command = [sys.executable, str(ROOT / "docs" / "exemplos" / "receptor.py"), str(free_port)]
    log = tmp_path / "receptor.log"
    with log.open("wb") as out:
        receiver = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        settings = {"WEBHOOK_URL": f"http://127.0.0.1:{free_port}/", "WEBHOOK_SECRET": SECRET}
        deployment: Deployment = deploy(rows=20, hard=0.0, settings=settings)
        deployment.start_ready_worker()
        deployment.put(make_rows(20, hard=0.0))
        deployment.wait(lambda: log.read_text().count("appointments.normalized") == 20, "twenty lines", timeout_s=60)
    finally:
        receiver.kill()
        receiver.wait()
    assert log.read_text().count(" endereco_normalizado, documento_normalizado, cpf, rg\n") == 20


def test_doctor_sends_a_test_event_and_says_what_came_back(deploy: Any, backend: Backend) -> None:
    settings = {"WEBHOOK_URL": f"http://127.0.0.1:{backend.port}/", "WEBHOOK_SECRET": SECRET}
    deployment: Deployment = deploy(rows=1, settings=settings)

    well = json.loads(deployment.cli("doctor", "--json").stdout)
    backend.stop()
    away = json.loads(deployment.cli("doctor", "--json").stdout)

    assert json.loads(backend.bodies[-1])["type"] == "test"
    assert "o destino recebeu um evento de teste" in str(well)
    assert "o evento de teste não foi recebido: não se conecta" in str(away)


@pytest.fixture
def free_port() -> int:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        return int(server.server_address[1])
