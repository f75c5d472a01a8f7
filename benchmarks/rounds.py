"""One peer's run over all rows of a sheet: services, import, start, enqueue, wait, and what it took."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pymongo
from redis import Redis

from benchmarks.figures import Round, round_of
from benchmarks.processes import usage
from normalizer import embedded
from normalizer.domain.appointment import Status
from normalizer.imports import import_sheet
from normalizer.runtime import open_producer
from normalizer.settings import settings_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.peers.line_up import Peer

_READY_S: Final = 180.0
_STALLED_S: Final = 120.0
_POLL_S: Final = 0.25
_OWN_COMMANDS: Final = ("cmdstat_info", "cmdstat_exists", "cmdstat_config", "cmdstat_flush")


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a round is run: addresses of its services, and its limits (0 = none)."""

    redis_url: str
    mongo_url: str
    database: str
    provider: embedded.ProviderService
    directory: Path
    rpm: int = 0
    tpm: int = 0
    shared_redis: bool = False

    @property
    def environment(self) -> dict[str, str]:
        """What a worker is started with: the same variables for every peer."""
        return {
            "REDIS_URL": self.redis_url,
            "MONGODB_URL": self.mongo_url,
            "DATABASE_NAME": self.database,
            "OPENAI_API_KEY": "simulated",
            "OPENAI_BASE_URL": self.provider.url,
            "OPENAI_MODEL": "simulated",
            "LLM_RPM": str(self.rpm),
            "LLM_TPM": str(self.tpm),
            "LOG_LEVEL": "WARNING",
        }


def run_round(name: str, peer: Peer, ground: Ground, sheet: Path) -> Round:
    """Import, start the worker and wait until it is ready, enqueue, wait until every row is saved.

    A row that nothing was heard of for two minutes counts as not saved. RuntimeError when the worker ends.
    """
    ids = _import(ground, sheet)
    redis: Any = Redis.from_url(ground.redis_url)  # untyped: redis-py's own types mix both kinds of client
    log = ground.directory / f"{ground.database}.log"
    with redis, embedded.spawn_python(name, peer.arguments, ground.environment, log=log) as child:
        _wait_ready(peer, child, redis)
        spent, commands, used = _spent(ground), _commands(redis), usage(child.pid)
        enqueued_at = datetime.now(UTC)
        peer.enqueue(ground.redis_url, ids)
        _wait_saved(ground, child)
        finished = usage(child.pid)
        commands_taken = _commands(redis) - commands
    taken = {key: value - spent[key] for key, value in _spent(ground).items()}
    return round_of(
        name,
        waits_s=[(at - enqueued_at).total_seconds() for at in _saved_at(ground)],
        statuses=_statuses(ground),
        spent=taken,
        cpu_s=finished.cpu_s - used.cpu_s,
        peak_rss_mb=finished.peak_rss_mb,
        redis_commands=None if ground.shared_redis else commands_taken,
    )


def _import(ground: Ground, sheet: Path) -> list[str]:
    """Store the rows as pendente and return their ids; nothing is queued yet."""
    ids: list[str] = []

    async def keep(found: Sequence[str], **_fingerprints: Mapping[str, str]) -> None:
        ids.extend(found)

    async def store() -> None:
        async with open_producer(settings_of(ground.environment)) as producer:
            await import_sheet(sheet, store=producer.store, enqueue=keep)

    asyncio.run(store())
    with Redis.from_url(ground.redis_url) as redis:
        redis.flushdb()
    return ids


def _wait_ready(peer: Peer, child: embedded.Child, redis: Redis) -> None:
    deadline = time.monotonic() + _READY_S
    while not peer.ready(redis):
        if time.monotonic() > deadline or not child.running:
            raise RuntimeError(f"{child.name} did not start:\n{child.tail()}")
        time.sleep(_POLL_S)


def _wait_saved(ground: Ground, child: embedded.Child) -> None:
    pending, since = -1, time.monotonic()
    with _appointments(ground) as appointments:
        while left := appointments.count_documents({"normalizacao.status": Status.PENDING.value}):
            if not child.running:
                raise RuntimeError(f"{child.name} ended with {left} rows left:\n{child.tail()}")
            if left != pending:
                pending, since = left, time.monotonic()
            elif time.monotonic() - since > _STALLED_S:
                return
            time.sleep(_POLL_S)


class _appointments:  # noqa: N801 — used as a function
    """The collection of a round, its client closed afterwards."""

    def __init__(self, ground: Ground) -> None:
        self._client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(ground.mongo_url, tz_aware=True)
        self._database = ground.database

    def __enter__(self) -> pymongo.collection.Collection[dict[str, Any]]:
        return self._client[self._database]["appointments"]

    def __exit__(self, *_: object) -> None:
        self._client.close()


def _saved_at(ground: Ground) -> list[datetime]:
    """When each saved row was saved, as its worker wrote it there."""
    with _appointments(ground) as appointments:
        rows = appointments.find(
            {"normalizacao.status": {"$ne": Status.PENDING.value}}, {"normalizacao.atualizado_em": 1}
        )
        return [row["normalizacao"]["atualizado_em"] for row in rows]


def _statuses(ground: Ground) -> dict[str, int]:
    with _appointments(ground) as appointments:
        return {status.value: appointments.count_documents({"normalizacao.status": status.value}) for status in Status}


def _spent(ground: Ground) -> dict[str, int]:
    with urllib.request.urlopen(f"{ground.provider.root_url}/stats", timeout=30) as answer:  # noqa: S310 — loopback
        stats: dict[str, Any] = json.load(answer)
    statuses = stats["by_status"]
    counted = {"calls": statuses.get("200", 0), "refused": statuses.get("429", 0)}
    return counted | {name: stats[name] for name in ("tokens_in", "tokens_out")}


def _commands(redis: Any) -> int:
    stats = redis.info("commandstats")
    return sum(entry["calls"] for name, entry in stats.items() if not name.startswith(_OWN_COMMANDS))
