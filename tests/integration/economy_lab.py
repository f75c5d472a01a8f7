"""A deployment for the economy lane: real services, a provider over a socket, the clock in the test's hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.request
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from normalizer import economy
from normalizer.domain.text import canonical
from normalizer.llm.batches import BatchApi
from normalizer.llm.client import LlmClient
from normalizer.llm.limits import LocalGate
from normalizer.llm.pricing import Ledger
from normalizer.llm.tokens import counter
from normalizer.queue import tasks
from normalizer.queue.service import TaskService
from normalizer.runtime import _cache_of, build_worker, open_cache
from normalizer.store import AppointmentStore, ImportRow
from normalizer.store.appointments import now_utc
from normalizer.store.connection import open_client
from tests.acceptance.harness import _RECORD, Row, make_rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from normalizer.economy import Lane
    from normalizer.embedded import ProviderService
    from normalizer.settings import Settings

MODEL = "simulated"
NOWHERE = "redis://127.0.0.1:1"


@dataclass
class EconomyLab:
    """One clinic's services; `later` moves the lane's clock."""

    settings: Settings
    provider: ProviderService
    mongo: Any
    later: timedelta = timedelta(0)
    budget_usd: float = 0.0
    min_rows: int | None = 10
    rows: dict[str, Row] = field(default_factory=dict)

    @property
    def appointments(self) -> Any:
        return self.mongo["appointments"]

    @property
    def batches(self) -> list[dict[str, Any]]:
        return list(self.mongo["normalizer_batches"].find({"etapa": {"$exists": True}}))

    async def put(
        self, rows: Sequence[Row], *, sheet_rows: int | None = None, more: Mapping[str, Any] | None = None
    ) -> str:
        """Import rows, as part of a sheet of `sheet_rows`."""
        self.rows |= {row.key: row for row in rows}
        url, name = self.settings.mongodb_url.get_secret_value(), self.settings.database_name
        async with AppointmentStore.connect(url, name) as store, self.tasks() as queue:
            await store.ensure_indexes()
            import_id = await store.create_import({"linhas": len(rows) if sheet_rows is None else sheet_rows})
            report = await store.upsert_rows([ImportRow(row.key, row.fields | (more or {})) for row in rows], import_id)
            ids = report.new | report.changed
            await queue.enqueue_many(list(ids), fingerprints=ids)
        return import_id

    def tasks(self) -> TaskService:
        return TaskService(self.settings.redis_url.get_secret_value())

    async def work(self, **settings: Any) -> None:
        """A worker, until its queue is empty."""
        worker = build_worker(
            self.settings.model_copy(update=settings), burst=True, handle_signals=False, poll_delay=0.05
        )
        await worker.async_run()
        await worker.close()

    @contextlib.asynccontextmanager
    async def lane(
        self, *, key: bool = True, cache_away: bool = False, queue_away: bool = False
    ) -> AsyncIterator[Lane]:
        """The lane of one more process; without a key, or with the cache or the queue out of reach."""
        redis_url, mongo_url = (
            self.settings.redis_url.get_secret_value(),
            self.settings.mongodb_url.get_secret_value(),
        )
        async with (
            AppointmentStore(open_client(mongo_url), self.settings.database_name, owned=True, clock=self.now) as store,
            TaskService(NOWHERE if queue_away else redis_url, attempts=1) as tasks,
            Redis.from_url(NOWHERE if cache_away else redis_url) as cache_redis,
            Redis.from_url(redis_url) as redis,
        ):
            api = BatchApi(api_key="simulated", base_url=self.provider.url)
            client = LlmClient(api_key="simulated", model=MODEL, base_url=self.provider.url)
            yield economy.build(
                store,
                tasks,
                cache=_cache_of(self.settings, cache_redis, await store.secret()),
                ledger=Ledger(redis, model=MODEL, daily_budget_usd=self.budget_usd),
                api=api if key else None,
                client=client if key else None,
                gate=LocalGate(),
                count=counter(MODEL),
                items=self.settings.llm_records_per_call,
                min_rows=self.min_rows,
                quiet_s=60,
                clock=self.now,
            )
            await api.close()
            await client.close()

    def now(self) -> datetime:
        return now_utc() + self.later

    async def turn(self, **later: float) -> None:
        """A turn of the lane, so much later than now."""
        self.later += timedelta(**later)
        async with self.lane() as lane:
            await lane.turn()

    async def turns_at_once(self, number: int, **later: float) -> None:
        """Turns of so many processes at the same moment."""
        self.later += timedelta(**later)

        async def one() -> None:
            async with self.lane() as lane:
                await lane.turn()

        await asyncio.gather(*(one() for _ in range(number)))

    @contextlib.asynccontextmanager
    async def ledger(self) -> AsyncIterator[Ledger]:
        async with Redis.from_url(self.settings.redis_url.get_secret_value()) as redis:
            yield Ledger(redis, model=MODEL)

    async def known(self) -> int:
        """How many answers the shared cache holds."""
        async with open_cache(self.settings) as cache:
            return (await cache.count())["current"]

    async def reconcile(self) -> int:
        """What reconcile looks at, once everything has waited for an hour."""
        aged = {"$set": {"normalizacao.atualizado_em": datetime.now(UTC) - timedelta(hours=1)}}
        self.appointments.update_many({"normalizacao.status": "pendente"}, aged)
        mongo_url = self.settings.mongodb_url.get_secret_value()
        async with AppointmentStore.connect(mongo_url, self.settings.database_name) as store, self.tasks() as queue:
            nothing: Any = None
            return await tasks.reconcile({tasks.CONTEXT_KEY: tasks.Normalization(store, nothing, queue, nothing)})

    async def patient(self, lane: Lane) -> frozenset[str]:
        """Who may wait, of everybody."""
        mongo_url = self.settings.mongodb_url.get_secret_value()
        async with AppointmentStore.connect(mongo_url, self.settings.database_name) as store:
            ids = [str(record["_id"]) for record in self.appointments.find({}, {"_id": 1})]
            return await lane.patient(list((await store.load(ids)).values()))

    def reset_provider(self) -> None:
        self._post("reset", {})

    def end_batches(self, **how: object) -> None:
        self._post("batches/end", how)

    def fault(self, *faults: dict[str, Any]) -> None:
        self._post("faults", faults)

    def asked(self) -> Counter[str]:
        """How often the provider was asked about each text, in batches and calls."""
        prompts = (str(body["messages"][-1]["content"]) for body in self.look("requests")["requests"])
        return Counter(canonical(text) for prompt in prompts for text in _RECORD.findall(prompt))

    def stats(self) -> dict[str, Any]:
        return self.look("stats")

    def statuses(self) -> Counter[str]:
        return Counter(record["normalizacao"]["status"] for record in self.appointments.find())

    def origins(self) -> Counter[str]:
        return Counter(record["normalizacao"].get("endereco", {}).get("origem") for record in self.appointments.find())

    def look(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.provider.root_url}/{path}", timeout=10) as answer:  # noqa: S310
            return json.load(answer)

    def _post(self, path: str, body: object) -> None:
        request = urllib.request.Request(f"{self.provider.root_url}/{path}", data=json.dumps(body).encode())  # noqa: S310
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310
            pass


def twin(row: Row) -> Row:
    """Another appointment with the same address."""
    return replace(row, key=f"{row.key}-twin")


def hard_rows(count: int, *, seed: int = 1) -> list[Row]:
    """Rows that only a model can read."""
    return make_rows(count, hard=1.0, seed=seed)
