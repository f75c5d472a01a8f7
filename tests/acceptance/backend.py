"""A stand-in of the deployed backend: what it writes, reads and expects of a worker, and nothing that it does not do.

Written from its contract: a stock arq pool with pickle, documents by the field `id`, and one typed model through which
every document of a page goes; one that does not fit fails the whole page.
"""

from __future__ import annotations

import http.client
import http.server
import itertools
import os
import re
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import standardwebhooks
from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import Job, JobStatus
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pymongo import AsyncMongoClient, MongoClient

from normalizer.simulation.embedded import Service

ROOT = Path(__file__).resolve().parents[2]

STATUSES = (
    *("Pendente", "Autorização", "Cadastrar", "Agendado", "Confirmado", "Coletado", "Alterar", "Cancelado"),
    "Recoleta",
)


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _midnight(at: datetime) -> datetime:
    if (at.hour, at.minute, at.second, at.microsecond) != (0, 0, 0, 0):
        raise ValueError("must be midnight")
    return at


def _phone(text: str) -> str:
    digits = re.sub(r"[ \-()]", "", text)
    if not re.fullmatch("[0-9]{10,11}", digits):
        raise ValueError("must have 10 or 11 digits")
    return digits


def _known(status: str) -> str:
    if status not in STATUSES:
        raise ValueError("unknown status")
    return status


Name = Annotated[str, AfterValidator(_not_blank)]
Day = Annotated[datetime, AfterValidator(_midnight)]
Hour = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class Appointment(BaseModel):
    """An appointment as every screen of theirs reads it. Unknown fields are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")

    id: str = Field(default_factory=lambda: str(uuid.uuid4()))
    nome_unidade: Name
    nome_marca: Name
    nome_paciente: Name
    data_agendamento: Day | None = None
    hora_agendamento: Hour | None = None
    data_confirmacao: Day | None = None
    hora_confirmacao: Hour | None = None
    telefone: Annotated[str, AfterValidator(_phone)] | None = None
    status: Annotated[str, AfterValidator(_known)] = "Pendente"
    tags: list[str] = []
    endereco_normalizado: dict[str, str | None] | None = None
    documento_normalizado: dict[str, str | None] | None = None
    tipo_consulta: str | None = None
    observacoes: str | None = None
    carro: str | None = None
    cep: str | None = None
    endereco_coleta: str | None = None
    endereco_completo: str | None = None
    documento_completo: str | None = None
    cpf: str | None = None
    rg: str | None = None
    numero_convenio: str | None = None
    nome_convenio: str | None = None
    carteira_convenio: str | None = None
    canal_confirmacao: str | None = None
    cip: str | None = None
    cadastrado_por: str | None = None
    agendado_por: str | None = None
    driver_id: str | None = None
    collector_id: str | None = None
    car_id: str | None = None
    normalization_status: Literal["pending", "processing", "completed", "failed", "skipped"] | None = "pending"
    normalization_job_id: str | None = None
    normalization_error: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


def now() -> datetime:
    """As they write it: naive UTC."""
    return datetime.now(UTC).replace(tzinfo=None)


class Repository:
    """Their collection; `_id` is the driver's, and is dropped on reading."""

    def __init__(self, url: str, database: str) -> None:
        self.client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(url)
        self.appointments = self.client[database].appointments

    async def insert(self, *appointments: Appointment) -> list[str]:
        """Store them with both times; returns their ids."""
        at = now()
        rows = [each.model_dump() | {"created_at": at, "updated_at": at} for each in appointments]
        await self.appointments.insert_many(rows)
        return [row["id"] for row in rows]

    async def find(self, appointment_id: str) -> Appointment | None:
        """By the field `id`."""
        found = await self.appointments.find_one({"id": appointment_id}, {"_id": 0})
        return None if found is None else Appointment(**found)

    async def page(
        self, *, begin: datetime | None = None, end: datetime | None = None, skip: int = 0, limit: int = 1_000
    ) -> list[Appointment]:
        """A list page; raises pydantic's ValidationError where one document does not fit."""
        chosen = {} if begin is None else {"data_agendamento": {"$gte": begin, "$lte": end}}
        cursor = self.appointments.find(chosen, {"_id": 0}).sort("data_agendamento", 1).skip(skip).limit(limit)
        return [Appointment(**found) async for found in cursor]

    async def update(self, appointment_id: str, **fields: Any) -> bool:
        """Every update sets `updated_at`."""
        change = {"$set": {**fields, "updated_at": now()}}
        return (await self.appointments.update_one({"id": appointment_id}, change)).matched_count == 1

    async def replace_unit(self, unit: str, *appointments: Appointment) -> list[str]:
        """An import with "replace existing": the unit's appointments go, new ones with new ids come."""
        await self.appointments.delete_many({"nome_unidade": unit})
        return await self.insert(*appointments)

    async def try_failed_again(self) -> int:
        """Their written recipe, and nothing else."""
        recipe = {"$set": {"normalization_status": "pending", "normalization_job_id": None}}
        return (await self.appointments.update_many({"normalization_status": "failed"}, recipe)).modified_count


class TaskService:
    """Their producer: stock arq, pickle, no queue name, random job ids, one positional argument."""

    def __init__(self, host: str, port: int, database: int) -> None:
        self._settings = RedisSettings(host=host, port=port, database=database)
        self._pool: ArqRedis | None = None

    async def get_pool(self) -> ArqRedis:
        """Connected at first use."""
        if self._pool is None:
            self._pool = await create_pool(self._settings)
        return self._pool

    async def close(self) -> None:
        """Close the pool."""
        if self._pool is not None:
            await self._pool.aclose()
            self._pool = None

    async def enqueue_normalization(self, appointment_id: str) -> str | None:
        """The job's id, or None."""
        job = await (await self.get_pool()).enqueue_job("normalize_appointment", appointment_id)
        return None if job is None else job.job_id

    async def get_job_status(self, job_id: str) -> dict[str, Any] | None:
        """What their page polls."""
        job = Job(job_id, await self.get_pool())
        status = await job.status()
        if status is JobStatus.not_found:
            return None
        info: Any = await job.info()
        failed = info is not None and getattr(info, "success", True) is False
        result = getattr(info, "result", None)
        return {
            "job_id": job_id,
            "status": status.value,
            "enqueue_time": getattr(info, "enqueue_time", None),
            "start_time": getattr(info, "start_time", None),
            "finish_time": getattr(info, "finish_time", None),
            "result": None if failed else result,
            "error": str(result) if failed else None,
        }


class ReceiverService(Service):
    """Their end of the events, a process that may be killed; it serves the same port again after each start.

    It brings a client up to date by the CPF that was found, and keeps every request in `received`: whatever it was sent
    is there in the order of arrival, repeats too. With `dies_at` it dies at that request, after the work and before the
    answer.
    """

    def __init__(self, directory: Path, secret: str, mongo_url: str) -> None:
        self.secret, self.mongo_url, self.database, self.dies_at = secret, mongo_url, "nobodys", 0
        super().__init__("receiver", directory=directory)

    def command(self, port: int) -> list[str]:
        """This module, see `receive`."""
        arguments = (str(port), self.secret, self.mongo_url, self.database, str(self.dies_at))
        return [sys.executable, "-m", "tests.acceptance.backend", *arguments]

    def ready(self, port: int) -> bool:
        """Anything that is HTTP."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == http.HTTPStatus.NOT_IMPLEMENTED
        finally:
            connection.close()


def receive(port: int, secret: str, mongo_url: str, database: str, dies_at: int) -> None:
    """Serve until killed."""
    webhook, store = standardwebhooks.Webhook(secret), MongoClient[dict[str, Any]](mongo_url)[database]
    store.clients.create_index("cpf", unique=True)
    requests = itertools.count(1)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            event = webhook.verify(body, dict(self.headers))  # raises where the signature does not hold
            for told in event["data"].get("appointments", ()):
                _bring_client_up_to_date(store, told["id"])
            store.received.insert_one({"webhook_id": self.headers["webhook-id"], "body": body.decode()})
            if next(requests) == dies_at:
                os._exit(1)
            self.send_response(204)
            self.end_headers()

    http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()


def _bring_client_up_to_date(store: Any, appointment_id: str) -> None:
    """The old worker's last step: one client a CPF, however often it is told."""
    found = store.appointments.find_one({"id": appointment_id})
    if found and found.get("cpf"):
        changes = {"$set": {"seen_with": appointment_id}, "$setOnInsert": {"id": str(uuid.uuid4())}}
        store.clients.update_one({"cpf": found["cpf"]}, changes, upsert=True)


async def old_normalize_appointment(ctx: dict[str, Any], appointment_id: str) -> dict[str, Any]:
    """What the old worker ran: one appointment, results that are there left alone."""
    appointments = ctx["repository"].appointments
    if await appointments.find_one({"id": appointment_id}) is None:
        return {"success": False, "error": "Appointment not found"}
    ended = {"normalization_status": "completed", "normalization_error": None, "updated_at": now()}
    await appointments.update_one({"id": appointment_id}, {"$set": {**ended, "observacoes": "old worker"}})
    return {"success": True, "appointment_id": appointment_id, "fields_normalized": [], "errors": None}


if __name__ == "__main__":
    receive(int(sys.argv[1]), *sys.argv[2:5], int(sys.argv[5]))
