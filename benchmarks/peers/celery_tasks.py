"""celery-batches on the same Redis: a Celery worker that hands 50 messages at a time to one task call.

`celery -A benchmarks.peers.celery_tasks worker --pool threads --concurrency 10` is the worker: threads, because the
work is waiting for others; `enqueue` is its producer. Configured by the same environment as the others.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

import openai
import pymongo
from celery import Celery
from celery_batches import Batches

from benchmarks.peers import asking, records
from normalizer.domain.appointment import Kind
from normalizer.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FLUSH_EVERY: Final = 50
THREADS: Final = 10
TASK: Final = "normalize_appointments"

app = Celery("bench", broker=os.environ.get("REDIS_URL"))
app.conf.update(
    task_ignore_result=True,
    task_default_queue="celery-bench",
    worker_prefetch_multiplier=FLUSH_EVERY,  # × threads: a full batch for each of them
    broker_connection_retry_on_startup=True,
)


@cache
def _tools() -> tuple[pymongo.collection.Collection[dict[str, Any]], Callable[..., Any], ThreadPoolExecutor]:
    settings = load_settings()
    url, database = records.where(settings)
    model = openai.OpenAI(**asking.client_options(settings))
    create = partial(model.chat.completions.create, model=settings.openai_model)
    return pymongo.MongoClient(url)[database]["appointments"], create, ThreadPoolExecutor(2 * THREADS)


@app.task(base=Batches, name=TASK, flush_every=FLUSH_EVERY, flush_interval=5)  # type: ignore[untyped-decorator]
def normalize_appointments(requests: Sequence[Any]) -> None:
    """Load a batch, ask for its addresses and its documents at the same time, save."""
    collection, create, pool = _tools()
    stored = list(collection.find(records.of_ids(request.args[0] for request in requests)))
    asked = [pool.submit(_ask, create, kind, records.pair(stored, kind)) for kind in Kind]
    collection.bulk_write(records.changes(stored, records.together(each.result() for each in asked)), ordered=False)


def _ask(create: Callable[..., Any], kind: Kind, pairs: Sequence[tuple[Any, str]]) -> dict[Any, records.Answers]:
    keys, texts = [key for key, _ in pairs], [text for _, text in pairs]
    completion = create(**asking.many_texts(kind, texts)) if pairs else None
    return {} if completion is None else records.said(kind, keys, asking.answers(kind, completion, len(keys)))


def enqueue(redis_url: str, ids: Sequence[str]) -> None:
    """One message an id."""
    with Celery("bench", broker=redis_url) as producer:
        producer.conf.update(task_default_queue="celery-bench", task_ignore_result=True)
        with producer.producer_pool.acquire(block=True) as channel:
            for each in ids:
                producer.send_task(TASK, [each], producer=channel)
