"""One call: ask about a batch, and say what became of each of its texts. It moves nothing; the coalescer does.

Every valid record of an answer is kept, only the others are asked again, in smaller calls; a batch that is refused as
a whole is asked in halves; what fails alone is given up with its reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from normalizer.domain.decision import Decision, Reason, Undecided
from normalizer.errors import BatchRejected, ProviderRefused, ProviderTooSlow, TransientError
from normalizer.llm.estimate import max_tokens_out
from normalizer.llm.salvage import Again, evaluate_record, half, next_call_size
from normalizer.observability import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normalizer.domain.address import Address
    from normalizer.llm.client import Answer, LlmClient
    from normalizer.llm.limits import Admitted, Gate
    from normalizer.llm.packing import BatchSize, Pace
    from normalizer.llm.pricing import Ledger
    from normalizer.llm.single_flight import PendingText

log = structlog.get_logger(__name__)

_MAX_FAILURES: Final = 4


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
        decided: settled, or given up for good.
        again: to be asked once more, at most `max_call_size` of them in a call.
        later: the same question once more, when the gate lets it.
        given_up: handed back with `error`.
        answered: whether the provider answered at all.
    """

    decided: list[tuple[PendingText, Decision[Address]]] = field(default_factory=list)
    again: list[PendingText] = field(default_factory=list)
    max_call_size: int | None = None
    later: list[PendingText] = field(default_factory=list)
    given_up: list[PendingText] = field(default_factory=list)
    error: TransientError | None = None
    refused: ProviderRefused | None = None
    answered: bool = False


class ModelCaller:
    """Asks, and learns from each call how long calls take, how many records they may hold, and what they cost."""

    def __init__(
        self,
        model: LlmClient,
        *,
        gate: Gate,
        size: BatchSize,
        pace: Pace,
        ledger: Ledger | None,
        call_timeout_s: float,
    ) -> None:
        self._model, self._gate, self._size, self._pace = model, gate, size, pace
        self._ledger, self._call_timeout_s = ledger, call_timeout_s
        self.stats = Stats()

    async def ask(self, batch: list[PendingText], admitted: Admitted) -> CallResult:
        """Ask about `batch`. Raises nothing the provider could cause."""
        records = [entry.record for entry in batch]
        longest = max_tokens_out(entry.cost for entry in batch)
        try:
            answer = await self._model.complete(records, max_tokens_out=longest, timeout_s=self._call_timeout_s)
        except TransientError as error:
            await self._gate.failed(admitted, error)
            if isinstance(error, ProviderTooSlow):
                self._size.observe(asked=len(batch), valid=0)  # else an endpoint slower than it seemed never answers
            return _postponed(batch, error)
        except BatchRejected:
            await self._gate.failed(admitted, None)
            return _taken_apart(batch)
        except ProviderRefused as error:
            await self._gate.failed(admitted, None)
            await self._gate.refused(error)
            metrics.model_failed(type(error).__name__)
            return CallResult(refused=error)
        except Exception as error:  # a bug must leave nobody waiting
            log.exception("llm.call.broke", records=len(batch))
            await self._gate.failed(admitted, None)
            return CallResult(given_up=batch, error=TransientError(f"the model call broke ({type(error).__name__})"))
        await self._gate.succeeded(admitted, answer)
        return await self._read(batch, answer)

    async def _read(self, batch: list[PendingText], answer: Answer) -> CallResult:
        """Keep every valid record, ask again for the others in smaller calls, give up what failed alone."""
        self._note(batch, answer)
        if self._ledger is not None:
            imports = Counter(entry.context.import_id for entry in batch if entry.context.import_id is not None)
            await self._ledger.record(answer, len(batch), imports=imports)
        if answer.refused and not any(answer.slots):
            return _taken_apart(batch)
        asked = CallResult(max_call_size=next_call_size(len(batch)), answered=True)
        for entry, segments in zip(batch, answer.slots, strict=True):
            verdict = evaluate_record(entry.text, segments)
            if not isinstance(verdict, Again):
                asked.decided.append((entry, verdict))
            elif asked.max_call_size is None:
                asked.decided.append((entry, Undecided(verdict.reason)))
            else:
                asked.again.append(entry)
        self._size.observe(asked=len(batch), valid=len(asked.decided))
        return asked

    def _note(self, batch: Sequence[PendingText], answer: Answer) -> None:
        usage = answer.usage
        self._pace.observe(tokens_out=usage.tokens_out, seconds=answer.seconds)
        metrics.model_answered(answer.seconds)
        self.stats.calls += 1
        self.stats.records += len(batch)
        self.stats.tokens_in += usage.tokens_in
        self.stats.tokens_out += usage.tokens_out
        log.info(
            "llm.batch.completed",
            records=len(batch),
            answered=sum(slot is not None for slot in answer.slots),
            finish=answer.finish,
            tokens_in=usage.tokens_in,
            tokens_out=usage.tokens_out,
            seconds=round(answer.seconds, 2),
        )


def _taken_apart(batch: list[PendingText]) -> CallResult:
    """The batch was refused as a whole: ask in halves, until the one that is refused stands alone."""
    log.info("llm.batch.refused", records=len(batch))
    metrics.model_failed(BatchRejected.__name__)
    max_call_size = half(len(batch))
    if max_call_size is None:
        return CallResult(decided=[(entry, Undecided(Reason.MODEL_REFUSED)) for entry in batch], answered=True)
    return CallResult(again=batch, max_call_size=max_call_size, answered=True)


def _postponed(batch: list[PendingText], error: TransientError) -> CallResult:
    """Try the same records again when the gate lets them; give up after a few failures."""
    log.warning("llm.call.failed", records=len(batch), error=type(error).__name__)
    metrics.model_failed(type(error).__name__)
    for entry in batch:
        entry.failures += 1
    given_up = [entry for entry in batch if entry.failures > _MAX_FAILURES]
    later = [entry for entry in batch if entry.failures <= _MAX_FAILURES]
    return CallResult(given_up=given_up, later=later, error=error)
