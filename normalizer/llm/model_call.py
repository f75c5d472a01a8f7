"""One model call: ask about some texts, and say what became of each. It moves nothing; the coalescer does.

Every valid record of an answer is kept, only the others are asked again, in smaller calls: so the asking ends. A call
that is refused as a whole is asked in halves; what fails alone is given up with its reason. Whether a refusal is the
texts' fault or the endpoint's is not guessed: the control question, a made-up address, tells.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog

from normalizer.domain.address import Address, standardize
from normalizer.domain.decision import Decision, Reason, Settled, Undecided
from normalizer.domain.gazetteer import UF_NAMES, name_key
from normalizer.errors import (
    BatchRejected,
    Misconfigured,
    NormalizerError,
    ProviderFailed,
    ProviderRefused,
    ProviderTooSlow,
    TransientError,
    UnusableAnswer,
)
from normalizer.llm.answer import FIX, Answer, Usage
from normalizer.llm.limits import Denied
from normalizer.observability import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normalizer.llm.client import LlmClient
    from normalizer.llm.limits import Admitted, LocalGate
    from normalizer.llm.packing import BatchSize, Pace
    from normalizer.llm.pricing import Ledger
    from normalizer.llm.prompt import Segments
    from normalizer.llm.single_flight import PendingText

log = structlog.get_logger(__name__)

_MAX_FAILURES: Final = 4
_MAX_FAILURES_ALONE: Final = 2  # a text that breaks an endpoint that is well, this often, is the one at fault
_CONTROL_S: Final = 30.0
_SPARE_TOKENS: Final = 100  # beside twice what is expected, before an answer is cut short
_GREETING_TOKENS: Final = 20  # two words and their frame
_SHOWN: Final = 4.0  # times what the endpoint has shown it needs, before a call is left
_MARGIN_S: Final = 1.0  # of the jobs' time, to save and settle what came
_FLEX_SHARE: Final = 4.0  # times what a call should take must be left, so that a refused flex call can be asked again


@dataclass(slots=True)
class Stats:
    """What was done since the start, in this process."""

    calls: int = 0
    records: int = 0
    asked_again: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


@dataclass(slots=True)
class CallResult:
    """What became of the texts of one call; every text is in exactly one of the lists, or the provider `refused` all.

    Attributes:
        decided: settled, or given up for good: to be remembered.
        given_up: ended without an answer that could be remembered: an error to hand back, or a reason for review.
        again: to be asked once more, each in a call of at most as many as its cost says by now.
        later: the same question once more, when the gate lets it.
        answered: whether the provider answered at all.
    """

    decided: list[tuple[PendingText, Decision[Address]]] = field(default_factory=list)
    given_up: list[tuple[PendingText, NormalizerError | Undecided]] = field(default_factory=list)
    again: list[PendingText] = field(default_factory=list)
    later: list[PendingText] = field(default_factory=list)
    refused: ProviderRefused | None = None
    answered: bool = False


class ModelCaller:
    """Asks, and learns from each call how long calls take, how many records they may hold, and what they cost.

    Args:
        call_timeout_s: a call may take so long; longer only where the endpoint has shown that it needs it.
        flex: ask for the half-price tier where nobody waits and the time allows a second try.
    """

    def __init__(
        self,
        client: LlmClient,
        *,
        gate: LocalGate,
        size: BatchSize,
        pace: Pace,
        ledger: Ledger | None,
        call_timeout_s: float,
        flex: bool = False,
    ) -> None:
        self._client, self._gate, self._size, self._pace = client, gate, size, pace
        self._ledger, self._call_timeout_s, self._flex = ledger, call_timeout_s, flex
        self._answered_at, self._refused_at = -1.0, -1.0
        self._refusal: ProviderRefused | None = None
        self._control = asyncio.Lock()
        self.stats = Stats()

    async def ask(self, texts: list[PendingText], admitted: Admitted) -> CallResult:
        """Ask about `texts`. Raises nothing the provider could cause."""
        started = now()
        if admitted.is_probe and (error := await self._ask_control(started)) is not None:
            return await self._blamed(texts, admitted, error)
        tokens_out = sum(entry.cost.tokens_out for entry in texts)
        left_s = min(entry.deadline for entry in texts) - started - _MARGIN_S
        flex = self._flex and self._may_ask_twice(texts, left_s, tokens_out)
        try:
            answer = await self._client.complete(
                [entry.record for entry in texts],
                max_tokens_out=2 * tokens_out + _SPARE_TOKENS,
                timeout_s=left_s if flex else self._time_for(left_s, tokens_out),
                flex=flex,
            )
        except NormalizerError as error:
            if isinstance(error, ProviderTooSlow):
                # So many tokens take longer than it was waited for, perhaps twice as long.
                self._pace.observe(tokens_out=tokens_out, seconds=2 * (now() - started))
                self._size.shrink(len(texts))
            return await self._failed(texts, admitted, error, started)
        except Exception as error:  # a bug must leave nobody waiting
            log.exception("llm.call.broke", records=len(texts))
            await self._gate.failed(admitted, None)
            broke = TransientError(f"the model call broke ({type(error).__name__})")
            return CallResult(given_up=[(entry, broke) for entry in texts])
        self._answered_at = now()
        await self._gate.succeeded(admitted, answer)
        return await self._read(texts, answer)

    async def greet(self) -> ProviderRefused | None:
        """Why the endpoint takes no call at all, found out before the first text; None where it may take some.

        A model that answered within a week, or is offered, is believed, which costs nothing; another is asked for one
        token.
        """
        if await self._client.has_answered() or await self._client.offers_model():
            return None
        admitted = await self._gate.admit(_GREETING_TOKENS)
        if isinstance(admitted, Denied):
            return None
        try:
            answer = await self._client.greet(timeout_s=_CONTROL_S)
        except NormalizerError as error:
            await self._count([], error.usage, 0.0)
            if isinstance(error, Misconfigured):
                refusal = self._refusal_of(error)
                await self._gate.refused(admitted, refusal)
                return refusal
            await self._gate.failed(admitted, error if isinstance(error, TransientError) else None)
            return None
        await self._gate.succeeded(admitted, answer)
        await self._count([], answer.usage, answer.seconds)
        return None

    def _time_for(self, left_s: float, tokens_out: int) -> float:
        """How long a call may take: what the endpoint has shown it needs, as far as the jobs have so much time left.

        The ordinary time it may take in any case: an answer that comes late is paid for, and remembered.
        """
        needed_s = _SHOWN * self._pace.seconds(tokens_out)
        return max(self._call_timeout_s, min(needed_s, left_s))

    def _may_ask_twice(self, texts: Sequence[PendingText], left_s: float, tokens_out: int) -> bool:
        """Whether nobody waits for these, and a flex call that is refused or slow can be asked again in time."""
        in_time = left_s >= _FLEX_SHARE * self._pace.seconds(tokens_out)
        return in_time and not any(entry.context.interactive for entry in texts)

    # -- it was not answered

    async def _failed(
        self, texts: list[PendingText], admitted: Admitted, error: NormalizerError, started: float
    ) -> CallResult:
        log.warning("llm.call.failed", records=len(texts), error=type(error).__name__)
        metrics.model_failed(type(error).__name__)
        await self._count(texts, error.usage, 0.0)
        if self._may_be_the_texts(texts, error):
            verdict = await self._ask_control(started)
            if verdict is None:
                await self._gate.failed(admitted, None)
                return _taken_apart(texts, error)
            error = verdict
        return await self._blamed(texts, admitted, error)

    async def _blamed(self, texts: list[PendingText], admitted: Admitted, error: NormalizerError) -> CallResult:
        """It is the endpoint's: the lane closes, or the same is asked later."""
        if isinstance(error, ProviderRefused):
            await self._gate.refused(admitted, error)
            return CallResult(refused=error)
        if not isinstance(error, TransientError):  # the control question broke off: nobody's fault is proved
            error = TransientError(f"no usable answer from the provider ({type(error).__name__})")
        await self._gate.failed(admitted, error)
        return _postponed(texts, error)

    def _may_be_the_texts(self, texts: Sequence[PendingText], error: NormalizerError) -> bool:
        """A refusal may be; that a provider breaks on them, only when it broke on the same before."""
        if isinstance(error, ProviderFailed):
            return all(entry.failures > 0 for entry in texts)
        return isinstance(error, BatchRejected | Misconfigured)

    async def _ask_control(self, since: float) -> NormalizerError | None:
        """None where the endpoint answers other questions, or has since; else why it answers none."""
        async with self._control:
            if self._answered_at > since:
                return None
            if self._refused_at > since:
                return self._refusal
            try:
                answer = await self._client.ask_control(timeout_s=_CONTROL_S)
            except NormalizerError as error:
                await self._count([], error.usage, 0.0)
                if isinstance(error, TransientError):
                    return error
                self._refusal, self._refused_at = self._refusal_of(error), now()
                return self._refusal
            self._answered_at = now()
            await self._count([], answer.usage, answer.seconds)
            return None

    def _refusal_of(self, error: NormalizerError) -> ProviderRefused:
        """Names model and endpoint, and repeats the provider's own words: they are about a question of ours."""
        problem = error.problem if isinstance(error, Misconfigured) else "O provedor de IA recusa todo pedido."
        if isinstance(error, UnusableAnswer):
            problem = f"O provedor de IA não dá resposta que se possa ler: {error}."
        said = f" Ele diz: “{error.said}”." if error.said else ""
        parts = urlsplit(self._client.url)
        where = f" Modelo {self._client.model} em {parts.scheme}://{parts.hostname}{parts.path}."
        return ProviderRefused(f"{problem}{where}{said}", fix=FIX)

    # -- it was answered

    async def _read(self, texts: list[PendingText], answer: Answer) -> CallResult:
        """Keep every valid record, ask again for the others in smaller calls, give up what failed alone."""
        self._pace.observe(tokens_out=answer.usage.tokens_out, seconds=answer.seconds)
        await self._count(texts, answer.usage, answer.seconds)
        log.info(
            "llm.batch.completed",
            records=len(texts),
            answered=sum(slot is not None for slot in answer.slots),
            finish=answer.finish,
            tokens_in=answer.usage.tokens_in,
            tokens_out=answer.usage.tokens_out,
            tier=answer.usage.tier,
            seconds=round(answer.seconds, 2),
        )
        if answer.refused and not any(answer.slots):
            return _taken_apart(texts, BatchRejected("the model refused the texts"))
        result, smaller, valid = CallResult(answered=True), next_call_size(len(texts)), 0
        for entry, segments in zip(texts, answer.slots, strict=True):
            verdict = evaluate_record(entry.text, entry.record.restored(segments), asked=len(texts))
            if not isinstance(verdict, Again):
                valid += 1
                result.decided.append((entry, verdict))
            elif smaller is None:
                result.decided.append((entry, Undecided(verdict.reason)))
            else:
                entry.shrink(1 if verdict.alone else smaller)
                result.again.append(entry)
        self._size.observe(asked=len(texts), valid=valid)
        return result

    async def _count(self, texts: Sequence[PendingText], usage: Usage | None, seconds: float) -> None:
        """Count answered calls, whatever they said: they are paid for."""
        if usage is None or not usage.calls:
            return
        metrics.model_answered(seconds)
        self.stats.calls += usage.calls
        self.stats.records += len(texts)
        self.stats.tokens_in += usage.tokens_in
        self.stats.tokens_out += usage.tokens_out
        if self._ledger is not None:
            imports = Counter(entry.context.import_id for entry in texts if entry.context.import_id is not None)
            await self._ledger.record(usage, len(texts), imports=imports)


def _taken_apart(texts: list[PendingText], error: NormalizerError) -> CallResult:
    """These texts were refused, others are not: ask in halves, until the one that is refused stands alone."""
    log.info("llm.batch.refused", records=len(texts), error=type(error).__name__)
    if len(texts) > 1:
        for entry in texts:
            entry.shrink(len(texts) // 2)
        return CallResult(again=texts, answered=True)
    [entry] = texts
    if not isinstance(error, ProviderFailed):
        return CallResult(decided=[(entry, Undecided(Reason.MODEL_REFUSED))], answered=True)
    entry.failures_alone += 1
    if entry.failures_alone < _MAX_FAILURES_ALONE:
        return CallResult(later=[entry], answered=True)
    return CallResult(given_up=[(entry, Undecided(Reason.MODEL_REFUSED))], answered=True)


def _postponed(texts: list[PendingText], error: TransientError) -> CallResult:
    """Try the same records again when the gate lets them; give up after a few failures."""
    for entry in texts:
        entry.failures += 1
    return CallResult(
        given_up=[(entry, error) for entry in texts if entry.failures > _MAX_FAILURES],
        later=[entry for entry in texts if entry.failures <= _MAX_FAILURES],
    )


def now() -> float:
    """Return the event loop's time, seconds: the clock of deadlines."""
    return asyncio.get_running_loop().time()


_LARGEST_SECOND_CALL: Final = 8
_CEP: Final = re.compile(r"(?:\D*\d){8}\D*")
_STATES: Final = frozenset(map(name_key, [*UF_NAMES, *UF_NAMES.values()]))


@dataclass(frozen=True, slots=True)
class Again:
    """Ask once more.

    Attributes:
        reason: what review is told should there be no smaller call left.
        alone: among others it would go wrong again.
    """

    reason: Reason
    alone: bool = False


def evaluate_record(text: str, segments: Segments | None, *, asked: int) -> Decision[Address] | Again:
    """Return what the model's segments say about `text`, every value grounded in that text and no other.

    Args:
        text: the record's own text.
        segments: what its slot says; None where it says nothing usable.
        asked: how many records were in the call. Alone, an honest "not there" (no street, no city) ends the asking;
            among others it may be a skipped field, as a value that does not hold may be a neighbour's.
    """
    if segments is None:
        return Again(Reason.MODEL_NO_ANSWER)
    if not any(segments.values()):
        return Undecided(Reason.MODEL_NO_ANSWER)
    decision = standardize(segments, text)
    if isinstance(decision, Settled):
        return decision
    if is_shifted(segments):
        return Again(decision.reason, alone=True)
    return Again(decision.reason) if asked > 1 or (segments["rua"] and segments["cidade"]) else decision


def is_shifted(segments: Segments) -> bool:
    """Tell whether fields stand in each other's places: small models skip an empty one and shift what follows it."""
    state, cep, city = segments["estado"], segments["cep"], segments["cidade"]
    return bool(
        (state and name_key(state) not in _STATES)
        or (cep and not _CEP.fullmatch(cep))
        or (city and city.upper() in UF_NAMES)
    )


def next_call_size(asked: int) -> int | None:
    """Return how many records the next call may hold after one of `asked` left a record open; None: there is no next.

    25 → 8 → 2 → 1: asking only the missing again costs a fraction of repeating the batch.
    """
    return None if asked <= 1 else max(1, min(_LARGEST_SECOND_CALL, asked // 3))
