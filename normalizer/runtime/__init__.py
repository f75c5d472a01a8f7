"""The composition root: builds and closes every object, once. Beside entry points, the only reader of `Settings`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import structlog
from arq import cron

from normalizer import __version__
from normalizer.cache import Cache
from normalizer.domain.address.taught import Taught
from normalizer.domain.appointment import Kind
from normalizer.errors import Misconfigured, NormalizerError, QueueUnavailable, TransientError
from normalizer.imports.estimate import LaneLimits
from normalizer.llm.limits import LocalGate
from normalizer.llm.pricing import Ledger, ModelStatus
from normalizer.observability import metrics
from normalizer.observability.logs import configure_logging
from normalizer.observability.prometheus import Exposition, Sources
from normalizer.observability.sentry import reporter
from normalizer.observability.tracing import span
from normalizer.operations import events
from normalizer.operations.steering import Order, steer
from normalizer.queue.connection import OUTAGE
from normalizer.queue.group import Group
from normalizer.queue.serializer import job_deserializer, job_serializer
from normalizer.queue.service import KEEP_PAYLOAD_MS, TaskService
from normalizer.queue.waiting import cancel_and_wait
from normalizer.queue.worker import BatchWorker, batch_func
from normalizer.runtime import parts
from normalizer.runtime.parts import lane_name, lane_of, read_lane, redis_of, reopen_lane, task_service
from normalizer.settings import Settings, load_settings
from normalizer.store import AppointmentStore
from normalizer.worker import tasks
from normalizer.worker.pipeline import Pipeline

__all__ = ["Backend", "Producer", "build_worker", "known_columns", "lane_name", "lane_of", "open_backend", "open_cache"]
__all__ += ["open_known_answers", "open_normalization", "open_producer", "outdated_python", "read_lane", "redis_of"]
__all__ += ["start_logging", "steer_queue", "task_service", "webhook_of_settings"]

log = structlog.get_logger(__name__)

_RECONCILE_MINUTES: Final = set(range(0, 60, 5))
_WORDS_EVERY_S: Final = 60.0

# The patch of each line from which HTMLParser takes time linear in its input; lines not named are newer than the fault.
_MENDED: Final = {(3, 11): 14, (3, 12): 12, (3, 13): 6}


@dataclass(frozen=True, slots=True)
class Producer:
    """What puts appointments into the store and the queue, and what is known of their texts."""

    store: AppointmentStore
    tasks: TaskService
    cache: Cache


@contextlib.asynccontextmanager
async def open_producer(settings: Settings | None = None) -> AsyncIterator[Producer]:
    """Store and queue, connected and checked.

    Raises:
        Misconfigured: a variable or URL cannot be used.
        StoreUnavailable, QueueUnavailable: the service cannot be reached.
    """
    settings = settings or load_settings()
    async with contextlib.AsyncExitStack() as stack:
        parts.trace(settings, stack)
        service = await parts.open_tasks(settings, stack)
        store = await parts.open_store(settings, stack)
        yield Producer(store, service, await parts.open_cache_of(settings, store, await service.get_pool()))


@dataclass(frozen=True, slots=True)
class Backend:
    """What the API serves: the producer's parts, the metrics, and the model lane as it is set up and as it stands."""

    store: AppointmentStore
    tasks: TaskService
    cache: Cache
    exposition: Exposition
    lane: LaneLimits
    read_lane: Callable[[TaskService], Awaitable[ModelStatus | None]]
    reopen_lane: Callable[[TaskService], Awaitable[None]]


@contextlib.asynccontextmanager
async def open_backend(settings: Settings) -> AsyncIterator[Backend]:
    """Everything `normalizer.api` needs, connected and checked. Raises like `open_producer`."""
    async with open_producer(settings) as producer:
        redis, budget_usd = await producer.tasks.get_pool(), settings.daily_budget_usd
        ledger = Ledger(redis, model=settings.openai_model, daily_budget_usd=budget_usd)
        sources = Sources(producer.tasks, ledger=ledger, daily_budget_usd=budget_usd)
        yield Backend(
            producer.store,
            producer.tasks,
            producer.cache,
            Exposition(sources),
            lane_of(settings),
            partial(read_lane, settings),
            partial(reopen_lane, settings),
        )


@contextlib.asynccontextmanager
async def open_normalization(settings: Settings, *, offline: bool = False) -> AsyncIterator[Pipeline]:
    """The pipeline alone, for loose texts: no store; cache and model only unless `offline`."""
    async with contextlib.AsyncExitStack() as stack:
        street_type = settings.address_default_street_type
        if offline:
            base = parts.open_postal_base(settings, stack)
            yield Pipeline(cache=None, coalescer=None, unasked=None, street_type=street_type, base=base)
            return
        gate = LocalGate(largest=settings.llm_max_concurrency)
        coalescer = parts.model_lane(
            settings, stack, parts.model_client(settings, stack, shared=None), gate, shared=None
        )
        yield Pipeline(
            cache=None, coalescer=coalescer, street_type=street_type, base=parts.open_postal_base(settings, stack)
        )


@contextlib.asynccontextmanager
async def open_cache(settings: Settings | None = None) -> AsyncIterator[Cache]:
    """The answers in Redis, for looking and purging.

    Raises like `open_producer`; QueueUnavailable also when Redis goes away meanwhile.
    """
    async with open_producer(settings) as producer:
        try:
            yield producer.cache
        except OUTAGE as error:
            raise QueueUnavailable(f"O Redis parou de responder ({type(error).__name__}).") from error


@contextlib.asynccontextmanager
async def open_known_answers(settings: Settings) -> AsyncIterator[Cache | None]:
    """The answers in Redis, to look at: nothing is created or written. None where they cannot be reached."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            cache = await parts.existing_cache(settings, stack)
        except (TransientError, Misconfigured) as error:
            log.info("cache.not_consulted", error=type(error).__name__)
            cache = None
        yield cache


async def known_columns(settings: Settings) -> dict[str, dict[str, str]]:
    """What is remembered of column titles, to look at; nothing where MongoDB cannot be reached."""
    try:
        async with AppointmentStore.connect(settings.mongodb_url.get_secret_value(), settings.database_name) as store:
            return await store.columns.known()
    except (TransientError, Misconfigured) as error:
        log.info("columns.not_consulted", error=type(error).__name__)
        return {}


async def steer_queue(settings: Settings, order: Order) -> str:
    """Tell the queue, and say in what state it is then; `resume` lets model calls start, too. QueueUnavailable."""
    mongodb_url = settings.mongodb_url.get_secret_value()
    async with (
        task_service(settings) as service,
        AppointmentStore.connect(mongodb_url, settings.database_name) as store,
    ):
        await steer(order, tasks=service, state=store.durable_state)
        if order is Order.RESUME:
            await reopen_lane(settings, service)
        return (await service.status()).state


def start_logging(settings: Settings) -> None:
    """Logs as the settings have them; with SENTRY_DSN errors go there, too. Misconfigured if it cannot be used."""
    report = reporter(parts.secret_of(settings.sentry_dsn), environment=settings.environment, release=__version__)
    configure_logging(settings.log_level, json_lines=settings.environment == "production", report=report)
    if problem := outdated_python():
        log.warning("python.outdated", reason=problem)


def outdated_python(version: tuple[int, int, int] = sys.version_info[:3]) -> str:
    """What is wrong with a Python whose parsers of HTML and XML are not mended; empty for a newer one."""
    floor = _MENDED.get(version[:2], 0)
    if version[2] >= floor:
        return ""
    running, wanted = ".".join(map(str, version)), ".".join(map(str, (*version[:2], floor)))
    return f"Python {running} é anterior a {wanted}, que corrige os leitores de HTML e XML (CVE-2025-6069): atualize-o."


def build_worker(settings: Settings, **arq_options: Any) -> BatchWorker:
    """One replica: its connections are opened when it starts and closed when it stops.

    Args:
        settings: see `Settings`.
        arq_options: any further argument of `arq.Worker`, e.g. `burst=True`.
    """
    stack = contextlib.AsyncExitStack()

    async def startup(ctx: dict[Any, Any]) -> None:
        parts.trace(settings, stack)
        store = await parts.open_store(settings, stack)
        service = await parts.open_tasks(settings, stack)
        cache = await parts.open_cache_of(settings, store, ctx["redis"])
        ledger = Ledger(
            ctx["redis"],
            model=settings.openai_model,
            daily_budget_usd=settings.daily_budget_usd,
            keep=store.durable_state.add_spending,
        )
        shared = parts.Shared(ctx["redis"], cache, ledger)
        client, gate = parts.model_client(settings, stack, shared=shared), parts.shared_gate(settings, ctx["redis"])
        coalescer = parts.model_lane(settings, stack, client, gate, shared=shared)
        if coalescer is not None:  # nobody waits for it
            stack.push_async_callback(cancel_and_wait, asyncio.create_task(coalescer.greet(), name="llm-greeting"))
        street_type = settings.address_default_street_type
        taught = Taught((await store.words.all()).values())
        stack.push_async_callback(cancel_and_wait, asyncio.create_task(_keep_learning(store, taught), name="words"))
        kinds, base = _kinds(settings), await asyncio.to_thread(parts.open_postal_base, settings, stack)
        pipeline = Pipeline(
            cache=cache, coalescer=coalescer, kinds=kinds, taught=taught, street_type=street_type, base=base
        )
        ctx[tasks.CONTEXT_KEY] = tasks.Normalization(store, pipeline, service, cache, ledger)
        await _tell(settings, stack, store, service, ctx["redis"])
        if settings.metrics_port:
            sources = Sources(service, worker, coalescer, cache, ledger, settings.daily_budget_usd)
            stack.callback(Exposition(sources).serve(settings.metrics_port, settings.metrics_host))

    async def shutdown(_ctx: dict[Any, Any]) -> None:
        await stack.aclose()

    if settings.webhook_url is not None:
        webhook_of_settings(settings)  # a slip is told before anything starts
    worker = BatchWorker(
        [
            batch_func(
                _normalize_traced,
                name=tasks.normalize_appointment.__name__,
                max_items=settings.batch_max_items,
                timeout_s=settings.arq_job_timeout,
                max_tries=settings.max_tries,
                on_dead=tasks.report_dead,
            )
        ],
        cron_jobs=[cron(tasks.reconcile, minute=_RECONCILE_MINUTES, second=0, run_at_startup=True)],
        queue_names=settings.arq_queue_names,
        redis_settings=redis_of(settings),
        job_serializer=job_serializer,
        job_deserializer=job_deserializer,
        expires_extra_ms=KEEP_PAYLOAD_MS,
        on_startup=startup,
        on_shutdown=shutdown,
        max_jobs=settings.arq_max_jobs,
        job_timeout=settings.arq_job_timeout,
        keep_result=settings.arq_keep_result,
        max_tries=settings.max_tries,
        allow_abort_jobs=True,
        lease_s=settings.lease_s,
        shutdown_grace_s=settings.shutdown_grace_s,
        version=__version__,
        on_group_end=metrics.group_done,
        on_emptied=tasks.refill,
        **arq_options,
    )
    return worker


async def _keep_learning(store: AppointmentStore, taught: Taught) -> None:
    """Follow the clinic's own words, which people add to while workers run."""
    while True:
        await asyncio.sleep(_WORDS_EVERY_S)
        with contextlib.suppress(NormalizerError):  # the words of a minute ago will do
            taught.learn((await store.words.all()).values())


async def _normalize_traced(ctx: Mapping[str, Any], group: Group) -> None:
    with span("group", jobs=len(group.jobs)):
        await tasks.normalize_appointment(ctx, group)


async def _tell(
    settings: Settings, stack: contextlib.AsyncExitStack, store: AppointmentStore, service: TaskService, redis: Any
) -> None:
    """Tell what ends, until the stack closes, where the settings name somebody to tell."""
    senders: dict[str, events.Sender] = {}
    if settings.webhook_url is not None:
        webhook = webhook_of_settings(settings)
        stack.push_async_callback(webhook.close)
        senders["webhook"] = webhook
    if settings.events_stream is not None:
        senders["stream"] = events.StreamSender(redis, settings.events_stream)
    if not senders:
        return
    outbox = store.outbox()
    await outbox.ensure_indexes()
    dispatcher = events.Dispatcher(outbox, senders, redis, read_lane=partial(read_lane, settings, service))
    task = asyncio.create_task(dispatcher.run())
    stack.push_async_callback(_end_telling, task, dispatcher)


async def _end_telling(task: asyncio.Task[None], dispatcher: events.Dispatcher) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await dispatcher.close()


def webhook_of_settings(settings: Settings) -> events.Webhook:
    """The receiver of WEBHOOK_URL. Raises Misconfigured when URL or secret cannot be used."""
    return events.webhook_of(
        parts.secret_of(settings.webhook_url) or "",
        parts.secret_of(settings.webhook_secret),
        production=settings.environment == "production",
        allowed_hosts=settings.webhook_allowed_hosts,
    )


def _kinds(settings: Settings) -> frozenset[Kind]:
    enabled = {
        Kind.ADDRESS: settings.address_normalization_enabled,
        Kind.DOCUMENT: settings.document_normalization_enabled,
    }
    return frozenset(kind for kind, on in enabled.items() if on)
