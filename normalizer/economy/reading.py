"""Results into the cache, their cost into the ledger, and who waited for them back into the queue.

In pieces of so many lines, and in this order: a process that dies in a piece has another one do it again, which changes
nothing that was done. An answer is in the shared cache before anybody is let go who would otherwise ask for it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from normalizer.cache import Cache, Entry
from normalizer.domain.address import Address
from normalizer.domain.appointment import Kind
from normalizer.domain.decision import Decision
from normalizer.economy.seating import REDIS_AWAY
from normalizer.errors import QueueUnavailable
from normalizer.llm.batch_file import read_line
from normalizer.llm.pricing import Charge
from normalizer.llm.salvage import Again, judge
from normalizer.store import Batch, Pending, Seated

if TYPE_CHECKING:
    from normalizer.llm.client import Answer
    from normalizer.llm.pricing import Ledger
    from normalizer.queue.service import TaskService
    from normalizer.store import Batches, WaitingRoom

log = structlog.get_logger(__name__)

LINES: Final = 20


class Reading:
    """Deals with results. Raises StoreUnavailable and QueueUnavailable; what was dealt with until then stays so."""

    def __init__(
        self, room: WaitingRoom, batches: Batches, tasks: TaskService, *, cache: Cache, ledger: Ledger
    ) -> None:
        self._room, self._batches, self._tasks, self._cache, self._ledger = room, batches, tasks, cache, ledger

    async def read(self, batch: Batch, lines: AsyncIterator[str]) -> None:
        """Deal with the lines that follow the first `batch.lines`."""
        first, piece = batch.lines, list[str]()
        async for line in lines:
            piece.append(line)
            if len(piece) == LINES:
                await self._deal_with(batch, piece, first)
                first, piece = first + len(piece), []
        if piece:
            await self._deal_with(batch, piece, first)

    async def leave_over(self, batch: Batch) -> None:
        """Let go who got no answer: missing, failed, expired. The other lane asks about them."""
        async for released in self._room.release_batch(batch.id):
            await self._enqueue(released)
            log.info("economy.left_over", batch=batch.id, appointments=len(released))

    async def _deal_with(self, batch: Batch, lines: Sequence[str], first: int) -> None:
        answers: dict[int, Answer] = {}
        for line in lines:
            if (found := read_line(batch.id, line)) is not None:
                answers.setdefault(*found)
        seated = await self._seated(batch, answers)
        decided = _decided(answers, seated)
        if not await self._cache.put_many(Kind.ADDRESS, {text: Entry.of(each) for text, each in decided.items()}):
            raise QueueUnavailable("Redis took no answers of a batch")
        await self._charge(batch, answers, seated, (first, first + len(lines)))
        await self._enqueue(
            await self._room.release([each.appointment.id for group in seated.values() for each in group])
        )
        await self._batches.note(batch, linhas=first + len(lines))
        log.info("economy.piece.read", batch=batch.id, requests=len(answers), settled=len(decided))

    async def _seated(self, batch: Batch, answers: Mapping[int, Answer]) -> dict[tuple[int, int], list[Seated]]:
        """Who waits for these answers, by request and slot, whoever stands for the others first."""
        found: dict[tuple[int, int], list[Seated]] = defaultdict(list)
        async for chunk in self._room.seated(batch.id, answers.keys()):
            for item in chunk:
                found[item.request, item.slot].append(item)
        return found

    async def _charge(
        self,
        batch: Batch,
        answers: Mapping[int, Answer],
        seated: Mapping[tuple[int, int], Sequence[Seated]],
        lines: tuple[int, int],
    ) -> None:
        charges = []
        for request, answer in answers.items():
            first = [group[0].appointment for place, group in seated.items() if place[0] == request]
            imports = Counter(each.import_id for each in first if each.import_id is not None)
            charges.append(Charge(answer.usage, len(first), imports))
        try:
            await self._ledger.record_batch(batch.id, charges, lines=lines)
        except REDIS_AWAY as error:
            raise QueueUnavailable("Redis took no costs of a batch") from error

    async def _enqueue(self, released: Sequence[Pending]) -> None:
        if released:
            fingerprints = {item.id: item.fingerprint for item in released}
            await self._tasks.enqueue_many(list(fingerprints), fingerprints=fingerprints)


def _decided(
    answers: Mapping[int, Answer], seated: Mapping[tuple[int, int], Sequence[Seated]]
) -> dict[str, Decision[Address]]:
    """What the answers settle, each grounded in its own text; the rest is left to the other lane."""
    decided: dict[str, Decision[Address]] = {}
    for (request, slot), sharing in seated.items():
        text = sharing[0].appointment.text(Kind.ADDRESS)
        verdict = judge(text, answers[request].slots[slot])
        if not isinstance(verdict, Again):
            decided[text] = verdict
    return decided
