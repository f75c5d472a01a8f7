"""Single flight: one identity is asked once, however many callers of this process or other replicas bring it.

Whoever stops waiting takes nothing from the others: an entry belongs to all its waiters, and to none. Across replicas
who asks about a text holds a short lease on it; the others wait for that answer, which travels through the shared
cache. A lease is renewed while its text is in flight and lapses with its process, so no replica waits longer than
`lease_s` for a dead one. Without Redis each replica asks for its own texts, except those it has seen leased elsewhere:
such a lease gets one lease length to be renewed after the outage.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import structlog

from normalizer.domain.address import Address
from normalizer.domain.appointment import Kind
from normalizer.domain.decision import Decision
from normalizer.domain.text import canonical
from normalizer.errors import NormalizerError, TransientError
from normalizer.llm.prompt import Record
from normalizer.queue.connection import OUTAGE
from normalizer.queue.waiting import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence

    from redis.asyncio import Redis

    from normalizer.cache import Cache
    from normalizer.llm.packing import Cost

log = structlog.get_logger(__name__)

Outcome: TypeAlias = Decision[Address] | NormalizerError


class Waiter(ExitStack):
    """One caller: iterate it for outcomes keyed by the caller's texts, as they arrive, each text exactly once.

    Every text gets an outcome; one that could not be had is an error to hand back, never raised. Closing it (or leaving
    its `with` block, or being cancelled while waiting) takes the caller off what is still in flight.

    Args:
        deadline: `loop.time()` seconds; what has not come by then comes as a TransientError.
        texts: what the caller waits for.
    """

    def __init__(self, deadline: float = 0.0, texts: Iterable[str] = ()) -> None:
        super().__init__()
        self.deadline = deadline
        self._missing = set(texts)
        self._arrivals: asyncio.Queue[dict[str, Outcome]] = asyncio.Queue()

    def tell(self, outcomes: dict[str, Outcome]) -> None:
        """Bring outcomes, keyed by the texts this caller gave."""
        self._arrivals.put_nowait(outcomes)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Outcome]:
        try:
            if not self._missing:
                raise StopAsyncIteration
            return await self._next()
        except BaseException:
            self.close()
            raise

    async def _next(self) -> dict[str, Outcome]:
        """All that has arrived, waiting for something until the deadline; then the rest as a TransientError."""
        arrived: dict[str, Outcome] = {}
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self.deadline):
                arrived = await self._arrivals.get()
        while not self._arrivals.empty():
            arrived = arrived | self._arrivals.get_nowait()
        if not arrived:
            arrived = dict.fromkeys(self._missing, TransientError("the model did not answer before the deadline"))
        self._missing.difference_update(arrived)
        return arrived


@dataclass(frozen=True, slots=True)
class TextContext:
    """What is known of a text beside its words.

    Attributes:
        withheld: numbers that must not leave with it.
        import_id: the import that is charged for asking about it.
        interactive: it came alone: a person may be waiting for it.
    """

    withheld: frozenset[str] = frozenset()
    import_id: str | None = None
    interactive: bool = False


@dataclass(eq=False, slots=True)
class PendingText:
    """One distinct text in flight."""

    key: str
    text: str
    record: Record
    cost: Cost
    since: float
    """When it began to wait for company."""
    deadline: float
    """The latest deadline of its waiters; all times are `loop.time()` seconds."""
    patience_s: float
    """How much time it had when it came."""
    waiters: dict[Waiter, list[str]] = field(default_factory=dict)
    context: TextContext = TextContext()
    failures: int = 0
    """Calls it was in that ended in a TransientError."""
    failures_alone: int = 0
    """Calls of its own that broke an endpoint which is well."""

    def shrink(self, size: int) -> None:
        """Let it share its next call with fewer: so many records at most."""
        self.cost = replace(self.cost, max_call_size=size)

    def learn(self, context: TextContext) -> None:
        """Withhold also what another caller withholds, from every call that starts from now on."""
        together = self.context.withheld | context.withheld
        changed = together != self.context.withheld
        interactive = self.context.interactive or context.interactive
        self.context = replace(self.context, withheld=together, interactive=interactive)
        if changed:
            self.record = Record.of(self.text, withheld=together)


class InFlight:
    """The table of entries by identity."""

    def __init__(self) -> None:
        self._entries: dict[str, PendingText] = {}

    def join(self, text: str, waiter: Waiter, context: TextContext) -> bool:
        """Let `waiter` wait for `text` if it is in flight already; False if it is not."""
        entry = self._entries.get(canonical(text))
        if entry is None:
            return False
        entry.waiters.setdefault(waiter, []).append(text)
        entry.deadline = max(entry.deadline, waiter.deadline)
        entry.learn(context)
        return True

    def start(self, entry: PendingText, waiter: Waiter) -> None:
        """Put a new text in flight."""
        entry.waiters[waiter] = [entry.text]
        self._entries[entry.key] = entry

    def leave(self, waiter: Waiter) -> None:
        """Take a caller off every entry."""
        for entry in self._entries.values():
            entry.waiters.pop(waiter, None)

    def holds(self, entry: PendingText) -> bool:
        """Tell whether someone still waits for this entry."""
        return self._entries.get(entry.key) is entry and bool(entry.waiters)

    def abandoned(self, entry: PendingText) -> bool:
        """Tell whether nobody waits any more for an entry that no call holds; then forget it, to ask anew."""
        left = not self.holds(entry)
        if left:
            self.drop(entry)
        return left

    def drop(self, entry: PendingText) -> None:
        """Forget an entry without telling anyone."""
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]

    def resolve(self, outcomes: Sequence[tuple[PendingText, Outcome]]) -> None:
        """End entries and tell their waiters: one message per caller, however many of its texts are in it."""
        messages: dict[Waiter, dict[str, Outcome]] = {}
        for entry, outcome in outcomes:
            self.drop(entry)
            for waiter, texts in entry.waiters.items():
                messages.setdefault(waiter, {}).update(dict.fromkeys(texts, outcome))
        for waiter, message in messages.items():
            waiter.tell(message)

    def end(self, entries: Iterable[PendingText], outcome: Outcome) -> None:
        """End entries alike."""
        self.resolve([(entry, outcome) for entry in entries])

    def end_all(self, error: NormalizerError) -> None:
        """End every entry with `error`."""
        self.end(self._entries.values(), error)


class SharedSingleFlight:
    """The leases of one process, and the texts that others are asking about.

    Args:
        redis: shared by all replicas.
        cache: where the answers of other replicas arrive; it names texts by a keyed hash, since none is a Redis key.
        lease_s: a dead replica's texts are asked by another after this long.
        poll_s: how often the cache is looked up for what others are asking about.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        cache: Cache,
        lease_s: float = 15.0,
        poll_s: float = 0.25,
    ) -> None:
        self._redis, self._cache = redis, cache
        self._lease_s, self._poll_s = lease_s, poll_s
        self._token = secrets.token_hex(8)
        self._held: dict[PendingText, str] = {}
        self._parked: list[PendingText] = []
        self._not_before = 0.0  # until then others may not have been able to renew
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def attach(self, in_flight: InFlight, ours: Callable[[list[PendingText]], None]) -> None:
        """Say who uses this: the table of what is in flight, and what to do with what is ours to ask by now."""
        self._in_flight, self._ours = in_flight, ours

    async def take(self, entries: Sequence[PendingText], *, leased: bool = False) -> list[PendingText]:
        """Return what is ours to ask now; what another replica asks is parked until its answer or its end.

        `leased`: each was seen leased elsewhere, and stays so while Redis says nothing.
        """
        new = [entry for entry in entries if entry not in self._held]
        lost = await self._claim(new, leased=leased)
        self._parked.extend(lost)
        if lost:
            self._keep_running("wait", self._wait_for_others)
        gone = {*lost, *await self._answer([entry for entry in new if entry not in lost])}
        return [entry for entry in entries if entry not in gone]

    async def release(self, entries: Iterable[PendingText]) -> None:
        """Give leases back; the answer, if any, is in the cache by now. A duplicate question is the worst case."""
        marks = [mark for entry in entries if (mark := self._held.pop(entry, None)) is not None]
        if marks:
            await _reply(self._redis.unlink(*map(_key, marks)))

    async def close(self) -> None:
        """Stop waiting, and let others ask what we did not finish."""
        await cancel_and_wait(*self._tasks.values())
        await self.release(list(self._held))

    async def _claim(self, entries: Sequence[PendingText], *, leased: bool) -> list[PendingText]:
        """Take the leases that are free, in one round trip; return the entries whose lease another holds."""
        marks = {entry: self._cache.mark(Kind.ADDRESS, entry.text) for entry in entries}
        known = {mark: entry for entry, mark in self._held.items()}
        for entry, mark in marks.items():
            if (earlier := known.get(mark)) is not None:  # this process asked before, and gave up
                self._held[entry] = self._held.pop(earlier)
        wanted = [entry for entry in entries if entry not in self._held]
        if not wanted:
            return []
        pipe = self._redis.pipeline(transaction=False)
        for entry in wanted:
            pipe.set(_key(marks[entry]), self._token, nx=True, px=int(1000 * self._lease_s))
        if (taken := await _reply(pipe.execute())) is None:
            self._not_before = asyncio.get_running_loop().time() + self._lease_s
            return wanted if leased else []
        self._held |= {entry: marks[entry] for entry, ours in zip(wanted, taken, strict=True) if ours}
        self._keep_running("renew", self._renew)
        return [entry for entry, ours in zip(wanted, taken, strict=True) if not ours]

    async def _answer(self, entries: Sequence[PendingText]) -> list[PendingText]:
        """End what the cache knows by now: another replica may have answered since this one looked."""
        texts = [entry.text for entry in entries]
        known = await self._cache.get_many(Kind.ADDRESS, texts, again=True) if entries else {}
        answered = [(entry, known[entry.text].decision) for entry in entries if entry.text in known]
        found = [entry for entry, _ in answered]
        await self.release(found)
        if answered:
            self._in_flight.resolve(answered)
        return found

    async def _wait_for_others(self) -> None:
        while self._parked:
            await asyncio.sleep(self._poll_s)
            waiting, self._parked = [entry for entry in self._parked if not self._in_flight.abandoned(entry)], []
            answered = set(await self._answer(waiting))
            left = [entry for entry in waiting if entry not in answered]
            if not await self._steady():
                self._parked.extend(left)
            elif ours := await self.take(left, leased=True):
                self._ours(ours)

    async def _steady(self) -> bool:
        """Whether Redis has answered promptly for the length of a lease: who lives could renew."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        answered = await _reply(self._redis.ping()) is not None
        if not answered or loop.time() - asked_at >= self._lease_s / 3:
            self._not_before = loop.time() + self._lease_s
        return loop.time() >= self._not_before

    async def _renew(self) -> None:
        while self._held:
            await asyncio.sleep(self._lease_s / 3)
            await self.release([entry for entry in self._held if not self._in_flight.holds(entry)])
            pipe = self._redis.pipeline(transaction=False)
            for mark in self._held.values():
                pipe.set(_key(mark), self._token, nx=True, px=int(1000 * self._lease_s))  # it lapsed in an outage
                pipe.pexpire(_key(mark), int(1000 * self._lease_s))
            await _reply(pipe.execute())

    def _keep_running(self, name: str, work: Callable[[], Coroutine[None, None, None]]) -> None:
        task = self._tasks.get(name)
        if task is None or task.done():
            self._tasks[name] = asyncio.create_task(work(), name=f"llm-shared-{name}")


async def _reply(command: Awaitable[Any]) -> Any:
    """What Redis says; None when it is away."""
    try:
        return await command
    except OUTAGE as error:
        log.warning("llm.shared_single_flight.redis_away", error=type(error).__name__)
        return None


def _key(mark: str) -> str:
    return f"norm:asking:{mark}"
