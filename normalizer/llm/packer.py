"""The shared, coalescing queue in front of the model: many groups' unresolved texts, few calls.

A text waits for company until a batch is full, until it has waited `linger_ms`, or until nothing more can come. The
same text in flight is asked once; whoever stops waiting takes nothing from the others. An answer is remembered before
anyone is told, so that a crash afterwards pays for no call twice.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import structlog

from normalizer.domain.address import Address
from normalizer.domain.decision import Decision, Reason, Undecided
from normalizer.domain.text import canonical
from normalizer.errors import BatchRejected, ProviderRefused, TransientError
from normalizer.llm.limits import Admitted, Gate, LocalGate
from normalizer.llm.packing import BatchSize, Budget, Cost, Pace, pack
from normalizer.llm.prompt import MAX_RECORD_CHARS, SYSTEM, Record
from normalizer.llm.salvage import Again, half, judge, smaller_company

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

    from normalizer.llm.client import Answer

log = structlog.get_logger(__name__)

Outcome: TypeAlias = Decision[Address] | TransientError

_ANSWER_OVERHEAD_TOKENS: Final = 16  # slot, brackets, quotes and commas of one answered record beside its words
_RECORD_OVERHEAD_TOKENS: Final = 4
_SCHEMA_TOKENS_PER_RECORD: Final = 12
_MAX_FAILURES: Final = 4
_REFUSAL_PAUSE_S: Final = 300.0


class Model(Protocol):
    """What the packer needs of a client."""

    async def complete(self, records: Sequence[Record], *, max_tokens_out: int, timeout_s: float) -> Answer:
        """Ask about `records` in one call."""


@dataclass(eq=False, slots=True)
class _Waiter:
    """One caller of `resolve_many`: what it still waits for and where answers reach it."""

    arrivals: asyncio.Queue[dict[str, Outcome] | ProviderRefused] = field(default_factory=asyncio.Queue)
    missing: set[str] = field(default_factory=set)


@dataclass(eq=False, slots=True)
class _Entry:
    """One distinct text in flight and everyone who waits for it."""

    key: str
    text: str
    record: Record
    cost: Cost
    since: float
    patience_s: float
    deadline: float
    waiters: dict[_Waiter, list[str]] = field(default_factory=dict)
    failures: int = 0


class Announcement:
    """A group that may still bring texts: while any stands, the packer lingers; see `Packer.announce`."""

    def __init__(self, packer: Packer) -> None:
        self._packer: Packer | None = packer

    def withdraw(self) -> None:
        """Nothing more will come from this group. Safe to call twice."""
        if self._packer is not None:
            self._packer._withdraw()
            self._packer = None

    def __enter__(self) -> Announcement:
        return self

    def __exit__(self, *_: object) -> None:
        self.withdraw()


@dataclass(slots=True)
class Stats:
    """What this packer did since it was made."""

    calls: int = 0
    records: int = 0
    again: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


class Packer:
    """Packs texts of the whole process into model calls. One per process; `close()` it.

    Args:
        model: asks one batch.
        remember: stores decisions; awaited before anyone is told of them.
        count: tokens of a text.
        gate: rate limit, concurrency and breaker.
        budget: what one call may hold at most; the number of items adapts below it.
        linger_ms: how long a text waits for company.
        call_timeout_s: no call takes longer.
        account: told of every answer and its number of records (money counters).
        seed: of the shuffle that gives a record other neighbours when it is asked again.
    """

    def __init__(
        self,
        model: Model,
        *,
        remember: Callable[[Mapping[str, Decision[Address]]], Awaitable[None]],
        count: Callable[[str], int],
        gate: Gate | None = None,
        budget: Budget | None = None,
        size: BatchSize | None = None,
        pace: Pace | None = None,
        linger_ms: int = 200,
        call_timeout_s: float = 60.0,
        account: Callable[[Answer, int], Awaitable[None]] | None = None,
        seed: int | None = None,
    ) -> None:
        self._model, self._remember, self._count = model, remember, count
        self._gate = gate or LocalGate()
        self._budget, self._size, self._pace = budget or Budget(), size or BatchSize(), pace or Pace()
        self._linger_s, self._call_timeout_s = linger_ms / 1000, call_timeout_s
        self._account = account
        self._shuffle = random.Random(seed).shuffle
        self._prompt_tokens = count(SYSTEM) + 20
        self.stats = Stats()
        self.refused: ProviderRefused | None = None
        self._refused_until = 0.0
        self._entries: dict[str, _Entry] = {}
        self._fresh: list[_Entry] = []
        self._again: list[_Entry] = []
        self._announced = 0
        self._anyone_announced = False
        self._wake = asyncio.Event()
        self._dispatcher: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._closed = False

    def announce(self) -> Announcement:
        """Say that a group is on its way which may bring texts.

        When every announced group has brought its texts or withdrawn, nothing more can come and nobody lingers.
        """
        self._announced += 1
        self._anyone_announced = True
        return Announcement(self)

    async def resolve_many(
        self, texts: Sequence[str], *, deadline: float, announced: Announcement | None = None
    ) -> AsyncIterator[dict[str, Outcome]]:
        """Yield outcomes keyed by the given texts, as answers arrive, each text exactly once.

        Args:
            texts: cleaned or raw; texts of one identity are asked once.
            deadline: `loop.time()` seconds. What could not be started or answered by then comes as a TransientError.
            announced: withdrawn as soon as the texts are in.

        Raises ProviderRefused when the provider refuses the key or account; what was answered before has come out.
        """
        waiter = _Waiter()
        try:
            self._submit(texts, waiter, deadline)
            if announced is not None:
                announced.withdraw()
            while waiter.missing:
                outcomes = await self._arrival(waiter, deadline)
                waiter.missing.difference_update(outcomes)
                yield outcomes
        finally:
            self._forget(waiter)

    async def close(self) -> None:
        """Stop: calls under way are dropped, and whoever waits gets a TransientError."""
        self._closed = True
        tasks = [*self._calls, *([self._dispatcher] if self._dispatcher else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._give_back(list(self._entries.values()), TransientError("the worker is stopping"))

    # -- in -------------------------------------------------------------------------------------------------------

    def _submit(self, texts: Sequence[str], waiter: _Waiter, deadline: float) -> None:
        now = self._now()
        if self._closed:
            raise TransientError("the worker is stopping")
        if self.refused is not None and now < self._refused_until:
            raise self.refused
        at_once: dict[str, Outcome] = {}
        for text in dict.fromkeys(texts):
            waiter.missing.add(text)
            key = canonical(text)
            entry = self._entries.get(key)
            if entry is None:
                record = Record.of(text)
                if (reason := _unaskable(record)) is not None:
                    at_once[text] = Undecided(reason)
                    continue
                entry = self._entries[key] = _Entry(
                    key, text, record, self._cost(record), now, deadline - now, deadline
                )
                self._fresh.append(entry)
            entry.waiters.setdefault(waiter, []).append(text)
            entry.deadline = max(entry.deadline, deadline)
        if at_once:
            waiter.arrivals.put_nowait(at_once)
        self._start()

    def _cost(self, record: Record) -> Cost:
        words = self._count(record.text)
        return Cost(
            tokens_in=words + _RECORD_OVERHEAD_TOKENS + _SCHEMA_TOKENS_PER_RECORD,
            tokens_out=words + _ANSWER_OVERHEAD_TOKENS,
            company=1 if record.suspicious else None,
        )

    async def _arrival(self, waiter: _Waiter, deadline: float) -> dict[str, Outcome]:
        try:
            async with asyncio.timeout_at(deadline):
                arrived = await waiter.arrivals.get()
        except TimeoutError:
            late = TransientError("the model did not answer before the job's deadline")
            return dict.fromkeys(waiter.missing, late)
        if isinstance(arrived, ProviderRefused):
            raise arrived
        while not waiter.arrivals.empty() and isinstance(more := waiter.arrivals.get_nowait(), dict):
            arrived |= more
        return arrived

    def _forget(self, waiter: _Waiter) -> None:
        """Take a caller off its entries; what nobody waits for and nobody has asked yet is not asked."""
        for queue in (self._fresh, self._again):
            for entry in list(queue):
                if entry.waiters.pop(waiter, None) is not None and not entry.waiters:
                    queue.remove(entry)
                    del self._entries[entry.key]
        for entry in self._entries.values():
            entry.waiters.pop(waiter, None)

    def _withdraw(self) -> None:
        self._announced -= 1
        self._wake.set()

    # -- out ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._dispatcher is None or self._dispatcher.done():
            self._dispatcher = asyncio.create_task(self._dispatch(), name="llm-packer")
        self._wake.set()

    async def _dispatch(self) -> None:
        while True:
            await self._until_due()
            await self._gate.free()
            if batch := self._next_batch():
                await self._send(batch)

    async def _until_due(self) -> None:
        while (wait_s := self._due_in()) is None or wait_s > 0:
            self._wake.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                return

    def _due_in(self) -> float | None:
        """Seconds until a batch is due; 0 when one is now, None when there is nothing to ask."""
        waiting = [*self._again, *self._fresh]
        if not waiting:
            return None
        nothing_more = self._anyone_announced and self._announced <= 0
        if nothing_more or self._is_full(self._fresh) or self._is_full(self._again):
            return 0.0
        return max(0.0, min(entry.since for entry in waiting) + self._linger_s - self._now())

    def _is_full(self, queue: list[_Entry]) -> bool:
        budget = self._budget_now(self._call_timeout_s)
        tokens_out = sum(entry.cost.tokens_out for entry in queue)
        return len(queue) >= budget.items or tokens_out >= budget.tokens_out

    def _next_batch(self) -> list[_Entry]:
        """Take the next batch off the queues, sized so that it ends before its first deadline."""
        for queue in (self._again, self._fresh):
            self._give_back_late(queue)
            if not queue:
                continue
            left_s = min(entry.deadline for entry in queue[: self._size.items]) - self._now()
            batch = next(pack(queue, budget=self._budget_now(left_s), cost=lambda entry: entry.cost))
            del queue[: len(batch)]
            return batch
        return []

    def _budget_now(self, left_s: float) -> Budget:
        tokens_out = self._pace.tokens_within(0.8 * min(self._call_timeout_s, left_s))
        budget = self._budget
        items = min(self._size.items, budget.items)
        return Budget(items, budget.tokens_in, budget.tokens_out).within(tokens_out)

    def _give_back_late(self, queue: list[_Entry]) -> None:
        """Hand back what would not end in time.

        At the moment a text comes in it may always start, else one slow call could close the lane for good.
        """
        now = self._now()
        late = [
            entry
            for entry in queue
            if entry.deadline - now
            < min(self._pace.seconds(entry.cost.tokens_out), self._call_timeout_s, 0.5 * entry.patience_s)
        ]
        if late:
            queue[:] = [entry for entry in queue if entry not in late]
            self._give_back(late, TransientError("too little time left to ask the model"))

    async def _send(self, batch: list[_Entry]) -> None:
        admission = await self._gate.admit(self._tokens(batch))
        if isinstance(admission, Admitted):
            task = asyncio.create_task(self._call(batch, admission), name="llm-call")
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
            return
        if admission.closed:
            self._give_back([*batch, *self._fresh, *self._again], admission.error)
            self._fresh.clear()
            self._again.clear()
            return
        self._fresh[:0] = batch
        self._give_back_unless(self._now() + admission.wait_s, admission.error)
        await asyncio.sleep(admission.wait_s)

    def _give_back_unless(self, earliest: float, error: TransientError) -> None:
        """Hand back what has no time left when the wait is over, so that nobody sits out a long pause for nothing."""
        for queue in (self._fresh, self._again):
            late = [entry for entry in queue if entry.deadline <= earliest]
            queue[:] = [entry for entry in queue if entry.deadline > earliest]
            self._give_back(late, error)

    def _tokens(self, batch: list[_Entry]) -> int:
        return self._prompt_tokens + sum(entry.cost.tokens_in + entry.cost.tokens_out for entry in batch)

    # -- one call -------------------------------------------------------------------------------------------------

    async def _call(self, batch: list[_Entry], admitted: Admitted) -> None:
        expected_out = sum(entry.cost.tokens_out for entry in batch)
        try:
            answer = await self._model.complete(
                [entry.record for entry in batch],
                max_tokens_out=2 * expected_out + 100,
                timeout_s=self._call_timeout_s,
            )
        except TransientError as error:
            await self._gate.failed(admitted, error)
            self._postpone(batch, error)
        except BatchRejected:
            await self._gate.failed(admitted, None)
            await self._take_apart(batch)
        except ProviderRefused as error:
            await self._gate.failed(admitted, None)
            self._stop(error)
        except Exception as error:  # a bug must not leave anyone waiting
            await self._gate.failed(admitted, None)
            log.exception("llm.call.broke", records=len(batch))
            self._give_back(batch, TransientError(f"the model call broke ({type(error).__name__})"))
        else:
            await self._gate.succeeded(admitted, answer)
            await self._take(batch, answer)

    async def _take(self, batch: list[_Entry], answer: Answer) -> None:
        """Keep every valid record, ask again for the others in smaller company, give up what failed alone."""
        self._note(batch, answer)
        if self._account is not None:
            await self._account(answer, len(batch))
        if answer.refused and not any(answer.slots):
            await self._take_apart(batch)
            return
        decided: list[tuple[_Entry, Decision[Address]]] = []
        again: list[_Entry] = []
        company = smaller_company(len(batch))
        for entry, segments in zip(batch, answer.slots, strict=True):
            verdict = judge(entry.text, segments)
            if not isinstance(verdict, Again):
                decided.append((entry, verdict))
            elif company is None:
                decided.append((entry, Undecided(verdict.reason)))
            else:
                again.append(entry)
        self._size.observe(asked=len(batch), valid=len(decided))
        self._ask_again(again, company)
        await self._settle(decided)

    async def _take_apart(self, batch: list[_Entry]) -> None:
        """The batch was refused as a whole: ask in halves, until the one that is refused stands alone."""
        company = half(len(batch))
        log.info("llm.batch.refused", records=len(batch))
        if company is None:
            await self._settle([(entry, Undecided(Reason.MODEL_REFUSED)) for entry in batch])
        else:
            self._ask_again(batch, company)

    def _ask_again(self, entries: list[_Entry], company: int | None) -> None:
        if not entries:
            return
        self._shuffle(entries)
        self.stats.again += len(entries)
        for entry in entries:
            entry.cost = Cost(entry.cost.tokens_in, entry.cost.tokens_out, company)
            entry.since = self._now()
        self._again.extend(entry for entry in entries if self._wanted(entry))
        self._wake.set()

    def _postpone(self, batch: list[_Entry], error: TransientError) -> None:
        """Try the same records again when the gate lets them; give up after a few failures in a row."""
        log.warning("llm.call.failed", records=len(batch), error=type(error).__name__)
        for entry in batch:
            entry.failures += 1
        self._give_back([entry for entry in batch if entry.failures > _MAX_FAILURES], error)
        self._fresh[:0] = [entry for entry in batch if entry.failures <= _MAX_FAILURES and self._wanted(entry)]
        self._wake.set()

    def _wanted(self, entry: _Entry) -> bool:
        """Whether anyone still waits; what nobody wants is not asked again."""
        if entry.waiters:
            return True
        self._entries.pop(entry.key, None)
        return False

    def _stop(self, error: ProviderRefused) -> None:
        """The lane stops; after a while one group may try whether the operator has mended it."""
        log.error("llm.lane.stopped", problem=error.problem)
        self.refused, self._refused_until = error, self._now() + _REFUSAL_PAUSE_S
        waiters = {waiter for entry in self._entries.values() for waiter in entry.waiters}
        self._entries.clear()
        self._fresh.clear()
        self._again.clear()
        for waiter in waiters:
            waiter.arrivals.put_nowait(error)

    # -- answers --------------------------------------------------------------------------------------------------

    async def _settle(self, decided: list[tuple[_Entry, Decision[Address]]]) -> None:
        """Remember first, then tell."""
        if not decided:
            return
        try:
            await self._remember({entry.text: decision for entry, decision in decided})
        except Exception:  # the cache being away costs money later, not the answer now
            log.exception("llm.remember.failed", records=len(decided))
        self._tell(decided)

    def _give_back(self, entries: Iterable[_Entry], error: TransientError) -> None:
        self._tell([(entry, error) for entry in entries])

    def _tell(self, outcomes: Sequence[tuple[_Entry, Outcome]]) -> None:
        """One message per caller, however many of its texts were answered."""
        messages: dict[_Waiter, dict[str, Outcome]] = {}
        for entry, outcome in outcomes:
            if self._entries.get(entry.key) is entry:
                del self._entries[entry.key]
            for waiter, texts in entry.waiters.items():
                messages.setdefault(waiter, {}).update(dict.fromkeys(texts, outcome))
        for waiter, message in messages.items():
            waiter.arrivals.put_nowait(message)

    def _note(self, batch: list[_Entry], answer: Answer) -> None:
        self.refused = None
        self._pace.observe(tokens_out=answer.usage.tokens_out, seconds=answer.seconds)
        self.stats.calls += 1
        self.stats.records += len(batch)
        self.stats.tokens_in += answer.usage.tokens_in
        self.stats.tokens_out += answer.usage.tokens_out
        log.info(
            "llm.batch.completed",
            records=len(batch),
            answered=sum(slot is not None for slot in answer.slots),
            finish=answer.finish,
            tokens_in=answer.usage.tokens_in,
            tokens_out=answer.usage.tokens_out,
            seconds=round(answer.seconds, 2),
        )

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _unaskable(record: Record) -> Reason | None:
    if not record.text:
        return Reason.ADDRESS_MISSING
    return Reason.TEXT_TOO_LONG if len(record.text) > MAX_RECORD_CHARS else None
