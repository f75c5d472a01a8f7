"""The shared, coalescing queue in front of the model: many groups' unresolved texts, few calls.

A text lingers until a call is full, until it has waited `linger_ms`, or until nothing more can come. An answer is
remembered before anyone is told, so that a crash afterwards pays for no call twice.
"""

from __future__ import annotations

import asyncio
import math
import random
from contextlib import ExitStack
from typing import TYPE_CHECKING

import structlog

from normalizer.cache import Entry
from normalizer.domain.appointment import Kind
from normalizer.domain.decision import Decision, Reason, Undecided
from normalizer.domain.text import canonical
from normalizer.errors import ProviderRefused, TransientError
from normalizer.llm.limits import Admitted, Denied, LocalGate
from normalizer.llm.model_call import ModelCaller, now
from normalizer.llm.packing import BatchSize, Budget, Cost, Pace, PendingTexts, cost_of, prompt_tokens
from normalizer.llm.prompt import MAX_RECORD_CHARS, Record
from normalizer.llm.single_flight import InFlight, PendingText, SharedSingleFlight, TextContext, Waiter
from normalizer.queue.waiting import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from normalizer.cache import Cache
    from normalizer.domain.address import Address
    from normalizer.llm.client import LlmClient
    from normalizer.llm.pricing import Ledger

log = structlog.get_logger(__name__)


class Coalescer:
    """Packs texts of the whole process into model calls. One per process; `close()` it.

    Args:
        model: asks one batch.
        cache: where answers are kept before anyone is told of them; None (loose texts) leaves no trace.
        count: tokens of a text.
        gate: rate limit, concurrency and breaker.
        budget: what one call may hold at most.
        size: how many records a call may hold, adapted below the budget to what comes back valid.
        pace: how long calls take, learned.
        linger_ms: how long a text waits for others to share its call.
        call_timeout_s: a call is planned to end within; an endpoint that has shown to be slower is given longer.
        flex: ask for the half-price tier where nobody waits for the answer.
        shared_flight: lets one replica ask about a text that several have in flight.
        ledger: counts every answer, and says when the day's budget is spent; texts then wait in review.
        seed: of the shuffle that gives a record other neighbours when it is asked again.
    """

    def __init__(
        self,
        model: LlmClient,
        *,
        count: Callable[[str], int],
        cache: Cache | None = None,
        gate: LocalGate | None = None,
        budget: Budget | None = None,
        size: BatchSize | None = None,
        pace: Pace | None = None,
        linger_ms: int = 200,
        call_timeout_s: float = 60.0,
        flex: bool = False,
        shared_flight: SharedSingleFlight | None = None,
        ledger: Ledger | None = None,
        seed: int | None = None,
    ) -> None:
        self._cache, self._count, self._ledger = cache, count, ledger
        self._gate = gate or LocalGate()
        size, pace = size or BatchSize(), pace or Pace()
        self._pending = PendingTexts(
            budget=budget or Budget(), size=size, pace=pace, linger_s=linger_ms / 1000, call_timeout_s=call_timeout_s
        )
        self._caller = ModelCaller(
            model, gate=self._gate, size=size, pace=pace, ledger=ledger, call_timeout_s=call_timeout_s, flex=flex
        )
        self.stats = self._caller.stats
        self._shuffle = random.Random(seed).shuffle
        self._prompt_tokens = prompt_tokens(count)
        self.refused: ProviderRefused | None = None
        """Why the lane stands still; shown by `status` and `doctor`."""
        self._in_flight = InFlight()
        self._shared = shared_flight
        if shared_flight is not None:
            shared_flight.attach(self._in_flight, self._requeue)
        self._announced: int | None = None
        self._wake = asyncio.Event()
        self._dispatcher: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._closed = False

    async def greet(self) -> None:
        """At the start of a worker: see `ModelCaller.greet`. A wrong model stops the lane before a row finds it out."""
        if (refusal := await self._caller.greet()) is not None:
            self._stop(refusal)

    def announce(self) -> ExitStack:
        """Say that a group is on its way which may bring texts; leaving its `with` block, or closing it, withdraws it.

        Once every announced group has brought its texts or withdrawn, nothing more can come and nobody lingers.
        """
        self._announced = (self._announced or 0) + 1
        announcement = ExitStack()
        announcement.callback(self._withdraw)
        return announcement

    def _withdraw(self) -> None:
        self._announced = (self._announced or 0) - 1
        self._wake.set()

    def resolve_many(
        self,
        texts: Sequence[str],
        *,
        deadline: float,
        stopped: Callable[[], Awaitable[None]] | None = None,
        contexts: Mapping[str, TextContext] | None = None,
    ) -> Waiter:
        """Take the texts in at once, and return what their outcomes arrive at.

        Args:
            texts: texts of one identity are asked once.
            deadline: `loop.time()` seconds. What could not be started or answered by then comes as a TransientError.
            stopped: returns when this caller wants no further call started; calls under way are still waited for.
            contexts: what is known of the texts beside their words, by text.

        What cannot be asked arrives as the error that says why; nothing is raised.
        """
        waiter = Waiter(deadline, texts)
        waiter.callback(self._forget, waiter)
        if stopped is not None:
            waiter.callback(asyncio.create_task(self._when(stopped, waiter), name="llm-stopped").cancel)
        self._submit(texts, waiter, contexts or {})
        return waiter

    async def close(self) -> None:
        """Stop: calls under way are dropped, and every waiter gets a TransientError."""
        self._closed = True
        await cancel_and_wait(*self._calls, *([self._dispatcher] if self._dispatcher else []))
        if self._shared is not None:
            await self._shared.close()
        self._in_flight.end_all(_stopping())

    # -- texts come in

    def _submit(self, texts: Sequence[str], waiter: Waiter, contexts: Mapping[str, TextContext]) -> None:
        since, deadline = now(), waiter.deadline
        if self._closed:
            waiter.tell(dict.fromkeys(texts, _stopping()))
            return
        for text in dict.fromkeys(texts):
            context = contexts.get(text, TextContext())
            if self._in_flight.join(text, waiter, context):
                continue
            record = Record.of(text, withheld=context.withheld)
            if (reason := _unaskable(record)) is not None:
                waiter.tell({text: Undecided(reason)})
                continue
            cost = cost_of(record, self._count)
            patience_s = deadline - since
            entry = PendingText(canonical(text), text, record, cost, since, deadline, patience_s, context=context)
            self._in_flight.start(entry, waiter)
            self._pending.add(entry)
        if self._dispatcher is None or self._dispatcher.done():
            self._dispatcher = asyncio.create_task(self._dispatch(), name="llm-coalescer")
        self._wake.set()

    def _forget(self, waiter: Waiter) -> None:
        """Take a caller off its entries; what nobody waits for and nobody has asked yet is not asked."""
        self._in_flight.leave(waiter)
        self._pending.take(self._in_flight.abandoned)

    async def _when(self, stopped: Callable[[], Awaitable[None]], waiter: Waiter) -> None:
        """Give a caller that is stopping back what no call holds yet."""
        await stopped()
        stopping = _stopping()
        for entry in self._pending.waiting():
            if texts := entry.waiters.pop(waiter, None):
                waiter.tell(dict.fromkeys(texts, stopping))
        self._pending.take(self._in_flight.abandoned)

    def _requeue(self, entries: list[PendingText]) -> None:
        """Put texts back that were on their way, where somebody still waits for them."""
        self._pending.put_back([entry for entry in entries if not self._in_flight.abandoned(entry)])
        self._wake.set()

    # -- batches go out

    async def _dispatch(self) -> None:
        while True:
            await self._until_due()
            await self._gate.free()
            self._in_flight.end(self._pending.take_late(now()), TransientError("too little time left to ask the model"))
            batch = self._pending.next_batch(now())
            try:
                await self._start(batch)
            except Exception as error:  # a bug must leave nobody waiting
                log.exception("llm.dispatch.broke", records=len(batch))
                self._in_flight.end(batch, TransientError(f"the model lane broke ({type(error).__name__})"))

    async def _start(self, batch: list[PendingText]) -> None:
        """Start a call, or put the batch back."""
        if self._shared is not None:
            batch = await self._shared.take(batch)
        if not batch:
            return
        if self._ledger is not None and await self._ledger.spent():
            self._out_of_budget(batch)
            return
        total = sum((entry.cost for entry in batch), Cost())
        admission = await self._gate.admit(self._prompt_tokens + total.tokens_in + total.tokens_out)
        if isinstance(admission, Denied):
            self._pending.put_back(batch)
            await self._hold(admission)
            return
        task = asyncio.create_task(self._call(batch, admission), name="llm-call")
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _until_due(self) -> None:
        while (wait_s := self._pending.due_in(now(), nothing_more=self._announced == 0)) is None or wait_s > 0:
            self._wake.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                return

    def _out_of_budget(self, batch: list[PendingText]) -> None:
        """Send everything to review for today; never remembered, so that tomorrow it can be asked."""
        left = [*batch, *self._pending.take()]
        log.warning("llm.budget.spent", records=len(left))
        self._in_flight.end(left, Undecided(Reason.MODEL_BUDGET))

    async def _hold(self, denied: Denied) -> None:
        """Wait until a call may start; texts whose deadline comes sooner are given back at once.

        When that is not soon nobody waits: cache and rules must not stand behind it.
        """
        resumes_at = now() + (math.inf if denied.closed else denied.wait_s)
        late = self._pending.take(lambda entry: entry.deadline <= resumes_at)
        self._in_flight.end(late, denied.error if self.refused is None else _still(self.refused, denied.wait_s))
        if not denied.closed:
            await asyncio.sleep(denied.wait_s)

    # -- one call

    async def _call(self, batch: list[PendingText], admitted: Admitted) -> None:
        result = await self._caller.ask(batch, admitted)
        if result.refused is not None:
            self._stop(result.refused)
            return
        if result.answered:
            self.refused = None
        self._in_flight.resolve(result.given_up)
        if result.later:
            self._requeue(result.later)
        if result.again:
            self._ask_again(result.again)
        await self._settle(result.decided)

    def _ask_again(self, again: Sequence[PendingText]) -> None:
        """Queue entries once more, among other neighbours."""
        wanted = [entry for entry in again if not self._in_flight.abandoned(entry)]
        self._shuffle(wanted)
        for entry in wanted:
            entry.since = now()
        self.stats.asked_again += len(wanted)
        self._pending.add_again(wanted)
        self._wake.set()

    def _stop(self, error: ProviderRefused) -> None:
        """Everybody's texts go back; the gate lets one call find out whether the operator has mended it."""
        log.error("llm.lane.stopped", problem=error.problem)
        self.refused = error
        self._pending.take()
        self._in_flight.end_all(error)

    # -- answers come out

    async def _settle(self, decided: list[tuple[PendingText, Decision[Address]]]) -> None:
        """Remember first, then tell."""
        if not decided:
            return
        try:
            if self._cache is not None:
                answers = {entry.text: Entry.of(decision) for entry, decision in decided}
                await self._cache.put_many(Kind.ADDRESS, answers)
        except Exception:  # costs money later, not the answer now
            log.exception("llm.remember.failed", records=len(decided))
        if self._shared is not None:
            await self._shared.release(entry for entry, _ in decided)
        self._in_flight.resolve(decided)


def _still(refused: ProviderRefused, wait_s: float) -> ProviderRefused:
    return ProviderRefused(refused.problem, fix=refused.fix, retry_after_s=wait_s)


def _unaskable(record: Record) -> Reason | None:
    if not record.text:
        return Reason.ADDRESS_MISSING
    return Reason.TEXT_TOO_LONG if len(record.text) > MAX_RECORD_CHARS else None


def _stopping() -> TransientError:
    """No reason to wait: another replica may take what this one did not start, at once."""
    return TransientError("the worker is stopping", retry_after_s=0)
