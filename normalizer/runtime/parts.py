"""Parts of the runtime, each closed with its stack: services, cache, postal base, model lane."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from arq.connections import RedisSettings
from pydantic import SecretStr

from normalizer import __version__
from normalizer.cache import Cache
from normalizer.domain.address import RULES_VERSION
from normalizer.imports.estimate import LaneLimits
from normalizer.llm.client import OPENAI_URL, CapabilityStore, LlmClient
from normalizer.llm.coalescer import Coalescer
from normalizer.llm.limits import Gate, SharedGate, reopen_gate
from normalizer.llm.packing import BatchSize, Budget
from normalizer.llm.pricing import Ledger, ModelStatus, read_model_status
from normalizer.llm.prompt import PROMPT_VERSION
from normalizer.llm.single_flight import SharedSingleFlight
from normalizer.llm.tokens import counter
from normalizer.observability.tracing import open_tracing
from normalizer.postal import IndexedBase, open_base, source_of
from normalizer.queue.connection import OUTAGE, redis_settings
from normalizer.queue.service import TaskService
from normalizer.settings import Settings
from normalizer.store import AppointmentStore


def redis_of(settings: Settings) -> RedisSettings:
    """Where Redis is. Raises Misconfigured if REDIS_URL cannot be used."""
    password = secret_of(settings.redis_password)
    return redis_settings(settings.redis_url.get_secret_value(), password, database=settings.redis_db)


def task_service(settings: Settings, *, attempts: int = 3) -> TaskService:
    """The producer's side of the queues that the settings name; connects at first use."""
    return TaskService(redis_of(settings), queue_names=settings.arq_queue_names, attempts=attempts)


async def open_tasks(settings: Settings, stack: contextlib.AsyncExitStack) -> TaskService:
    """The producer's side of the queues, connected."""
    service = task_service(settings)
    stack.push_async_callback(service.close)
    await service.get_pool()
    return service


async def open_store(settings: Settings, stack: contextlib.AsyncExitStack) -> AppointmentStore:
    """The store, reached, its indexes in place."""
    url = settings.mongodb_url.get_secret_value()
    store = AppointmentStore.connect(url, settings.database_name, announces=settings.announces)
    stack.push_async_callback(store.close)
    await store.ping()
    await store.ensure_indexes()
    return store


async def open_cache_of(settings: Settings, store: AppointmentStore, redis: Any) -> Cache:
    """The answers in this Redis; the database's own secret stands in for CACHE_SECRET."""
    return _cache_of(settings, redis, b"" if settings.cache_secret else await store.secret.get())


async def existing_cache(settings: Settings, stack: contextlib.AsyncExitStack) -> Cache:
    """The answers that are there, to look at: no secret is drawn, no index made."""
    own: bytes | None = b""
    if settings.cache_secret is None:
        store = AppointmentStore.connect(settings.mongodb_url.get_secret_value(), settings.database_name)
        stack.push_async_callback(store.close)
        own = await store.secret.peek()
    service = task_service(settings, attempts=1)
    stack.push_async_callback(service.close)
    redis = await service.get_pool()
    return _cache_of(settings, redis, own or b"nothing is known")


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


def model_client(settings: Settings, stack: contextlib.AsyncExitStack, *, shared: Shared | None) -> LlmClient | None:
    """Asks the model; None without a key. Without `shared` (loose texts) its memory is this process's own."""
    key = secret_of(settings.openai_api_key)
    if key is None or not settings.address_normalization_enabled:
        return None
    memory = None if shared is None else CapabilityStore(shared.redis, lane_name(settings))
    client = LlmClient(api_key=key, model=settings.openai_model, base_url=settings.base_url, memory=memory)
    stack.push_async_callback(client.close)
    return client


def model_lane(
    settings: Settings,
    stack: contextlib.AsyncExitStack,
    client: LlmClient | None,
    gate: Gate,
    *,
    shared: Shared | None,
) -> Coalescer | None:
    """The model lane; None without a client."""
    if client is None:
        return None
    flight = None if shared is None else SharedSingleFlight(shared.redis, cache=shared.cache, lease_s=settings.lease_s)
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


def shared_gate(settings: Settings, redis: Any) -> SharedGate:
    """The limits of all replicas together."""
    return SharedGate(
        redis,
        name=lane_name(settings),
        rpm=settings.llm_rpm,
        tpm=settings.llm_tpm,
        largest=settings.llm_max_concurrency,
        longest_pause_s=settings.llm_max_pause_s,
    )
