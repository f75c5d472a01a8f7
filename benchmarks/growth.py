"""Cost against history: what grows with what is stored or queued, and what does not.

`python -m benchmarks.growth [--phases history,crash,claims,watchers] [--quick]`

Growth exponents rather than absolutes: cost = a * size^exponent, by least squares over the sizes; 0 does not grow, 1
doubles with it. Each phase writes its own part of `benchmarks/results/growth.json`: one can be run again alone.

- history: processor time of the store's and of this process, for what people and workers do, over 10,000, 40,000 and
  160,000 stored appointments of which 1,000 are open. Lists of concluded ones are left out: MongoDB reads them in their
  index's order, the embedded store sorts whatever the filter leaves.
- crash: a whole fleet dies over 25,000 claimed jobs with 60,000 more behind them; one worker's jobs/s and its ticks.
- claims: a claim of 250 with 100,000 orphans, suspects or foreign jobs before it, or 1,000,000 due; the longest script.
- watchers: 500 browsers on the live page of one `normalizer serve`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import logging
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import pymongo
import structlog
from bson import ObjectId
from redis.asyncio import Redis as AsyncRedis

from benchmarks.circumstances import environment, keep_parts
from benchmarks.imports import API_KEY, serving_alone
from normalizer.domain.appointment import Origin, Status
from normalizer.operations.status import read_overview
from normalizer.queue.group import Done, Group
from normalizer.queue.leases import ClaimTerms, Keys, Leases
from normalizer.queue.serializer import job_deserializer, job_serializer
from normalizer.queue.service import QUEUE_NAME, TASK_NAME
from normalizer.queue.worker import BatchWorker, batch_func
from normalizer.runtime import Backend, open_backend, redis_of
from normalizer.settings import settings_of
from normalizer.simulation import embedded
from normalizer.store import Filter, ImportRow, ImportState
from normalizer.worker import tasks

RESULTS: Final = Path(__file__).parent / "results" / "growth.json"
SIZES: Final = (10_000, 40_000, 160_000)
_OPEN: Final = 1_000
_CAUSE: Final = "cidade não identificada"
_REPEATS: Final = 4
#: How many documents there are: MongoDB keeps that number, the embedded store counts. What uses it is told without.
_KEPT: Final = "number of documents"
_CHUNK: Final = 2_000
_LEASE_MS, _HOLD_MS = 15_000, 330_000
_CLAIMS: Final = 40

Step = Callable[[], Awaitable[Any]]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.growth", description=__doc__.splitlines()[0])
    parser.add_argument("--phases", default=",".join(PHASES), help=f"of {','.join(PHASES)}")
    parser.add_argument("--quick", action="store_true", help="every phase in small, nothing written")
    parser.add_argument("--smaller", type=int, default=1, help="by which factor everything is smaller")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    for phase in given.phases.split(","):
        with tempfile.TemporaryDirectory(prefix="normalizer-growth-") as directory:
            found = asyncio.run(PHASES[phase](Path(directory), 100 if given.quick else given.smaller))
        print(json.dumps({phase: found}, ensure_ascii=False), flush=True)
        if not given.quick:
            keep_parts(given.out, {phase: {**found, "environment": environment()}})
    return 0


# -- history ----------------------------------------------------------------------------------------------------------


async def history(directory: Path, small: int) -> dict[str, Any]:
    """What is done again and again, over more and more of what is done."""
    with (
        embedded.start_mongo(directory / "mongo") as mongo,
        embedded.start_valkey(directory / "redis") as redis,
        pymongo.MongoClient[dict[str, Any]](mongo.url) as client,
    ):
        settings = settings_of({"REDIS_URL": redis.url, "MONGODB_URL": mongo.url, "DATABASE_NAME": "growth"})
        costs: dict[str, list[float]] = {}
        async with open_backend(settings) as backend:
            appointments, stored, sizes = client["growth"]["appointments"], 0, [size // small for size in SIZES]
            appointments.insert_many([_row(n, "revisar" if n % 5 else "falhou") for n in range(_OPEN // small)])
            for size in sizes:
                for start in range(stored, size, _CHUNK):
                    appointments.insert_many([_row(n, "concluido") for n in range(start, min(size, start + _CHUNK))])
                stored = size
                counted = {_KEPT: partial(asyncio.to_thread, appointments.estimated_document_count)}
                for name, step in (_steps(backend, round_=size) | counted).items():
                    costs.setdefault(name, []).append(await _cpu_ms(step, mongo))
    kept = costs.pop(_KEPT)
    for name in ("live reading", "status"):
        costs[name] = [round(cost - known, 1) for cost, known in zip(costs[name], kept, strict=True)]
    steps = {name: {"cpu_ms": found, "exponent": exponent(sizes, found)} for name, found in costs.items()}
    return {"stored": sizes, "open": _OPEN // small, "steps": steps}


def _row(number: int, status: str) -> dict[str, Any]:
    """An appointment of the past year, of an import of 1,000."""
    at = datetime.now(UTC) - timedelta(seconds=number * 180)
    import_id = "open" if status != "concluido" else f"{number // 1_000:024x}"
    reason: dict[str, Any] = {"motivo": _CAUSE} if status == "revisar" else {}
    about = {"status": status, "import_id": import_id, "atualizado_em": at, "revisao": 1, "criado_por": import_id}
    about |= {"erro": "quarentena"} if status == "falhou" else {}
    return {
        "_id": ObjectId(),
        "id": f"{status}-{number}",
        "id_agendamento": f"{status}-{number}",
        "endereco_completo": f"rua das flores,{number},centro,campinas,SP",
        "updated_at": at,
        "normalization_status": "completed" if status == "concluido" else "failed",
        "normalizacao": {**about, "endereco": {"origem": "regras", **reason}},
    }


def _steps(backend: Backend, *, round_: int) -> dict[str, Step]:
    store = backend.store

    async def read_live() -> None:
        overview = await read_overview(store, backend.tasks)
        await store.totals.progress(overview.counts)
        await store.imports.recent(5)
        await store.totals.concluded_today()

    async def second_page() -> None:
        first = await store.browse(Filter(Status.REVIEW), limit=50)
        await store.browse(Filter(Status.REVIEW), after=first.after, limit=50)

    numbers = iter(range(1_000))

    async def import_and_undo(*, undo: bool) -> None:
        number = next(numbers)
        rows = [ImportRow(f"new-{round_}-{number}-{n}", {"endereco_completo": f"rua a,{n}"}) for n in range(1_000)]
        import_id = await store.imports.begin(file="agenda.csv", rows=1_000)
        report = await store.upsert_rows(rows, import_id)
        await backend.tasks.enqueue_many(list(report.new), fingerprints=report.new)
        await store.imports.end(import_id, state=ImportState.FINISHED)
        if undo:
            await store.undo(import_id)
        made.append(import_id)

    made: list[str] = []
    ctx = {tasks.CONTEXT_KEY: tasks.Normalization(store, None, backend.tasks)}  # type: ignore[arg-type]
    return {
        "live reading": read_live,
        "status": lambda: read_overview(store, backend.tasks),
        "list of a status, two pages": second_page,
        "list of an import": lambda: store.browse(Filter(import_id=f"{3:024x}")),
        "filter by cause": lambda: store.browse(Filter(Status.REVIEW, cause=_CAUSE)),
        "filter by origin": lambda: store.browse(Filter(Status.REVIEW, origin=Origin.RULES)),
        "reconcile": lambda: tasks.reconcile(ctx),
        "import of 1,000 rows and its undo": lambda: import_and_undo(undo=True),
    }


async def _cpu_ms(step: Step, server: embedded.Child) -> float:
    """Processor time of the store and of this process for one, in the median."""
    await step()
    spent = []
    for _ in range(_REPEATS):
        before = server.cpu_s + time.process_time()
        await step()
        spent.append(server.cpu_s + time.process_time() - before)
    return round(1_000 * statistics.fmean(sorted(spent)[:-1]), 1)  # without the worst: a sweep of the store's own


def exponent(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """By which power of the size the cost grows."""
    line = statistics.linear_regression(
        [math.log(size) for size in sizes], [math.log(max(cost, 0.1)) for cost in costs]
    )
    return round(line.slope, 2)


# -- the queue --------------------------------------------------------------------------------------------------------


async def crash(directory: Path, small: int) -> dict[str, Any]:
    """What one worker does when it finds the orphans of a fleet before a long queue, all of it older than a minute."""
    orphans, behind = 25_000 // small, 60_000 // small
    with embedded.start_valkey(directory) as server:
        async with AsyncRedis.from_url(server.url) as redis:
            leases = await _orphaned(redis, orphans)
            await _fill(redis, "j", behind)
            worker = BatchWorker(
                [batch_func(_nothing, name=TASK_NAME, max_items=250)],
                queue_name=QUEUE_NAME,
                redis_settings=redis_of(settings_of({"REDIS_URL": server.url})),
                job_serializer=job_serializer,
                job_deserializer=job_deserializer,
                handle_signals=False,
            )
            ticks = _ticks_of(worker)
            running = asyncio.ensure_future(worker.async_run())
            began = time.monotonic()
            await _until(lambda: worker.jobs_complete >= behind)
            done, first_s = worker.jobs_complete, time.monotonic() - began
            while await redis.zcard(QUEUE_NAME):
                await _until(lambda: not worker.groups)
            whole_s = time.monotonic() - began
            assert not await leases.sweep()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await worker.close()
    gaps = [after - before for before, after in itertools.pairwise([began, *ticks, began + whole_s])]
    return {
        "orphans": orphans,
        "behind": behind,
        "jobs_per_s_at_first": round(done / first_s),
        "seconds_until_empty": round(whole_s, 2),
        "ticks": len(ticks),
        "longest_between_ticks_s": round(max(gaps), 2),
    }


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 — seen from outside, and nobody tells
        await asyncio.sleep(0.02)


async def _nothing(_ctx: Mapping[str, Any], group: Group) -> None:
    await group.settle({job.job_id: Done({}) for job in group.jobs})


def _ticks_of(worker: Any) -> list[float]:
    ticks, tick = [], worker._tick

    async def told() -> None:
        ticks.append(time.monotonic())
        await tick()

    worker._tick = told
    return ticks


async def _fill(redis: Any, prefix: str, count: int, *, function: str = TASK_NAME) -> None:
    payload = b'{"t":null,"f":"%s","a":["x"],"k":{},"et":1}' % function.encode()
    due = (time.time() - 600) * 1_000
    for start in range(0, count, 10_000):
        names = [f"{prefix}{n:07}" for n in range(start, min(count, start + 10_000))]
        async with redis.pipeline(transaction=False) as pipe:
            pipe.mset({f"arq:job:{name}": payload for name in names})
            pipe.zadd(QUEUE_NAME, dict.fromkeys(names, due))
            await pipe.execute()


async def _orphaned(redis: Any, count: int) -> Leases:
    """Jobs in the hands of workers that are dead and whose leases have run out."""
    await _fill(redis, "o", count)
    leases, terms = Leases(redis, Keys.of(QUEUE_NAME)), _terms("dead")
    while (await leases.claim(terms, token=terms.token(), slots=1, alone=False)).group:
        pass
    await redis.zadd(leases.keys.leases, dict.fromkeys(await redis.zrange(leases.keys.leases, 0, -1), 1), xx=True)
    return leases


def _terms(worker_id: str) -> ClaimTerms:
    return ClaimTerms(worker_id, [TASK_NAME], 250, _LEASE_MS, _HOLD_MS, _HOLD_MS, heed_aborts=True)


async def claims(directory: Path, small: int) -> dict[str, Any]:
    """The script's own time in Redis, by SLOWLOG, for claims and for everything else that ran meanwhile."""
    found = {}
    for case, count in (("orphans", 100_000), ("suspects", 100_000), ("foreign", 100_000), ("due", 1_000_000)):
        with embedded.start_valkey(directory / case) as server:
            async with AsyncRedis.from_url(server.url) as redis:
                found[case] = await _claims_over(redis, case, count // small)
    return found


async def _claims_over(redis: Any, case: str, count: int) -> dict[str, Any]:
    leases = Leases(redis, Keys.of(QUEUE_NAME))
    await redis.config_set("slowlog-max-len", 100_000)
    await redis.config_set("slowlog-log-slower-than", 0)
    if case in {"orphans", "suspects"}:
        await _orphaned(redis, count)
    if case == "suspects":
        while await leases.sweep():
            pass
    if case in {"foreign", "due"}:
        await _fill(redis, "f", count, function="other" if case == "foreign" else TASK_NAME)
    await _fill(redis, "z", 10_000)
    terms = _terms("w")
    whole: list[tuple[float, float]] = []  # claims that took a group
    spent: list[tuple[float, float]] = []
    while len(whole) < _CLAIMS:
        claiming = leases.claim(terms, token=terms.token(), slots=1, alone=False)
        claim, took = await _timed(redis, claiming)
        spent.append(took)
        whole += [took] if len(claim.group) == terms.max_items else []
    swept = case == "orphans"
    while swept:
        swept, took = await _timed(redis, leases.sweep())
        spent.append(took)
    return {
        "before_it": count,
        "claims": len(whole),
        "median_ms": round(statistics.median(took for took, _ in whole), 2),
        "median_cpu_ms": round(statistics.median(cpu for _, cpu in whole), 2),
        "longest_script_ms": round(max(took for took, _ in spent), 2),
        "longest_script_cpu_ms": round(max(cpu for _, cpu in spent), 2),
    }


async def _timed(redis: Any, script: Awaitable[Any]) -> tuple[Any, tuple[float, float]]:
    """What a script answers, and took, ms: by the clock, which a busy machine holds up, and of the processor."""
    await redis.slowlog_reset()
    before = await _redis_cpu_ms(redis)
    answer = await script
    cpu_ms = await _redis_cpu_ms(redis) - before
    entries = await redis.slowlog_get(10)
    took = sum(entry["duration"] for entry in entries if entry["command"].upper().startswith(b"EVALSHA"))
    return answer, (took / 1_000, cpu_ms)


async def _redis_cpu_ms(redis: Any) -> float:
    used = await redis.info("cpu")
    return 1_000 * float(used["used_cpu_user_main_thread"] + used["used_cpu_sys_main_thread"])


# -- the page ---------------------------------------------------------------------------------------------------------


async def watchers(directory: Path, small: int) -> dict[str, Any]:
    """The processor time of the serving process while so many browsers watch, and while one does."""
    many, seconds = 500 // small, 2.0 if small > 1 else 30.0
    found = {}
    with serving_alone(directory) as (url, api):
        for count in (1, many):
            async with _watching(int(url.rpartition(":")[2]), count) as events:
                before, seen = api.cpu_s, len(events)
                await asyncio.sleep(seconds)
                used = api.cpu_s - before
                found[str(count)] = {"core": round(used / seconds, 3), "events": len(events) - seen}
    return {"seconds": seconds, "watchers": found}


@contextlib.asynccontextmanager
async def _watching(port: int, count: int) -> Any:
    events: list[int] = []
    request = f"GET /pagina/eventos HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {API_KEY}\r\n\r\n".encode()

    async def watch() -> None:
        while True:  # until it has started: nobody listens, or a 503
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                if b" 200 " in head[:20]:
                    break
            await asyncio.sleep(0.2)
        while chunk := await reader.read(1 << 16):
            events.extend([len(chunk)] * chunk.count(b"event: painel"))

    running = [asyncio.ensure_future(watch()) for _ in range(count)]
    await _until(lambda: len(events) >= count)
    try:
        yield events
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)


PHASES: Final[Mapping[str, Callable[[Path, int], Coroutine[Any, Any, dict[str, Any]]]]] = {
    "history": history,
    "crash": crash,
    "claims": claims,
    "watchers": watchers,
}


if __name__ == "__main__":
    sys.exit(main())
