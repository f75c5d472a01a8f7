"""How replicas are: each writes one key every few seconds, and anybody can read them all without scanning the keyspace.

`{queue}:replica:<id>` holds one replica's JSON and expires when it stops beating; `{queue}:replicas` (zset, id → last
beat in ms) says which there are.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from normalizer.queue.leases import Keys

BEAT_S = 5.0
#: A replica that did not beat for so long is gone.
GONE_S = 15.0
_LAG_PROBE_S = 0.25
#: What the pause key of a queue holds: claim nothing; or claim nothing and hand back what has not begun.
PAUSED, DRAINING = b"paused", b"draining"


def new_worker_id() -> str:
    """`host:pid:xxxx`: who holds a claim, readable in an incident."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"


@dataclass(frozen=True, slots=True)
class Replica:
    """One worker process, as it said at its last beat. Times are Unix ms."""

    worker_id: str
    host: str
    pid: int
    version: str
    state: str  # running | paused | stopping
    started_at_ms: int
    beat_at_ms: int
    groups: int
    jobs: int
    last_claim_at_ms: int | None
    last_error: str | None
    loop_lag_ms: int
    complete: int
    failed: int
    retried: int


async def write_beat(redis: Redis, keys: Keys, replica: Replica) -> bytes | None:
    """Write one beat: one round trip. Returns what the queue's pause key says."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.set(keys.replica(replica.worker_id), orjson.dumps(asdict(replica)), px=int(GONE_S * 1000))
        pipe.zadd(keys.replicas, {replica.worker_id: replica.beat_at_ms})
        pipe.zremrangebyscore(keys.replicas, "-inf", replica.beat_at_ms - int(GONE_S * 4000))
        pipe.get(keys.paused)
        paused: bytes | None = (await pipe.execute())[-1]
    return paused


async def remove_beat(redis: Redis, keys: Keys, worker_id: str) -> None:
    """This replica stopped on purpose."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.delete(keys.replica(worker_id))
        pipe.zrem(keys.replicas, worker_id)
        await pipe.execute()


async def read_replicas(redis: Redis, keys: Keys) -> list[Replica]:
    """Every replica that beats, by id."""
    names: list[Any] = await redis.zrange(keys.replicas, 0, -1)
    if not names:
        return []
    found = await redis.mget([keys.replica(name.decode()) for name in names])
    replicas = [Replica(**orjson.loads(text)) for text in found if text]
    return sorted(replicas, key=lambda replica: replica.worker_id)


class LagProbe:
    """Measures how late the event loop wakes a sleeper: what every other coroutine waits, too.

    Args:
        moved: called at every wake-up.
    """

    def __init__(self, moved: Callable[[], None]) -> None:
        self._moved, self._worst = moved, 0.0

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(_LAG_PROBE_S)
            self._worst = max(self._worst, time.monotonic() - before - _LAG_PROBE_S)
            self._moved()

    def worst_ms(self) -> int:
        """The longest delay since the last call, in ms."""
        worst, self._worst = self._worst, 0.0
        return int(worst * 1000)
