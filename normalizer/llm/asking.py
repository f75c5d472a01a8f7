"""One call: ask about a batch, and say what became of each of its texts. It moves nothing; the packer does.

Every valid record of an answer is kept, only the others are asked again, in smaller company; a batch that is refused as
a whole is asked in halves; what fails alone is given up with its reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from normalizer.domain.decision import Decision, Reason, Undecided
from normalizer.errors import BatchRejected, ProviderRefused, ProviderTooSlow, TransientError
from normalizer.llm.estimate import max_tokens_out
from normalizer.llm.salvage import Again, half, judge, smaller_company
from normalizer.observability import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from normalizer.domain.address import Address
    from normalizer.llm.client import Answer
    from normalizer.llm.flight import Entry
    from normalizer.llm.limits import Admitted, Gate
    from normalizer.llm.packing import BatchSize, Pace
    from normalizer.llm.prompt import Record

log = structlog.get_logger(__name__)

_MAX_FAILURES: Final = 4


class Model(Protocol):
    """What is needed of a client."""

    async def complete(self, records: Sequence[Record], *, max_tokens_out: int, timeout_s: float) -> Answer:
        """Ask about `records` in one call."""


class Purse(Protocol):
    """What is needed of the money counters."""

    async def record(self, answer: Answer, records: int, *, imports: Mapping[str, int]) -> None:
        """Count one answered call; `imports` says how many of its records each import brought."""

    async def spent(self) -> bool:
        """Tell whether today's budget is used up."""


@dataclass(slots=True)
class Stats:
    """What was done since the start, in this process."""

    calls: int = 0
    records: int = 0
    asked_again: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


@dataclass(slots=True)
class Asked:
    """What became of the texts of one call; every text is in exactly one of the lists, or the provider `refused` all.

    Attributes:
        decided: settled, or given up for good.
        again: to be asked once more, at most `company` of them in a call.
        later: the same question once more, when the gate lets it.
        given_up: handed back with `error`.
        answered: whether the provider answered at all.
    """

    decided: list[tuple[Entry, Decision[Address]]] = field(default_factory=list)
    again: list[Entry] = field(default_factory=list)
    company: int | None = None
    later: list[Entry] = field(default_factory=list)
    given_up: list[Entry] = field(default_factory=list)
    error: TransientError | None = None
    refused: ProviderRefused | None = None
    answered: bool = False


class Asking:
    """Asks, and learns from each call how long calls take, how many records they may hold, and what they cost."""

    def __init__(
        self,
        model: Model,
        *,
        gate: Gate,
        size: BatchSize,
        pace: Pace,
        ledger: Purse | None,
        call_timeout_s: float,
    ) -> None:
        self._model, self._gate, self._size, self._pace = model, gate, size, pace
        self._ledger, self._call_timeout_s = ledger, call_timeout_s
        self.stats = Stats()

    async def ask(self, batch: list[Entry], admitted: Admitted) -> Asked:
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
            return Asked(refused=error)
        except Exception as error:  # a bug must leave nobody waiting
            log.exception("llm.call.broke", records=len(batch))
            await self._gate.failed(admitted, None)
            return Asked(given_up=batch, error=TransientError(f"the model call broke ({type(error).__name__})"))
        await self._gate.succeeded(admitted, answer)
        return await self._read(batch, answer)

    async def _read(self, batch: list[Entry], answer: Answer) -> Asked:
        """Keep every valid record, ask again for the others in smaller company, give up what failed alone."""
        self._note(batch, answer)
        if self._ledger is not None:
            imports = Counter(entry.about.import_id for entry in batch if entry.about.import_id is not None)
            await self._ledger.record(answer, len(batch), imports=imports)
        if answer.refused and not any(answer.slots):
            return _taken_apart(batch)
        asked = Asked(company=smaller_company(len(batch)), answered=True)
        for entry, segments in zip(batch, answer.slots, strict=True):
            verdict = judge(entry.text, segments)
            if not isinstance(verdict, Again):
                asked.decided.append((entry, verdict))
            elif asked.company is None:
                asked.decided.append((entry, Undecided(verdict.reason)))
            else:
                asked.again.append(entry)
        self._size.observe(asked=len(batch), valid=len(asked.decided))
        return asked

    def _note(self, batch: Sequence[Entry], answer: Answer) -> None:
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


def _taken_apart(batch: list[Entry]) -> Asked:
    """The batch was refused as a whole: ask in halves, until the one that is refused stands alone."""
    log.info("llm.batch.refused", records=len(batch))
    metrics.model_failed(BatchRejected.__name__)
    company = half(len(batch))
    if company is None:
        return Asked(decided=[(entry, Undecided(Reason.MODEL_REFUSED)) for entry in batch], answered=True)
    return Asked(again=batch, company=company, answered=True)


def _postponed(batch: list[Entry], error: TransientError) -> Asked:
    """Try the same records again when the gate lets them; give up after a few failures."""
    log.warning("llm.call.failed", records=len(batch), error=type(error).__name__)
    metrics.model_failed(type(error).__name__)
    for entry in batch:
        entry.failures += 1
    given_up = [entry for entry in batch if entry.failures > _MAX_FAILURES]
    later = [entry for entry in batch if entry.failures <= _MAX_FAILURES]
    return Asked(given_up=given_up, later=later, error=error)
