"""The composition root: builds and closes every object, once. Beside entry points, the only reader of `Settings`.

What callers open comes first; the parts it is made of, each closed with its stack, follow.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from arq import cron
from arq.connections import RedisSettings
from pydantic import SecretStr

from normalizer import __version__
from normalizer.cache import Cache
from normalizer.domain.address import RULES_VERSION
from normalizer.domain.address.explain import Taught
from normalizer.domain.appointment import Kind
from normalizer.domain.decision import Reason
from normalizer.errors import Misconfigured, NormalizerError, QueueUnavailable, TransientError
from normalizer.imports.estimate import LaneLimits
from normalizer.llm.client import OPENAI_URL, CapabilityStore, LlmClient
from normalizer.llm.coalescer import Coalescer
from normalizer.llm.limits import LocalGate, SharedGate, reopen_gate
from normalizer.llm.packing import BatchSize, Budget
from normalizer.llm.pricing import Ledger, ModelStatus, read_model_status
from normalizer.llm.prompt import PROMPT_VERSION
from normalizer.llm.single_flight import SharedSingleFlight
from normalizer.llm.tokens import counter
from normalizer.observability import metrics
from normalizer.observability.logs import configure_logging, reporter
from normalizer.observability.prometheus import Exposition, Sources
from normalizer.observability.tracing import open_tracing
from normalizer.operations import events
from normalizer.operations.steering import Order, steer
from normalizer.postal import IndexedBase, open_base, source_of
from normalizer.queue.connection import OUTAGE, redis_settings
from normalizer.queue.serializer import job_deserializer, job_serializer
from normalizer.queue.service import KEEP_PAYLOAD_MS, TaskService
from normalizer.queue.waiting import cancel_and_wait
from normalizer.queue.worker import BatchWorker, batch_func
from normalizer.settings import Settings, load_settings
from normalizer.store import AppointmentStore
from normalizer.worker import tasks
from normalizer.worker.pipeline import Pipeline

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
        trace(settings, stack)
        service = await open_tasks(settings, stack)
        store = await open_store(settings, stack)
        yield Producer(store, service, await open_cache_of(settings, store, await service.get_pool()))


@dataclass(frozen=True, slots=True)
class Backend(Producer):
    """What the API serves: the producer's parts, the metrics, and the model lane as it is set up and as it stands."""

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
        yield Pipeline(
            cache=None,
            coalescer=None if offline else model_lane(settings, stack, shared=None),
            unasked=None if offline else Reason.NO_MODEL_KEY,
            street_type=settings.address_default_street_type,
            base=open_postal_base(settings, stack),
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
        cache, own = None, b""
        try:
            if settings.cache_secret is None:
                store = await stack.enter_async_context(_store_of(settings))
                own = await store.secret.peek() or b"nothing is known"
            service = await stack.enter_async_context(task_service(settings, attempts=1))
            cache = _cache_of(settings, await service.get_pool(), own)
        except (TransientError, Misconfigured) as error:
            log.info("cache.not_consulted", error=type(error).__name__)
        yield cache


async def known_columns(settings: Settings) -> dict[str, dict[str, str]]:
    """What is remembered of column titles, to look at; nothing where MongoDB cannot be reached."""
    try:
        async with _store_of(settings) as store:
            return await store.columns.known()
    except (TransientError, Misconfigured) as error:
        log.info("columns.not_consulted", error=type(error).__name__)
        return {}


async def steer_queue(settings: Settings, order: Order) -> str:
    """Tell the queue, and say in what state it is then; `resume` lets model calls start, too. QueueUnavailable."""
    async with task_service(settings) as service, _store_of(settings) as store:
        await steer(order, tasks=service, state=store.durable_state)
        if order is Order.RESUME:
            await reopen_lane(settings, service)
        return (await service.status()).state


def start_logging(settings: Settings) -> None:
    """Logs as the settings have them; with SENTRY_DSN errors go there, too. Misconfigured if it cannot be used."""
    report = reporter(secret_of(settings.sentry_dsn), environment=settings.environment, release=__version__)
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
        trace(settings, stack)
        store = await open_store(settings, stack)
        service = await open_tasks(settings, stack)
        cache = await open_cache_of(settings, store, ctx["redis"])
        ledger = Ledger(
            ctx["redis"],
            model=settings.openai_model,
            daily_budget_usd=settings.daily_budget_usd,
            keep=store.durable_state.add_spending,
        )
        shared = Shared(ctx["redis"], cache, ledger)
        coalescer = model_lane(settings, stack, shared=shared)
        if coalescer is not None:  # nobody waits for it
            stack.push_async_callback(cancel_and_wait, asyncio.create_task(coalescer.greet(), name="llm-greeting"))
        street_type = settings.address_default_street_type
        taught = Taught((await store.words.all()).values())
        stack.push_async_callback(cancel_and_wait, asyncio.create_task(_keep_learning(store, taught), name="words"))
        kinds, base = _kinds(settings), await asyncio.to_thread(open_postal_base, settings, stack)
        pipeline = Pipeline(
            cache=cache, coalescer=coalescer, kinds=kinds, taught=taught, street_type=street_type, base=base
        )
        ctx[tasks.CONTEXT_KEY] = tasks.Normalization(store, pipeline, service, cache, ledger)
        await _tell(settings, stack, store, service, ctx["redis"])
        if settings.metrics_port:
            sources = Sources(service, worker, coalescer, cache, ledger, settings.daily_budget_usd)
            stack.callback(Exposition(sources).serve(settings.metrics_port, settings.metrics_host))

    if settings.webhook_url is not None:
        webhook_of_settings(settings)  # a slip is told before anything starts
    worker = BatchWorker(
        [
            batch_func(
                tasks.normalize_appointment,
                max_items=settings.batch_max_items,
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
        on_shutdown=lambda _ctx: stack.aclose(),
        max_jobs=settings.arq_max_jobs,
        job_timeout=settings.arq_job_timeout,
        keep_result=settings.arq_keep_result,
        max_tries=settings.max_tries,
        allow_abort_jobs=True,
        lease_s=settings.lease_s,
        shutdown_grace_s=settings.shutdown_grace_s,
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
    stack.push_async_callback(dispatcher.close)
    stack.push_async_callback(cancel_and_wait, asyncio.create_task(dispatcher.run()))


def webhook_of_settings(settings: Settings) -> events.Webhook:
    """The receiver of WEBHOOK_URL. Raises Misconfigured when URL or secret cannot be used."""
    return events.webhook_of(
        secret_of(settings.webhook_url) or "",
        secret_of(settings.webhook_secret),
        production=settings.environment == "production",
        allowed_hosts=settings.webhook_allowed_hosts,
    )


def _kinds(settings: Settings) -> frozenset[Kind]:
    enabled = {
        Kind.ADDRESS: settings.address_normalization_enabled,
        Kind.DOCUMENT: settings.document_normalization_enabled,
    }
    return frozenset(kind for kind, on in enabled.items() if on)


# -- parts -----------------------------------------------------------------------------------------------------------


def redis_of(settings: Settings) -> RedisSettings:
    """Where Redis is. Raises Misconfigured if REDIS_URL cannot be used."""
    password = secret_of(settings.redis_password)
    return redis_settings(settings.redis_url.get_secret_value(), password, database=settings.redis_db)


def task_service(settings: Settings, *, attempts: int = 3) -> TaskService:
    """The producer's side of the queues that the settings name; connects at first use."""
    return TaskService(redis_of(settings), queue_names=settings.arq_queue_names, attempts=attempts)


async def open_tasks(settings: Settings, stack: contextlib.AsyncExitStack) -> TaskService:
    """The producer's side of the queues, connected."""
    service = await stack.enter_async_context(task_service(settings))
    await service.get_pool()
    return service


def _store_of(settings: Settings) -> AppointmentStore:
    url = settings.mongodb_url.get_secret_value()
    return AppointmentStore.connect(url, settings.database_name, announces=settings.announces)


async def open_store(settings: Settings, stack: contextlib.AsyncExitStack) -> AppointmentStore:
    """The store, reached, its indexes in place."""
    store = await stack.enter_async_context(_store_of(settings))
    await store.ping()
    await store.ensure_indexes()
    return store


async def open_cache_of(settings: Settings, store: AppointmentStore, redis: Any) -> Cache:
    """The answers in this Redis; the database's own secret stands in for CACHE_SECRET."""
    return _cache_of(settings, redis, b"" if settings.cache_secret else await store.secret.get())


def rules_version(settings: Settings) -> str:
    """What the rules' answers depend on: themselves, and the base they ask."""
    source = source_of(settings.postal_base)
    return f"{RULES_VERSION}" if source is None else f"{RULES_VERSION}-{source.digest}"


def _cache_of(settings: Settings, redis: Any, own_secret: bytes) -> Cache:
    """`own_secret` is the database's: it keys and seals the answers where CACHE_SECRET is unset."""
    given = secret_of(settings.cache_secret)
    previous = secret_of(settings.cache_secret_previous)
    return Cache(
        redis,
        secret=given.encode() if given else own_secret,
        previous_secret=previous.encode() if previous else None,
        model=settings.openai_model,
        prompt_version=PROMPT_VERSION,
        rules_version=rules_version(settings),
    )


def trace(settings: Settings, stack: contextlib.AsyncExitStack) -> None:
    """Trace until the stack closes; what is left is then sent, and the loop does not wait for it."""
    close = open_tracing(
        settings.traces_endpoint,
        headers=secret_of(settings.otel_exporter_otlp_headers),
        service=settings.otel_service_name,
        environment=settings.environment,
        release=__version__,
    )
    stack.push_async_callback(asyncio.to_thread, close)


def open_postal_base(settings: Settings, stack: contextlib.AsyncExitStack) -> IndexedBase | None:
    """The postal base, open until the stack closes; None where there is none. The first process ever indexes it."""
    base = open_base(settings.postal_base) if settings.address_normalization_enabled else None
    if base is not None:
        stack.callback(base.close)
    return base


def secret_of(value: SecretStr | None) -> str | None:
    """The plain text of a setting that must not be printed; None where it is unset."""
    return value.get_secret_value() if value is not None else None


def lane_name(settings: Settings) -> str:
    """What limits, breaker and capabilities of the model lane are kept under: endpoint and model."""
    return f"{urlsplit(settings.base_url or OPENAI_URL).hostname}:{settings.openai_model}"


async def reopen_lane(settings: Settings, tasks: TaskService) -> None:
    """Let model calls start at once, whatever the provider asked or refused before: an operator says go."""
    with contextlib.suppress(*OUTAGE):
        await reopen_gate(await tasks.get_pool(), lane_name(settings))


async def read_lane(settings: Settings, tasks: TaskService) -> ModelStatus | None:
    """How the model lane stands, for `status`; None when Redis is away."""
    return await read_model_status(
        await tasks.get_pool(),
        name=lane_name(settings),
        model=settings.openai_model,
        has_key=settings.openai_api_key is not None,
        daily_budget_usd=settings.daily_budget_usd,
    )


def lane_of(settings: Settings) -> LaneLimits:
    """The model lane as the settings have it."""
    return LaneLimits(
        model=settings.openai_model,
        has_key=settings.openai_api_key is not None,
        records_per_call=settings.llm_records_per_call,
        rpm=settings.llm_rpm,
        tpm=settings.llm_tpm,
        concurrency=settings.llm_max_concurrency,
        daily_budget_usd=settings.daily_budget_usd,
        tier=settings.llm_service_tier,
    )


@dataclass(frozen=True, slots=True)
class Shared:
    """Beside the limits, what the model lane shares with other replicas; loose texts share nothing."""

    redis: Any
    cache: Cache
    ledger: Ledger


def model_lane(settings: Settings, stack: contextlib.AsyncExitStack, *, shared: Shared | None) -> Coalescer | None:
    """The model lane; None without a key. Without `shared` (loose texts) limits and memory are this process's own."""
    key, name = secret_of(settings.openai_api_key), lane_name(settings)
    if key is None or not settings.address_normalization_enabled:
        return None
    gate = LocalGate(largest=settings.llm_max_concurrency)
    memory = flight = None
    if shared is not None:
        memory = CapabilityStore(shared.redis, name)
        flight = SharedSingleFlight(shared.redis, cache=shared.cache, lease_s=settings.lease_s)
        gate = SharedGate(
            shared.redis,
            name=name,
            rpm=settings.llm_rpm,
            tpm=settings.llm_tpm,
            largest=settings.llm_max_concurrency,
            longest_pause_s=settings.llm_max_pause_s,
        )
    client = LlmClient(api_key=key, model=settings.openai_model, base_url=settings.base_url, memory=memory)
    stack.push_async_callback(client.close)
    coalescer = Coalescer(
        client,
        cache=None if shared is None else shared.cache,
        count=counter(settings.openai_model),
        gate=gate,
        budget=Budget(items=50),
        size=BatchSize(start=settings.llm_records_per_call),
        linger_ms=settings.batch_linger_ms,
        shared_flight=flight,
        ledger=None if shared is None else shared.ledger,
        flex=settings.llm_service_tier == "flex",
    )
    stack.push_async_callback(coalescer.close)
    return coalescer
