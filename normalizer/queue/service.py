"""`TaskService`: the queue's producer side, and what an operator looks at and steers it by.

tasks = TaskService()                      # settings from the environment, read at first use
await tasks.enqueue(appointment_id)        # one: overtakes a bulk import
await tasks.enqueue_many(ids)              # many: one round trip per 1,000

The deployed backend's own service has `get_pool`, `enqueue_normalization`, `get_job_status` and `close`; so has this
one, with the same arguments and answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

import structlog
from arq.connections import RedisSettings
from arq.constants import job_key_prefix
from arq.jobs import Job, JobResult, JobStatus, SerializationError, deserialize_job_raw
from redis.exceptions import OutOfMemoryError, ResponseError

from normalizer.errors import InvalidInput, Misconfigured, QueueFull, QueueUnavailable
from normalizer.queue.connection import (
    OUTAGE,
    describe,
    open_pool,
    redis_settings,
    server_problem,
    write_even_when_full,
)
from normalizer.queue.leases import HEAD_START_MS, Keys, script
from normalizer.queue.replicas import (
    DRAINING,
    PAUSED,
    GoneReplica,
    Replica,
    dismiss,
    find_other_queues,
    noted_queues,
    read_gone,
    read_replicas,
)
from normalizer.queue.serializer import job_deserializer, job_serializer

if TYPE_CHECKING:
    from uuid import UUID

    from arq.connections import ArqRedis

    from normalizer.settings import Settings

log = structlog.get_logger(__name__)

TASK_NAME = "normalize_appointment"
#: arq's own default, which a backend that names no queue writes to; and the name of the guide's examples.
QUEUE_NAMES = ("arq:queue", "arq:queue:default")
QUEUE_NAME = QUEUE_NAMES[0]
#: Stands in a job's id where the content's fingerprint is not known: such jobs of one appointment are one job.
NO_FINGERPRINT = "00000000"
#: An import may wait for a provider over a long week-end; arq's own day would expire it.
KEEP_PAYLOAD_MS = 14 * 86_400_000
_IDS_PER_CALL = 1_000
#: From here on bulk enqueueing is refused: the rest is for single jobs, claims, results and the cache.
_FULL = 0.85
_WHOLE_DIGITS = 10
_MAX_ID_CHARS = 200


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What became of ids given to `enqueue_many`."""

    new: int = 0
    already_queued: int = 0  # or in work, with this very content
    running_again: int = 0  # in work now, perhaps with other content; will run once more afterwards


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """The queue at one moment, from commands that do not grow with the queue."""

    state: Literal["running", "paused", "draining"]
    due: int  # jobs that could be claimed now, in all queues
    running: int  # jobs in groups
    deferred: int  # jobs that wait for their time (back-off)
    oldest_age_s: float | None  # since when the first due job waits; None if none is due
    replicas: Sequence[Replica]  # those that beat
    now_ms: int = 0  # Redis's clock
    unserved: Mapping[str, int] = field(default_factory=dict)  # jobs by the name of a queue that no replica serves
    problems: Sequence[str] = ()  # what is wrong with a queue, in a sentence
    gone: Sequence[GoneReplica] = ()  # those that died, until somebody dismissed them


def job_id_of(appointment_id: str, fingerprint: str | None = None) -> str:
    """`norm:{appointment_id}:{fingerprint8}`: the same content twice is one job."""
    return f"norm:{appointment_id}:{(fingerprint or NO_FINGERPRINT)[:8]}"


class TaskService:
    """The queue's producer side. Connects at first use; safe to share within one event loop.

    Args:
        redis_url: `redis://…`, or settings made of one; taken from the environment if None.
        redis_password: used when the URL carries none.
        queue_names: as the workers'; jobs are put into the first.
        attempts: connection attempts, one second apart, before QueueUnavailable.
    """

    def __init__(
        self,
        redis_url: str | RedisSettings | None = None,
        *,
        redis_password: str | None = None,
        queue_names: Sequence[str] | None = None,
        attempts: int = 3,
    ) -> None:
        self._url, self._password, self._attempts = redis_url, redis_password, attempts
        self._queue_names = queue_names
        self._pool: ArqRedis | None = None
        self._where = ""
        self._lock = asyncio.Lock()

    @property
    def queue_names(self) -> Sequence[str]:
        """The queues the workers serve, in their order."""
        if self._queue_names is None:
            self._queue_names = QUEUE_NAMES if self._url is not None else _settings().arq_queue_names
        return self._queue_names

    @property
    def queue_name(self) -> str:
        """Where jobs are put."""
        return self.queue_names[0]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def get_pool(self) -> ArqRedis:
        """The connected pool; writes pickle as stock arq does, reads harmless pickle and JSON.

        Raises:
            Misconfigured: REDIS_URL cannot be used, or Redis refuses the password.
            QueueUnavailable: Redis does not answer.
        """
        async with self._lock:
            if self._pool is None:
                settings = self._redis_settings()
                self._where = describe(settings)
                self._pool = await open_pool(
                    settings,
                    queue_name=self.queue_name,
                    job_serializer=job_serializer,
                    job_deserializer=job_deserializer,
                    expires_extra_ms=KEEP_PAYLOAD_MS,
                    attempts=self._attempts,
                )
            return self._pool

    async def close(self) -> None:
        """Close the pool, if it was opened."""
        if self._pool is not None:
            await self._pool.aclose(close_connection_pool=True)
            self._pool = None

    async def enqueue_normalization(self, appointment_id: str | UUID) -> str | None:
        """Enqueue one appointment, as the deployed backend's service does. Returns the job's id.

        None where Redis cannot be reached: the appointment is stored as pending, and the workers find it there.
        """
        try:
            return await self.enqueue(str(appointment_id))
        except QueueUnavailable as error:
            log.warning("tasks.enqueue_failed", error=type(error).__name__)
            return None

    async def get_job_status(self, job_id: str) -> dict[str, Any] | None:
        """What is known of a job: `job_id, status, enqueue_time, start_time, finish_time, result, error`.

        None for a job that is not known (any more). Times are aware datetimes, as arq gives them.
        """
        async with self._redis() as pool:
            job = await self._find(pool, job_id)
            if job is None:
                return None
            status = await job.status()
            try:
                info = await job.info()
            except SerializationError as error:
                return _job_status(job_id, status, error=str(error.__cause__ or error))
        if info is None:  # it ended between the two questions, and its result was not kept
            return None
        if not isinstance(info, JobResult):
            return _job_status(job_id, status, enqueue_time=info.enqueue_time)
        times = {"enqueue_time": info.enqueue_time, "start_time": info.start_time, "finish_time": info.finish_time}
        if info.success:
            return _job_status(job_id, status, result=info.result, **times)
        return _job_status(job_id, status, error=str(info.result) or type(info.result).__name__, **times)

    async def _find(self, pool: ArqRedis, job_id: str) -> Job | None:
        for queue_name in self.queue_names:
            job = Job(job_id, pool, queue_name, _deserializer=job_deserializer)
            if await job.status() is not JobStatus.not_found:
                return job
        return None

    async def enqueue(self, appointment_id: str, *, fingerprint: str | None = None) -> str:
        """Enqueue one appointment, ahead of bulk imports of the last ten minutes. Returns the job's id."""
        fingerprints = None if fingerprint is None else {appointment_id: fingerprint}
        await self._put([appointment_id], fingerprints, ahead_ms=HEAD_START_MS)
        return job_id_of(appointment_id, fingerprint)

    async def enqueue_many(
        self, appointment_ids: Sequence[str], *, fingerprints: Mapping[str, str] | None = None
    ) -> Enqueued:
        """Enqueue many appointments, one round trip per 1,000.

        Args:
            appointment_ids: ids; one that is queued already stays one job, one in work without a fingerprint runs once
                more afterwards.
            fingerprints: of the content, by id; ids without one share a placeholder.

        Raises:
            QueueFull: Redis has little memory left, which single jobs and the work under way need.
        """
        return await self._put(appointment_ids, fingerprints, ahead_ms=0)

    async def _put(self, ids: Sequence[str], fingerprints: Mapping[str, str] | None, *, ahead_ms: int) -> Enqueued:
        for appointment_id in ids:
            _check(appointment_id)
        known, totals = fingerprints or {}, [0, 0, 0]
        own, *others = map(Keys.of, self.queue_names)
        keys = [own.queue, own.rerun, own.wake, *(other.queue for other in others)]
        async with self._redis() as pool:
            run = pool.register_script(script("enqueue"))
            for start in range(0, len(ids), _IDS_PER_CALL):
                at_ms = int(time.time() * 1000)
                args: list[Any] = [ahead_ms, KEEP_PAYLOAD_MS, f":{NO_FINGERPRINT}"]
                for appointment_id in ids[start : start + _IDS_PER_CALL]:
                    payload = job_serializer({"t": None, "f": TASK_NAME, "a": (appointment_id,), "k": {}, "et": at_ms})
                    args += job_id_of(appointment_id, known.get(appointment_id)), payload
                if not ahead_ms:
                    await _check_room(pool, self._where)
                reply = await run(keys=keys, args=args)
                totals = [total + int(more) for total, more in zip(totals, reply, strict=True)]
        return Enqueued(*totals)

    # -- looking and steering -----------------------------------------------------------------------------------------

    async def status(self) -> QueueStatus:
        """How the queues and their replicas are."""
        async with self._redis() as pool:
            seconds, micros = await pool.time()
            now = int(seconds) * 1000 + int(micros) // 1000
            replicas = await read_replicas(pool)
            gone = await read_gone(pool, [Keys.of(name).suspects for name in self.queue_names])
            counts = [await _counts(pool, Keys.of(name), now) for name in self.queue_names]
            unserved = await self._unserved(pool, replicas)
        states = {count.state for count in counts}
        ages = [count.oldest_age_s for count in counts if count.oldest_age_s is not None]
        return QueueStatus(
            state=next((state for state in (DRAINING, PAUSED) if state in states), b"running").decode(),  # type: ignore[arg-type]
            due=sum(count.due for count in counts),
            running=sum(count.running for count in counts),
            deferred=sum(count.deferred for count in counts),
            oldest_age_s=max(ages, default=None),
            replicas=replicas,
            now_ms=now,
            unserved=unserved,
            problems=[count.problem for count in counts if count.problem],
            gone=gone,
        )

    async def dismiss(self, worker_id: str) -> None:
        """Somebody has seen that this worker died."""
        async with self._redis() as pool:
            await dismiss(pool, worker_id)

    async def _unserved(self, pool: ArqRedis, replicas: Sequence[Replica]) -> dict[str, int]:
        """Jobs under names that are known of and that no replica serves; ours only while replicas serve others."""
        served = {name for replica in replicas for name in replica.queues}
        ours = set(self.queue_names) if not replicas else set()
        names = dict.fromkeys((*self.queue_names, *QUEUE_NAMES, *await noted_queues(pool)))
        waiting = {name: await _size(pool, name) for name in names if name not in served | ours}
        return {name: jobs for name, jobs in waiting.items() if jobs}

    async def server_problem(self) -> Misconfigured | None:
        """Why the queue cannot work on this Redis; None if it can."""
        async with self._redis() as pool:
            return await server_problem(pool, self._where)

    async def other_queues(self) -> dict[str, int]:
        """Jobs by the name of a queue that is none of `queue_names`. Looks at a bounded part of the key space."""
        async with self._redis() as pool:
            return await find_other_queues(pool, self.queue_names)

    async def pause(self) -> None:
        """No replica claims any more; groups in work end normally. Holds until `resume`."""
        await self._set_state(PAUSED)

    async def drain(self) -> None:
        """As `pause`, and groups in work start nothing new and hand back what they did not start."""
        await self._set_state(DRAINING)

    async def resume(self) -> None:
        """Claim again."""
        async with self._redis() as pool:
            for keys in map(Keys.of, self.queue_names):
                await pool.delete(keys.paused)
                await pool.publish(keys.wake, "resume")

    async def _set_state(self, state: bytes) -> None:
        async with self._redis() as pool:
            for keys in map(Keys.of, self.queue_names):
                await write_even_when_full(pool, keys.paused, ("SET", keys.paused, state))

    def _redis_settings(self) -> RedisSettings:
        if isinstance(self._url, RedisSettings):
            return self._url
        if self._url is not None:
            return redis_settings(self._url, self._password)
        found = _settings()
        password = self._password or (found.redis_password.get_secret_value() if found.redis_password else None)
        return redis_settings(found.redis_url.get_secret_value(), password, database=found.redis_db)

    @contextlib.asynccontextmanager
    async def _redis(self) -> AsyncIterator[ArqRedis]:
        """The pool; redis-py's errors become QueueUnavailable with one sentence."""
        pool = await self.get_pool()
        try:
            yield pool
        except OutOfMemoryError as error:
            raise _full(self._where) from error
        except OUTAGE as error:
            raise QueueUnavailable(f"O Redis em {self._where} não respondeu ({type(error).__name__}).") from error


def _full(where: str) -> QueueFull:
    return QueueFull(
        f"O Redis em {where} está cheio: os agendamentos ficam pendentes no MongoDB e entram na fila quando houver "
        "lugar. Espere a fila baixar ou aumente maxmemory."
    )


async def _check_room(pool: ArqRedis, where: str) -> None:
    """Refuse a bulk while there is room for what single jobs and the work under way need."""
    info = await pool.info("memory")
    limit = int(info.get("maxmemory", 0))
    evicts = str(info.get("maxmemory_policy", "noeviction")) != "noeviction"
    if limit and not evicts and int(info.get("used_memory", 0)) > _FULL * limit:
        raise _full(where)


@dataclass(frozen=True, slots=True)
class _Counts:
    """One queue's share of a `QueueStatus`."""

    state: bytes | None = None
    due: int = 0
    running: int = 0
    deferred: int = 0
    oldest_age_s: float | None = None
    problem: str | None = None


async def _counts(pool: ArqRedis, keys: Keys, now: int) -> _Counts:
    async with pool.pipeline(transaction=False) as pipe:
        pipe.get(keys.paused)
        pipe.zcount(keys.queue, "-inf", now)
        pipe.zcard(keys.queue)
        pipe.hvals(keys.sizes)
        pipe.zrangebyscore(keys.queue, "-inf", now, start=0, num=1)
        replies = await pipe.execute(raise_on_error=False)
    for error in replies:
        if isinstance(error, ResponseError):
            return _Counts(
                problem=f"a fila {keys.queue} não pode ser lida ({str(error).split(' ', 1)[0]}): a chave, ou uma com "
                "esse início, não é do tipo que o arq grava. Apague-a ou mude ARQ_QUEUE_NAMES."
            )
        if isinstance(error, Exception):
            raise error
    paused, due, total, sizes, first = replies
    running = sum(_whole(size) for size in sizes)
    age = await _age_s(pool, first[0], now) if first else None
    return _Counts(paused, due, running, max(0, total - due - running), age)


def _whole(text: bytes) -> int:
    return int(text) if text.isdigit() and len(text) < _WHOLE_DIGITS else 0


async def _size(pool: ArqRedis, name: str) -> int:
    try:
        return int(await pool.zcard(name))
    except ResponseError:
        return 0


async def _age_s(pool: ArqRedis, job_id: bytes, now: int) -> float | None:
    """Since when the job waits, by its own account: its score may carry a head start."""
    try:
        payload = await pool.get(job_key_prefix.encode() + job_id)
        if payload is None:
            return None
        *_, enqueued_at_ms = deserialize_job_raw(payload, deserializer=job_deserializer)
    except (SerializationError, ResponseError):
        return None
    return max(0.0, (now - enqueued_at_ms) / 1000)


def _settings() -> Settings:
    from normalizer.settings import load_settings  # noqa: PLC0415 — only without explicit values

    return load_settings()


def _job_status(job_id: str, status: JobStatus, **known: Any) -> dict[str, Any]:
    fields = ("enqueue_time", "start_time", "finish_time", "result", "error")
    return {"job_id": job_id, "status": status.value, **{name: known.get(name) for name in fields}}


def _check(appointment_id: str) -> None:
    if not appointment_id or len(appointment_id) > _MAX_ID_CHARS:
        raise InvalidInput(
            where="enqueue",
            expected=f"um id de agendamento de 1 a {_MAX_ID_CHARS} caracteres",
            found=f"{len(appointment_id)} caracteres",
            fix="Passe o campo id do agendamento.",
        )


__all__ = ["QUEUE_NAME", "QUEUE_NAMES", "TASK_NAME", "Enqueued", "QueueStatus", "TaskService", "job_id_of"]
