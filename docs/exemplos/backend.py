"""Enfileira um agendamento e acompanha o job como o backend faz: arq comum, sem nome de fila, pelo campo `id`.

python docs/exemplos/backend.py     # com um worker no ar; lê REDIS_URL, REDIS_DB, MONGODB_URL e DATABASE_NAME
"""

from __future__ import annotations

import asyncio
import os
import uuid
from datetime import UTC, datetime
from urllib.parse import urlsplit

from arq import create_pool
from arq.connections import RedisSettings
from arq.jobs import Job, JobStatus
from pymongo import AsyncMongoClient

redis = urlsplit(os.environ.get("REDIS_URL", "redis://localhost:6379"))
REDIS = RedisSettings(
    host=redis.hostname or "localhost",
    port=redis.port or 6379,
    database=int(redis.path.strip("/") or os.environ.get("REDIS_DB", "0")),
    password=redis.password or os.environ.get("REDIS_PASSWORD"),
)


async def main() -> None:
    """Grava um agendamento inventado, enfileira, espera o resultado, mostra-o e apaga o agendamento."""
    mongo = AsyncMongoClient(os.environ.get("MONGODB_URL", "mongodb://localhost:27017/"))
    appointments = mongo[os.environ.get("DATABASE_NAME", "clinic_db")].appointments
    now = datetime.now(UTC)
    appointment = {
        "id": str(uuid.uuid4()),
        "nome_marca": "Exemplo",
        "nome_unidade": "Exemplo",
        "nome_paciente": "Fulano Fictício",
        "endereco_completo": "rua das flores,10,centro,campinas,SP",
        "documento_completo": "CPF: 11144477735, RG: 123456789",
        "tags": [],
        "normalization_status": "pending",
        "created_at": now,
        "updated_at": now,
    }
    await appointments.insert_one(dict(appointment))

    pool = await create_pool(REDIS)  # sem nome de fila: arq:queue
    job = await pool.enqueue_job("normalize_appointment", appointment["id"])
    assert job is not None
    await appointments.update_one({"id": appointment["id"]}, {"$set": {"normalization_job_id": job.job_id}})

    while (status := await Job(job.job_id, pool).status()) is not JobStatus.complete:
        print(f"job {job.job_id}: {status.value}")
        await asyncio.sleep(0.5)
    print(await job.result(timeout=5))

    stored = await appointments.find_one({"id": appointment["id"]})
    assert stored is not None
    print(stored["normalization_status"], stored["endereco_normalizado"], stored["documento_normalizado"])
    await appointments.delete_one({"id": appointment["id"]})
    await pool.aclose()
    await mongo.close()


if __name__ == "__main__":
    asyncio.run(main())
