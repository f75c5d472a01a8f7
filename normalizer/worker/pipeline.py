"""From appointments to outcomes: canonical text → cache → rules → coalescer. Reads top to bottom; no queue, no store.

The cheap lane comes out first and at once; what only a model can settle follows as its answers arrive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from normalizer.domain.address import DEFAULT_TYPE, TYPE, Address, parse_address
from normalizer.domain.address.explain import Taught
from normalizer.domain.address.postal import verdicts
from normalizer.domain.appointment import Absent, Appointment, Kind, Normalized, Origin, Outcome, Review
from normalizer.domain.decision import Decision, Reason, Settled, Undecided
from normalizer.domain.document import Document, parse_document
from normalizer.domain.text import canonical
from normalizer.errors import NormalizerError
from normalizer.llm.redaction import numbers_withheld
from normalizer.llm.single_flight import TextContext, Waiter

if TYPE_CHECKING:
    from normalizer.cache import Cache, Entry
    from normalizer.domain.address.postal import PostalBase
    from normalizer.llm.coalescer import Coalescer

# What no model may be asked: there is nothing in such a text that a better reader would find.
_FINAL_REASONS = frozenset({Reason.ADDRESS_MISSING, Reason.ADDRESS_JUNK, Reason.ADDRESS_FOREIGN, Reason.TEXT_TOO_LONG})
_NOTHING_THERE = frozenset({Reason.ADDRESS_MISSING, Reason.DOCUMENT_MISSING})
_PARSES_PER_LOOP_TURN = 50  # about 10 ms of rules before other tasks get their turn


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
_Decided: TypeAlias = tuple[Appointment, Outcome | NormalizerError]


@dataclass(slots=True)
class _Text:
    """One distinct address text and the appointments that carry it."""

    text: str
    waiting: list[Appointment] = field(default_factory=list)
    undecided: Undecided | None = None

    def context(self, *, interactive: bool) -> TextContext:
        """What the model lane must know: what of the patients never leaves; the first import pays."""
        withheld = numbers_withheld(each.withheld() for each in self.waiting)
        import_id = next((each.import_id for each in self.waiting if each.import_id), None)
        return TextContext(withheld, import_id, interactive)


@dataclass(kw_only=True, slots=True)
class Pipeline:
    """Turns appointments into outcomes."""

    cache: Cache | None  # answers given before, for this process and for all replicas; None asks nobody
    coalescer: Coalescer | None  # the shared queue in front of the model; None when no key is configured
    kinds: frozenset[Kind] = frozenset(Kind)  # which texts to normalize; the others are never touched
    #: The reason given where only a model could decide and there is none; None gives the rules' own.
    unasked: Reason | None = Reason.NO_MODEL_KEY
    taught: Taught = field(default_factory=Taught)  # the clinic's own words, asked where the rules leave a text open
    street_type: str = DEFAULT_TYPE  # put before a street's name without a type; "" leaves such a text to a person
    #: Says which words are street and district where the rules cannot, and what of an address it confirms.
    base: PostalBase | None = None

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
        documents = await self._documents(appointments)
        wanted = [each for each in appointments if self._is_wanted(each, Kind.ADDRESS)]
        if len(wanted) < len(appointments):
            rest = [each for each in appointments if not self._is_wanted(each, Kind.ADDRESS)]
            yield [Finished(each, documents[each.id]) for each in rest]
        if not wanted:
            return
        with self._announced():  # other groups' texts linger for what this one may bring
            texts = _distinct(wanted)
            decided = await self._without_model(texts)
            left = {item.text: item for item in texts if item.undecided is not None}
            answers = self._ask(left, deadline, stopped, alone=len(appointments) == 1)
        with answers:  # under way while the cheap ones are saved
            if decided:
                yield [_progress(*each, documents) for each in decided]
            async for arrived in answers:
                handed_out = chain.from_iterable(_hand_out(left[text], answer) for text, answer in arrived.items())
                yield [_progress(each, self._answer(answer), documents) for each, answer in handed_out]

    def _answer(self, answer: Outcome | NormalizerError) -> Outcome | NormalizerError:
        return answer if isinstance(answer, NormalizerError) else self._address(answer)

    def _is_wanted(self, appointment: Appointment, kind: Kind) -> bool:
        """Whether the text is to be normalized: not where it is switched off, or the result is not ours to replace."""
        return kind in self.kinds and kind not in appointment.kept

    async def _documents(self, appointments: Sequence[Appointment]) -> dict[str, dict[Kind, Outcome]]:
        """The outcome of each appointment's document, by its id: by rules alone, always."""
        memo: dict[str, Outcome] = {}
        outcomes: dict[str, dict[Kind, Outcome]] = {each.id: {} for each in appointments}
        for turn, appointment in enumerate(each for each in appointments if self._is_wanted(each, Kind.DOCUMENT)):
            text = appointment.text(Kind.DOCUMENT)
            if text not in memo:
                memo[text] = _outcome(parse_document(text), Origin.RULES)
            outcomes[appointment.id][Kind.DOCUMENT] = _seen(appointment, Kind.DOCUMENT, memo[text])
            if turn % _PARSES_PER_LOOP_TURN == 0:
                await asyncio.sleep(0)
        return outcomes

    def _announced(self) -> AbstractContextManager[object]:
        return nullcontext() if self.coalescer is None else self.coalescer.announce()

    async def _without_model(self, texts: Sequence[_Text]) -> list[_Decided]:
        """What cache and rules decide; a text they leave open is marked `undecided`."""
        cached = await self._from_cache(texts)
        decided: list[_Decided] = []
        for turn, item in enumerate(texts):
            decided.extend(self._decide(item, cached.get(item.text)))
            if turn % _PARSES_PER_LOOP_TURN == 0:
                await asyncio.sleep(0)
        return decided

    async def _from_cache(self, texts: Sequence[_Text]) -> Mapping[str, Entry]:
        asked = [item.text for item in texts if item.text]
        return await self.cache.get_many(Kind.ADDRESS, asked) if self.cache is not None and asked else {}

    def _decide(self, item: _Text, entry: Entry | None) -> list[_Decided]:
        if entry is not None:
            origin = Origin.MANUAL if entry.manual else Origin.CACHE
            outcome = self._address(_outcome(entry.decision, origin))
            return [(each, outcome) for each in item.waiting]
        decision = parse_address(item.text, self.base)
        if needs_model(decision):
            decision = self.taught.read(item.text) or decision
        if not needs_model(decision):
            outcome = self._address(_outcome(decision, Origin.RULES))
            return [(each, outcome) for each in item.waiting]
        if self.coalescer is None:
            unasked = Review(self.unasked or decision.reason, Origin.RULES, decision.understood)
            return [(each, unasked) for each in item.waiting]
        item.undecided = decision
        return []

    def _address(self, outcome: Outcome) -> Outcome:
        """The outcome as it is stored: with the type that a street is to have, and what the base says of it.

        A person's answer is the last word.
        """
        typed = self._typed(outcome)
        if self.base is None or not isinstance(typed, Normalized) or typed.origin is Origin.MANUAL:
            return typed
        if not isinstance(typed.value, Address):
            return typed
        return replace(typed, verdicts=verdicts(typed.value, self.base, typed.inferred))

    def _typed(self, outcome: Outcome) -> Outcome:
        """The outcome with the type that a street without one is to have; for a person where that is none."""
        if not isinstance(outcome, Normalized) or not isinstance(outcome.value, Address):
            return outcome
        if TYPE not in outcome.inferred or self.street_type == DEFAULT_TYPE:
            return outcome
        if not self.street_type:
            return Review(Reason.STREET_UNKNOWN, outcome.origin)
        rua = f"{self.street_type} {outcome.value.rua.partition(' ')[2]}"
        return replace(outcome, value=replace(outcome.value, rua=rua))

    def _ask(
        self,
        left: Mapping[str, _Text],
        deadline: float,
        stopped: Callable[[], Awaitable[None]] | None,
        *,
        alone: bool,
    ) -> Waiter:
        """Bring what is left to the model; nothing is asked, and nothing arrives, where nothing is left."""
        if self.coalescer is None or not left:
            return Waiter()
        contexts = {text: item.context(interactive=alone) for text, item in left.items()}
        return self.coalescer.resolve_many(list(left), deadline=deadline, stopped=stopped, contexts=contexts)


def _progress(
    appointment: Appointment,
    address: Outcome | NormalizerError,
    documents: Mapping[str, Mapping[Kind, Outcome]],
) -> Progress:
    if isinstance(address, NormalizerError):
        return Deferred(appointment, address)
    return Finished(appointment, {**documents[appointment.id], Kind.ADDRESS: _seen(appointment, Kind.ADDRESS, address)})


def _seen(appointment: Appointment, kind: Kind, outcome: Outcome) -> Outcome:
    """The outcome; a text that is not there is for a person where a field holds something else, or one is needed."""
    if not isinstance(outcome, Absent):
        return outcome
    if appointment.is_unreadable(kind):
        return Review(Reason.NOT_TEXT, Origin.RULES)
    needed = kind is Kind.ADDRESS and appointment.needs_address
    return Review(outcome.reason, Origin.RULES) if needed else outcome


def needs_model(decision: Decision[Address]) -> TypeGuard[Undecided]:
    """Whether a better reader than the rules could find more in a text they read so."""
    return isinstance(decision, Undecided) and decision.reason not in _FINAL_REASONS


def _distinct(appointments: Sequence[Appointment]) -> list[_Text]:
    by_identity: dict[str, _Text] = {}
    for appointment in appointments:
        text = appointment.text(Kind.ADDRESS)
        by_identity.setdefault(canonical(text), _Text(text)).waiting.append(appointment)
    return list(by_identity.values())


def _hand_out(item: _Text, answer: Decision[Address] | NormalizerError) -> Iterator[_Decided]:
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
        return Normalized(decision.value, origin, decision.note, decision.inferred)
    if decision.reason in _NOTHING_THERE:
        return Absent(decision.reason)
    return Review(decision.reason, origin, decision.understood)
