"""The usual way to batch with arq: a stock `arq.Worker` whose jobs carry 50 ids each, one call a chunk and field.

`python -m benchmarks.peers.arq_batched` runs it as a process of its own; `enqueue` is its producer.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from arq.connections import create_pool

from benchmarks.peers import asking, records
from benchmarks.peers.stock import worker
from normalizer.domain.appointment import Kind
from normalizer.queue.connection import redis_settings
from normalizer.queue.service import QUEUE_NAME
from normalizer.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK: Final = 50


async def normalize_chunk(ctx: dict[str, Any], ids: list[str]) -> int:
    """Load a chunk, ask for its addresses and its documents at the same time, save."""
    stored = [record async for record in ctx["collection"].find(records.of_ids(ids))]
    asked = await asyncio.gather(*(_ask(ctx["create"], kind, records.pair(stored, kind)) for kind in Kind))
    await ctx["collection"].bulk_write(records.changes(stored, records.together(asked)), ordered=False)
    return len(stored)


async def _ask(create: Any, kind: Kind, pairs: Sequence[tuple[Any, str]]) -> dict[Any, records.Answers]:
    keys, texts = [key for key, _ in pairs], [text for _, text in pairs]
    completion = await create(**asking.many_texts(kind, texts)) if pairs else None
    return {} if completion is None else records.said(kind, keys, asking.answers(kind, completion, len(keys)))


async def enqueue(redis_url: str, ids: Sequence[str]) -> None:
    """One job for every 50 ids."""
    pool, rest = await create_pool(redis_settings(redis_url), default_queue_name=QUEUE_NAME), iter(ids)
    while chunk := list(islice(rest, CHUNK)):
        await pool.enqueue_job("normalize_chunk", chunk)
    await pool.aclose(close_connection_pool=True)


if __name__ == "__main__":
    worker(load_settings(), normalize_chunk).run()
