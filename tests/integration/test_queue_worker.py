"""`BatchWorker` with batch functions: groups, outcomes, slots, faults, stopping; on a real Redis, seen by stock arq."""

from __future__ import annotations

import asyncio
import pickle
import signal
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.jobs import Job, JobStatus
from arq.worker import JobExecutionFailed, Retry, func
from redis.asyncio import Redis

from normalizer.errors import StoreUnavailable
from normalizer.queue import group as group_module
from normalizer.queue.group import Done, Failed, Group, RetryLater, Snooze
from normalizer.queue.leases import Keys, Leases
from normalizer.queue.service import QUEUE_NAME, TASK_NAME, TaskService, job_id_of
from tests.integration.queue_lab import Script, batch, ended, make_worker, running, stock_pool, until

KEYS = Keys.of(QUEUE_NAME)


@pytest.fixture
async def tasks(redis_url: str) -> Any:
    async with TaskService(redis_url) as service:
        yield service


@pytest.fixture
async def pool(redis_url: str) -> Any:
    async with stock_pool(redis_url) as stock:
        yield stock


async def drained(redis: Redis) -> bool:
    return await redis.zcard(QUEUE_NAME) == 0


# -- groups and results -----------------------------------------------------------------------------------------------


async def test_jobs_come_in_groups_and_every_one_ends(redis_url: str, redis: Redis, tasks: TaskService) -> None:
    script = Script()
    names = [f"a{n}" for n in range(25)]
    await tasks.enqueue_many(names)

    async with running(make_worker(redis_url, batch(script, max_items=10))) as worker:
        await ended(worker, redis)

    assert [len(group) for group in script.groups] == [10, 10, 5]
    assert sorted(name for group in script.groups for name in group) == sorted(names)
    assert worker.jobs_complete == 25


async def test_a_stock_producer_reads_its_results_through_pickle(redis_url: str, pool: ArqRedis) -> None:
    good = await pool.enqueue_job(TASK_NAME, "good")
    bad = await pool.enqueue_job(TASK_NAME, "bad")
    assert good is not None
    assert bad is not None

    async with running(make_worker(redis_url, batch(Script({"bad": Failed("sem conserto")})))):
        assert await good.result(timeout=10, poll_delay=0.01) == {"id": "good"}
        with pytest.raises(JobExecutionFailed, match="sem conserto"):
            await bad.result(timeout=10, poll_delay=0.01)

    info = await good.result_info()
    assert info is not None
    assert (info.function, info.args, info.success, info.job_try) == (TASK_NAME, ("good",), True, 1)
    assert await good.status() is JobStatus.complete


async def test_our_producer_reads_its_results_through_json(redis_url: str, tasks: TaskService) -> None:
    await tasks.enqueue_many(["good", "bad"])
    ours = await tasks.get_pool()
    jobs = {
        name: Job(job_id_of(name), ours, QUEUE_NAME, _deserializer=ours.job_deserializer) for name in ("good", "bad")
    }

    async with running(make_worker(redis_url, batch(Script({"bad": Failed("sem conserto")})))):
        assert await jobs["good"].result(timeout=10, poll_delay=0.01) == {"id": "good"}
        with pytest.raises(JobExecutionFailed, match="sem conserto"):
            await jobs["bad"].result(timeout=10, poll_delay=0.01)


async def test_jobs_that_come_while_all_slots_work_are_grouped(redis_url: str, redis: Redis, pool: ArqRedis) -> None:
    class Held(Script):
        async def __call__(self, ctx: Mapping[str, Any], group: Group) -> None:
            started.set()
            await go_on.wait()
            await super().__call__(ctx, group)

    started, go_on, script = asyncio.Event(), asyncio.Event(), Held()
    async with running(make_worker(redis_url, batch(script), max_jobs=1)) as worker:
        await pool.enqueue_job(TASK_NAME, "first")  # starts alone: nobody lingers before a claim
        await started.wait()
        for number in range(30):
            await pool.enqueue_job(TASK_NAME, f"a{number}")
        go_on.set()
        await ended(worker, redis)

    assert [len(group) for group in script.groups] == [1, 30]


async def test_a_job_is_seen_as_in_progress_while_it_runs(redis_url: str, pool: ArqRedis) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_ctx: Mapping[str, Any], group: Group) -> None:
        started.set()
        await go_on.wait()
        await group.settle({job.job_id: Done() for job in group.jobs})

    job = await pool.enqueue_job(TASK_NAME, "a")
    assert job is not None
    async with running(make_worker(redis_url, batch(slow))):
        await started.wait()
        seen = await job.status()
        go_on.set()
        assert await job.result(timeout=10, poll_delay=0.01) is None

    assert seen is JobStatus.in_progress


async def test_results_are_not_kept_when_asked_not_to(redis_url: str, redis: Redis, tasks: TaskService) -> None:
    await tasks.enqueue("a")

    async with running(make_worker(redis_url, batch(Script(), keep_result_s=0))):
        await until(lambda: drained(redis))

    assert await redis.keys("arq:result:*") == []


# -- outcomes ---------------------------------------------------------------------------------------------------------


async def test_each_job_ends_its_own_way(redis_url: str, redis: Redis, tasks: TaskService) -> None:
    script = Script({"retry": [RetryLater(0.05, "lento"), Done()], "back": [Snooze(0.05), Done()]})
    await tasks.enqueue_many(["done", "retry", "back"])

    async with running(make_worker(redis_url, batch(script))) as worker:
        await ended(worker, redis)

    assert sorted(script.tries) == [("back", 1), ("back", 1), ("done", 1), ("retry", 1), ("retry", 2)]
    assert (worker.jobs_complete, worker.jobs_retried, worker.jobs_failed) == (3, 1, 0)


async def test_a_job_fails_after_its_tries_and_the_store_is_told_first(
    redis_url: str, redis: Redis, tasks: TaskService
) -> None:
    script = Script({"bad": RetryLater(0.01, "resposta inválida")})
    await tasks.enqueue_many(["good", "bad"])

    async with running(make_worker(redis_url, batch(script, max_tries=3))) as worker:
        await ended(worker, redis)

    assert [try_ for name, try_ in script.tries if name == "bad"] == [1, 2, 3]
    assert script.dead == [("bad", "resposta inválida")]
    assert (worker.jobs_complete, worker.jobs_failed) == (1, 1)


async def test_a_failed_job_stays_queued_until_the_store_could_be_told(
    redis_url: str, redis: Redis, tasks: TaskService
) -> None:
    async def cannot(_ctx: Mapping[str, Any], _dead: Any) -> None:
        raise StoreUnavailable("away")

    script = Script({"bad": Failed("x")})
    await tasks.enqueue("bad")

    async with running(make_worker(redis_url, batch(script, on_dead=cannot))):
        await until(lambda: redis.zcount(QUEUE_NAME, int(time.time() * 1000) + 15_000, "+inf"))

    assert await redis.exists(f"arq:job:{job_id_of('bad')}")
    assert not await redis.exists(f"arq:result:{job_id_of('bad')}")


async def test_what_the_function_leaves_open_is_handed_back(redis_url: str, redis: Redis, tasks: TaskService) -> None:
    class Forgetful(Script):
        async def __call__(self, _ctx: Mapping[str, Any], group: Group) -> None:
            names = self.note(group)
            if len(self.groups) > 1:
                await group.settle({job_id: Done() for job_id in names})

    script = Forgetful()
    await tasks.enqueue_many(["a", "b"])

    async with running(make_worker(redis_url, batch(script))):
        await until(lambda: drained(redis))

    assert script.tries == [("a", 1), ("b", 1), ("a", 1), ("b", 1)]


async def test_one_job_whose_group_raises_is_isolated_and_its_neighbours_end_well(
    redis_url: str, redis: Redis, tasks: TaskService
) -> None:
    class Poisoned(Script):
        async def __call__(self, ctx: Mapping[str, Any], group: Group) -> None:
            if "poison" in [job.args[0] for job in group.jobs]:
                self.note(group)
                raise ValueError("a bug in one row")
            await super().__call__(ctx, group)

    script = Poisoned()
    await tasks.enqueue_many([*(f"a{n}" for n in range(15)), "poison"])

    async with running(make_worker(redis_url, batch(script, max_tries=1))) as worker:
        await ended(worker, redis)

    assert (worker.jobs_complete, worker.jobs_failed) == (15, 1)
    assert script.dead == [("poison", "ValueError")]
    assert [len(group) for group in script.groups if "poison" in group] == [16, 8, 4, 2, 1]


async def test_a_transient_error_hands_back_all_without_counting(
    redis_url: str, redis: Redis, tasks: TaskService
) -> None:
    class Away(Script):
        async def __call__(self, ctx: Mapping[str, Any], group: Group) -> None:
            if not self.groups:
                self.note(group)
                raise StoreUnavailable("away", retry_after_s=0.05)
            await super().__call__(ctx, group)

    script = Away()
    await tasks.enqueue_many(["a", "b"])

    async with running(make_worker(redis_url, batch(script))):
        await until(lambda: drained(redis))

    assert script.groups == [["a", "b"], ["a", "b"]]
    assert {try_ for _, try_ in script.tries} == {1}


async def test_a_function_that_overruns_its_deadline_is_ended_and_its_jobs_are_split(
    redis_url: str, redis: Redis, tasks: TaskService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_module, "OVERRUN_S", 0.05)

    class Hangs(Script):
        async def __call__(self, ctx: Mapping[str, Any], group: Group) -> None:
            if "hangs" in [job.args[0] for job in group.jobs]:
                self.note(group)
                await asyncio.Event().wait()
            await super().__call__(ctx, group)

    script = Hangs()
    await tasks.enqueue_many(["a", "b", "c", "hangs"])

    async with running(make_worker(redis_url, batch(script, timeout_s=0.1, max_tries=1))) as worker:
        await ended(worker, redis)

    assert script.dead == [("hangs", "não terminou no tempo")]
    assert worker.jobs_complete == 3


async def test_the_deadline_is_the_job_timeout_ahead(redis_url: str, redis: Redis, tasks: TaskService) -> None:
    seen: list[float] = []

    async def look(_ctx: Mapping[str, Any], group: Group) -> None:
        seen.append(group.deadline - asyncio.get_running_loop().time())
        await group.settle({job.job_id: Done() for job in group.jobs})

    await tasks.enqueue("a")
    async with running(make_worker(redis_url, batch(look), job_timeout=60)):
        await until(lambda: drained(redis))

    assert 59 < seen[0] <= 60


# -- slots ------------------------------------------------------------------------------------------------------------


async def test_at_most_max_jobs_groups_run_and_a_free_slot_is_refilled_at_once(
    redis_url: str, redis: Redis, tasks: TaskService
) -> None:
    now, most = 0, 0
    full = asyncio.Event()

    async def count(_ctx: Mapping[str, Any], group: Group) -> None:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        if now == 3:
            full.set()
        await full.wait()
        await group.settle({job.job_id: Done() for job in group.jobs})
        now -= 1

    await tasks.enqueue_many([f"a{n}" for n in range(60)])
    async with running(make_worker(redis_url, batch(count, max_items=1), max_jobs=3, poll_delay=30)):
        await until(lambda: drained(redis))  # stock arq would need 60 / 3 polls of 30 s

    assert most == 3


async def test_interactive_jobs_go_before_a_waiting_import(redis_url: str, redis: Redis, tasks: TaskService) -> None:
    script = Script()
    await tasks.enqueue_many([f"import{n}" for n in range(100)])
    await tasks.enqueue("single")

    async with running(make_worker(redis_url, batch(script, max_items=10), max_jobs=1)):
        await until(lambda: drained(redis))

    assert "single" in script.groups[0]


# -- side by side with stock arq --------------------------------------------------------------------------------------


async def test_other_functions_run_as_stock_arq_runs_them(redis_url: str, redis: Redis, pool: ArqRedis) -> None:
    async def plain(ctx: dict[Any, Any], number: int) -> int:
        if ctx["job_try"] == 1:
            raise Retry(defer=0.01)
        return number + 1

    script = Script()
    jobs = [await pool.enqueue_job("plain", number) for number in range(30)]
    await pool.enqueue_job(TASK_NAME, "a")

    async with running(make_worker(redis_url, batch(script), func(plain, name="plain"), max_jobs=4)) as worker:
        assert [await job.result(timeout=20, poll_delay=0.01) for job in jobs if job] == list(range(1, 31))
        await ended(worker, redis)

    assert script.groups == [["a"]]
    assert (worker.jobs_complete, worker.jobs_retried, worker.jobs_failed) == (31, 30, 0)


async def test_jobs_that_only_look_like_batch_jobs_reach_their_function(
    redis_url: str, redis: Redis, pool: ArqRedis
) -> None:
    async def plain(_ctx: dict[Any, Any], text: str) -> str:
        return text

    jobs = [await pool.enqueue_job("plain", f"{TASK_NAME} {number}") for number in range(12)]

    async with running(make_worker(redis_url, batch(Script()), func(plain, name="plain"), max_jobs=2)) as worker:
        results = [await job.result(timeout=20, poll_delay=0.01) for job in jobs if job]
        await ended(worker, redis)

    assert results == [f"{TASK_NAME} {number}" for number in range(12)]
    assert (worker.jobs_complete, await redis.hlen(KEYS.claims)) == (12, 0)


class Evil:
    def __reduce__(self) -> Any:
        return (exit, ("this must never run",))


async def test_a_payload_that_names_code_fails_readably_and_its_neighbours_do_not_notice(
    redis_url: str, redis: Redis, pool: ArqRedis
) -> None:
    evil = await pool.enqueue_job(TASK_NAME, Evil())
    good = await pool.enqueue_job(TASK_NAME, "good")
    assert evil is not None
    assert good is not None
    script = Script()

    async with running(make_worker(redis_url, batch(script))):
        assert await good.result(timeout=10, poll_delay=0.01) == {"id": "good"}
        with pytest.raises(Exception, match="nomes não são resolvidos por segurança") as refused:
            await evil.result(timeout=10, poll_delay=0.01)
        await until(lambda: drained(redis))

    assert "enfileire só o id do agendamento" in str(refused.value)
    assert script.groups == [["good"]]


async def test_a_payload_that_is_neither_json_nor_pickle_fails_and_harms_nobody(
    redis_url: str, redis: Redis, tasks: TaskService
) -> None:
    await redis.set("arq:job:junk", b"\x00" + TASK_NAME.encode())
    await redis.zadd(QUEUE_NAME, {"junk": 1})
    await tasks.enqueue("good")
    script = Script()

    async with running(make_worker(redis_url, batch(script))) as worker:
        await ended(worker, redis)

    assert script.groups == [["good"]]
    assert (worker.jobs_complete, worker.jobs_failed) == (1, 1)


# -- abort, pause, drain ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("producer", ["stock", "ours"])
async def test_aborting_one_job_leaves_its_group_untouched(
    redis_url: str, redis: Redis, pool: ArqRedis, tasks: TaskService, producer: str
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()
    lost: set[str] = set()

    async def slow(_ctx: Mapping[str, Any], group: Group) -> None:
        started.set()
        await go_on.wait()
        lost.update(await group.settle({job.job_id: Done() for job in group.jobs}))

    source = pool if producer == "stock" else await tasks.get_pool()
    jobs = [await source.enqueue_job(TASK_NAME, f"a{number}", _job_id=f"j{number}") for number in range(5)]
    async with running(make_worker(redis_url, batch(slow), allow_abort_jobs=True)) as worker:
        await started.wait()
        assert jobs[2] is not None
        aborted = await jobs[2].abort(timeout=10, poll_delay=0.01)
        go_on.set()
        await ended(worker, redis)

    assert aborted
    assert lost == {"j2"}
    assert (worker.jobs_complete, worker.jobs_failed) == (4, 1)


async def test_a_job_aborted_before_it_started_never_reaches_the_function(
    redis_url: str, redis: Redis, tasks: TaskService
) -> None:
    script = Script()
    pool = await tasks.get_pool()
    jobs = [await pool.enqueue_job(TASK_NAME, f"a{number}", _job_id=f"j{number}") for number in range(3)]
    assert jobs[1] is not None
    with pytest.raises(TimeoutError):
        await jobs[1].abort(timeout=0, poll_delay=0)

    async with running(make_worker(redis_url, batch(script), allow_abort_jobs=True)) as worker:
        await ended(worker, redis)
        with pytest.raises(asyncio.CancelledError):
            await jobs[1].result(timeout=60)

    assert script.dead == [("a1", "cancelado a pedido")]
    assert (worker.jobs_complete, worker.jobs_failed) == (2, 1)
    assert not await redis.exists("arq:abort", KEYS.claims, KEYS.leases)


async def test_a_paused_queue_stands_still_until_resumed(redis_url: str, redis: Redis, tasks: TaskService) -> None:
    script = Script()
    await tasks.pause()
    await tasks.enqueue_many(["a", "b"])

    async with running(make_worker(redis_url, batch(script))) as worker:
        await until(lambda: worker._opened and worker._claimer.paused)
        paused = await tasks.status()
        groups_while_paused = list(script.groups)
        await tasks.resume()
        await until(lambda: drained(redis))

    assert (paused.state, paused.due) == ("paused", 2)
    assert groups_while_paused == []
    assert script.groups == [["a", "b"]]


# -- stopping ---------------------------------------------------------------------------------------------------------


async def test_sigterm_lets_the_group_finish_and_claims_no_more(
    redis_url: str, redis: Redis, tasks: TaskService
) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    async def slow(_ctx: Mapping[str, Any], group: Group) -> None:
        started.set()
        await group.until_cancelled()  # finishes its call, starts nothing new
        await group.settle({group.jobs[0].job_id: Done()})
        stopped.set()

    await tasks.enqueue_many(["a", "b"])
    async with running(make_worker(redis_url, batch(slow))) as worker:
        await started.wait()
        await tasks.enqueue("late")
        worker.handle_sig_wait_for_completion(signal.SIGTERM)
        await stopped.wait()
        await until(lambda: not worker.groups)

    assert worker.jobs_complete == 1
    assert await redis.zcard(QUEUE_NAME) == 2
    assert await redis.keys("arq:retry:*") == []  # what was not started costs no try
    assert not await redis.exists(KEYS.claims, KEYS.leases)


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]])
async def test_a_second_signal_or_sigint_stops_at_once_and_releases_the_claims(
    redis_url: str, redis: Redis, tasks: TaskService, signals: list[signal.Signals]
) -> None:
    started = asyncio.Event()

    async def deaf(_ctx: Mapping[str, Any], _group: Group) -> None:
        started.set()
        await asyncio.Event().wait()

    await tasks.enqueue_many(["a", "b"])
    began = time.monotonic()
    async with running(make_worker(redis_url, batch(deaf))) as worker:
        await started.wait()
        for signum in signals:
            worker.handle_sig_wait_for_completion(signum)

    assert time.monotonic() - began < 10
    assert await redis.zcard(QUEUE_NAME) == 2
    assert await redis.keys("arq:in-progress:*") + await redis.keys("arq:retry:*") == []
    assert await redis.exists(KEYS.claims, KEYS.leases, KEYS.sizes, KEYS.suspects) == 0


async def test_the_grace_time_ends_a_group_that_does_not_listen(
    redis_url: str, redis: Redis, tasks: TaskService
) -> None:
    started = asyncio.Event()

    async def deaf(_ctx: Mapping[str, Any], _group: Group) -> None:
        started.set()
        await asyncio.Event().wait()

    await tasks.enqueue("a")
    worker = make_worker(redis_url, batch(deaf), shutdown_grace_s=0.2)
    main = asyncio.create_task(worker.async_run())
    await started.wait()
    worker.handle_sig_wait_for_completion(signal.SIGTERM)
    with pytest.raises(asyncio.CancelledError):
        await main
    await worker.close()

    assert await redis.keys("arq:in-progress:*") + await redis.keys("arq:retry:*") == []
    assert await redis.zcard(QUEUE_NAME) == 1


async def test_burst_mode_ends_when_the_queue_is_empty(redis_url: str, tasks: TaskService) -> None:
    script = Script({"retry": [RetryLater(0.1), Done()]})
    await tasks.enqueue_many(["a", "retry"])
    worker = make_worker(redis_url, batch(script), burst=True)

    await worker.main()
    await worker.close()

    assert (worker.jobs_complete, worker.jobs_retried) == (2, 1)


async def test_a_limited_burst_takes_no_more_than_its_number(redis_url: str, redis: Redis, tasks: TaskService) -> None:
    await tasks.enqueue_many([f"a{n}" for n in range(10)])
    worker = make_worker(redis_url, batch(Script()), burst=True, max_burst_jobs=4)

    await worker.main()
    await worker.close()

    assert (worker.jobs_complete, await redis.zcard(QUEUE_NAME)) == (4, 6)


# -- leases while the loop is busy ------------------------------------------------------------------------------------


async def test_a_group_that_blocks_the_loop_longer_than_its_lease_keeps_its_jobs(
    redis_url: str, redis: Redis, tasks: TaskService
) -> None:
    swept: dict[str, int] = {}
    over = threading.Event()

    async def other_replica() -> None:
        async with Redis.from_url(redis_url) as client:
            leases = Leases(client, KEYS)
            while not over.is_set():
                swept.update(await leases.sweep())
                await asyncio.sleep(0.05)

    class Busy(Script):
        async def __call__(self, ctx: Mapping[str, Any], group: Group) -> None:
            time.sleep(2.5)  # noqa: ASYNC251 — a loop kept busy by a large group, for longer than the lease
            await super().__call__(ctx, group)

    script = Busy()
    await tasks.enqueue_many(["a", "b"])
    thread = threading.Thread(target=lambda: asyncio.run(other_replica()))
    thread.start()
    try:
        async with running(make_worker(redis_url, batch(script), lease_s=1)) as worker:
            await ended(worker, redis)
    finally:
        over.set()
        thread.join()

    assert swept == {}
    assert script.lost == set()
    assert worker.jobs_complete == 2


async def test_a_function_is_told_which_jobs_were_taken_from_it(
    redis_url: str, redis: Redis, tasks: TaskService
) -> None:
    lost: list[set[str]] = []

    async def late(_ctx: Mapping[str, Any], group: Group) -> None:
        await redis.set(f"arq:in-progress:{job_id_of('b')}", b"somebody else")
        lost.append(await group.settle({job.job_id: Done() for job in group.jobs}))

    await tasks.enqueue_many(["a", "b"])
    async with running(make_worker(redis_url, batch(late))) as worker:
        await until(lambda: worker.jobs_complete == 1)

    assert lost == [{job_id_of("b")}]
    assert await redis.zscore(QUEUE_NAME, job_id_of("b")) is not None


# -- health -----------------------------------------------------------------------------------------------------------


async def test_a_replica_tells_how_it_is_and_leaves_no_trace_when_it_stops(
    redis_url: str, redis: Redis, tasks: TaskService
) -> None:
    go_on = asyncio.Event()

    async def slow(_ctx: Mapping[str, Any], group: Group) -> None:
        await go_on.wait()
        await group.settle({job.job_id: Done() for job in group.jobs})

    await tasks.enqueue_many(["a", "b", "c"])
    async with running(make_worker(redis_url, batch(slow), version="1.2.3")) as worker:
        await until(lambda: worker.groups)
        worker._chores.append(asyncio.create_task(worker._beat()))  # the next beat, now
        await until(lambda: _jobs(tasks))
        status = await tasks.status()
        go_on.set()
        await until(lambda: drained(redis))

    (replica,) = status.replicas
    assert (replica.version, replica.groups, replica.jobs, replica.state) == ("1.2.3", 1, 3, "running")
    assert (status.state, status.due, status.running, status.deferred) == ("running", 0, 3, 0)
    assert replica.last_claim_at_ms is not None
    assert replica.queues == (QUEUE_NAME,)
    assert (await tasks.status()).replicas == []


async def _jobs(tasks: TaskService) -> int:
    return sum(replica.jobs for replica in (await tasks.status()).replicas)


def test_pickle_is_what_arq_writes_by_default() -> None:
    assert pickle.dumps({}).startswith(b"\x80")
