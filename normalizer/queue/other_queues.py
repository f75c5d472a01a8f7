"""Queues under other names: jobs that a producer put where no worker of ours looks.

Finding them takes a walk through the key space. Workers take it now and then, and leave what they found for `status`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from arq.constants import abort_jobs_ss, job_key_prefix

if TYPE_CHECKING:
    from redis.asyncio import Redis

#: A zset: name → jobs when last looked.
_FOUND: Final = "arq:other-queues"
_MOST_NAMES: Final = 20
_SCANS, _KEYS_A_SCAN = 1_000, 1_000  # a million keys: some two seconds, and no step that others would notice


async def find_other_queues(redis: Redis, known: Sequence[str]) -> dict[str, int]:
    """Sorted sets that hold jobs and are none of `known`, by name, with their sizes. Bounded."""
    found: dict[str, int] = {}
    cursor = 0
    for _ in range(_SCANS):
        cursor, names = await redis.scan(cursor, count=_KEYS_A_SCAN, _type="zset")
        for raw in names:
            name = raw.decode(errors="replace")
            if not _is_known(name, known) and await _holds_jobs(redis, raw):
                found[name] = await redis.zcard(raw)
        if not cursor:
            break
    return found


def _is_known(name: str, known: Sequence[str]) -> bool:
    return name == abort_jobs_ss or any(name == queue or name.startswith(f"{queue}:") for queue in known)


async def _holds_jobs(redis: Redis, name: bytes) -> bool:
    first = await redis.zrange(name, 0, 0)
    return bool(first) and bool(await redis.exists(job_key_prefix.encode() + first[0]))


async def note_other_queues(redis: Redis, known: Sequence[str]) -> None:
    """Look for them, and leave their names for `noted_queues`."""
    found = await find_other_queues(redis, known)
    if found:
        await redis.zadd(_FOUND, found)
    else:
        await redis.delete(_FOUND)


async def noted_queues(redis: Redis) -> list[str]:
    """Names that a worker found when it last looked."""
    return [name.decode(errors="replace") for name in await redis.zrange(_FOUND, 0, _MOST_NAMES - 1)]
