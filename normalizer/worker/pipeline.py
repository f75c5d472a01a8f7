"""From appointments to outcomes: canonical text → cache → rules → coalescer. Reads top to bottom; no queue, no store.

The cheap lane comes out first and at once; what only a model can settle follows as its answers arrive.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from normalizer.domain.address import Address, parse_address
from normalizer.domain.appointment import Appointment, Kind, Normalized, Origin, Outcome, Review
from normalizer.domain.decision import Decision, Reason, Settled, Undecided
from normalizer.domain.document import Document, parse_document
from normalizer.domain.text import canonical
from normalizer.errors import Misconfigured, NormalizerError, TransientError
from normalizer.llm.privacy import Withheld
from normalizer.llm.single_flight import TextContext

if TYPE_CHECKING:
    from normalizer.cache import Cache, Entry
    from normalizer.llm.coalescer import Announcement, Coalescer

# What no model may be asked: there is nothing in such a text that a better reader would find.
_FINAL_REASONS = frozenset({Reason.ADDRESS_MISSING, Reason.ADDRESS_JUNK, Reason.ADDRESS_FOREIGN, Reason.TEXT_TOO_LONG})
_PARSES_PER_LOOP_TURN = 50  # about 10 ms of rules before other tasks (lease renewals) get their turn


@dataclass(frozen=True, slots=True)
class Finished:
    """Every enabled text of the appointment has its outcome."""

    appointment: Appointment
    outcomes: Mapping[Kind, Outcome]


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not the row's fault: the model could not be asked in time. Try again later."""

    appointment: Appointment
    error: NormalizerError


Progress: TypeAlias = Finished | Deferred
_Decided: TypeAlias = list[tuple[Appointment, Outcome | NormalizerError]]


@dataclass(slots=True)
class _Text:
    """One distinct address text and the appointments that carry it."""

    text: str
    waiting: list[Appointment] = field(default_factory=list)
    undecided: Undecided | None = None

    def context(self) -> TextContext:
        """What the model lane must know: what of its patients never leaves; the first import pays."""
        withheld = Withheld.of((each.text(Kind.DOCUMENT), *each.private) for each in self.waiting)
        return TextContext(withheld, next((each.import_id for each in self.waiting if each.import_id), None))


class Pipeline:
    """Turns appointments into outcomes.

    Args:
        cache: answers given before, for this process and for all replicas; None asks nobody.
        coalescer: the shared queue in front of the model; None when no key is configured.
        kinds: which texts to normalize; the others are never touched.
        unasked: the reason given where only a model could decide and there is none; None gives the rules' own.
    """

    def __init__(
        self,
        *,
        cache: Cache | None,
        coalescer: Coalescer | None,
        kinds: frozenset[Kind] = frozenset(Kind),
        unasked: Reason | None = Reason.NO_MODEL_KEY,
    ) -> None:
        self._cache = cache
        self._coalescer = coalescer
        self._kinds = kinds
        self._unasked = unasked

    async def run(
        self,
        appointments: Sequence[Appointment],
        *,
        deadline: float,
        stopped: Callable[[], Awaitable[None]] | None = None,
    ) -> AsyncGenerator[list[Progress], None]:
        """Yield each appointment exactly once, in lists, as soon as it is decided.

        Args:
            appointments: the group; repeated texts are decided once.
            deadline: `loop.time()` by which everything must have come out.
            stopped: returns when no further model call may be started for this group.
        """
        documents = await self._documents(appointments) if Kind.DOCUMENT in self._kinds else {}
        if Kind.ADDRESS not in self._kinds:
            yield [Finished(appointment, documents.get(appointment.id, {})) for appointment in appointments]
            return
        async with contextlib.aclosing(self._addresses(appointments, deadline, stopped)) as decided:
            async for addresses in decided:
                yield [_progress(each, outcome, documents.get(each.id, {})) for each, outcome in addresses]

    async def _documents(self, appointments: Sequence[Appointment]) -> dict[str, dict[Kind, Outcome]]:
        memo: dict[str, Outcome] = {}
        outcomes: dict[str, dict[Kind, Outcome]] = {}
        for turn, appointment in enumerate(appointments):
            text = appointment.text(Kind.DOCUMENT)
            if text not in memo:
                memo[text] = _outcome(parse_document(text), Origin.RULES)
            outcomes[appointment.id] = {Kind.DOCUMENT: memo[text]}
            if turn % _PARSES_PER_LOOP_TURN == 0:
                await asyncio.sleep(0)
        return outcomes

    async def _addresses(
        self,
        appointments: Sequence[Appointment],
        deadline: float,
        stopped: Callable[[], Awaitable[None]] | None,
    ) -> AsyncGenerator[_Decided, None]:
        announced = self._coalescer.announce() if self._coalescer is not None else None
        try:
            texts = _distinct(appointments)
            cached = await self._from_cache(texts)
            cheap: _Decided = []
            unresolved: list[_Text] = []
            for turn, item in enumerate(texts):
                decided = self._without_model(item, cached.get(item.text))
                if decided:
                    cheap.extend(decided)
                else:
                    unresolved.append(item)
                if turn % _PARSES_PER_LOOP_TURN == 0:
                    await asyncio.sleep(0)
            if self._coalescer is None or announced is None or not unresolved:
                yield cheap
                return
            asked = _from_model(self._coalescer, unresolved, deadline, announced, stopped)
            async with contextlib.aclosing(_ahead(asked)) as answers:
                await anext(answers)  # the texts are with the coalescer before the cheap lane is saved
                yield cheap
                async for answered in answers:
                    yield answered
        finally:
            if announced is not None:
                announced.withdraw()

    async def _from_cache(self, texts: Sequence[_Text]) -> Mapping[str, Entry]:
        asked = [item.text for item in texts if item.text]
        return await self._cache.get_many(Kind.ADDRESS, asked) if self._cache is not None and asked else {}

    def _without_model(self, item: _Text, entry: Entry | None) -> _Decided:
        """What becomes of those that carry the text; empty when only a model can tell."""
        if entry is not None:
            origin = Origin.MANUAL if entry.manual else Origin.CACHE
            return [(each, _outcome(entry.decision, origin)) for each in item.waiting]
        decision = parse_address(item.text)
        if not needs_model(decision):
            return [(each, _outcome(decision, Origin.RULES)) for each in item.waiting]
        if self._coalescer is None:
            unasked = Review(self._unasked or decision.reason, Origin.RULES, decision.understood)
            return [(each, unasked) for each in item.waiting]
        item.undecided = decision
        return []


def _progress(
    appointment: Appointment, address: Outcome | NormalizerError, documents: Mapping[Kind, Outcome]
) -> Progress:
    if isinstance(address, NormalizerError):
        return Deferred(appointment, address)
    return Finished(appointment, {**documents, Kind.ADDRESS: address})


def needs_model(decision: Decision[Address]) -> TypeGuard[Undecided]:
    """Whether a better reader than the rules could find more in a text they read so."""
    return isinstance(decision, Undecided) and decision.reason not in _FINAL_REASONS


async def _from_model(
    coalescer: Coalescer,
    unresolved: Sequence[_Text],
    deadline: float,
    announced: Announcement,
    stopped: Callable[[], Awaitable[None]] | None,
) -> AsyncGenerator[_Decided, None]:
    waiting = {item.text: item for item in unresolved}
    contexts = {item.text: item.context() for item in unresolved}
    try:
        asked = coalescer.resolve_many(
            list(waiting), deadline=deadline, announced=announced, stopped=stopped, contexts=contexts
        )
        async for answers in asked:
            yield [pair for text, answer in answers.items() for pair in _hand_out(waiting.pop(text), answer)]
    except (TransientError, Misconfigured) as error:
        yield [(appointment, error) for item in waiting.values() for appointment in item.waiting]


async def _ahead(source: AsyncGenerator[_Decided, None]) -> AsyncGenerator[_Decided, None]:
    """`source`, one step ahead of whoever reads it; begins with an empty list once the first step is under way."""
    step = asyncio.ensure_future(anext(source, None))
    try:
        await asyncio.sleep(0)
        yield []
        while (decided := await asyncio.shield(step)) is not None:
            step = asyncio.ensure_future(anext(source, None))
            yield decided
    finally:
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)
        await source.aclose()


def _distinct(appointments: Sequence[Appointment]) -> list[_Text]:
    by_identity: dict[str, _Text] = {}
    for appointment in appointments:
        text = appointment.text(Kind.ADDRESS)
        by_identity.setdefault(canonical(text), _Text(text)).waiting.append(appointment)
    return list(by_identity.values())


def _hand_out(
    item: _Text, answer: Decision[Address] | NormalizerError
) -> Iterator[tuple[Appointment, Outcome | NormalizerError]]:
    """The first appointment paid for the answer; those that share its text had it for nothing."""
    for position, appointment in enumerate(item.waiting):
        if isinstance(answer, NormalizerError):
            yield appointment, answer
        else:
            yield appointment, _model_outcome(answer, item, Origin.MODEL if position == 0 else Origin.CACHE)


def _model_outcome(answer: Decision[Address], item: _Text, origin: Origin) -> Outcome:
    if isinstance(answer, Undecided) and answer.understood is None and item.undecided is not None:
        return Review(answer.reason, origin, item.undecided.understood)
    return _outcome(answer, origin)


def _outcome(decision: Decision[Address] | Decision[Document], origin: Origin) -> Outcome:
    if isinstance(decision, Settled):
        return Normalized(decision.value, origin, decision.note)
    return Review(decision.reason, origin, decision.understood)
