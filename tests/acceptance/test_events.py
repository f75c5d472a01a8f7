"""A receiver that is away, and killed, learns of every appointment from workers that are killed."""

from __future__ import annotations

import base64
import http.server
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from normalizer.domain.text import fold
from normalizer.simulation import embedded
from tests.acceptance.backend import ReceiverService
from tests.acceptance.harness import ROOT, Deployment, Row, make_rows

SECRET = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
JUNK = "a combinar com a paciente"


@pytest.fixture
def receiver(tmp_path: Path, breakable_mongo: embedded.MongoService) -> Iterator[ReceiverService]:
    """Its port is known, and it is away."""
    made = ReceiverService(tmp_path / "receiver", SECRET, breakable_mongo.start().url)
    made.start().kill()
    yield made
    made.kill()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [150, pytest.param(2_000, marks=pytest.mark.slow)])
def test_every_id_arrives_in_order_although_receiver_and_workers_are_killed(
    deploy: Any, receiver: ReceiverService, count: int
) -> None:
    rows = make_rows(count, hard=0.1)
    later = [row for row in rows[::10] if not row.hard]  # told as review first, and as normalized once they are mended
    deployment: Deployment = deploy(rows=count, hard=0.1, latency_ms=100, settings=told(receiver))
    receiver.database = deployment.database
    mongo = deployment.client[deployment.database]

    first = deployment.start_ready_worker()
    deployment.put([replace(row, text=JUNK) if row in later else row for row in rows])
    deployment.wait(lambda: deployment.ended() >= count // 3, "a third ended", timeout_s=180)
    first.kill()
    second = deployment.start_ready_worker()
    deployment.wait_until_all_ended(timeout_s=240)
    deployment.wait(lambda: told_of(mongo.normalizer_events) >= {row.key for row in later}, "all reviews are told of")
    deployment.put(later)
    receiver.dies_at = 2
    receiver.start()
    deployment.wait(lambda: not receiver.running, "the receiver dies between its work and its answer", timeout_s=120)
    second.kill()
    deployment.start_ready_worker()
    receiver.dies_at = 0
    receiver.start()
    deployment.wait_until_all_ended(timeout_s=240)
    deployment.wait(lambda: not mongo.normalizer_events.count_documents({}), "nothing is left", timeout_s=240)

    received = list(mongo.received.find().sort("_id"))
    bodies = {one["webhook_id"]: one["body"] for one in received}
    assert len(received) > len(bodies), "what was not answered is sent again"
    assert all(one["body"] == bodies[one["webhook_id"]] for one in received), "a repeat is the same to the byte"
    keys = {one["id"]: one["id_agendamento"] for one in deployment.appointments.find()}
    assert kinds_by_appointment(bodies, keys) == {
        row.key: ["appointments.review"] * (row in later) + ["appointments.normalized"] for row in rows
    }
    assert sorted(one["cpf"] for one in mongo.clients.find()) == sorted(row.cpf for row in rows)
    assert not [value for value in values_of(rows) if fold(value) in fold(" ".join(bodies.values()))]


def told(receiver: ReceiverService) -> dict[str, str]:
    return {"WEBHOOK_URL": f"{receiver.url}/", "WEBHOOK_SECRET": receiver.secret}


def told_of(events: Any) -> set[str]:
    """Appointments that stand in events which wait for the receiver, by the keys of their rows."""
    waiting = [one["id"] for event in events.find() for one in event["dados"]["appointments"]]
    rows = events.database.appointments.find({"id": {"$in": waiting}}, {"id_agendamento": 1})
    return {row["id_agendamento"] for row in rows}


def kinds_by_appointment(bodies: Mapping[str, str], keys: Mapping[str, str]) -> dict[str, list[str]]:
    """What was told of each row, in order; `keys` names rows by their appointment's id.

    Told twice alike counts once: what a worker had written and not settled when it was killed is written again.
    """
    kinds: dict[str, list[str]] = {key: [] for key in keys.values()}
    for event in map(json.loads, bodies.values()):
        for one in event["data"].get("appointments", ()):
            so_far = kinds[keys[one["id"]]]
            so_far += [event["type"]] * (so_far[-1:] != [event["type"]])
    return kinds


def values_of(rows: list[Row]) -> set[str]:
    """Everything a clinic typed that must not be told."""
    return {value for row in rows for value in (row.cpf, row.rg, row.address["rua"], row.address["bairro"]) if value}


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


def test_doctor_sends_a_test_event_and_says_what_came_back(deploy: Any, receiver: ReceiverService) -> None:
    deployment: Deployment = deploy(rows=1, settings=told(receiver))
    receiver.database = deployment.database
    receiver.start()

    well = json.loads(deployment.cli("doctor", "--json").stdout)
    receiver.kill()
    away = json.loads(deployment.cli("doctor", "--json").stdout)

    [received] = deployment.client[deployment.database].received.find()
    assert json.loads(received["body"])["type"] == "test"
    assert "o destino recebeu um evento de teste" in str(well)
    assert "o evento de teste não foi recebido: não se conecta" in str(away)


@pytest.fixture
def free_port() -> int:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        return int(server.server_address[1])
