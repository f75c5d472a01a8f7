"""Real workers on a real Redis and the sink: fill the queue, let them empty it, and count what it took.

Rows are of a synthetic sheet, or such as only a model can read. CPU is read from /proc per process, because wall time
on a machine that others use says little; Redis commands come from INFO commandstats (those inside Lua count). What a
start takes is not counted: workers start on a paused queue.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, ParamSpec, Self, TypeVar

import pymongo
from redis import Redis

from benchmarks.circumstances import asked
from benchmarks.sink import SinkService, start_sink
from normalizer.cache import Entry
from normalizer.domain.address import Address, deduced, parse_address
from normalizer.domain.address.answers import standardize
from normalizer.domain.appointment import Kind
from normalizer.domain.decision import Settled, Undecided
from normalizer.queue.leases import Keys
from normalizer.queue.replicas import REPLICAS
from normalizer.queue.service import QUEUE_NAME
from normalizer.runtime import open_producer
from normalizer.settings import settings_of
from normalizer.simulation import embedded
from normalizer.simulation.sheets import ScenarioRow, generate
from normalizer.simulation.texts import CITIES, DISTRICTS, STREET_NAMES
from normalizer.store import ImportRow
from normalizer.worker import tasks
from normalizer.worker.pipeline import needs_model

P = ParamSpec("P")
T = TypeVar("T")
ROOT: Final = Path(__file__).resolve().parent.parent
#: More distinct texts than a worker's first tier holds, so that a long run asks Redis as often per row as a short one.
POOL: Final = 100_000
SEED: Final = 20_261_125
# Orders that the rules leave to a model and a model can read. More than one, because the rules learn.
_HARD: Final = (
    "{bairro}, {numero}, rua {rua}, {estado}, {cidade}",
    "{estado} {cidade} {bairro} rua {rua} {numero}",
    "{estado} - rua {rua} {numero} {cidade} {bairro}",
)
_FIRST_NUMBER: Final = 1_000
_MISSES: Final = 500
_EASY: Final = 2_000


@dataclass(frozen=True, slots=True)
class Supplied:
    """One row's two texts, and the address that stands in the first; None where nobody could read one there."""

    address: str | None
    document: str | None
    expected: Mapping[str, Any] | None

    @classmethod
    def of(cls, row: ScenarioRow) -> Self:
        address, document = row.address, row.document
        return cls(
            address.text if address else None,
            document.text if document else None,
            address.expected if address else None,
        )


def pool(size: int = POOL, *, seed: int = SEED) -> list[Supplied]:
    """The first rows of a synthetic sheet: 30 % repeat a text, most are read by the rules."""
    return [Supplied.of(row) for row in itertools.islice(generate(seed), size)]


def hard_rows(count: int, *, seed: int = SEED) -> list[Supplied]:
    """Rows of different addresses, each of which the rules leave to the model. Their documents are all one."""
    chance = random.Random(seed)
    return list(itertools.islice(_hard(chance), count))


def _hard(chance: random.Random) -> Iterator[Supplied]:
    passed_over = 0
    for number in itertools.count(_FIRST_NUMBER):
        city = chance.choice(CITIES)
        parts = {"rua": chance.choice(STREET_NAMES)[0], "numero": str(number), "bairro": chance.choice(DISTRICTS)[0]}
        parts |= {"cidade": city.name, "estado": city.uf}
        expected = {**parts, "rua": f"Rua {parts['rua']}", "complemento": None, "cep": None}
        texts = (shape.format(**parts).lower() for shape in _HARD)
        text = next((text for text in texts if _only_a_model_reads(text, expected)), None)
        if text is not None:
            yield Supplied(text, "CPF: 11144477735", expected)
        elif (passed_over := passed_over + 1) > max(_MISSES, number // 2):
            raise AssertionError("the rules read every hard shape by now: add one that only a model reads")


def _only_a_model_reads(text: str, expected: Mapping[str, str | None]) -> bool:
    return isinstance(parse_address(text), Undecided) and isinstance(standardize(expected, text), Settled)


def mixed(rows: int, *, residual: float, known: float, seed: int = SEED) -> list[Supplied]:
    """Rows of that kind: so many for the model, so many of them repeated, the rest such as the rules read."""
    asked = round(rows * residual)
    distinct = max(1, round(asked * (1 - known))) if asked else 0
    hard = hard_rows(distinct)
    easy = [row for row in pool(min(_EASY, max(100, rows))) if not needs_model(parse_address(row.address or ""))]
    chance = random.Random(seed)
    found = [*hard, *chance.choices(hard, k=asked - distinct)] if asked else []
    found += [Supplied(row.address, row.document, None) for row in chance.choices(easy, k=rows - asked)]
    chance.shuffle(found)
    return found


def import_rows(supplied: Iterable[Supplied], count: int, *, prefix: str) -> Iterator[ImportRow]:
    """`count` rows as an import writes them, each with its own key; `supplied` is gone through as often as needed."""
    for number, row in enumerate(itertools.islice(itertools.cycle(supplied), count)):
        fields: dict[str, Any] = {
            "nome_paciente": "Paciente Sintético",
            "status": "Agendado",
            "telefone": "(11) 90000-0000",
        }
        fields |= {"endereco_coleta": row.address, "documento_completo": row.document}
        yield ImportRow(f"{prefix}-{number}", fields)


def write_labels(path: Path, rows: Iterable[Supplied]) -> Path:
    lines = (json.dumps({"text": row.address, "expected": row.expected}, ensure_ascii=False) for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def known_addresses(rows: Iterable[Supplied]) -> dict[str, Address]:
    """The address of every text that has one: what an earlier import would have left in the cache."""
    return {row.address: Address.from_dict(row.expected) for row in rows if row.address and row.expected}


_KEYS: Final = Keys.of(QUEUE_NAME)
_DATABASE: Final = "scale"
_CHUNK: Final = 5_000
_LOOK_S: Final = 0.05
_START_LIMIT_S: Final = 300.0
_QUIET_S: Final = 0.5
_QUIET_CPU: Final = 0.1
_US_PER_ROW: Final = 20_000  # no run may take longer than this a row, and a few minutes
_OWN_COMMANDS: Final = {"cmdstat_config|resetstat", "cmdstat_info"}


@dataclass(frozen=True, slots=True)
class Meter:
    """What had been used of everything at one moment, or between two."""

    wall_s: float
    worker_cpu_s: float
    redis_cpu_s: float
    sink_cpu_s: float
    commands: int
    provider: Mapping[str, int]

    def since(self, before: Meter) -> Meter:
        names = ("wall_s", "worker_cpu_s", "redis_cpu_s", "sink_cpu_s", "commands")
        provider = {name: count - before.provider.get(name, 0) for name, count in self.provider.items()}
        return Meter(**{name: getattr(self, name) - getattr(before, name) for name in names}, provider=provider)

    def per_row(self, rows: int) -> dict[str, float]:
        asked = Counter(self.provider)  # 0 where none was asked
        return {
            "rows": rows,
            "seconds": round(self.wall_s, 3),
            "rows_per_s": round(rows / self.wall_s, 1),
            "worker_cpu_us_per_row": round(self.worker_cpu_s / rows * 1e6, 1),
            "redis_cpu_us_per_row": round(self.redis_cpu_s / rows * 1e6, 1),
            "sink_cpu_us_per_row": round(self.sink_cpu_s / rows * 1e6, 1),
            "redis_commands_per_row": round(self.commands / rows, 3),
            "calls": asked["requests"],
            "refused": asked["429"],
            "tokens_in": asked["tokens_in"],
            "tokens_out": asked["tokens_out"],
            "calls_per_row": round(asked["requests"] / rows, 5),
            "tokens_per_row": round((asked["tokens_in"] + asked["tokens_out"]) / rows, 2),
        }


def _blocking(work: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    return functools.wraps(work)(lambda *given, **named: asyncio.run(work(*given, **named)))


class Fleet:
    """Redis, the sink and maybe a provider, with workers to start on them. A context manager.

    Args:
        directory: data and logs.
        provider: the simulated model; None leaves the workers without a key.
        settings: further environment variables of every worker.
        checkout: whose worker.
        apart: every worker counts the provider's limit by itself, as if it had the account alone.
    """

    def __init__(
        self,
        directory: Path,
        *,
        provider: embedded.ProviderService | None = None,
        settings: Mapping[str, str] | None = None,
        checkout: Path = ROOT,
        apart: bool = False,
    ) -> None:
        self._directory, self._provider, self._checkout, self._apart = directory, provider, checkout, apart
        self._settings = dict(settings or {})
        self._redis_service: embedded.RedisService
        self.sink: SinkService
        self.redis: Any  # redis-py's own types mix both kinds of client
        self.workers: list[embedded.Child] = []
        self._looks = 0

    def __enter__(self) -> Self:
        self._redis_service = embedded.start_valkey(self._directory / "valkey")
        self.sink = start_sink(self._directory / "sink")
        self.redis = Redis.from_url(self._redis_service.url)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_workers()
        self.redis.close()
        self.sink.kill()
        self._redis_service.kill()

    @property
    def environment(self) -> dict[str, str]:
        model = {}
        if self._provider is not None:
            model = {"OPENAI_API_KEY": "simulated", "OPENAI_BASE_URL": self._provider.url}
        return {
            "REDIS_URL": self._redis_service.url,
            "MONGODB_URL": self.sink.url,
            "DATABASE_NAME": _DATABASE,
            "OPENAI_MODEL": "simulated-model",
            "LOG_LEVEL": "WARNING",
            **model,
            **self._settings,
        }

    def pause(self) -> None:
        self.redis.set(_KEYS.paused, b"paused")

    def resume(self) -> None:
        self.redis.delete(_KEYS.paused)

    @_blocking
    async def fill(self, supplied: Iterable[Supplied], count: int, *, prefix: str) -> None:
        """Store `count` rows as `pendente` and enqueue them, in chunks."""
        async with open_producer(settings_of(self.environment)) as producer:
            rows = import_rows(supplied, count, prefix=prefix)
            while chunk := list(itertools.islice(rows, _CHUNK)):
                report = await producer.store.upsert_rows(chunk, prefix)
                await producer.tasks.enqueue_many(list(report.new), fingerprints=report.new)

    def age(self, by: dt.timedelta) -> None:
        """Let every row have waited that long."""
        with pymongo.MongoClient[dict[str, Any]](self.sink.url) as client:
            since = dt.datetime.now(dt.UTC) - by
            clocks = {"updated_at": since, "normalizacao.atualizado_em": since}  # the backend's account, and ours
            client[_DATABASE]["appointments"].update_many({}, {"$set": clocks})

    @_blocking
    async def reconcile(self) -> int:
        """Look for lost rows as a replica does, in this process. Returns how many waited."""
        async with open_producer(settings_of(self.environment)) as producer:
            unused: Any = None  # reconcile looks at the store and the queue alone
            work = tasks.Normalization(producer.store, unused, producer.tasks)
            return await tasks.reconcile({tasks.CONTEXT_KEY: work})

    @_blocking
    async def remember(self, supplied: Iterable[Supplied]) -> None:
        """Put the rows' addresses into the shared cache, as if a model had read them before."""
        known = iter(known_addresses(supplied).items())
        async with open_producer(settings_of(self.environment)) as producer:
            while chunk := dict(itertools.islice(known, _CHUNK)):
                entries = {
                    text: Entry.of(Settled(address, inferred=deduced(text, address))) for text, address in chunk.items()
                }
                await producer.cache.put_many(Kind.ADDRESS, entries)

    def start_workers(self, count: int) -> None:
        """Start so many, and return when all of them beat. What they took to start is over then."""
        for _ in range(count):
            log = self._directory / f"worker-{len(self.workers)}.log"
            # What is shared is kept under endpoint and model: another model's name shares nothing.
            own = {"OPENAI_MODEL": f"simulated-{len(self.workers)}"} if self._apart else {}
            settings = {**self.environment, **own, "PYTHONPATH": str(self._checkout)}
            program = str(self._checkout / "workers.py")
            self.workers.append(embedded.spawn_python("worker", [program], settings, log=log))
        self._until(lambda: self.redis.zcard(REPLICAS) >= count, _START_LIMIT_S, "workers did not start")
        self._until(self._is_quiet, _START_LIMIT_S, "workers did not come to rest")  # a start looks for lost rows

    def stop_workers(self) -> None:
        for worker in self.workers:
            worker.stop()
        self.workers.clear()

    def meter(self) -> Meter:
        cpu = self.redis.info("cpu")
        return Meter(
            time.perf_counter(),
            sum(worker.cpu_s for worker in self.workers),
            float(cpu["used_cpu_sys"] + cpu["used_cpu_user"]),
            float(self.sink.stats()["cpu_s"]),
            self._commands(),
            self._asked(),
        )

    def work_off(self, *, limit_s: float) -> Meter:
        """Let the workers empty the queue; what that took."""
        before = self.meter()
        self.resume()
        self._until(lambda: self.waiting() == 0, limit_s, "the queue did not empty")
        return self.meter().since(before)

    def waiting(self) -> int:
        """Jobs in the queue, those in work included."""
        self._looks += 1
        return int(self.redis.zcard(_KEYS.queue))

    def redis_bytes(self) -> int:
        """What Redis holds of memory now, its own tables included."""
        return int(self.redis.info("memory")["used_memory"])

    def check(self, rows: int) -> None:
        """Every row has ended: nothing lost, nothing pending, nothing failed. AssertionError else."""
        held = self.sink.stats()["documents"][f"{_DATABASE}.appointments"]
        with pymongo.MongoClient[dict[str, Any]](self.sink.url) as client:
            open_ = {"normalizacao.status": {"$in": ["pendente", "falhou"]}}  # by index: all rows would take long
            left = client[_DATABASE]["appointments"].count_documents(open_)
        if held != rows or left:
            raise AssertionError(f"of {rows} rows {held} are stored, and {left} wait or failed")

    def peak_rss_mb(self) -> float:
        return max(memory_mb(worker.pid, "VmHWM") for worker in self.workers)

    def _until(self, state: Callable[[], bool], limit_s: float, problem: str) -> None:
        deadline = time.monotonic() + limit_s
        while not state():
            if time.monotonic() > deadline or not all(worker.running for worker in self.workers):
                raise AssertionError(f"{problem} within {limit_s:.0f} s:\n{self.workers[0].tail()}")
            time.sleep(_LOOK_S)

    def _is_quiet(self) -> bool:
        before = sum(worker.cpu_s for worker in self.workers)
        time.sleep(_QUIET_S)
        return sum(worker.cpu_s for worker in self.workers) - before < _QUIET_CPU * _QUIET_S * len(self.workers)

    def _commands(self) -> int:
        stats: Mapping[str, Mapping[str, int]] = self.redis.info("commandstats")
        return sum(entry["calls"] for name, entry in stats.items() if name not in _OWN_COMMANDS) - self._looks

    def _asked(self) -> dict[str, int]:
        if self._provider is None:
            return {}
        stats = asked(f"{self._provider.root_url}/stats")
        names = ("requests", "tokens_in", "tokens_out")
        return {**{name: stats[name] for name in names}, **stats["by_status"]}


def run_once(
    place: Path,
    supplied: Sequence[Supplied],
    size: int,
    *,
    replicas: int = 1,
    remembered: Sequence[Supplied] = (),
    provider: embedded.ProviderService | None = None,
    settings: Mapping[str, str] | None = None,
    apart: bool = False,
) -> dict[str, Any]:
    """Fill a queue, let so many replicas empty it, see that every row has ended; what it took, per row."""
    with Fleet(place, provider=provider, settings=settings, apart=apart) as fleet:
        if remembered:
            fleet.remember(remembered)
        fleet.pause()
        fleet.fill(supplied, size, prefix="r")
        fleet.start_workers(replicas)
        used = fleet.work_off(limit_s=300 + size * _US_PER_ROW / 1e6)
        peak_mb = fleet.peak_rss_mb()
        fleet.check(size)
    return {**used.per_row(size), "peak_rss_mb": peak_mb}


def memory_mb(pid: int, name: str = "VmRSS") -> float:
    """A process's memory now (`VmRSS`), or at its most (`VmHWM`)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    [found] = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return round(int(found) / 1024, 1)
