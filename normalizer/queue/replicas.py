"""Replicas: their heartbeats in Redis, those that died, and queues that none of them serves.

`status` and `doctor` read it without scanning the key space. `arq:replica:<id>` holds one replica's JSON and expires
when it stops beating; `arq:replicas` (zset, id → last beat in ms) says which there are, whatever queues they serve.
Queues under other names take a walk through the key space: workers take it now and then, and leave what they found.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog
from arq.constants import abort_jobs_ss, job_key_prefix
from pydantic import TypeAdapter, ValidationError
from redis.exceptions import OutOfMemoryError

from normalizer.queue.connection import OUTAGE, write_even_when_full

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger(__name__)

BEAT_S = 5.0
#: A replica that did not beat for so long is gone.
GONE_S = 15.0
REPLICAS = "arq:replicas"
#: Those that went without saying so (zset, id → last beat in ms), until somebody has seen it.
GONE = "arq:replicas:gone"
#: How many jobs of each were put back (hash, id → count), for as long as somebody may ask.
_PUT_BACK = "arq:replicas:gone:jobs"
_PUT_BACK_KEPT_S = 30 * 24 * 3600
_MOST_GONE = 50
_MOST_BLAMED = 20_000  # jobs that are looked through for what became of them
_BEATS_A_LISTING = 5  # a replica that beats is listed again every so many beats
#: What the pause key of a queue holds: claim nothing; or claim nothing and hand back what has not begun.
PAUSED, DRAINING = b"paused", b"draining"
#: A zset: name → jobs when last looked.
_FOUND: Final = "arq:other-queues"
_MOST_NAMES: Final = 20
_LOOK_AROUND_S: Final = 300.0
_SCANS, _KEYS_A_SCAN = 1_000, 1_000  # a million keys: some two seconds, and no step that others would notice


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
    queues: tuple[str, ...] = ()
    redis_ahead_ms: int = 0  # Redis's clock before this host's


_REPLICA = TypeAdapter(Replica)


def replica_key(worker_id: str) -> str:
    """Where one replica tells how it is."""
    return f"arq:replica:{worker_id}"


async def write_beat(redis: Redis, replica: Replica, *, number: int = 0, watched: Sequence[str] = ()) -> list[Any]:
    """Write one beat: one round trip. `number` counts a replica's beats. Returns what the keys `watched` hold."""
    key, text, expires_ms = replica_key(replica.worker_id), orjson.dumps(asdict(replica)), int(GONE_S * 1000)
    async with redis.pipeline(transaction=False) as pipe:
        pipe.set(key, text, px=expires_ms)
        if number % _BEATS_A_LISTING == 0:
            pipe.zadd(REPLICAS, {replica.worker_id: replica.beat_at_ms})
        if watched:
            pipe.mget(watched)
        replies = await pipe.execute(raise_on_error=False)
    if isinstance(replies[0], OutOfMemoryError):
        listing = ("ZADD", REPLICAS, replica.beat_at_ms, replica.worker_id)
        await write_even_when_full(redis, key, ("SET", key, text, "PX", expires_ms), listing)
    elif isinstance(replies[0], Exception):
        raise replies[0]
    return replies[-1] if watched and isinstance(replies[-1], list) else []


async def remove_beat(redis: Redis, worker_id: str) -> None:
    """This replica stopped on purpose."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.delete(replica_key(worker_id))
        pipe.zrem(REPLICAS, worker_id)
        await pipe.execute()


async def forget_gone(redis: Redis) -> None:
    """Take replicas that beat no more off the list and note that they died; by their keys, for hosts' clocks differ."""
    gone = await _silent(redis, REPLICAS)
    if gone:
        async with redis.pipeline(transaction=False) as pipe:
            pipe.zadd(GONE, gone)
            pipe.zremrangebyrank(GONE, 0, -_MOST_GONE - 1)
            pipe.zrem(REPLICAS, *gone)
            await pipe.execute()


async def book_put_back(redis: Redis, jobs: Mapping[str, int]) -> None:
    """Count jobs put back, by the worker that died over them."""
    async with redis.pipeline(transaction=False) as pipe:
        for worker_id, count in jobs.items():
            pipe.hincrby(_PUT_BACK, worker_id, count)
        pipe.expire(_PUT_BACK, _PUT_BACK_KEPT_S)
        await pipe.execute()


@dataclass(frozen=True, slots=True)
class GoneReplica:
    """A worker process that ended without saying so; its jobs go to others once their leases have run out."""

    worker_id: str
    beat_at_ms: int
    put_back: int = 0  # jobs it had in hand and that went back into the queue
    waiting: int | None = 0  # of those, how many have not ended yet; None where they are too many to look through

    @property
    def ended(self) -> int | None:
        """How many of them others have ended, or have died over in their turn."""
        return None if self.waiting is None else max(0, self.put_back - self.waiting)

    @property
    def host(self) -> str:
        """Where it ran."""
        return self.worker_id.split(":", 1)[0]


async def read_gone(redis: Redis, suspects: Sequence[str] = ()) -> list[GoneReplica]:
    """Those that died and that nobody dismissed, the last first; `suspects`: the queues' accounts of crashes."""
    gone = await _silent(redis, GONE) | await _silent(redis, REPLICAS)
    counts = await redis.hmget(_PUT_BACK, list(gone)) if gone else []  # type: ignore[misc] # redis-py's own union
    put_back = {name: int(count) for name, count in zip(gone, counts, strict=True) if count and count.isdigit()}
    waiting = await _waiting(redis, suspects) if put_back else Counter()
    found = []
    for name, at in gone.items():
        left = None if waiting is None else waiting[name]
        found.append(GoneReplica(name.decode("utf-8", "replace"), int(at), put_back.get(name, 0), left))
    return sorted(found, key=lambda one: -one.beat_at_ms)


async def _waiting(redis: Redis, suspects: Sequence[str]) -> Counter[bytes] | None:
    """Open jobs by the worker whose death was booked on them last (record.lua); None where they are too many."""
    found: Counter[bytes] = Counter()
    for key in suspects:
        if await redis.hlen(key) > _MOST_BLAMED:  # type: ignore[misc]
            return None
        for text in await redis.hvals(key):  # type: ignore[misc]
            blamed = text.split(b"|")[3:4]
            found.update(token.rpartition(b":")[0] for token in blamed)
    return found


async def dismiss(redis: Redis, worker_id: str) -> None:
    """Somebody has seen that it died."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.zrem(REPLICAS, worker_id)
        pipe.zrem(GONE, worker_id)
        pipe.hdel(_PUT_BACK, worker_id)
        await pipe.execute()


async def _silent(redis: Redis, listed: str) -> dict[bytes, float]:
    """Those of a list that do not beat, with their last listed beat."""
    return {name: at for name, at, text in await _beats(redis, listed) if text is None}


async def _beats(redis: Redis, listed: str) -> list[tuple[bytes, float, bytes | None]]:
    """Those of a list: id, last listed beat, and what they said at the last; None where they do not beat."""
    names: list[tuple[bytes, float]] = await redis.zrange(listed, 0, -1, withscores=True)
    texts = await redis.mget([replica_key("").encode() + name for name, _ in names]) if names else []
    return [(name, at, text) for (name, at), text in zip(names, texts, strict=True)]


async def read_replicas(redis: Redis) -> list[Replica]:
    """Every replica that beats, by id."""
    said = [_read(text) for _, _, text in await _beats(redis, REPLICAS) if text]
    return sorted((replica for replica in said if replica), key=lambda replica: replica.worker_id)


def _read(text: bytes) -> Replica | None:
    try:
        return _REPLICA.validate_json(text)
    except ValidationError as error:  # written by somebody else; no part of it is shown
        log.warning("queue.replica.unreadable", problems=error.error_count())
        return None


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


async def look_around(redis: Redis, known: Sequence[str]) -> None:
    """Look now and then, until cancelled, for who died and for jobs under names that nobody serves."""
    while True:
        try:
            await note_other_queues(redis, known)
            await forget_gone(redis)
        except OUTAGE as error:
            log.debug("queue.look_around.failed", error=type(error).__name__)
        await asyncio.sleep(_LOOK_AROUND_S)
