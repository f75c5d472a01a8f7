"""The worker that is replaced, in its best honest form: stock `arq.Worker`, one job a row, one call a field.

`python -m benchmarks.seed` runs it as a process of its own, configured by the environment the deployed system uses.
"""

from __future__ import annotations

from typing import Any

import bson
import motor.motor_asyncio
import openai
import orjson
from arq.worker import Worker

from normalizer.domain.appointment import Appointment, Kind
from normalizer.llm import baseline
from normalizer.queue.connection import redis_settings
from normalizer.queue.serializer import job_deserializer, job_serializer
from normalizer.queue.service import QUEUE_NAME
from normalizer.settings import Settings, load_settings


async def normalize_appointment(ctx: dict[str, Any], appointment_id: str) -> str:
    """Load one appointment, ask the model once for each of its texts, save."""
    collection, client, model = ctx["collection"], ctx["client"], ctx["model"]
    key = {"_id": bson.ObjectId(appointment_id)}
    stored = await collection.find_one(key)
    appointment = Appointment(appointment_id, stored)
    found = {"normalizacao.status": "concluido"}
    for kind in Kind:
        if text := appointment.text(kind):
            completion = await client.chat.completions.create(
                model=model, messages=baseline.messages(kind, text), response_format={"type": "json_object"}
            )
            found[f"{kind}_normalizado"] = orjson.loads(completion.choices[0].message.content)
    await collection.update_one(key, {"$set": found})
    return appointment_id


def worker(settings: Settings) -> Worker:
    """The seed's worker: ten jobs at a time, as its guide says."""

    async def startup(ctx: dict[str, Any]) -> None:
        client: motor.motor_asyncio.AsyncIOMotorClient[dict[str, Any]] = motor.motor_asyncio.AsyncIOMotorClient(
            settings.mongodb_url.get_secret_value()
        )
        ctx["collection"] = client[settings.database_name]["appointments"]
        ctx["client"] = openai.AsyncOpenAI(
            api_key=settings.openai_api_key.get_secret_value() if settings.openai_api_key else None,
            base_url=settings.base_url,
        )
        ctx["model"] = settings.openai_model

    password = settings.redis_password.get_secret_value() if settings.redis_password else None
    return Worker(
        functions=[normalize_appointment],
        queue_name=QUEUE_NAME,
        job_serializer=job_serializer,
        job_deserializer=job_deserializer,
        redis_settings=redis_settings(settings.redis_url.get_secret_value(), password),
        on_startup=startup,
        max_jobs=settings.arq_max_jobs,
        job_timeout=settings.arq_job_timeout,
        keep_result=settings.arq_keep_result,
    )


if __name__ == "__main__":
    worker(load_settings()).run()
