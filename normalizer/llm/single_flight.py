"""Texts in flight and who waits for them: single-flight, so that one identity is asked once, whoever brings it.

Whoever stops waiting takes nothing from the others: an entry belongs to all its waiters, and to none.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from normalizer.domain.address import Address
from normalizer.domain.decision import Decision
from normalizer.domain.text import canonical
from normalizer.errors import ProviderRefused, TransientError
from normalizer.llm.privacy import Withheld
from normalizer.llm.prompt import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normalizer.llm.packing import Cost

Outcome: TypeAlias = Decision[Address] | TransientError


@dataclass(eq=False, slots=True)
class Waiter:
    """One caller: the texts it still misses and where outcomes reach it."""

    missing: set[str] = field(default_factory=set)
    refused: ProviderRefused | None = None
    _arrivals: asyncio.Queue[dict[str, Outcome]] = field(default_factory=asyncio.Queue)

    def tell(self, outcomes: dict[str, Outcome]) -> None:
        """Bring outcomes, keyed by the texts this caller gave."""
        self._arrivals.put_nowait(outcomes)

    def refuse(self, error: ProviderRefused) -> None:
        """Say that nothing more will come."""
        self.refused = error
        self._arrivals.put_nowait({})

    async def next(self, deadline: float) -> dict[str, Outcome]:
        """Return all that has arrived, waiting for something until `deadline`; then the rest as a TransientError.

        Raises ProviderRefused once everything that had arrived before is out.
        """
        arrived: dict[str, Outcome] = {}
        try:
            async with asyncio.timeout_at(deadline):
                while not arrived and self.refused is None:
                    arrived = await self._arrivals.get()
        except TimeoutError:
            pass
        while not self._arrivals.empty():
            arrived = arrived | self._arrivals.get_nowait()
        if not arrived:
            if self.refused is not None:
                raise self.refused
            arrived = dict.fromkeys(self.missing, TransientError("the model did not answer before the deadline"))
        self.missing.difference_update(arrived)
        return arrived


@dataclass(frozen=True, slots=True)
class TextContext:
    """What is known of a text beside its words.

    Attributes:
        withheld: what must not leave with it.
        import_id: the import that is charged for asking about it.
    """

    withheld: Withheld = field(default_factory=Withheld)
    import_id: str | None = None


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

    def learn(self, context: TextContext) -> None:
        """Withhold also what another caller withholds, from every call that starts from now on."""
        together = self.context.withheld | context.withheld
        if together != self.context.withheld:
            self.context = replace(self.context, withheld=together)
            self.record = Record.of(self.text, withheld=self.context.withheld)


class InFlight:
    """The table of entries by identity."""

    def __init__(self) -> None:
        self._entries: dict[str, PendingText] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def join(self, text: str, waiter: Waiter, deadline: float, context: TextContext) -> bool:
        """Let `waiter` wait for `text` if it is in flight already; False if it is not."""
        entry = self._entries.get(canonical(text))
        if entry is None:
            return False
        entry.waiters.setdefault(waiter, []).append(text)
        entry.deadline = max(entry.deadline, deadline)
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

    def land(self, outcomes: Sequence[tuple[PendingText, Outcome]]) -> None:
        """End entries and tell their waiters: one message per caller, however many of its texts are in it."""
        messages: dict[Waiter, dict[str, Outcome]] = {}
        for entry, outcome in outcomes:
            self.drop(entry)
            for waiter, texts in entry.waiters.items():
                messages.setdefault(waiter, {}).update(dict.fromkeys(texts, outcome))
        for waiter, message in messages.items():
            waiter.tell(message)

    def land_all(self, error: TransientError) -> None:
        """End every entry with `error`."""
        self.land([(entry, error) for entry in self._entries.values()])

    def refuse_all(self, error: ProviderRefused) -> None:
        """End every entry, because the provider refuses the key or account."""
        waiters = {waiter for entry in self._entries.values() for waiter in entry.waiters}
        self._entries.clear()
        for waiter in waiters:
            waiter.refuse(error)
