"""Forged and damaged keys: the one job ends with a sentence, the one key is ignored, and no worker dies."""

from __future__ import annotations

import pickle
from typing import Any

import orjson
import pytest
from arq.jobs import Job
from arq.worker import func
from redis.asyncio import Redis

from normalizer.queue.leases import Keys
from normalizer.queue.serializer import job_deserializer
from normalizer.queue.service import QUEUE_NAME, QUEUE_NAMES, TASK_NAME, TaskService
from tests.integration.queue_lab import Script, batch, make_worker, running, until

KEYS = Keys.of(QUEUE_NAME)
JOB = {"t": None, "f": TASK_NAME, "a": ["x"], "k": {}, "et": 1}


async def plain(_ctx: dict[Any, Any], *_args: Any) -> None:
    """A function of stock arq."""


async def survives(redis_url: str, redis: Redis, **options: Any) -> None:
    """A job put in after the damage is done all the same, by the worker that met it."""
    script = Script()
    async with (
        TaskService(redis_url) as tasks,
        running(make_worker(redis_url, batch(script), func(plain, name="plain"), **options)) as worker,
    ):
        await tasks.enqueue("good")
        await until(lambda: "good" in [name for group in script.groups for name in group])
        await until(lambda: _only_done(redis))
        assert worker.main_task is None or not worker.main_task.done()
        await tasks.status()


async def _only_done(redis: Redis) -> bool:
    return not await redis.exists(*QUEUE_NAMES)


@pytest.mark.parametrize(
    "payload",
    [
        *(orjson.dumps({**JOB, **damage}) for damage in ({"a": None}, {"a": 5}, {"f": ["x"]}, {"k": 7}, {"et": "x"})),
        orjson.dumps({**JOB, "f": f"{TASK_NAME}\n"}),
        orjson.dumps({"f": TASK_NAME}),
        b"null" + TASK_NAME.encode(),
        b"\x80\x04" + TASK_NAME.encode(),
        b"\xff\xfe" + TASK_NAME.encode(),
        pickle.dumps({**JOB, "a": ([[[[]]]] * 3, exit)}),
        TASK_NAME.encode() * 100_000,
    ],
    ids=lambda payload: repr(payload[:40]),
)
async def test_a_damaged_payload_ends_as_one_failed_job(redis_url: str, redis: Redis, payload: bytes) -> None:
    await redis.set("arq:job:bad", payload)
    await redis.zadd(QUEUE_NAME, {"bad": 1})

    await survives(redis_url, redis)

    info = await Job("bad", redis, _deserializer=job_deserializer).result_info()  # type: ignore[arg-type]
    assert info is not None
    assert (info.success, bool(str(info.result))) == (False, True)
    assert not await redis.exists("arq:job:bad", "arq:in-progress:bad")


@pytest.mark.parametrize("key", ["arq:job:bad", "arq:retry:bad"])
async def test_a_key_of_a_job_that_is_of_a_wrong_type(redis_url: str, redis: Redis, key: str) -> None:
    await redis.set("arq:job:bad", orjson.dumps({**JOB, "f": "plain"}))
    await redis.delete(key)
    await redis.rpush(key, "a list")
    await redis.zadd(QUEUE_NAME, {"bad": 1})

    await survives(redis_url, redis)

    assert (await redis.get("arq:result:bad")) is not None
    assert not await redis.exists(key)


async def test_an_id_that_is_no_text_leaves_the_queue(redis_url: str, redis: Redis) -> None:
    for job_id in (b"\xff\xfe", b"\xfe-batch"):
        await redis.zadd(QUEUE_NAME, {job_id: 1})
    await redis.set(b"arq:job:\xfe-batch", orjson.dumps(JOB))

    await survives(redis_url, redis)


@pytest.mark.parametrize("name", ["suspects", "quarantine", "foreign", "fence", "rerun", "quarantine_owner"])
async def test_forged_values_in_keys_of_ours(redis_url: str, redis: Redis, name: str) -> None:
    key = getattr(KEYS, name)
    if name in {"suspects", "rerun"}:
        await redis.hset(key, mapping={"bad": "junk", b"\xff": b"\xff"})
    elif name in {"quarantine", "foreign"}:
        await redis.zadd(key, {"bad": 1, b"\xff": 2})
    else:
        await redis.set(key, "junk")
    await redis.zadd("arq:abort", {b"\xff": 1})

    await survives(redis_url, redis, allow_abort_jobs=True)


@pytest.mark.parametrize("value", ["1e999", "nan", "9" * 5_000])
async def test_numbers_too_large_to_be_any(redis_url: str, redis: Redis, value: str) -> None:
    await redis.set(KEYS.fence, value)
    await redis.hset(KEYS.sizes, mapping={"somebody": value})

    await survives(redis_url, redis)

    assert int(await redis.get(KEYS.fence)) < 2**53
