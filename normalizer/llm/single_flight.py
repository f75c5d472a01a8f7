"""Single flight: texts in flight and their waiters, so that one identity is asked once, however many bring it.

Whoever stops waiting takes nothing from the others: an entry belongs to all its waiters, and to none.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self, TypeAlias

from normalizer.domain.address import Address
from normalizer.domain.decision import Decision
from normalizer.domain.text import canonical
from normalizer.errors import NormalizerError, TransientError
from normalizer.llm.prompt import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from normalizer.llm.packing import Cost

Outcome: TypeAlias = Decision[Address] | NormalizerError


@dataclass(eq=False, slots=True)
class Waiter:
    """One caller: iterate it for outcomes keyed by the caller's texts, as they arrive, each text exactly once.

    Every text gets an outcome; one that could not be had is an error to hand back, never raised. Closing it (or leaving
    its `with` block, or being cancelled while waiting) takes the caller off what is still in flight.
    """

    deadline: float = 0.0
    missing: set[str] = field(default_factory=set)
    on_close: list[Callable[[], object]] = field(default_factory=list)
    _arrivals: asyncio.Queue[dict[str, Outcome]] = field(default_factory=asyncio.Queue)

    def tell(self, outcomes: dict[str, Outcome]) -> None:
        """Bring outcomes, keyed by the texts this caller gave."""
        self._arrivals.put_nowait(outcomes)

    def close(self) -> None:
        """Wait for nothing more. Safe to call twice."""
        while self.on_close:
            self.on_close.pop()()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Outcome]:
        if not self.missing:
            self.close()
            raise StopAsyncIteration
        try:
            return await self._next()
        except BaseException:
            self.close()
            raise

    async def _next(self) -> dict[str, Outcome]:
        """All that has arrived, waiting for something until the deadline; then the rest as a TransientError."""
        arrived: dict[str, Outcome] = {}
        try:
            async with asyncio.timeout_at(self.deadline):
                arrived = await self._arrivals.get()
        except TimeoutError:
            pass
        while not self._arrivals.empty():
            arrived = arrived | self._arrivals.get_nowait()
        if not arrived:
            arrived = dict.fromkeys(self.missing, TransientError("the model did not answer before the deadline"))
        self.missing.difference_update(arrived)
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

    def __len__(self) -> int:
        return len(self._entries)

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

    def resolve_all(self, error: NormalizerError) -> None:
        """End every entry with `error`."""
        self.resolve([(entry, error) for entry in self._entries.values()])
