"""What cookbook scripts do: one call a record, all at once, held back by a semaphore of 50.

`python -m benchmarks.peers.fan_out` waits for `bench:go` in Redis and then works off every record that is pendente.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import motor.motor_asyncio
import openai
from redis.asyncio import Redis

from benchmarks.peers import asking, records
from normalizer.domain.appointment import Status
from normalizer.settings import Settings, load_settings

AT_ONCE: Final = 50
GO: Final = "bench:go"
READY: Final = "bench:ready"


async def main(settings: Settings) -> None:
    """Work off the records, each on its own."""
    url, database = records.where(settings)
    client: motor.motor_asyncio.AsyncIOMotorClient[dict[str, Any]] = motor.motor_asyncio.AsyncIOMotorClient(url)
    collection = client[database]["appointments"]
    places = asyncio.Semaphore(AT_ONCE)
    async with openai.AsyncOpenAI(**asking.client_options(settings)) as model:

        async def normalize(record: dict[str, Any]) -> None:
            async with places:
                found = {}
                if texts := records.texts(record):
                    call: Any = asking.one_record(texts)
                    said = asking.answer(await model.chat.completions.create(model=settings.openai_model, **call))
                    found = {kind: said.get(kind, {}) for kind in texts}
                await collection.update_one({"_id": record["_id"]}, records.change(found))

        await _wait(settings)
        pending = collection.find({"normalizacao.status": Status.PENDING.value})
        await asyncio.gather(*[normalize(record) async for record in pending])
    await asyncio.Event().wait()  # what it took is read while it still lives


async def _wait(settings: Settings) -> None:
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        await redis.set(READY, 1)
        await redis.blpop([GO])


if __name__ == "__main__":
    asyncio.run(main(load_settings()))
