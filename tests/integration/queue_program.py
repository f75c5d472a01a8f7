"""A worker process for tests: `python -m tests.integration.queue_program URL [--lease S] [--hold S] [--max-items N]`.

What a job does is its name: `poison…` kills the process; everything else is done after `--hold` seconds. Every group
and every end is written to Redis: list `lab:groups` (one JSON each), hash `lab:ended` (name → how often), `lab:dead`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from normalizer.queue.connection import redis_settings
from normalizer.queue.group import Done, Group
from normalizer.queue.leases import ClaimedJob
from normalizer.queue.serializer import job_deserializer, job_serializer
from normalizer.queue.service import QUEUE_NAME, TASK_NAME
from normalizer.queue.worker import BatchWorker, batch_func


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--lease", type=float, default=1.0)
    parser.add_argument("--hold", type=float, default=0.0)
    parser.add_argument("--grace", type=float, default=5.0)
    parser.add_argument("--max-items", type=int, default=50)
    parser.add_argument("--max-jobs", type=int, default=4)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))

    async def normalize(ctx: Mapping[str, Any], group: Group) -> None:
        redis = ctx["redis"]
        names = {job.job_id: job.args[0] for job in group.jobs}
        group_size = len(names)
        await redis.rpush(
            "lab:groups", json.dumps({"pid": os.getpid(), "size": group_size, "names": [*names.values()]})
        )
        if any(name.startswith("poison") for name in names.values()):
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(options.hold)
        lost = await group.settle({job_id: Done({"id": name}) for job_id, name in names.items()})
        for job_id, name in names.items():
            await redis.hincrby("lab:lost" if job_id in lost else "lab:ended", name, 1)

    async def on_dead(ctx: Mapping[str, Any], dead: Sequence[tuple[ClaimedJob, str]]) -> None:
        await ctx["redis"].hset("lab:dead", mapping={job.args[0]: cause for job, cause in dead})

    batch = batch_func(normalize, name=TASK_NAME, max_items=options.max_items, max_tries=2, on_dead=on_dead)
    BatchWorker(
        [batch],
        queue_name=QUEUE_NAME,
        redis_settings=redis_settings(options.url),
        job_serializer=job_serializer,
        job_deserializer=job_deserializer,
        lease_s=options.lease,
        shutdown_grace_s=options.grace,
        max_jobs=options.max_jobs,
        poll_delay=0.1,
    ).run()


if __name__ == "__main__":
    main()
