"""The slots of a worker: each holds a claimed group, or one job that stock arq runs; refilled the moment it is free."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import structlog
from arq.constants import in_progress_key_prefix
from arq.jobs import SerializationError, deserialize_job_raw
from arq.utils import timestamp_ms
from arq.worker import Worker

from normalizer.observability import metrics
from normalizer.queue.connection import OUTAGE, describe
from normalizer.queue.group import BatchFunction, ClaimedJob, Group
from normalizer.queue.health import new_worker_id
from normalizer.queue.keeper import LeaseKeeper
from normalizer.queue.leases import HEAD_START_MS, Claim, ClaimTerms, Ending, Keys, Kind, Leases, Taken
from normalizer.queue.link import Link
from normalizer.queue.runner import Runner, Tally, Terms
from normalizer.queue.serializer import job_serializer

log = structlog.get_logger(__name__)

_GROUP = "group:"


class Slots(Worker):
    """An `arq.Worker` that fills its `max_jobs` slots by group claims. `BatchWorker` gives it its life.

    A group's task stands in `tasks` beside stock jobs, so that whatever arq does with tasks holds for groups, too.
    """

    def __init__(
        self, functions: Sequence[Any], *, lease_s: float, head_start_ms: int = HEAD_START_MS, **arq_options: Any
    ) -> None:
        super().__init__(functions, **arq_options)
        self.batch_functions = {f.name: f for f in self.functions.values() if isinstance(f, BatchFunction)}
        self.worker_id = new_worker_id()
        self.keys = Keys.of(self.queue_name)
        self.groups: dict[str, Group] = {}
        self._lease_s, self._head_start_ms = lease_s, head_start_ms
        where = describe(self.redis_settings) if self.redis_settings else "redis_pool"
        self._link = Link(where, silence_s=lease_s / 3)  # leases are renewed as often: nobody's can have run out sooner
        self._keeper: LeaseKeeper | None = None
        self._wake = asyncio.Event()
        self._isolating = self._paused = self._stopping = False
        self._last_claim_ms: int | None = None
        self._doubtful: list[str] = []
        self._left_over: list[Group] = []

    async def _fill_slots(self) -> float:
        """Claim until every slot is taken or nothing is due. Returns the seconds until it may be worth trying again."""
        await self._give_back_doubtful()
        while (slots := self._free_slots()) > 0:
            claim = await self._link.ask(partial(self._claim, slots))
            self._paused = claim.status == "paused"
            self._isolating = claim.status == "isolate"
            await self._start(claim)
            if claim.status in {"empty", "linger"} and claim.wait_ms >= 0:
                return min(self.poll_delay_s, claim.wait_ms / 1000)
            if claim.status != "ok":
                break
        return self.poll_delay_s

    async def _give_back_doubtful(self) -> None:
        if self._doubtful:
            await self._leases.abandon(self._doubtful)
            self._doubtful.clear()
        while self._left_over:
            await self._runner.release(self._left_over[-1])
            self._left_over.pop()

    def _free_slots(self) -> int:
        if not self.allow_pick_jobs or (self._isolating and self.groups):
            return 0
        if any(group.kind is Kind.EXCLUSIVE for group in self.groups.values()):
            return 0
        free = self.max_jobs - self.job_counter
        return min(free, self._burst_budget()) if self._is_limited_burst else free

    @property
    def _is_limited_burst(self) -> bool:
        return self.burst and self.max_burst_jobs >= 0

    def _burst_budget(self) -> int:
        return self.max_burst_jobs - self._jobs_started()

    async def _claim(self, slots: int) -> Claim:
        token = self._terms.token()
        items = min(self._terms.max_items, self._burst_budget()) if self._is_limited_burst else None
        try:
            return await self._leases.claim(
                self._terms, token=token, now_ms=timestamp_ms(), slots=slots, alone=not self.groups, max_items=items
            )
        except (*OUTAGE, asyncio.CancelledError):
            self._doubtful.append(token)  # it may have been taken all the same
            raise

    async def _start(self, claim: Claim) -> None:
        """Start what was claimed; nothing is awaited before every group is in the keeper's hands."""
        jobs, strangers = self._read(claim)
        for function, mine in jobs.items():
            self._last_claim_ms = timestamp_ms()
            self._start_group(claim, self.batch_functions[function], mine)
        for job_id, score in claim.stock:
            await self._start_stock(job_id, score)
        if strangers:
            await self._give_to_arq(claim, strangers)

    def _read(self, claim: Claim) -> tuple[dict[str, list[ClaimedJob]], list[Taken]]:
        """Claimed payloads by batch function; and what looked like one's job but is arq's (or cannot be read)."""
        jobs: dict[str, list[ClaimedJob]] = {}
        strangers: list[Taken] = []
        for taken in claim.group:
            try:
                name, args, kwargs, enqueued_try, at_ms = deserialize_job_raw(
                    taken.payload, deserializer=self.job_deserializer
                )
            except SerializationError:
                strangers.append(taken)
                continue
            if name not in self.batch_functions:
                strangers.append(taken)
                continue
            tries = max(taken.tries, enqueued_try or 0) if taken.tries else 0
            job = ClaimedJob(
                taken.job_id,
                name,
                tuple(args),
                kwargs,
                tries,
                at_ms,
                claim.fence,
                claim.token,
                taken.score,
                taken.payload,
            )
            jobs.setdefault(name, []).append(job)
        return jobs, strangers

    def _start_group(self, claim: Claim, function: BatchFunction, jobs: Sequence[ClaimedJob]) -> None:
        timeout_s = self.job_timeout_s if function.timeout_s is None else function.timeout_s
        key = f"{claim.token}:{function.name}"
        group = Group(
            function,
            jobs,
            token=claim.token,
            fence=claim.fence,
            kind=claim.kind,
            deadline=self.loop.time() + (timeout_s or 0),
            started_ms=timestamp_ms(),
            owner=self._runner,
        )
        if self._stopping:
            group.stop()
        self.groups[key] = group
        if self._keeper is not None:
            self._keeper.add(key, group)
        log.debug("queue.group.claimed", function=function.name, jobs=len(jobs), kind=str(claim.kind))
        task = self.loop.create_task(self._runner.run(group))
        task.add_done_callback(lambda _: self._group_over(key))
        self.job_counter += 1
        self.tasks[_GROUP + key] = task

    def _group_over(self, key: str) -> None:
        group = self.groups.pop(key)
        metrics.group_done(str(group.kind), jobs=group.size, seconds=(timestamp_ms() - group.started_ms) / 1000)
        if group.unsettled:  # cancelled before it began, or on its way out
            self._left_over.append(group)
        if self._keeper is not None:
            self._keeper.remove(key)
        self.job_counter -= 1
        self._wake.set()

    async def _start_stock(self, job_id: str, score: float) -> None:
        await self.sem.acquire()
        self.job_counter += 1
        self.tasks[job_id] = task = self.loop.create_task(self.run_job(job_id, int(score)))
        task.add_done_callback(lambda _: self._stock_over())

    def _stock_over(self) -> None:
        self._release_sem_dec_counter_on_complete()
        self._wake.set()

    async def _give_to_arq(self, claim: Claim, strangers: Sequence[Taken]) -> None:
        """Run, as arq would, jobs that are not for a batch function; what exceeds the slots stays in the queue."""
        back = {job.job_id: Ending("H", place=job.score) for job in strangers}
        await self._leases.settle(claim.token, back, now_ms=timestamp_ms(), keep_ms=0)
        free = max(0, self.max_jobs - self.job_counter)
        for job in strangers[:free]:
            lock_ms = int((self.in_progress_timeout_s or 0) * 1000)
            if await self.pool.set(in_progress_key_prefix + job.job_id, b"1", px=lock_ms, nx=True):
                await self._start_stock(job.job_id, job.score)

    def _jobs_started(self) -> int:
        in_groups = sum(len(group.unsettled) for group in self.groups.values())
        stock = sum(not key.startswith(_GROUP) for key in self.tasks)
        return self.jobs_complete + self.jobs_retried + self.jobs_failed + stock + in_groups

    def _count(self, tally: Tally) -> None:
        self.jobs_complete += tally["complete"]
        self.jobs_failed += tally["failed"]
        self.jobs_retried += tally["retried"]

    @cached_property
    def _leases(self) -> Leases:
        return Leases(self.pool, self.keys)

    @cached_property
    def _terms(self) -> ClaimTerms:
        functions = self.batch_functions.values()
        return ClaimTerms(
            worker_id=self.worker_id,
            functions=list(self.batch_functions) if self.job_serializer in {None, job_serializer} else [],
            max_items=max(function.max_items for function in functions),
            linger_ms=max(function.linger_ms for function in functions),
            lease_ms=int(self._lease_s * 1000),
            stock_ms=int((self.in_progress_timeout_s or 0) * 1000),
            heed_aborts=self.allow_abort_jobs,
            head_start_ms=self._head_start_ms,
        )

    @cached_property
    def _runner(self) -> Runner:
        terms = Terms(
            queue_name=self.queue_name,
            keep_result_s=None if self.keep_result_forever else self.keep_result_s,
            max_tries=self.max_tries,
            keep_payload_ms=self.expires_extra_ms,
            serializer=self.job_serializer,
            retry=lambda: self.retry_jobs,
        )
        return Runner(self._leases, self._link, terms, self.ctx, self._count, int(self._lease_s * 1000))
