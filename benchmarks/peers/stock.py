"""A stock `arq.Worker` as the replaced system sets it up: ten jobs at a time, one client each of store and model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import motor.motor_asyncio
import openai
from arq.worker import Worker

from benchmarks.peers import asking, records
from normalizer.queue.connection import redis_settings
from normalizer.queue.serializer import job_deserializer, job_serializer
from normalizer.queue.service import QUEUE_NAME

if TYPE_CHECKING:
    from arq.typing import WorkerCoroutine

    from normalizer.settings import Settings


def worker(settings: Settings, function: WorkerCoroutine) -> Worker:
    """The worker of one function; `ctx` holds `collection` and `create`, a call of the model."""

    async def startup(ctx: dict[str, Any]) -> None:
        url, database = records.where(settings)
        motor_client: motor.motor_asyncio.AsyncIOMotorClient[dict[str, Any]] = motor.motor_asyncio.AsyncIOMotorClient(
            url
        )
        ctx["collection"] = motor_client[database]["appointments"]
        model = openai.AsyncOpenAI(**asking.client_options(settings))
        ctx["create"] = partial(model.chat.completions.create, model=settings.openai_model)

    password = settings.redis_password.get_secret_value() if settings.redis_password else None
    return Worker(
        functions=[function],
        queue_name=QUEUE_NAME,
        job_serializer=job_serializer,
        job_deserializer=job_deserializer,
        redis_settings=redis_settings(settings.redis_url.get_secret_value(), password),
        on_startup=startup,
        max_jobs=settings.arq_max_jobs,
        job_timeout=settings.arq_job_timeout,
        keep_result=settings.arq_keep_result,
    )
