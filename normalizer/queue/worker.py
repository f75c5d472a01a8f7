"""`BatchWorker`: an `arq.Worker` that also takes groups of jobs for batch functions.

Without batch functions it is `arq.Worker`, line by line. With them it claims by Lua (leases.py) instead of one
transaction a job; a claimed job of an ordinary function or a cron job is still run by arq's own `run_job`, so results,
retries, timeouts, hooks and log lines are arq's.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
from collections.abc import Sequence
from typing import Any

import structlog
from arq.connections import RedisSettings, log_redis_info
from arq.constants import abort_jobs_ss
from arq.utils import timestamp_ms
from arq.worker import Worker, logger
from redis.exceptions import ReadOnlyError

from normalizer import __version__
from normalizer.queue.connection import OUTAGE, SOCKET_TIMEOUT_S, open_pool, reconnect_idle
from normalizer.queue.group import BatchFunction, batch_func
from normalizer.queue.health import BEAT_S, DRAINING, LagProbe, Replica, remove_beat, write_beat
from normalizer.queue.keeper import LeaseKeeper
from normalizer.queue.leases import HEAD_START_MS
from normalizer.queue.loops import checkpoint, end, pause
from normalizer.queue.slots import Slots

__all__ = ["BatchWorker", "batch_func"]

log = structlog.get_logger(__name__)

_SWEEP_S = 1.0
#: After an outage, and after its own start, a worker gives the living this long to renew before it takes over orphans.
_GRACE_S = SOCKET_TIMEOUT_S + 1.0


class BatchWorker(Slots):
    """A drop-in `arq.Worker` that hands batch functions whole groups of jobs.

    Takes every argument of `arq.Worker`, and:

    Args:
        lease_s: others keep off a claimed job for so long; renewed while the work runs.
        shutdown_grace_s: how long a first SIGTERM lets running work finish (arq's `job_completion_wait` wins if given).
        head_start_ms: how far single jobs were moved ahead of bulk imports; see `TaskService.enqueue`.
        version: shown in the replica's health.
    """

    def __init__(
        self,
        functions: Sequence[Any] = (),
        *,
        lease_s: float = 15.0,
        shutdown_grace_s: float = 25.0,
        head_start_ms: int = HEAD_START_MS,
        version: str = __version__,
        **arq_options: Any,
    ) -> None:
        has_batches = any(isinstance(function, BatchFunction) for function in functions)
        self._sigint_waits = bool(arq_options.get("job_completion_wait"))  # asked for in arq's own terms
        if has_batches and not self._sigint_waits:
            arq_options["job_completion_wait"] = shutdown_grace_s
        super().__init__(functions, lease_s=lease_s, head_start_ms=head_start_ms, **arq_options)
        self._version, self._opened, self._started_ms = version, False, timestamp_ms()
        self._next_sweep = 0.0
        self._lag: LagProbe
        self._chores: list[asyncio.Task[None]] = []

    # -- life ---------------------------------------------------------------------------------------------------------

    async def main(self) -> None:
        """Work until stopped, or in burst mode until the queue is empty."""
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
        await self._link.insist(lambda: log_redis_info(self.pool, logger.info))
        self.ctx["redis"] = self.pool
        if self.on_startup:
            await self.on_startup(self.ctx)
        self._link.opened()
        self._keeper = LeaseKeeper(self.pool, self.keys, lease_s=self._lease_s)
        self._keeper.start()
        self._lag = LagProbe(self._keeper.loop_moved)
        self._chores = [self.loop.create_task(self._lag.run()), self.loop.create_task(self._beat())]
        self._opened = True

    async def _serve(self) -> None:
        """Claim whenever a slot is free; beat, sweep and look for aborts once per `poll_delay`."""
        next_tick = 0.0
        while True:
            checkpoint()
            self._wake.clear()
            self._reap()
            try:
                wait_s = await self._fill_slots()
                now = self.loop.time()
                if now >= next_tick:
                    await self._tick()
                    next_tick = now + self.poll_delay_s
                if self.burst and await self._burst_is_over():
                    return
            except OUTAGE as error:
                wait_s = next_tick = await self._outage(error)
                next_tick += self.loop.time()
            await pause(self._wake, min(wait_s, next_tick - self.loop.time()))

    async def _poll_iteration(self) -> None:
        if not self.batch_functions:
            await super()._poll_iteration()
            return
        if (slots := self._free_slots()) > 0:
            await self._start(await self._claim(min(slots, self.queue_read_limit)))
        self._reap()
        await self._tick()

    async def _outage(self, error: BaseException) -> float:
        """Note it. Returns how long to wait."""
        if isinstance(error, ReadOnlyError):  # the one failure that leaves connections to the wrong server open
            await reconnect_idle(self.pool)
        return self._link.failed(error)

    async def _burst_is_over(self) -> bool:
        enough = 0 <= self.max_burst_jobs <= self._jobs_started()
        if enough or await self.pool.zcard(self.queue_name) == 0:
            await asyncio.gather(*self.tasks.values())
            return True
        return False

    # -- once per poll ------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        if self.allow_abort_jobs:
            await self._abort_in_groups()
            await self._cancel_aborted_jobs()
        if self._isolating:
            self._isolating = await self._leases.still_isolating(self._terms)
        if self.loop.time() >= self._next_sweep:
            self._next_sweep = self.loop.time() + _SWEEP_S
            await self._sweep()
        await self.heart_beat()

    def _reap(self) -> None:
        """As stock: errors of `run_job` surface here. A Redis outage is no reason to end."""
        for key, task in list(self.tasks.items()):
            if not task.done():
                continue
            del self.tasks[key]
            try:
                task.result()
            except OUTAGE as error:
                self._link.failed(error)

    async def _sweep(self) -> None:
        """Put jobs of dead replicas back; not right after an outage, when the living could not renew either."""
        now_ms = await self._link.ask(self._leases.clock_ms)
        if not self._link.steady_for(min(self._lease_s, _GRACE_S)):
            return
        soon_ms = now_ms + self._lease_s * 1000 / 3
        swept = await self._link.ask(lambda: self._leases.sweep(before_ms=soon_ms))
        for token, jobs in swept.items():
            log.warning("queue.orphans.put_back", worker=token.rpartition(":")[0], jobs=jobs)

    async def _abort_in_groups(self) -> None:
        if not self.groups:
            return
        asked = {job_id.decode() for job_id in await self.pool.zrange(abort_jobs_ss, 0, -1)}
        for group in list(self.groups.values()):
            if mine := asked & group.unsettled.keys():
                await self._runner.abort(group, mine)

    # -- health -------------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            try:
                if await write_beat(self.pool, self.keys, self._replica()) == DRAINING:
                    self._stop_groups()
            except OUTAGE as error:
                log.debug("queue.beat.failed", error=type(error).__name__)
            await asyncio.sleep(BEAT_S)

    def _replica(self) -> Replica:
        state = "stopping" if self._stopping else "paused" if self._paused else "running"
        host, pid, _ = self.worker_id.rsplit(":", 2)
        return Replica(
            worker_id=self.worker_id,
            host=host,
            pid=int(pid),
            version=self._version,
            state=state,
            started_at_ms=self._started_ms,
            beat_at_ms=timestamp_ms(),
            groups=len(self.groups),
            jobs=sum(len(group.unsettled) for group in self.groups.values()),
            last_claim_at_ms=self._last_claim_ms,
            last_error=self._runner.last_error or self._link.last_error,
            loop_lag_ms=self._lag.worst_ms(),
            complete=self.jobs_complete,
            failed=self.jobs_failed,
            retried=self.jobs_retried,
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
            group.stop()

    async def close(self) -> None:
        """End what runs, release what is claimed, tell `on_shutdown`, close the pool. Never hangs on a dead Redis."""
        if not self.batch_functions or self._pool is None:
            await super().close()
            return
        if not self._handle_signals:
            self.handle_sig(signal.SIGUSR1)
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        await self._end_chores()
        try:
            await self._give_back_doubtful()
            await self.pool.delete(self.health_check_key)
            await remove_beat(self.pool, self.keys, self.worker_id)
        except OUTAGE as error:
            self._link.failed(error)
        if self.on_shutdown:
            await self.on_shutdown(self.ctx)
        await self.pool.aclose(close_connection_pool=True)
        self._pool = None
        self._opened = False

    async def _end_chores(self) -> None:
        await end(*self._chores)
        if self._keeper is not None:  # None where the start failed
            await self._keeper.stop()


_STOCK = inspect.signature(Worker).parameters
_OURS = inspect.signature(BatchWorker).parameters
#: arq reads which settings a worker class takes from its signature.
BatchWorker.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [*_STOCK.values(), *(p for name, p in _OURS.items() if name not in _STOCK and name != "arq_options")]
)
