"""Groups: the claimed jobs a batch function is handed, the time it has, and how it ends each job on its own.

    async def normalize(ctx: Mapping[str, Any], group: Group) -> None:
        for job in group.jobs: ...
        await group.settle({job.job_id: Done(), other.job_id: Snooze(after_s=30)})

Jobs the function leaves unsettled are handed back. It may settle as often as it likes, each job once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from arq.worker import Function, RetryJob

from normalizer.queue.leases import ClaimedJob, GroupKind, Keys

if TYPE_CHECKING:
    from arq.typing import WorkerCoroutine


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
    """A claimed group as the worker runs it; a batch function sees its `Group`.

    Attributes:
        function: that it was claimed for.
        jobs: the claimed jobs, oldest first.
        keys: of the queue it came from.
        token: the claim's token.
        fence: number of the claim, the same for all its jobs.
        kind: what may run beside it.
        deadline: the loop's time by which everything should be settled.
        started_ms: Unix time of the claim.
        open: jobs that are still this group's to end, by id.
        lost: ids found to belong to another claim, or aborted.
        aborted: ids that somebody asked to abort, and that were.
        settling: ids whose end is on its way to Redis.
        stopping: set when the worker stops.
    """

    function: BatchFunction
    jobs: Sequence[ClaimedJob]
    keys: Keys
    token: str
    fence: int
    kind: GroupKind
    deadline: float
    started_ms: int
    open: dict[str, ClaimedJob] = field(init=False)
    lost: set[str] = field(default_factory=set, init=False)
    aborted: set[str] = field(default_factory=set, init=False)
    settling: set[str] = field(default_factory=set, init=False)
    stopping: asyncio.Event = field(default_factory=asyncio.Event, init=False)

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

    @property
    def jobs(self) -> Sequence[ClaimedJob]:
        """The claimed jobs, oldest first, also those that were ended before the function began: see `unsettled`."""
        return self._state.jobs

    @property
    def unsettled(self) -> Mapping[str, ClaimedJob]:
        """Jobs that are still this group's to end, by id."""
        return self._state.open

    @property
    def aborted(self) -> frozenset[str]:
        """Ids that somebody asked to abort, and that were: nobody waits for them."""
        return frozenset(self._state.aborted)

    @property
    def deadline(self) -> float:
        """The loop's time by which everything should be settled; plan inside it."""
        return self._state.deadline

    @property
    def fence(self) -> int:
        """Number of the claim, the same for all its jobs; guards writes elsewhere."""
        return self._state.fence

    @property
    def token(self) -> str:
        """The claim's token, for logs."""
        return self._state.token

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
