"""What a batch function sees: the claimed jobs, the time it has, and how it ends each job on its own.

    async def normalize(ctx: Mapping[str, Any], group: Group) -> None:
        for job in group.jobs: ...
        await group.settle({job.job_id: Done(), other.job_id: HandBack(after_s=30)})

Jobs the function leaves unsettled are handed back. It may settle as often as it likes, each job once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from arq.worker import Function, RetryJob

from normalizer.queue.leases import Kind

if TYPE_CHECKING:
    from arq.typing import WorkerCoroutine


class ClaimedJob(NamedTuple):
    """One job of a group. `fence` grows with every claim and guards writes elsewhere.

    `try_` counts from 1; 0 says that somebody asked to abort the job. `place` is its score in the queue, `payload` what
    its producer wrote.
    """

    job_id: str
    function: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    try_: int
    enqueued_at_ms: int
    fence: int
    token: str
    place: float = 0.0
    payload: bytes = b""


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
class HandBack:
    """Once more in `after_s` seconds (0: at once, at its old place); the try does not count. For outages and stops."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Failed:
    """The job has failed for good; `cause` is what an operator reads."""

    cause: str


Settlement: TypeAlias = Done | RetryLater | HandBack | Failed
OnDead: TypeAlias = Callable[[Mapping[str, Any], Sequence[tuple[ClaimedJob, str]]], Awaitable[None]]
GroupCoroutine: TypeAlias = Callable[[Mapping[str, Any], "Group"], Awaitable[None]]


@dataclass
class BatchFunction(Function):
    """A function that takes groups of jobs; made by `batch_func`."""

    max_items: int = 250
    linger_ms: int = 200
    on_dead: OnDead | None = None


def batch_func(
    coroutine: GroupCoroutine,
    *,
    name: str | None = None,
    max_items: int = 250,
    linger_ms: int = 200,
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
        linger_ms: how long a queue smaller than `max_items` waits for company.
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
        name or coroutine.__qualname__, body, timeout_s, keep_result_s, None, max_tries, max_items, linger_ms, on_dead
    )


class Owner(Protocol):
    """What a group needs of the worker that claimed it."""

    async def settle(self, group: Group, settlements: Mapping[str, Settlement]) -> set[str]:
        """End jobs; returns the lost ones."""

    async def renew(self, group: Group) -> set[str]:
        """Renew the group's leases; returns the lost ones."""


class Group:
    """Jobs claimed together. Made by `BatchWorker`.

    Attributes:
        jobs: the claimed jobs, oldest first, also those that were ended before the function began: see `unsettled`.
        deadline: the loop's time by which everything should be settled; plan inside it.
        fence: number of the claim, the same for all its jobs.
        token: the claim's token.
        size: how many jobs it was claimed with.
    """

    def __init__(
        self,
        function: BatchFunction,
        jobs: Sequence[ClaimedJob],
        *,
        token: str,
        fence: int,
        kind: Kind,
        deadline: float,
        started_ms: int,
        owner: Owner,
    ) -> None:
        self.function, self.jobs, self.token, self.fence, self.kind = function, tuple(jobs), token, fence, kind
        self.deadline, self.started_ms, self.size = deadline, started_ms, len(jobs)
        self._owner = owner
        self._open = {job.job_id: job for job in jobs}
        self._lost: set[str] = set()
        self._aborted: set[str] = set()
        self._stop = asyncio.Event()
        self.settling: set[str] = set()

    @property
    def cancelled(self) -> bool:
        """Whether the worker is stopping: finish what is under way, start nothing new, leave the rest unsettled."""
        return self._stop.is_set()

    async def until_cancelled(self) -> None:
        """Return as soon as `cancelled` holds."""
        await self._stop.wait()

    @property
    def unsettled(self) -> Mapping[str, ClaimedJob]:
        """Jobs that are still this group's to end, by id."""
        return self._open

    @property
    def lost(self) -> frozenset[str]:
        """Ids found to belong to another claim (or aborted) so far."""
        return frozenset(self._lost)

    @property
    def aborted(self) -> frozenset[str]:
        """Ids that somebody asked to abort, and that were: nobody waits for them."""
        return frozenset(self._aborted)

    async def settle(self, settlements: Mapping[str, Settlement]) -> set[str]:
        """End jobs of this group, each its own way, in one round trip.

        Returns the ids that were not this group's any more: their work is somebody else's now.
        Jobs settled before are left alone.
        """
        mine = {job_id: how for job_id, how in settlements.items() if job_id in self._open}
        stale = settlements.keys() & self._lost
        if not mine:
            return set(stale)
        return await self._owner.settle(self, mine) | stale

    async def still_mine(self) -> set[str]:
        """Ask Redis which unsettled jobs are still this group's; renews their leases. One round trip."""
        if self._open:
            self.forget(await self._owner.renew(self))
        return set(self._open)

    def stop(self) -> None:
        """Tell the function that the worker is stopping."""
        self._stop.set()

    def close(self, job_ids: Iterable[str]) -> None:
        """These jobs are settled."""
        for job_id in job_ids:
            self._open.pop(job_id, None)

    def drop(self, job_ids: Iterable[str]) -> None:
        """These jobs were aborted."""
        self._aborted.update(job_ids)
        self.forget(job_ids)

    def forget(self, job_ids: Iterable[str]) -> None:
        """These jobs are not this group's any more."""
        for job_id in job_ids:
            self._open.pop(job_id, None)
            self._lost.add(job_id)
