"""A batch's way: seated → uploaded → at the provider → read → over. Each step is written down once it is done.

A step whose end was not written down may have been done: file and batch carry our id, so they are looked for before
they are made again, and only after a while, because a request may still be under way when its sender is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Final

import structlog

from normalizer.economy.seating import record_of
from normalizer.errors import NormalizerError
from normalizer.llm.batch_file import request_line
from normalizer.llm.estimate import cost_of, max_tokens_out
from normalizer.store import Batch, Seated, Stage, Turn

if TYPE_CHECKING:
    from normalizer.economy.reading import Reading
    from normalizer.llm.batches import BatchApi
    from normalizer.llm.client import LlmClient
    from normalizer.llm.prompt import Record
    from normalizer.store import Batches, WaitingRoom

log = structlog.get_logger(__name__)

_UNSURE: Final = timedelta(minutes=2)
_CLOCKS_DIFFER: Final = timedelta(minutes=10)


class Journey:
    """Brings batches on their way.

    Args:
        room, batches: what is seated in them, and how far they are.
        api: the provider's files and batches.
        client: how a call to this endpoint looks.
        reading: what is done with results.
        count: tokens of a text.
        clock: UTC.
    """

    def __init__(
        self,
        room: WaitingRoom,
        batches: Batches,
        *,
        api: BatchApi,
        client: LlmClient,
        reading: Reading,
        count: Callable[[str], int],
        clock: Callable[[], datetime],
    ) -> None:
        self._room, self._batches, self._api, self._client = room, batches, api, client
        self._reading, self._count, self._clock = reading, count, clock

    async def go_on(self, batch: Batch, turn: Turn) -> None:
        """Take every step that can be taken now. Raises what `BatchApi` raises, StoreUnavailable, QueueUnavailable."""
        if batch.stage is Stage.SEATING:  # its process died while seating: nothing has left
            await self._dissolve(batch)
        if batch.stage is Stage.SEATED:
            batch = await self._upload(batch, turn)
        if batch.stage is Stage.UPLOADED:
            batch = await self._create(batch, turn)
        if batch.stage is Stage.OUT:
            batch = await self._look_after(batch)
        if batch.stage is Stage.READ:
            await self._tidy_up(batch)

    async def give_up(self, batch: Batch) -> None:
        """The provider takes no batches: what is seated goes to the other lane."""
        # As it is written down by now: it may have been uploaded since the caller looked.
        file_id = next((each.file_id for each in await self._batches.open() if each.id == batch.id), None)
        await self._reading.leave_over(batch)
        await self._batches.note(batch, stage=Stage.ENDED, fim="recusado")
        if file_id is not None:
            with suppress(NormalizerError):  # it expires by itself
                await self._api.delete(file_id)

    async def _dissolve(self, batch: Batch) -> None:
        await self._room.unseat(batch.id)
        await self._batches.drop(batch)

    async def _upload(self, batch: Batch, turn: Turn) -> Batch:
        file_id = None
        if batch.tried_at is not None:
            file_id = await self._api.find_file(batch.id, since_s=self._since_s(batch))
            if file_id is None and self._may_be_under_way(batch):
                return batch
        if file_id is None:
            content = await self._content(batch)
            if content is None:
                await self._dissolve(batch)
                return batch
            if not await turn.held():
                return batch
            await self._batches.note(batch, tentado_em=self._clock())
            file_id = await self._api.upload(batch.id, content)
        await self._batches.note(batch, stage=Stage.UPLOADED, arquivo=file_id, tentado_em=None)
        return replace(batch, stage=Stage.UPLOADED, file_id=file_id, tried_at=None)

    async def _create(self, batch: Batch, turn: Turn) -> Batch:
        provider_id = None
        if batch.tried_at is not None:
            provider_id = await self._api.find(batch.id, since_s=self._since_s(batch))
            if provider_id is None and self._may_be_under_way(batch):
                return batch
        if provider_id is None:
            if not await turn.held():
                return batch
            await self._batches.note(batch, tentado_em=self._clock())
            provider_id = await self._api.create(batch.id, batch.file_id or "")
        if not await self._batches.adopt(batch, provider_id):
            # This process was frozen in between, and another has made the batch: one of them is enough.
            await self._api.cancel(provider_id)
            return batch
        log.info("economy.batch.sent", batch=batch.id, usd=round(batch.usd, 4))
        return replace(batch, stage=Stage.OUT, provider_id=provider_id)

    async def _look_after(self, batch: Batch) -> Batch:
        provider_id = batch.provider_id or ""
        state = await self._api.state(provider_id)
        if not state.ended:
            if not await self._room.seated_number(batch.id):
                log.info("economy.batch.cancelled", batch=batch.id)
                await self._api.cancel(provider_id)  # undone or corrected by hand: nobody waits for it any more
            return batch
        if state.full:
            log.warning("economy.batch.full", batch=batch.id)
            await self._room.unseat(batch.id)
            await self._batches.note(batch, stage=Stage.READ, fim="cheio", cheio_em=self._clock())
            return replace(batch, stage=Stage.READ)
        if state.results is not None:
            await self._reading.read(batch, self._api.results(state.results, skip=batch.lines))
        await self._reading.leave_over(batch)
        log.info("economy.batch.read", batch=batch.id, end=state.status)
        await self._batches.note(batch, stage=Stage.READ, fim=state.status)
        return replace(batch, stage=Stage.READ)

    async def _tidy_up(self, batch: Batch) -> None:
        """Nothing of a patient's stays at the provider longer than it must."""
        state = await self._api.state(batch.provider_id or "")
        for file_id in {*state.files, *([batch.file_id] if batch.file_id else [])}:
            await self._api.delete(file_id)
        await self._batches.note(batch, stage=Stage.ENDED)

    async def _content(self, batch: Batch) -> bytes | None:
        """The file; None when somebody has left his seat since, so that slots would not be those written down."""
        lines = []
        async for request, slots in _requests(self._room.seated(batch.id)):
            if [slot for slot, _ in slots] != list(range(len(slots))):
                return None
            records = [record_of([item.appointment for item in sharing]) for _, sharing in slots]
            lines.append(request_line(batch.id, request, await self._body(records)))
            await asyncio.sleep(0)
        return b"".join(lines) or None

    async def _body(self, records: Sequence[Record]) -> dict[str, object]:
        longest = max_tokens_out(cost_of(record, self._count) for record in records)
        return await self._client.request(records, max_tokens_out=longest)

    def _since_s(self, batch: Batch) -> float:
        return (batch.made_at - _CLOCKS_DIFFER).timestamp()

    def _may_be_under_way(self, batch: Batch) -> bool:
        return batch.tried_at is not None and self._clock() - batch.tried_at < _UNSURE


async def _requests(
    chunks: AsyncIterator[list[Seated]],
) -> AsyncIterator[tuple[int, list[tuple[int, list[Seated]]]]]:
    """Each request with its slots and who sits in them, in order."""
    held: list[Seated] = []
    async for chunk in chunks:
        held += chunk
        last = held[-1].request
        whole = [item for item in held if item.request != last]
        held = [item for item in held if item.request == last]
        for request, seated in groupby(whole, key=lambda item: item.request):
            yield request, slots_of(list(seated))
    if held:
        yield held[0].request, slots_of(held)


def slots_of(seated: Sequence[Seated]) -> list[tuple[int, list[Seated]]]:
    """Who sits in each slot of one request; slots in order."""
    return [(slot, list(sharing)) for slot, sharing in groupby(seated, key=lambda item: item.slot)]
