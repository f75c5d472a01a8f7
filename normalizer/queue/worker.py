"""`BatchWorker`: an `arq.Worker` that also takes groups of jobs for batch functions.

Without batch functions it is `arq.Worker`, line by line. With them it claims by Lua (claimer.py, leases.py) instead of
one transaction a job; a claimed job of an ordinary function or a cron job is still run by arq's own `run_job`, so
results, retries, timeouts, hooks and log lines are arq's.

Read it downwards: what it is made of; its life; how slots are filled; what happens once per poll; how it stops.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from functools import cached_property, partial
from typing import Any

import structlog
from arq.connections import RedisSettings, log_redis_info
from arq.constants import abort_jobs_ss, in_progress_key_prefix
from arq.utils import timestamp_ms
from arq.worker import Worker, logger
from redis.exceptions import ReadOnlyError, ResponseError

from normalizer import __version__
from normalizer.queue import replicas
from normalizer.queue.claimer import Claimer, Wakeups
from normalizer.queue.connection import (
    OUTAGE,
    RedisHealth,
    describe,
    is_damage,
    open_pool,
    reconnect_idle,
    server_problem,
)
from normalizer.queue.group import OVERRUN_S, BatchFunction, GroupState, Runner, batch_func
from normalizer.queue.leases import (
    DAMAGED,
    TOO_LARGE,
    Claim,
    ClaimedJob,
    ClaimedPayload,
    ClaimTerms,
    GroupKind,
    JobEnd,
    Keys,
    Leases,
    SettleAction,
    read_claim,
    refusal,
)
from normalizer.queue.renewal import LeaseRenewer, Sweeper
from normalizer.queue.serializer import job_serializer
from normalizer.queue.waiting import cancel_and_wait, raise_if_cancelled, wait_for_event

__all__ = ["BatchWorker", "batch_func"]

log = structlog.get_logger(__name__)

_GROUP = "group:"
#: Polls of an idle worker, in `poll_delay`s: with arq's half second and the beats this is under two commands a second.
_IDLE_POLLS = 1.25
#: The queue of the job that this task runs: arq's own code knows one queue only.
_queue_of_task: ContextVar[str | None] = ContextVar("normalizer_queue", default=None)


class BatchWorker(Worker):
    """A drop-in `arq.Worker` that hands batch functions whole groups of jobs.

    Takes every argument of `arq.Worker`, and:

    Args:
        queue_names: queues to serve, in turn, with one set of slots; `queue_name` alone if empty. Cron jobs go into the
            last, for beside an old stock worker only the first is shared.
        lease_s: others keep off a claimed group for so long; renewed while the work runs.
        shutdown_grace_s: how long a first SIGTERM lets running work finish (arq's `job_completion_wait` wins if given).
        version: shown in the replica's heartbeat.
        on_group_end: told a group's kind, number of jobs and seconds.
        on_emptied: called with `ctx` before anything is claimed from a Redis that holds no claim's trace.
    """

    def __init__(
        self,
        functions: Sequence[Any] = (),
        *,
        queue_names: Sequence[str] = (),
        lease_s: float = 15.0,
        shutdown_grace_s: float = 25.0,
        version: str = __version__,
        on_group_end: Callable[[str, int, float], None] | None = None,
        on_emptied: Callable[[Mapping[Any, Any]], Awaitable[None]] | None = None,
        **arq_options: Any,
    ) -> None:
        has_batches = any(isinstance(function, BatchFunction) for function in functions)
        self._sigint_waits = bool(arq_options.get("job_completion_wait"))  # asked for in arq's own terms
        if has_batches and not self._sigint_waits:
            arq_options["job_completion_wait"] = shutdown_grace_s
        if queue_names:
            arq_options["queue_name"] = queue_names[0]
        super().__init__(functions, **arq_options)
        self.batch_functions = {f.name: f for f in self.functions.values() if isinstance(f, BatchFunction)}
        self.worker_id = replicas.new_worker_id()
        self.queue_names = tuple(queue_names) or (self.queue_name,)
        self.groups: dict[str, GroupState] = {}
        self._lease_s, self._on_emptied = lease_s, on_emptied
        self._version, self._on_group_end, self._started_ms = version, on_group_end, timestamp_ms()
        where = describe(self.redis_settings) if self.redis_settings else "redis_pool"
        # Leases are renewed as often: nobody's can have run out sooner.
        self._health = RedisHealth(where, silence_s=lease_s / 3)
        self._wake = asyncio.Event()
        self._opened = self._stopping = False
        self._last_claim_ms: int | None = None
        self._left_over: list[GroupState] = []
        self._chores: list[asyncio.Task[None]] = []

    @property
    def queue_name(self) -> str:
        """The queue of the job that this task runs; elsewhere the first of `queue_names`."""
        return _queue_of_task.get() or vars(self)["queue_name"]

    @queue_name.setter
    def queue_name(self, name: str) -> None:
        vars(self)["queue_name"] = name

    @cached_property
    def _queues(self) -> Mapping[Keys, Leases]:
        return {keys: Leases(self.pool, keys) for keys in map(Keys.of, self.queue_names)}

    @cached_property
    def _claimer(self) -> Claimer:
        refill = None if self._on_emptied is None else partial(self._on_emptied, self.ctx)
        return Claimer(self.pool, list(self._queues.values()), self._claim_terms, refill=refill)

    @cached_property
    def _claim_terms(self) -> ClaimTerms:
        functions = self.batch_functions.values()
        return ClaimTerms(
            worker_id=self.worker_id,
            functions=list(self.batch_functions) if self.job_serializer in {None, job_serializer} else [],
            max_items=max(function.max_items for function in functions),
            lease_ms=int(self._lease_s * 1000),
            hold_ms=self._hold_ms,
            stock_ms=int((self.in_progress_timeout_s or 0) * 1000),
            heed_aborts=self.allow_abort_jobs,
            refills=self._on_emptied is not None,
        )

    @property
    def _hold_ms(self) -> int:
        """As long as a stock worker's lock lasts, and the longest a group may take; never less than two leases."""
        longest_s = max(self._timeout_s(function) for function in self.batch_functions.values()) + OVERRUN_S
        return int(max(self.in_progress_timeout_s or 0, longest_s, 2 * self._lease_s) * 1000)

    def _timeout_s(self, function: BatchFunction) -> float:
        return (self.job_timeout_s if function.timeout_s is None else function.timeout_s) or 0

    @cached_property
    def _renewer(self) -> LeaseRenewer:
        return LeaseRenewer(self.pool, lease_s=self._lease_s, hold_ms=self._hold_ms)

    @cached_property
    def _runner(self) -> Runner:
        return Runner(self, self._queues, self._health)

    # -- life ---------------------------------------------------------------------------------------------------------

    async def main(self) -> None:
        """Work until stopped, or in burst mode until the queues are empty."""
        if not self.batch_functions:
            await super().main()
            return
        if not self._opened:
            await self._open()
        await self._serve()

    async def _open(self) -> None:
        if self._pool is None:
            self._pool = await open_pool(
                self.redis_settings or RedisSettings(),
                queue_name=self.queue_name,
                job_serializer=self.job_serializer,
                job_deserializer=self.job_deserializer,
                expires_extra_ms=self.expires_extra_ms,
            )
        logger.info("Starting worker for %d functions: %s", len(self.functions), ", ".join(self.functions))
        problem = await self._health.retry_forever(lambda: server_problem(self.pool, self._health.where))
        if problem is not None:
            raise problem
        await self._health.retry_forever(lambda: log_redis_info(self.pool, logger.info))
        self.ctx["redis"] = self.pool
        if self.on_startup:
            await self.on_startup(self.ctx)
        self._health.opened()
        self._renewer.start()
        wakeups = Wakeups(self.pool, list(self._queues), self._wake.set)
        queues, is_idle = self._queues.values(), lambda: self._claimer.empty and not self.groups
        sweeper = Sweeper(queues, self._health, lease_s=self._lease_s, idle=is_idle)
        chores = [self._renewer.watch_loop(), self._beat(), sweeper.run()]
        chores += [] if self.burst else [wakeups.listen(), replicas.look_around(self.pool, self.queue_names)]
        self._chores = [self.loop.create_task(chore) for chore in chores]
        self._opened = True

    async def _serve(self) -> None:
        """Claim whenever a slot is free and a job may be due; look for aborts and cron jobs once per `poll_delay`."""
        look_at = tick_at = 0.0
        while True:
            raise_if_cancelled()
            woken = self._wake.is_set()
            self._wake.clear()
            self._reap()
            try:
                if woken or self.loop.time() >= look_at:
                    look_at = self.loop.time() + await self._look(woken=woken, until=tick_at)
                if self.loop.time() >= tick_at:
                    await self._tick()
                    tick_at = self.loop.time() + self.poll_delay_s
                if self.burst and await self._burst_is_over():
                    return
            except OUTAGE as error:
                look_at = tick_at = self.loop.time() + await self._outage(error)
            await wait_for_event(self._wake, min(look_at, tick_at) - self.loop.time())

    async def _outage(self, error: BaseException) -> float:
        """Note it. Returns how long to wait."""
        if isinstance(error, ReadOnlyError):  # the one failure that leaves connections to the wrong server open
            await reconnect_idle(self.pool)
        return self._health.failed(error)

    async def _burst_is_over(self) -> bool:
        if self._burst_budget() <= 0 or not await self.pool.exists(*self.queue_names):
            await asyncio.gather(*self.tasks.values())
            return True
        return False

    def _reap(self) -> None:
        """As stock: errors of `run_job` surface here. An outage of Redis is no reason to end."""
        for key, task in list(self.tasks.items()):
            if not task.done():
                continue
            del self.tasks[key]
            try:
                task.result()
            except OUTAGE as error:
                self._health.failed(error)

    # -- slots --------------------------------------------------------------------------------------------------------

    async def _look(self, *, woken: bool, until: float = float("inf")) -> float:
        """Fill free slots; no longer than `until`, where groups end as fast as they start.

        Returns the seconds until it may be worth trying again.
        """
        await self._give_back()
        if self._free_slots() <= 0:
            return self.poll_delay_s
        idle_s = self.poll_delay_s * _IDLE_POLLS
        if not woken and not await self._health.call(self._claimer.anything_due):
            return min(idle_s, self._claimer.wait_s)
        while (slots := self._free_slots()) > 0:
            most = int(min(self._claim_terms.max_items, self._burst_budget()))
            claiming = partial(self._claimer.next, slots, alone=not self.groups, max_items=most)
            found = await self._health.call(claiming)
            if found is None:
                return min(idle_s, self._claimer.wait_s)
            await self._start(*found)
            if self.loop.time() >= until:
                return 0.0
        return idle_s

    async def _give_back(self) -> None:
        """Hand back what nobody works on; all groups at once, for each waits some seconds where Redis is away."""
        await self._claimer.give_back_doubtful()
        groups = len(self._left_over)
        await asyncio.gather(*map(self._runner.release, self._left_over))
        del self._left_over[:groups]

    def _free_slots(self) -> int:
        if not self.allow_pick_jobs or (self._claimer.isolating and self.groups):
            return 0
        if any(group.kind is GroupKind.EXCLUSIVE for group in self.groups.values()):
            return 0
        return int(min(self.max_jobs - self.job_counter, self._burst_budget()))

    def _burst_budget(self) -> float:
        """How many more jobs may be started; no end of them, but in a burst that has a limit."""
        if not self.burst or self.max_burst_jobs < 0:
            return float("inf")
        in_groups = sum(len(group.open) for group in self.groups.values())
        stock = sum(not key.startswith(_GROUP) for key in self.tasks)
        return self.max_burst_jobs - (self.jobs_complete + self.jobs_retried + self.jobs_failed + stock + in_groups)

    async def _start(self, leases: Leases, claim: Claim) -> None:
        """Start what was claimed; nothing is awaited before every group is in the renewer's hands."""
        found = read_claim(claim, self.batch_functions, self.job_deserializer)
        for function, jobs in found.groups.items():
            self._last_claim_ms = timestamp_ms()
            self._start_group(leases.keys, claim, self.batch_functions[function], jobs)
        for job_id, score in found.stock:
            await self._start_stock(leases.keys.queue, job_id, score)
        await self._start_others(leases, claim, found.others)
        if found.damaged:
            log.warning("queue.ids.unreadable", jobs=len(found.damaged), queue=leases.keys.queue)
            await leases.drop(found.damaged)

    def _start_group(self, keys: Keys, claim: Claim, function: BatchFunction, jobs: Sequence[ClaimedJob]) -> None:
        deadline = self.loop.time() + self._timeout_s(function)
        group = GroupState(function, jobs, keys, claim.token, claim.fence, claim.kind, deadline, timestamp_ms())
        if self._stopping:
            group.stopping.set()
        self.groups[group.key] = group
        self._renewer.add(group)
        log.debug("queue.group.claimed", function=function.name, jobs=len(jobs), kind=str(claim.kind))
        task = self.loop.create_task(self._runner.run(group))
        task.add_done_callback(lambda _: self._group_over(group))
        self.job_counter += 1
        self.tasks[_GROUP + group.key] = task

    def _group_over(self, group: GroupState) -> None:
        del self.groups[group.key]
        if self._on_group_end is not None:
            self._on_group_end(str(group.kind), len(group.jobs), (timestamp_ms() - group.started_ms) / 1000)
        if group.open:  # cancelled before it began, or on its way out
            self._left_over.append(group)
        self._renewer.remove(group)
        self.job_counter -= 1
        self._wake.set()

    # -- jobs that stock arq runs -------------------------------------------------------------------------------------

    async def _start_stock(self, queue_name: str, job_id: str, score: float) -> None:
        await self.sem.acquire()
        self.job_counter += 1
        self.tasks[job_id] = task = self.loop.create_task(self._run_stock(queue_name, job_id, int(score)))
        task.add_done_callback(lambda _: self._stock_over())

    async def _run_stock(self, queue_name: str, job_id: str, score: int) -> None:
        _queue_of_task.set(queue_name)
        try:
            await self.run_job(job_id, score)
        except ResponseError as error:
            if not is_damage(error):
                raise
            log.warning("queue.job.damaged", job=job_id, queue=queue_name)
            self.jobs_failed += 1
            await self.finish_failed_job(job_id, refusal(queue_name, job_id, DAMAGED, self.job_serializer))

    def _stock_over(self) -> None:
        self._release_sem_dec_counter_on_complete()
        self._wake.set()

    async def _start_others(self, leases: Leases, claim: Claim, others: Sequence[ClaimedPayload]) -> None:
        """Run, as arq would, jobs that are not for a batch function; what exceeds the slots stays in the queue."""
        large = {job.job_id.decode(): self._too_large(leases, job) for job in others if not job.payload}
        back = {job.job_id.decode(): JobEnd(SettleAction.SNOOZE, score=job.score) for job in others if job.payload}
        if not large and not back:
            return
        await leases.settle(claim.token, {**large, **back}, keep_ms=0)
        self.jobs_failed += len(large)
        free = max(0, self.max_jobs - self.job_counter)
        for job_id, end in list(back.items())[:free]:
            lock_ms = int((self.in_progress_timeout_s or 0) * 1000)
            if await self.pool.set(in_progress_key_prefix + job_id, b"1", px=lock_ms, nx=True):
                await self._start_stock(leases.keys.queue, job_id, end.score)

    def _too_large(self, leases: Leases, job: ClaimedPayload) -> JobEnd:
        job_id, queue_name = job.job_id.decode(), leases.keys.queue
        log.warning("queue.job.too_large", job=job_id, queue=queue_name)
        keep_ms = None if self.keep_result_forever else int(self.keep_result_s * 1000)
        result = b"" if keep_ms == 0 else refusal(queue_name, job_id, TOO_LARGE, self.job_serializer)
        return JobEnd(SettleAction.FINISH, result=result or b"", result_ms=keep_ms)

    # -- once per poll ------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        if self.allow_abort_jobs:
            await self._abort_in_groups()
            if self.job_tasks:
                await self._cancel_aborted_jobs()
        await self._claimer.keep_isolating()
        await self.heart_beat()

    async def record_health(self) -> None:
        """As stock; a queue that is no sorted set, which it cannot count, is told elsewhere."""
        try:
            await super().record_health()
        except ResponseError as error:
            if not is_damage(error):
                raise

    async def run_cron(self, n: datetime, delay: float, num_windows: int = 2) -> None:
        """As stock, into the last queue."""
        token = _queue_of_task.set(self.queue_names[-1])
        try:
            await super().run_cron(n, delay, num_windows)
        finally:
            _queue_of_task.reset(token)

    async def _abort_in_groups(self) -> None:
        if not self.groups:
            return
        asked = {job_id.decode(errors="replace") for job_id in await self.pool.zrange(abort_jobs_ss, 0, -1)}
        for group in list(self.groups.values()):
            if mine := asked & group.open.keys():
                await self._runner.abort(group, mine)

    # -- health -------------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        number, paused_keys = 0, [keys.paused for keys in self._queues]
        while True:
            try:
                watched = paused_keys if self.groups else ()
                states = await replicas.write_beat(self.pool, self._replica(), number=number, watched=watched)
                if replicas.DRAINING in states:
                    self._stop_groups()
                number += 1
            except OUTAGE as error:
                log.debug("queue.beat.failed", error=type(error).__name__)
            await asyncio.sleep(replicas.BEAT_S)

    def _replica(self) -> replicas.Replica:
        state = "stopping" if self._stopping else "paused" if self._claimer.paused else "running"
        host, pid, _ = self.worker_id.rsplit(":", 2)
        return replicas.Replica(
            worker_id=self.worker_id,
            host=host,
            pid=int(pid),
            version=self._version,
            state=state,
            started_at_ms=self._started_ms,
            beat_at_ms=timestamp_ms(),
            groups=len(self.groups),
            jobs=sum(len(group.open) for group in self.groups.values()),
            last_claim_at_ms=self._last_claim_ms,
            last_error=self._claimer.problem or self._runner.last_error or self._health.last_error,
            loop_lag_ms=self._renewer.worst_lag_ms(),
            complete=self.jobs_complete,
            failed=self.jobs_failed,
            retried=self.jobs_retried,
            queues=self.queue_names,
            redis_ahead_ms=round(self._claimer.redis_ahead_ms),
        )

    # -- stopping -----------------------------------------------------------------------------------------------------

    def handle_sig_wait_for_completion(self, signum: signal.Signals) -> None:
        """First SIGTERM: claim no more and let running work finish. A second signal, or SIGINT: stop at once."""
        at_once = signum == signal.SIGINT and not self._sigint_waits
        if self.batch_functions and (self._stopping or at_once):
            self.handle_sig(signum)
            return
        self._stopping = True
        self._stop_groups()
        super().handle_sig_wait_for_completion(signum)

    def handle_sig(self, signum: signal.Signals) -> None:
        """Stop at once; claims are released on the way out."""
        self._stopping = True
        self.allow_pick_jobs = False
        self._stop_groups()
        super().handle_sig(signum)

    def _stop_groups(self) -> None:
        for group in self.groups.values():
            group.stopping.set()

    async def close(self) -> None:
        """End what runs, release what is claimed, tell `on_shutdown`, close the pool. Never hangs on a dead Redis."""
        if not self.batch_functions or self._pool is None:
            await super().close()
            return
        if not self._handle_signals:
            self.handle_sig(signal.SIGUSR1)
        # Whoever has to end was cancelled with the signal; once more would leave a group's function running behind it.
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        await cancel_and_wait(*self._chores)
        await self._renewer.stop()
        try:
            await self._give_back()
            await self.pool.delete(self.health_check_key)
            await replicas.remove_beat(self.pool, self.worker_id)
        except OUTAGE as error:
            self._health.failed(error)
        if self.on_shutdown:
            await self.on_shutdown(self.ctx)
        await self.pool.aclose(close_connection_pool=True)
        self._pool = None
        self._opened = False


_STOCK = inspect.signature(Worker).parameters
_OURS = inspect.signature(BatchWorker).parameters
#: arq reads which settings a worker class takes from its signature.
BatchWorker.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [*_STOCK.values(), *(p for name, p in _OURS.items() if name not in _STOCK and name != "arq_options")]
)
