"""A small deployment of real processes: worker replicas, Valkey, a MongoDB-protocol server, a simulated provider.

Tests start it, break it, and at the end ask one invariant checker whether every row ended exactly once. Nothing here
waits for a time: it waits for a state, and fails with the workers' last words when the state does not come.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pymongo
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import ConnectionError as RedisAway

from normalizer.domain.address import parse_address, standardize
from normalizer.domain.decision import Settled, Undecided
from normalizer.domain.text import canonical
from normalizer.llm.pricing import ModelStatus, read_model_status
from normalizer.llm.prompt import Record
from normalizer.queue.leases import Keys
from normalizer.queue.replicas import REPLICAS, replica_key
from normalizer.queue.serializer import job_deserializer
from normalizer.queue.service import QUEUE_NAME, TaskService
from normalizer.simulation import embedded
from normalizer.store import AppointmentStore, ImportRow

ROOT = Path(__file__).resolve().parents[2]
KEYS = Keys.of(QUEUE_NAME)
MODEL = "simulated"
TERMINAL = ("concluido", "revisar", "falhou")
LEASE_S = 2
SABOTAGE = Path(__file__).parent / "sabotage"
_TICK_S = 0.02
_RECORD = re.compile(r"^r\d{2}: (.*)$", re.MULTILINE)

_STREETS = ("das Acácias", "do Ipê", "Marechal Deodoro", "Sete de Setembro", "das Palmeiras", "Barão de Jaguara")
_DISTRICTS = ("Jardim Aurora", "Vila Nova", "Centro", "Cambuí", "Taquaral")
_CITIES = (
    ("Campinas", "SP", "13010"),
    ("Londrina", "PR", "86010"),
    ("Niterói", "RJ", "24020"),
    ("Recife", "PE", "50010"),
)
# Orders that rules leave to a model, and a model can read. More than one, because the rules learn.
_HARD = (
    "{bairro}, {numero}, rua {rua}, {estado}, {cidade}",
    "{estado} {cidade} {bairro} rua {rua} {numero}",
    "{estado} - rua {rua} {numero} {cidade} {bairro}",
)


@dataclass(frozen=True, slots=True)
class Event:
    """What a worker under sabotage wrote down; `at` is on one clock for all processes (see sabotage/)."""

    at: float
    pid: int
    what: str
    items: frozenset[str]


@dataclass(frozen=True, slots=True)
class Row:
    """One synthetic appointment and what is true about it."""

    key: str
    text: str
    address: dict[str, str | None]
    cpf: str
    rg: str
    hard: bool

    @property
    def fields(self) -> dict[str, str]:
        """As an import stores it."""
        return {"endereco_completo": self.text, "documento_completo": f"CPF: {self.cpf}, RG: {self.rg}"}


def make_rows(count: int, *, hard: float = 0.3, seed: int = 1) -> list[Row]:
    """`count` rows with distinct numbers and documents; a share of them only a model can read."""
    chance = random.Random(seed)
    return [_row(number, chance.random() < hard, chance) for number in range(1, count + 1)]


def _row(number: int, hard: bool, chance: random.Random) -> Row:
    cidade, estado, prefix = chance.choice(_CITIES)
    parts = {"rua": chance.choice(_STREETS), "numero": str(1000 + number), "bairro": chance.choice(_DISTRICTS)}
    parts |= {"cidade": cidade, "estado": estado}
    cep = f"{prefix}-{number % 1000:03d}"
    address: dict[str, str | None] = dict(parts)
    address |= {"rua": f"Rua {parts['rua']}", "complemento": None, "cep": None if hard else cep}
    text = (
        _hard_text(parts, address)
        if hard
        else "Rua {rua},{numero},{bairro},{cidade},{estado},{cep}".format(**parts, cep=cep)
    )
    return Row(f"row-{number}", text, address, _cpf(chance), f"{chance.randrange(10_000_000, 99_999_999)}", hard)


def _hard_text(parts: dict[str, str], address: dict[str, str | None]) -> str:
    for shape in _HARD:
        text = shape.format(**parts).lower()
        if isinstance(parse_address(text), Undecided) and isinstance(standardize(address, text), Settled):
            return text
    raise AssertionError("the rules read every hard shape by now: add one that only a model reads")


def _cpf(chance: random.Random) -> str:
    digits = [chance.randrange(10) for _ in range(9)]
    for length in (10, 11):
        total = sum(digit * weight for digit, weight in zip(digits, range(length, 1, -1), strict=True))
        digits.append(0 if total % 11 < 2 else 11 - total % 11)
    return "".join(map(str, digits))


def write_labels(path: Path, rows: Iterable[Row]) -> Path:
    """What the simulated model knows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"text": row.text, "expected": row.address}, ensure_ascii=False) for row in rows)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def until(state: Callable[[], object], *, timeout_s: float, what: str, words: Callable[[], str] = str) -> Any:
    """Wait for a state of other processes; AssertionError with `words()` when it does not come."""
    deadline = time.monotonic() + timeout_s
    while not (reached := state()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s} s\n{words()}")
        time.sleep(_TICK_S)
    return reached


@dataclass
class Deployment:
    """What one test runs on. `rows` are those put in so far."""

    directory: Path
    redis_url: str
    mongo_url: str
    database: str
    provider: embedded.ProviderService
    settings: dict[str, str] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    workers: list[embedded.Child] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.redis = Redis.from_url(self.redis_url)
        self.client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(self.mongo_url)
        self.appointments = self.client[self.database].appointments

    def close(self) -> None:
        """Kill what still runs."""
        for worker in self.workers:
            worker.kill()
        self.client.close()
        self.redis.close()

    # --- processes ---

    @property
    def environment(self) -> dict[str, str]:
        """The settings of a replica."""
        return {
            "REDIS_URL": self.redis_url,
            # A store that several tests share is slow; what becomes of time-outs is asked where an outage is made.
            "MONGODB_URL": f"{self.mongo_url}{'&' if '?' in self.mongo_url else '?'}socketTimeoutMS=120000",
            "DATABASE_NAME": self.database,
            "OPENAI_API_KEY": "simulated",
            "OPENAI_BASE_URL": self.provider.url,
            "OPENAI_MODEL": MODEL,
            "ENVIRONMENT": "test",
            "LEASE_S": str(LEASE_S),
            "BATCH_MAX_ITEMS": "50",
            "BATCH_LINGER_MS": "50",
            "ARQ_MAX_JOBS": "3",
            "ARQ_JOB_TIMEOUT": "60",
            **self.settings,
        }

    def start_worker(self, **settings: str) -> embedded.Child:
        """One more replica, `python workers.py`; returns at once."""
        log = self.directory / f"worker-{len(self.workers) + 1}.log"
        worker = embedded.spawn_worker({**self.environment, **settings}, log=log)
        self.workers.append(worker)
        return worker

    def start_ready_worker(self, **settings: str) -> embedded.Child:
        """One more replica, once it beats."""
        worker = self.start_worker(**settings)
        self.wait(lambda: self.beats(worker) or not worker.running, "the worker beats", timeout_s=60)
        assert worker.running, worker.tail()
        return worker

    def sabotage(self, **how: object) -> dict[str, str]:
        """Settings of a replica that keeps a journal, and dies where it is told to: see sabotage/sitecustomize.py.

        `point="stored"`, `hit=2`: once, at the second save of a model's answer. `poison=id`: at that appointment.
        """
        told = {f"SABOTAGE_{name.upper()}": str(value) for name, value in how.items()}
        return {
            "PYTHONPATH": os.pathsep.join((str(SABOTAGE), str(ROOT))),
            "SABOTAGE_JOURNAL": str(self.directory / "journal.jsonl"),
            "SABOTAGE_ONCE": str(self.directory / "sabotaged"),
            **told,
        }

    def journal(self) -> list[Event]:
        """What workers under sabotage did so far, oldest first."""
        path = self.directory / "journal.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        events = [Event(**{**event, "items": frozenset(event["items"])}) for event in map(json.loads, lines)]
        return sorted(events, key=lambda event: event.at)

    def revive(self) -> None:
        """Start dead replicas again, as a container runtime does."""
        for worker in self.workers:
            worker.start()

    def said(self, event: str) -> int:
        """How often the workers logged an event."""
        return sum(worker.output().count(event) for worker in self.workers)

    def cli(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run `normalizer …` as an operator does, with this deployment's settings."""
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return subprocess.run(
            [sys.executable, "-c", "from normalizer.cli import main; main()", *arguments],
            env={**inherited, "PYTHONPATH": str(ROOT), **self.environment, **settings},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def replicas(self, worker: embedded.Child) -> list[dict[str, Any]]:
        """What this replica last said of itself; empty if it does not beat."""
        names = self.redis.zrange(REPLICAS, 0, -1)
        found = self.redis.mget([replica_key(name.decode()) for name in names]) if names else []
        told = [orjson.loads(text) for text in found if text]
        return [replica for replica in told if replica["pid"] == worker.pid]

    def beats(self, worker: embedded.Child) -> int:
        """When this replica last beat, in ms; 0 if it does not."""
        return max((replica["beat_at_ms"] for replica in self.replicas(worker)), default=0)

    def groups(self, worker: embedded.Child) -> int:
        """How many groups this replica had in work at its last beat."""
        return sum(replica["groups"] for replica in self.replicas(worker))

    def last_words(self) -> str:
        """The end of every worker's log, and where the rows stand."""
        logs = (f"--- {worker.log.name} (running: {worker.running})\n{worker.tail(25)}" for worker in self.workers)
        return "\n".join((f"rows: {dict(self.statuses())}, queue: {self.queue_state()}", *logs))

    # --- work ---

    def put(self, rows: Sequence[Row]) -> None:
        """Store the rows as `pendente` and enqueue them, as an import does."""
        self.rows |= {row.key: row for row in rows}
        asyncio.run(self._put(rows))

    async def _put(self, rows: Sequence[Row]) -> None:
        async with (
            AppointmentStore.connect(self.mongo_url, self.database) as store,
            TaskService(self.redis_url) as tasks,
        ):
            await store.ensure_indexes()
            report = await store.upsert_rows([ImportRow(row.key, row.fields) for row in rows], "import")
            queued = report.new | report.changed
            await tasks.enqueue_many(list(queued), fingerprints=queued)

    def age_pending(self) -> None:
        """Move the clock for reconcile: what waits has waited for an hour."""
        hour_ago = datetime.now(UTC) - timedelta(hours=1)
        aged = {"$set": {"updated_at": hour_ago, "normalizacao.atualizado_em": hour_ago}}
        self.appointments.update_many({"normalizacao.status": "pendente"}, aged)

    # --- states to wait for ---

    def wait(self, state: Callable[[], object], what: str, *, timeout_s: float = 60) -> Any:
        """Wait for a state of the deployment."""
        return until(state, timeout_s=timeout_s, what=what, words=self.last_words)

    def statuses(self) -> Counter[str]:
        """How many rows have each status."""
        groups = self.appointments.aggregate([{"$group": {"_id": "$normalizacao.status", "n": {"$sum": 1}}}])
        return Counter({group["_id"]: group["n"] for group in groups})

    def ended(self) -> int:
        """Rows that ended."""
        return sum(self.statuses()[status] for status in TERMINAL)

    def claimed(self) -> int:
        """Jobs in groups."""
        return sum(map(int, self.redis.hvals(KEYS.sizes)))

    def asked(self) -> int:
        """Calls that reached the provider, answered or not."""
        return len(self._provider("requests")["requests"])

    def stats(self) -> dict[str, Any]:
        """The provider's own count of what it answered."""
        return self._provider("stats")

    def lane(self) -> ModelStatus:
        """How the model lane stands, as `status` reads it."""
        name = f"{urlsplit(self.provider.url).hostname}:{MODEL}"
        return asyncio.run(_read_lane(self.redis_url, name))

    def fault(self, *faults: dict[str, Any]) -> None:
        """Script the provider's next failures (see normalizer/simulation/provider/); none: it is well again."""
        request = urllib.request.Request(f"{self.provider.root_url}/faults", data=json.dumps(faults).encode())  # noqa: S310
        with urllib.request.urlopen(request, timeout=60):  # noqa: S310
            pass

    def wait_until_all_ended(self, *, rows: int | None = None, timeout_s: float = 90) -> None:
        """Every row in MongoDB ended, and nothing is left in the queue."""
        wanted = len(self.rows) if rows is None else rows
        self.wait(lambda: self.ended() == wanted, "every row ends", timeout_s=timeout_s)
        self.wait(lambda: not any(self.queue_state().values()), "the queue is empty", timeout_s=LEASE_S + 15)

    def queue_state(self) -> dict[str, int]:
        """What is left in Redis of jobs that are not settled."""
        try:
            locks = sum(1 for _ in self.redis.scan_iter("arq:in-progress:norm:*", count=5_000))
            jobs = sum(1 for _ in self.redis.scan_iter("arq:job:norm:*", count=5_000))
            queued = [name for name in self.redis.zrange(KEYS.queue, 0, -1) if name.startswith(b"norm:")]
            return {
                "queued": len(queued),
                "leased": self.redis.zcard(KEYS.leases),
                "claims": self.redis.hlen(KEYS.claims),
                "sizes": self.redis.hlen(KEYS.sizes),
                "suspects": self.redis.hlen(KEYS.suspects),
                "locks": locks,
                "payloads": jobs,
            }
        except RedisAway:
            return {"away": 1}

    # --- the invariants ---

    def check(self, *, repeated_calls: int = 0, rewritten: int = 0, falhou: int = 0, results_kept: bool = True) -> None:
        """Every row ended exactly once, with its own values; nothing was asked of the model twice.

        Args:
            repeated_calls: records that may have been asked again, because an answer died with a process.
            rewritten: rows that may have been written twice, because a process died between store and queue.
            falhou: rows that must have failed.
            results_kept: whether Redis still knows how each job ended.
        """
        stored = {record["id_agendamento"]: record for record in self.appointments.find()}
        assert stored.keys() == self.rows.keys(), "rows were lost or invented"
        statuses = Counter(record["normalizacao"]["status"] for record in stored.values())
        assert statuses["falhou"] == falhou, f"{statuses}\n{_causes(stored.values())}"
        assert sum(statuses[status] for status in TERMINAL) == len(self.rows), statuses
        for key, record in stored.items():
            self._check_row(self.rows[key], record)
        extra = sum(record["normalizacao"]["revisao"] - 2 for record in stored.values())
        assert 0 <= extra <= rewritten, f"{extra} writes more than one a row"
        self._check_model_calls(repeated_calls)
        if results_kept:
            self._check_results(falhou)
        assert not any(self.queue_state().values()), self.queue_state()

    def _check_row(self, row: Row, record: dict[str, Any]) -> None:
        ours = record["normalizacao"]
        assert ours["revisao"] >= 2, f"{row.key} was never written"
        if ours["status"] == "falhou":
            return
        assert record["documento_normalizado"]["cpf"] == row.cpf, f"{row.key} has another row's document"
        assert record["cpf"] == row.cpf
        address = record["endereco_normalizado"]
        if ours["status"] == "concluido":
            assert address["numero"] == row.address["numero"], f"{row.key} has another row's address"
            assert address["cidade"] == row.address["cidade"]
        else:
            assert address is None
            assert ours["endereco"]["motivo"], f"{row.key} is in review without a reason"

    def _check_model_calls(self, repeated: int) -> None:
        asked = Counter(self.asked_records())
        twice = sum(asked.values()) - len(asked)
        assert twice <= repeated, f"{twice} records were asked again, {repeated} may have been"
        known = {canonical(Record.of(row.text).text) for row in self.rows.values()}
        assert asked.keys() <= known, "asked for a text of nobody"

    def _check_results(self, falhou: int) -> None:
        names = list(self.redis.scan_iter("arq:result:norm:*", count=5_000))
        endings = [job_deserializer(text)["s"] for text in self.redis.mget(names)] if names else []
        assert len(endings) == len(self.rows), f"{len(endings)} jobs ended of {len(self.rows)}"
        assert endings.count(False) == falhou

    def asked_records(self) -> list[str]:
        """Every record that was sent to the provider, in canonical form, once per call."""
        prompts = (str(body["messages"][-1]["content"]) for body in self._provider("requests")["requests"])
        return [canonical(text) for prompt in prompts for text in _RECORD.findall(prompt)]

    def _provider(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.provider.root_url}/{path}", timeout=60) as answer:  # noqa: S310
            return json.load(answer)


async def _read_lane(redis_url: str, name: str) -> ModelStatus:
    async with AsyncRedis.from_url(redis_url) as redis:
        found = await read_model_status(redis, name=name, model=MODEL, has_key=True, daily_budget_usd=0.0)
        assert found is not None
        return found


def _causes(records: Iterable[dict[str, Any]]) -> Counter[str]:
    return Counter(str(record["normalizacao"].get("erro")) for record in records)
