"""Groups: the claimed jobs a batch function is handed, the time it has, and how each job ends on its own.

    async def normalize(ctx: Mapping[str, Any], group: Group) -> None:
        for job in group.jobs: ...
        await group.settle({job.job_id: Done(), other.job_id: Snooze(after_s=30)})

It may settle as often as it likes, each job once. How a job the function did not settle ends:

- the function returned or the worker stops: handed back, the try not counted;
- it raised a `TransientError`: handed back for later;
- it raised anything else, or overran its deadline: again in a group of half the size; a job alone in its group counts
  the try, and has failed after `max_tries`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog
from arq.jobs import serialize_result
from arq.utils import timestamp_ms
from arq.worker import Function, JobExecutionFailed, RetryJob
from redis.exceptions import ResponseError

from normalizer.errors import TransientError
from normalizer.queue.leases import ClaimedJob, GroupKind, JobEnd, Keys, Leases, SettleAction
from normalizer.queue.serializer import job_serializer, serializer_for, wire_of
from normalizer.queue.waiting import cancel_and_wait

if TYPE_CHECKING:
    from arq.typing import WorkerCoroutine
    from arq.worker import Worker

    from normalizer.queue.connection import RedisHealth

log = structlog.get_logger(__name__)

ABORTED = "cancelado a pedido"
CRASHED = "derrubou o processo"
OVERRAN = "não terminou no tempo"
#: Time a function may take beyond its deadline to notice it, before it is cancelled.
OVERRUN_S = 10.0
_LEFT_OPEN_S = 0.5
_TRANSIENT_S = 5.0
_SPLIT_S = 0.1
_BACKOFF_S, _LONGEST_BACKOFF_S = 5.0, 300.0
_UNTOLD_S = 30.0
_RELEASE_S = 5.0


@dataclass(frozen=True, slots=True)
class Done:
    """The job is over; `result` is what `Job.result()` returns (JSON types)."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Once more in `after_s` seconds; the try counts, and after `max_tries` the job has failed with `cause`."""

    after_s: float
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Snooze:
    """Once more in `after_s` seconds (0: at once, at its old place); the try does not count. For outages and stops."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Failed:
    """The job has failed for good; `cause` is what an operator reads."""

    cause: str


Settlement: TypeAlias = Done | RetryLater | Snooze | Failed
OnDead: TypeAlias = Callable[[Mapping[str, Any], Sequence[tuple[ClaimedJob, str]]], Awaitable[None]]
GroupCoroutine: TypeAlias = Callable[[Mapping[str, Any], "Group"], Awaitable[None]]


@dataclass
class BatchFunction(Function):
    """A function that takes groups of jobs; made by `batch_func`."""

    max_items: int = 250
    on_dead: OnDead | None = None


def batch_func(
    coroutine: GroupCoroutine,
    *,
    name: str | None = None,
    max_items: int = 250,
    timeout_s: float | None = None,
    max_tries: int | None = None,
    keep_result_s: float | None = None,
    on_dead: OnDead | None = None,
) -> BatchFunction:
    """Declare a batch function for `BatchWorker`.

    Args:
        coroutine: `async def f(ctx, group: Group) -> None`.
        name: job name; the coroutine's qualified name if None.
        max_items: jobs in one group at most.
        timeout_s: what `Group.deadline` promises; the worker's `job_timeout` if None.
        max_tries: counted tries before a job has failed; the worker's if None.
        keep_result_s: how long results are kept; the worker's if None.
        on_dead: told of failed and condemned jobs before they are settled.
    """
    if not asyncio.iscoroutinefunction(coroutine):
        raise RuntimeError(f"{coroutine} is not a coroutine function")
    if not 1 <= max_items <= 1_000:
        raise ValueError("max_items must be from 1 to 1,000")

    async def group_only(ctx: Mapping[str, Any], *given: Any, **_kwargs: Any) -> None:
        """arq hands a job here whose abort was withdrawn at the last moment: it belongs into a group again."""
        if len(given) != 1 or not isinstance(given[0], Group):
            raise RetryJob
        await coroutine(ctx, given[0])

    body: WorkerCoroutine = group_only
    return BatchFunction(
        name or coroutine.__qualname__, body, timeout_s, keep_result_s, None, max_tries, max_items, on_dead
    )


@dataclass(eq=False, slots=True)
class GroupState:
    """A claimed group as the worker runs it; a batch function sees its `Group`."""

    function: BatchFunction
    jobs: Sequence[ClaimedJob]  # oldest first
    keys: Keys  # of the queue it came from
    token: str  # the claim's
    fence: int  # number of the claim, the same for all its jobs
    kind: GroupKind
    deadline: float  # the loop's time by which everything should be settled
    started_ms: int  # Unix time of the claim
    open: dict[str, ClaimedJob] = field(init=False)  # jobs that are still this group's to end, by id
    lost: set[str] = field(default_factory=set, init=False)  # ids found to belong to another claim, or aborted
    aborted: set[str] = field(default_factory=set, init=False)  # ids that somebody asked to abort, and that were
    settling: set[str] = field(default_factory=set, init=False)  # ids whose end is on its way to Redis
    stopping: asyncio.Event = field(default_factory=asyncio.Event, init=False)  # set when the worker stops

    def __post_init__(self) -> None:
        self.open = {job.job_id: job for job in self.jobs}

    @property
    def key(self) -> str:
        """Unlike any other group's: jobs of several functions may be claimed under one token."""
        return f"{self.token}:{self.function.name}"

    def mark_settled(self, job_ids: Iterable[str]) -> None:
        """These jobs are over, or back in the queue."""
        for job_id in job_ids:
            self.open.pop(job_id, None)

    def mark_aborted(self, job_ids: Iterable[str]) -> None:
        """These jobs were aborted."""
        self.aborted.update(job_ids)
        self.mark_lost(job_ids)

    def mark_lost(self, job_ids: Iterable[str]) -> None:
        """These jobs are not this group's any more."""
        for job_id in list(job_ids):
            self.open.pop(job_id, None)
            self.lost.add(job_id)


class Group:
    """Jobs claimed together, as their batch function sees them."""

    def __init__(
        self, state: GroupState, settle: Callable[[GroupState, Mapping[str, Settlement]], Awaitable[set[str]]]
    ) -> None:
        self._state, self._settle = state, settle
        #: The claimed jobs, oldest first, also those that were ended before the function began: see `unsettled`.
        self.jobs: Sequence[ClaimedJob] = state.jobs
        #: Jobs that are still this group's to end, by id.
        self.unsettled: Mapping[str, ClaimedJob] = state.open
        #: Ids that somebody asked to abort, and that were: nobody waits for them.
        self.aborted: Set[str] = state.aborted
        self.deadline = state.deadline  # the loop's time by which everything should be settled; plan inside it
        self.fence = state.fence  # number of the claim, the same for all its jobs; guards writes elsewhere
        self.token = state.token  # the claim's, for logs

    @property
    def cancelled(self) -> bool:
        """Whether the worker is stopping: finish what is under way, start nothing new, leave the rest unsettled."""
        return self._state.stopping.is_set()

    async def until_cancelled(self) -> None:
        """Return as soon as `cancelled` holds."""
        await self._state.stopping.wait()

    async def settle(self, settlements: Mapping[str, Settlement]) -> set[str]:
        """End jobs of this group, each its own way, in one round trip.

        Returns the ids that were not this group's any more: their work is somebody else's now.
        Jobs settled before are left alone.
        """
        mine = {job_id: how for job_id, how in settlements.items() if job_id in self._state.open}
        stale = settlements.keys() & self._state.lost
        if not mine:
            return set(stale)
        return await self._settle(self._state, mine) | stale


class _Overran(Exception):
    """The function did not end with its deadline."""


@dataclass(slots=True)
class Runner:
    """Runs groups and ends their jobs, on the terms of an arq worker, whose counters it keeps."""

    worker: Worker
    queues: Mapping[Keys, Leases]
    health: RedisHealth
    last_error: str | None = field(default=None, init=False)

    async def run(self, group: GroupState) -> None:
        """Run the group to its end. Raises nothing but cancellation."""
        if group.stopping.is_set():
            await self.release(group)
            return
        if group.kind is GroupKind.DEAD:
            await self.settle(group, dict.fromkeys(group.open, Failed(CRASHED)))
            return
        await self.abort(group, {job.job_id for job in group.jobs if job.try_ == 0})
        await self._bury_exhausted(group)
        if not group.open:
            return
        started = time.monotonic()
        jobs = len(group.open)
        fault = await self._call(group)
        left = len(group.open)
        await self._end_rest(group, fault)
        log.info(
            "queue.group.done",
            function=group.function.name,
            jobs=jobs,
            left_open=left,
            lost=len(group.lost),
            kind=str(group.kind),
            seconds=round(time.monotonic() - started, 3),
        )

    async def _call(self, group: GroupState) -> BaseException | None:
        """Call the function. Returns what it raised; `_Overran` where it did not end in time."""
        body: Any = group.function.coroutine
        task = asyncio.ensure_future(body(self.worker.ctx, Group(group, self.settle)))
        allowed = group.deadline - asyncio.get_running_loop().time() + OVERRUN_S
        try:
            done, _ = await asyncio.wait({task}, timeout=allowed)
            if done:
                return task.exception() if not task.cancelled() else asyncio.CancelledError()
            log.error("queue.group.overran", function=group.function.name, left_open=len(group.open))
            await cancel_and_wait(task, ask_every_s=1.0)
            return _Overran(OVERRAN)
        except asyncio.CancelledError:  # a second signal, or the end of the grace time
            group.stopping.set()
            await cancel_and_wait(task, ask_every_s=1.0)
            return None

    async def _end_rest(self, group: GroupState, fault: BaseException | None) -> None:
        rest = list(group.open)
        if not rest:
            return
        if fault is None or isinstance(fault, asyncio.CancelledError):
            if group.stopping.is_set():
                await self.release(group)
            else:
                await self.settle(group, dict.fromkeys(rest, Snooze(_LEFT_OPEN_S)))
            return
        self.last_error = type(fault).__name__
        if isinstance(fault, TransientError):
            after_s = _TRANSIENT_S if fault.retry_after_s is None else fault.retry_after_s
            log.warning("queue.group.postponed", error=self.last_error, jobs=len(rest), after_s=round(after_s, 1))
            await self.settle(group, dict.fromkeys(rest, Snooze(_jittered(after_s))))
            return
        overran = isinstance(fault, _Overran)
        if not overran:
            log.error("queue.group.raised", function=group.function.name, jobs=len(rest), exc_info=fault)
        cause = OVERRAN if overran else self.last_error
        if len(rest) == 1:
            await self._fault_alone(group, group.open[rest[0]], cause)
        else:
            after_ms, half = int(_SPLIT_S * 1000), len(rest) // 2
            end = JobEnd(SettleAction.SPLIT, counter="retried", after_ms=after_ms, limit=half)
            await self._send(group, dict.fromkeys(rest, end))

    async def release(self, group: GroupState) -> None:
        """Hand back because the worker stops; not for ever, for Redis may be away: then the leases run out."""
        try:
            async with asyncio.timeout(_RELEASE_S):
                await self.settle(group, dict.fromkeys(group.open, Snooze()))
        except TimeoutError:
            log.warning("queue.release.failed", jobs=len(group.open), redis=self.health.where)

    async def _fault_alone(self, group: GroupState, job: ClaimedJob, cause: str) -> None:
        if job.try_ >= self._max_tries(group.function) or not self.worker.retry_jobs:
            await self.settle(group, {job.job_id: Failed(cause)})
            return
        after_ms = int(_jittered(min(_LONGEST_BACKOFF_S, _BACKOFF_S * 2 ** (job.try_ - 1))) * 1000)
        end = JobEnd(SettleAction.SPLIT_COUNTED, counter="retried", after_ms=after_ms, limit=1)
        await self._send(group, {job.job_id: end})

    async def _bury_exhausted(self, group: GroupState) -> None:
        limit = self._max_tries(group.function)
        spent = [job.job_id for job in group.jobs if job.try_ > limit]
        if spent:
            await self.settle(group, dict.fromkeys(spent, Failed(f"max {limit} retries exceeded")))

    async def settle(self, group: GroupState, settlements: Mapping[str, Settlement]) -> set[str]:
        """End jobs of the group in one round trip, waiting for Redis if it is away. Returns the lost ids."""
        ends = self._within_tries(group, settlements)
        ends |= await self._report_dead(group, ends)
        jobs, write = group.open, self._writer(group)  # some may have been lost while `on_dead` was told
        still = {job_id: _end(jobs[job_id], how, write) for job_id, how in ends.items() if job_id in jobs}
        return await self._send(group, still)

    def _within_tries(self, group: GroupState, settlements: Mapping[str, Settlement]) -> dict[str, Settlement]:
        """The settlements, with a `Failed` for every `RetryLater` that has no try left."""
        limit, ends = self._max_tries(group.function), dict(settlements)
        for job_id, how in settlements.items():
            if isinstance(how, RetryLater) and (group.open[job_id].try_ >= limit or not self.worker.retry_jobs):
                ends[job_id] = Failed(how.cause or f"max {limit} retries exceeded")
        return ends

    async def abort(self, group: GroupState, job_ids: set[str]) -> None:
        """End jobs that somebody asked to abort; the rest of the group does not notice.

        Their result is a CancelledError, as in stock arq; whoever keeps the truth is told that they failed.
        """
        asked = {job_id: Failed(ABORTED) for job_id in job_ids & group.open.keys() - group.settling}
        untold = await self._report_dead(group, asked)
        write = self._writer(group)
        endings = {
            job_id: write(group.open[job_id], asyncio.CancelledError(), success=False)
            for job_id in asked
            if job_id not in untold and job_id in group.open
        }
        if endings:
            await self._send(group, endings)
            group.mark_aborted(endings)
            log.info("queue.jobs.aborted", jobs=len(endings))

    async def _send(self, group: GroupState, ends: Mapping[str, JobEnd]) -> set[str]:
        attempts = 0

        async def settle() -> set[str]:
            nonlocal attempts
            attempts += 1
            return await self.queues[group.keys].settle(group.token, ends, keep_ms=self.worker.expires_extra_ms)

        group.settling |= ends.keys()
        try:
            lost = await self.health.retry_forever(settle)
        except ResponseError as error:  # keys of a wrong type: the lease runs out, and the jobs come back
            self.last_error = type(error).__name__
            log.error("queue.settle.refused", jobs=len(ends), token=group.token, queue=group.keys.queue)
            lost = set(ends)
        finally:
            group.settling -= ends.keys()
        if lost and attempts > 1:  # most likely the first attempt settled them and only its answer was lost
            log.info("queue.settle.uncertain", jobs=len(lost), token=group.token)
            lost = set()
        group.mark_lost(lost)
        group.mark_settled(ends.keys() - lost)
        if lost:
            log.warning("queue.settle.lost", jobs=len(lost), token=group.token)
        ended = Counter(end.counter for job_id, end in ends.items() if job_id not in lost)
        self.worker.jobs_complete += ended["complete"]
        self.worker.jobs_failed += ended["failed"]
        self.worker.jobs_retried += ended["retried"]
        return lost

    async def _report_dead(self, group: GroupState, ends: Mapping[str, Settlement]) -> dict[str, Settlement]:
        """Tell `on_dead` of jobs about to fail. Returns other ends for them if it could not be told."""
        dead = [(group.open[job_id], how.cause) for job_id, how in ends.items() if isinstance(how, Failed)]
        if not dead:
            return {}
        log.warning("queue.jobs.failed", jobs=len(dead), causes=sorted({cause for _, cause in dead})[:5])
        if group.function.on_dead is None:
            return {}
        try:
            await group.function.on_dead(self.worker.ctx, dead)
        except Exception as error:  # noqa: BLE001 — whoever keeps the truth must hear of it before the queue forgets
            self.last_error = type(error).__name__
            log.warning("queue.on_dead.failed", jobs=len(dead), error=self.last_error)
            return {job.job_id: Snooze(_jittered(_UNTOLD_S)) for job, _ in dead}
        return {}

    def _writer(self, group: GroupState) -> Callable[..., JobEnd]:
        """A function that ends a job of the group for good; what all its jobs share is worked out once."""
        keep_s = self._keep_result_s(group.function)
        result_ms = None if keep_s is None else int(keep_s * 1000)
        started_ms, finished_ms, queue_name = group.started_ms, timestamp_ms(), group.keys.queue
        ours = self.worker.job_serializer is job_serializer

        def write(job: ClaimedJob, result: Any, *, success: bool) -> JobEnd:
            data, counter = b"", "complete" if success else "failed"
            if result_ms is None or result_ms > 0:
                said = (job.args, job.kwargs, job.try_, job.enqueued_at_ms, success, result)
                place = (started_ms, finished_ms, job.job_id, queue_name, job.job_id)
                write_as = serializer_for(wire_of(job.payload)) if ours else self.worker.job_serializer
                data = serialize_result(job.function, *said, *place, serializer=write_as) or b""  # type: ignore[arg-type]
            return JobEnd(SettleAction.FINISH, counter, data, job.try_ > 1, result_ms if data else None)

        return write

    def _keep_result_s(self, function: BatchFunction) -> float | None:
        if function.keep_result_forever or (function.keep_result_s is None and self.worker.keep_result_forever):
            return None
        return self.worker.keep_result_s if function.keep_result_s is None else function.keep_result_s

    def _max_tries(self, function: BatchFunction) -> int:
        return self.worker.max_tries if function.max_tries is None else function.max_tries


def _end(job: ClaimedJob, how: Settlement, write: Callable[..., JobEnd]) -> JobEnd:
    match how:
        case Done():
            return write(job, how.result, success=True)
        case Failed():
            return write(job, JobExecutionFailed(how.cause), success=False)
        case RetryLater():
            return JobEnd(SettleAction.RETRY, counter="retried", after_ms=int(how.after_s * 1000), score=job.score)
        case Snooze():
            return JobEnd(SettleAction.SNOOZE, after_ms=int(how.after_s * 1000), score=job.score)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.8, 1.2)
