"""Everything stock arq promises for ordinary functions and cron jobs, asked of `arq.Worker` and of `BatchWorker` alike.

Three workers answer each case: arq's own, `BatchWorker` without batch functions, and `BatchWorker` beside a batch
function (where claiming goes through our Lua). What arq does is the expectation; nothing is asserted of ours alone.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import re
import signal
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from arq.connections import ArqRedis, RedisSettings
from arq.constants import default_queue_name, health_check_key_suffix, job_key_prefix
from arq.cron import cron
from arq.jobs import DeserializationError, Job, JobStatus
from arq.worker import FailedJobs, JobExecutionFailed, Retry, RetryJob, Worker, create_worker, func, get_kwargs

from normalizer.queue.connection import redis_settings
from normalizer.queue.group import Group
from normalizer.queue.worker import BatchWorker, batch_func

Make = Callable[..., Worker]


async def _never(_ctx: Any, _group: Group) -> None:
    raise AssertionError("no job here is a batch job")


def _beside_a_batch_function(functions: Any = (), **options: Any) -> BatchWorker:
    return BatchWorker([*functions, batch_func(_never, name="normalize_appointment")], **options)


@pytest.fixture(params=[Worker, BatchWorker, _beside_a_batch_function], ids=["arq", "ours", "ours-with-batches"])
def kind(request: pytest.FixtureRequest) -> Callable[..., Worker]:
    made: Callable[..., Worker] = request.param
    return made


@pytest.fixture
async def pool(redis_url: str) -> AsyncIterator[ArqRedis]:
    pool = ArqRedis.from_url(redis_url)
    yield pool
    await pool.aclose(close_connection_pool=True)


@pytest.fixture
async def make(kind: Callable[..., Worker], pool: ArqRedis) -> AsyncIterator[Make]:
    """Make a burst worker on `pool`, as arq's own tests do; closed afterwards."""
    made: list[Worker] = []

    def create(*functions: Any, **options: Any) -> Worker:
        values = {"redis_pool": pool, "burst": True, "poll_delay": 0, "max_jobs": 10, **options}
        made.append(kind(functions=list(functions), **values))
        return made[-1]

    yield create
    for worker in made:
        await worker.close()


async def foobar(_ctx: Any) -> int:
    return 42


async def fails(_ctx: Any) -> None:
    raise TypeError("my type error")


async def add(_ctx: Any, number: int, *, more: int = 1) -> int:
    return number + more


def messages(caplog: pytest.LogCaptureFixture) -> str:
    ours = [record.getMessage() for record in caplog.records if record.name == "arq.worker"]
    return re.sub(r"\d+\.\d\ds", "X.XXs", "\n".join(ours))


def counts(worker: Worker) -> tuple[int, int, int]:
    return worker.jobs_complete, worker.jobs_failed, worker.jobs_retried


async def enqueue(pool: ArqRedis, name: str, *args: Any, **options: Any) -> Job:
    job = await pool.enqueue_job(name, *args, **options)
    assert job is not None
    return job


# -- results ----------------------------------------------------------------------------------------------------------


async def test_a_job_runs_and_its_result_is_kept(make: Make, pool: ArqRedis, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    job = await enqueue(pool, "foobar", _job_id="testing")
    worker = make(foobar)

    await worker.main()

    assert counts(worker) == (1, 0, 0)
    assert await job.result(poll_delay=0) == 42
    assert await job.status() is JobStatus.complete
    assert "X.XXs → testing:foobar()\n  X.XXs ← testing:foobar ● 42" in messages(caplog)


async def test_arguments_reach_the_function(make: Make, pool: ArqRedis) -> None:
    job = await enqueue(pool, "add", 1, more=2)

    await make(add).main()

    info = await job.result_info()
    assert info is not None
    assert (info.result, info.args, info.kwargs, info.success, info.queue_name) == (
        3,
        (1,),
        {"more": 2},
        True,
        default_queue_name,
    )


async def test_nothing_but_the_result_remains(make: Make, pool: ArqRedis) -> None:
    await enqueue(pool, "foobar", _job_id="testing")
    worker = make(foobar)

    await worker.main()
    await worker.close()

    assert await pool.keys("arq:*testing*") == [b"arq:result:testing"]
    assert await pool.exists(default_queue_name, default_queue_name + health_check_key_suffix) == 0


@pytest.mark.parametrize(
    ("settings", "ttl"),
    [({}, (3500, 3600)), ({"keep_result": 60}, (50, 60)), ({"keep_result_forever": True}, (-1, -1))],
    ids=["default", "seconds", "for ever"],
)
async def test_results_live_as_long_as_asked(
    make: Make, pool: ArqRedis, settings: dict[str, Any], ttl: tuple[int, int]
) -> None:
    await enqueue(pool, "foobar", _job_id="testing")

    await make(foobar, **settings).main()

    assert ttl[0] <= await pool.ttl("arq:result:testing") <= ttl[1]


async def test_the_function_decides_over_the_worker_how_long_results_live(make: Make, pool: ArqRedis) -> None:
    await enqueue(pool, "gone", _job_id="gone")
    await enqueue(pool, "kept", _job_id="kept")
    functions = func(foobar, name="gone", keep_result=0), func(foobar, name="kept", keep_result_forever=True)

    await make(*functions, keep_result=60).main()

    assert await pool.ttl("arq:result:kept") == -1
    assert not await pool.exists("arq:result:gone")


async def test_a_failure_is_final_and_raised_to_whoever_asks(
    make: Make, pool: ArqRedis, caplog: pytest.LogCaptureFixture
) -> None:
    job = await enqueue(pool, "fails", _job_id="testing")
    worker = make(fails)

    await worker.main()

    assert counts(worker) == (0, 1, 0)
    with pytest.raises(TypeError, match="my type error"):
        await job.result(poll_delay=0)
    assert "! testing:fails failed, TypeError: my type error" in messages(caplog)


async def test_an_exception_that_is_returned_is_a_result(make: Make, pool: ArqRedis) -> None:
    async def returns(_ctx: Any) -> Exception:
        return TypeError("xxx")

    job = await enqueue(pool, "returns")
    await make(func(returns, name="returns")).main()

    info = await job.result_info()
    assert info is not None
    assert info.success
    assert isinstance(info.result, TypeError)


async def test_a_result_that_cannot_be_written_is_a_failure_that_says_so(
    make: Make, pool: ArqRedis, caplog: pytest.LogCaptureFixture
) -> None:
    async def unwritable(_ctx: Any) -> Any:
        return lambda: None

    job = await enqueue(pool, "unwritable", _job_id="testing")
    await make(func(unwritable, name="unwritable")).main()

    info = await job.result_info()
    assert info is not None
    assert (info.success, info.result) == (False, "unable to serialize result")
    assert "error serializing result of testing:unwritable" in caplog.text


async def test_extra_of_an_exception_is_logged(make: Make, pool: ArqRedis, caplog: pytest.LogCaptureFixture) -> None:
    class CustomError(RuntimeError):
        def extra(self) -> dict[str, str]:
            return {"x": "y"}

    async def raises(_ctx: Any) -> None:
        raise CustomError("told")

    await enqueue(pool, "raises")
    await make(func(raises, name="raises")).main()

    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert record.extra == {"x": "y"}  # type: ignore[attr-defined]


async def test_results_are_not_logged_when_asked_not_to(
    make: Make, pool: ArqRedis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await enqueue(pool, "foobar", _job_id="testing")

    await make(foobar, log_results=False).main()

    assert "← testing:foobar ● \n" in messages(caplog) + "\n"


# -- tries ------------------------------------------------------------------------------------------------------------


async def test_retry_runs_again_and_counts(make: Make, pool: ArqRedis, caplog: pytest.LogCaptureFixture) -> None:
    async def retry(ctx: Any) -> int:
        if ctx["job_try"] <= 2:
            raise Retry(defer=0.01)
        return int(ctx["job_try"])

    caplog.set_level(logging.INFO)
    job = await enqueue(pool, "retry", _job_id="testing")
    worker = make(func(retry, name="retry"))

    await worker.main()

    assert counts(worker) == (1, 0, 2)
    assert await job.result(poll_delay=0) == 3
    assert "↻ testing:retry retrying job in X.XXs" in messages(caplog)
    assert "→ testing:retry() try=2" in messages(caplog)


async def test_retries_end_at_max_tries(make: Make, pool: ArqRedis, caplog: pytest.LogCaptureFixture) -> None:
    async def retry(_ctx: Any) -> None:
        raise Retry

    job = await enqueue(pool, "retry", _job_id="testing")
    worker = make(func(retry, name="retry"))

    await worker.main()

    assert counts(worker) == (0, 1, 5)
    assert "! testing:retry max retries 5 exceeded" in messages(caplog)
    with pytest.raises(JobExecutionFailed, match="max 5 retries exceeded"):
        await job.result(poll_delay=0)


async def test_the_function_may_have_its_own_max_tries(make: Make, pool: ArqRedis) -> None:
    async def retry(_ctx: Any) -> None:
        raise Retry

    await enqueue(pool, "retry")
    worker = make(func(retry, name="retry", max_tries=2))

    await worker.main()

    assert counts(worker) == (0, 1, 2)


async def test_a_job_may_start_at_a_later_try(make: Make, pool: ArqRedis) -> None:
    async def tell(ctx: Any) -> int:
        return int(ctx["job_try"])

    job = await enqueue(pool, "tell", _job_try=4)
    await make(func(tell, name="tell")).main()

    assert await job.result(poll_delay=0) == 4


async def test_retry_jobs_off_turns_retry_into_a_failure(make: Make, pool: ArqRedis) -> None:
    async def retry(_ctx: Any) -> None:
        raise Retry(defer=0.01)

    await enqueue(pool, "retry")
    worker = make(func(retry, name="retry"))

    with pytest.raises(FailedJobs) as failed:
        await worker.run_check(retry_jobs=False)

    assert str(failed.value) == "1 job failed <Retry defer 0.01s>"


@pytest.mark.parametrize("error", [RetryJob, asyncio.CancelledError])
async def test_a_cancelled_job_is_run_again(
    make: Make, pool: ArqRedis, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    async def once(ctx: Any) -> None:
        if ctx["job_try"] == 1:
            raise error

    caplog.set_level(logging.INFO)
    await enqueue(pool, "once", _job_id="testing")
    worker = make(func(once, name="once"))

    await worker.main()

    assert counts(worker) == (1, 0, 1)
    assert "↻ testing:once cancelled, will be run again" in messages(caplog)


async def test_a_timeout_is_final(make: Make, pool: ArqRedis) -> None:
    async def hangs(_ctx: Any) -> None:
        await asyncio.Event().wait()

    job = await enqueue(pool, "hangs")
    worker = make(func(hangs, name="hangs"), job_timeout=0.05, poll_delay=0.01)

    await worker.main()

    assert counts(worker) == (0, 1, 0)
    with pytest.raises(TimeoutError):
        await job.result(poll_delay=0)


async def test_the_function_may_have_its_own_timeout(make: Make, pool: ArqRedis) -> None:
    async def hangs(_ctx: Any) -> None:
        await asyncio.Event().wait()

    await enqueue(pool, "hangs")
    worker = make(func(hangs, name="hangs", timeout=0.05), job_timeout=60, poll_delay=0.01)

    await worker.main()

    assert counts(worker) == (0, 1, 0)
    assert worker.in_progress_timeout_s >= 10


# -- bad jobs ---------------------------------------------------------------------------------------------------------


async def test_an_unknown_function_fails_its_job(make: Make, pool: ArqRedis, caplog: pytest.LogCaptureFixture) -> None:
    await enqueue(pool, "missing", _job_id="testing")
    worker = make(foobar)

    with pytest.raises(FailedJobs) as failed:
        await worker.run_check()

    assert failed.value.job_results[0].result == JobExecutionFailed("function 'missing' not found")
    assert "job testing, function 'missing' not found" in messages(caplog)


async def test_a_job_whose_payload_is_gone_has_expired(
    make: Make, pool: ArqRedis, caplog: pytest.LogCaptureFixture
) -> None:
    await enqueue(pool, "foobar", _job_id="testing")
    await pool.delete(job_key_prefix + "testing")
    worker = make(foobar)

    with pytest.raises(FailedJobs, match="job expired"):
        await worker.run_check()

    assert "job testing expired" in messages(caplog)


async def test_many_expired_jobs_do_not_keep_a_good_one_waiting(make: Make, pool: ArqRedis) -> None:
    await enqueue(pool, "foobar")
    await pool.zadd(default_queue_name, {f"testing-{number}": 1 for number in range(100)})
    worker = make(foobar)

    await worker.main()

    assert counts(worker) == (1, 100, 0)


async def test_an_unreadable_payload_fails_its_job(make: Make, pool: ArqRedis) -> None:
    await enqueue(pool, "foobar", _job_id="testing")
    await pool.set(job_key_prefix + "testing", b"\x80junk")
    worker = make(foobar)

    with pytest.raises(FailedJobs) as failed:
        await worker.run_check()

    assert isinstance(failed.value.job_results[0].result, DeserializationError)


async def test_serializers_of_the_workers_own(make: Make, pool: ArqRedis) -> None:
    pool.job_serializer, pool.job_deserializer = orjson.dumps, orjson.loads
    job = await enqueue(pool, "foobar")

    assert await make(foobar, job_serializer=orjson.dumps, job_deserializer=orjson.loads).run_check() == 1

    assert await job.result(poll_delay=0) == 42


# -- time and order ---------------------------------------------------------------------------------------------------


async def test_a_deferred_job_runs_when_it_is_due_and_not_before(make: Make, pool: ArqRedis) -> None:
    ran: list[datetime] = []

    async def note(_ctx: Any) -> None:
        ran.append(datetime.now(UTC))

    due = datetime.now(UTC) + timedelta(seconds=0.3)
    job = await enqueue(pool, "note", _defer_until=due)
    assert await job.status() is JobStatus.deferred
    await make(func(note, name="note"), poll_delay=0.01).main()

    assert len(ran) == 1
    assert due - timedelta(milliseconds=5) <= ran[0] < due + timedelta(seconds=5)


async def test_an_old_job_says_how_late_it_is(make: Make, pool: ArqRedis, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await enqueue(pool, "foobar", _job_id="testing", _defer_by=-2)

    await make(foobar).main()

    assert "→ testing:foobar() delayed=X.XXs" in messages(caplog)


async def test_the_same_id_is_one_job_as_long_as_its_result_is_kept(make: Make, pool: ArqRedis) -> None:
    job = await enqueue(pool, "foobar", _job_id="same")
    assert await pool.enqueue_job("foobar", _job_id="same") is None
    assert await job.status() is JobStatus.queued

    await make(foobar).run_check()

    assert await pool.enqueue_job("foobar", _job_id="same") is None


async def test_at_most_max_jobs_run_at_once(make: Make, pool: ArqRedis) -> None:
    now, most = 0, 0
    full = asyncio.Event()

    async def count(_ctx: Any) -> None:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        if now == 3:
            full.set()
        await full.wait()
        now -= 1

    for _ in range(9):
        await enqueue(pool, "count")
    worker = make(func(count, name="count"), max_jobs=3, poll_delay=0.01)

    await worker.main()

    assert (most, worker.jobs_complete) == (3, 9)


async def test_jobs_may_enqueue_jobs(make: Make, pool: ArqRedis) -> None:
    async def parent(ctx: Any) -> None:
        await ctx["redis"].enqueue_job("foobar")

    await enqueue(pool, "parent")
    worker = make(func(parent, name="parent"), foobar)

    await worker.main()

    assert worker.jobs_complete == 2


async def test_another_queue(make: Make, pool: ArqRedis) -> None:
    await enqueue(pool, "foobar", _queue_name="arq:queue2")
    await enqueue(pool, "foobar")
    worker = make(foobar, queue_name="arq:queue2")

    await worker.main()

    assert worker.jobs_complete == 1
    assert await pool.zcard(default_queue_name) == 1


# -- burst ------------------------------------------------------------------------------------------------------------


async def test_a_limited_burst_stops_at_its_number(make: Make, pool: ArqRedis) -> None:
    for number in range(5):
        await enqueue(pool, "add", number)

    assert await make(add).run_check(max_burst_jobs=2) == 2

    assert await pool.zcard(default_queue_name) == 3


async def test_a_burst_of_none_takes_none(make: Make, pool: ArqRedis) -> None:
    await enqueue(pool, "foobar")
    worker = make(foobar)

    assert await worker.run_check(max_burst_jobs=0) == 0

    assert await pool.zcard(default_queue_name) == 1


async def test_a_retry_counts_toward_the_burst(make: Make, pool: ArqRedis) -> None:
    async def retry(_ctx: Any) -> None:
        raise Retry(defer=0.01)

    await enqueue(pool, "retry")
    worker = make(func(retry, name="retry"))

    assert await worker.run_check(max_burst_jobs=1) == 0
    assert counts(worker) == (0, 0, 1)


async def test_run_check_tells_every_failure(make: Make, pool: ArqRedis) -> None:
    await enqueue(pool, "fails")
    await enqueue(pool, "fails")

    with pytest.raises(FailedJobs, match="2 jobs failed:\n") as failed:
        await make(fails).run_check()

    assert failed.value.count == len(failed.value.job_results) == 2


async def test_a_worker_that_does_not_burst_waits_for_jobs(make: Make, pool: ArqRedis) -> None:
    worker = make(foobar, burst=False, poll_delay=0.02)
    main = asyncio.create_task(worker.main())
    job = await enqueue(pool, "foobar")

    assert await job.result(timeout=10, poll_delay=0.01) == 42

    main.cancel()
    with pytest.raises(asyncio.CancelledError):
        await main


# -- abort ------------------------------------------------------------------------------------------------------------


async def test_a_running_job_is_aborted(make: Make, pool: ArqRedis, caplog: pytest.LogCaptureFixture) -> None:
    started = asyncio.Event()

    async def hangs(_ctx: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    caplog.set_level(logging.INFO)
    job = await enqueue(pool, "hangs", _job_id="testing")
    worker = make(func(hangs, name="hangs"), allow_abort_jobs=True, poll_delay=0.02)

    async def abort() -> bool:
        await started.wait()
        return await job.abort(timeout=10, poll_delay=0.01)

    aborted, _ = await asyncio.gather(abort(), worker.main())

    assert aborted
    assert counts(worker) == (0, 1, 0)
    assert "⊘ testing:hangs aborted" in messages(caplog)
    assert worker.aborting_tasks == set()
    assert worker.job_tasks == {}


@pytest.mark.parametrize("defer_s", [None, 3600])
async def test_a_job_is_aborted_before_it_starts(
    make: Make, pool: ArqRedis, caplog: pytest.LogCaptureFixture, defer_s: float | None
) -> None:
    caplog.set_level(logging.INFO)
    job = await enqueue(pool, "foobar", _job_id="testing", _defer_by=defer_s)
    with pytest.raises(asyncio.TimeoutError):
        await job.abort(timeout=0, poll_delay=0)
    worker = make(foobar, allow_abort_jobs=True, poll_delay=0.01)

    await worker.main()

    assert counts(worker) == (0, 1, 0)
    assert "⊘ testing:foobar aborted before start" in messages(caplog)


async def test_abort_is_not_heard_unless_allowed(make: Make, pool: ArqRedis) -> None:
    job = await enqueue(pool, "foobar")
    with pytest.raises(asyncio.TimeoutError):
        await job.abort(timeout=0, poll_delay=0)
    worker = make(foobar)

    await worker.main()

    assert worker.jobs_complete == 1


# -- hooks and context ------------------------------------------------------------------------------------------------


async def test_hooks_are_called_in_order_with_the_jobs_context(make: Make, pool: ArqRedis) -> None:
    calls: list[tuple[str, Any]] = []

    def hook(name: str) -> Any:
        async def note(ctx: Any) -> None:
            calls.append((name, ctx.get("job_id")))

        return note

    await enqueue(pool, "foobar", _job_id="testing")
    names = ("on_startup", "on_job_start", "on_job_end", "after_job_end", "on_shutdown")
    worker = make(foobar, **{name: hook(name) for name in names})

    await worker.main()
    await worker.close()

    assert calls == [
        ("on_startup", None),
        ("on_job_start", "testing"),
        ("on_job_end", "testing"),
        ("after_job_end", "testing"),
        ("on_shutdown", None),
    ]


async def test_the_context_holds_what_arq_puts_there(make: Make, pool: ArqRedis) -> None:
    seen: dict[str, Any] = {}

    async def look(ctx: Any) -> None:
        seen.update(ctx)

    await enqueue(pool, "look", _job_id="testing")
    await make(func(look, name="look"), ctx={"mine": 1}).main()

    assert {"redis", "job_id", "job_try", "enqueue_time", "score", "mine"} <= seen.keys()
    assert (seen["job_id"], seen["job_try"], seen["mine"]) == ("testing", 1, 1)


async def test_a_hook_that_raises_ends_the_worker(make: Make, pool: ArqRedis) -> None:
    async def raises(_ctx: Any) -> None:
        raise RuntimeError("hook")

    await enqueue(pool, "foobar")
    worker = make(foobar, on_job_start=raises)

    with pytest.raises(RuntimeError, match="hook"):
        await worker.main()
    worker.tasks.clear()


# -- cron -------------------------------------------------------------------------------------------------------------


async def test_a_cron_job_runs_at_startup_once_and_leaves_its_mark(make: Make, pool: ArqRedis) -> None:
    worker = make(cron_jobs=[cron(foobar, hour=1, run_at_startup=True)], poll_delay=0.01)

    await worker.main()

    assert worker.jobs_complete == 1
    (mark,) = await pool.keys("arq:in-progress:*")
    assert 50 < await pool.ttl(mark) <= 60


async def test_a_cron_job_is_enqueued_once_for_several_workers(make: Make, pool: ArqRedis) -> None:
    at = datetime.now(UTC)
    workers = [make(cron_jobs=[cron(foobar, unique=True)], timezone=UTC) for _ in range(3)]
    for worker in workers:
        worker.cron_jobs[0].next_run = at
        await worker.run_cron(at, 0.5)

    assert await pool.zcard(default_queue_name) == 1


async def test_a_failing_cron_job_is_logged_by_its_name(
    make: Make, pool: ArqRedis, caplog: pytest.LogCaptureFixture
) -> None:
    worker = make(cron_jobs=[cron(fails, name="nightly", hour=1, run_at_startup=True)], poll_delay=0.01)

    await worker.main()

    assert counts(worker) == (0, 1, 0)
    assert "! nightly failed, TypeError: my type error" in messages(caplog)


# -- health and signals -----------------------------------------------------------------------------------------------


async def test_the_health_key_says_what_stock_arqs_says(make: Make, pool: ArqRedis) -> None:
    await enqueue(pool, "foobar")
    worker = make(foobar, health_check_interval=0)

    await worker.main()
    await worker.main()

    text = (await pool.get(default_queue_name + health_check_key_suffix) or b"").decode()
    assert re.fullmatch(r"\w{3}-\d\d \d\d:\d\d:\d\d j_complete=1 j_failed=0 j_retried=0 j_ongoing=0 queued=0", text)


async def test_the_health_key_can_be_named(make: Make, pool: ArqRedis) -> None:
    worker = make(foobar, health_check_key="arq:test:health")

    await worker.main()
    assert await pool.exists("arq:test:health")
    await worker.close()

    assert not await pool.exists("arq:test:health")


async def test_a_signal_cancels_what_runs_and_it_is_run_again(
    make: Make, pool: ArqRedis, caplog: pytest.LogCaptureFixture
) -> None:
    started = asyncio.Event()

    async def hangs(_ctx: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    caplog.set_level(logging.INFO)
    await enqueue(pool, "hangs", _job_id="testing")
    worker = make(func(hangs, name="hangs"), burst=False, poll_delay=0.02)
    main = asyncio.create_task(worker.async_run())
    await started.wait()
    worker.handle_sig(signal.SIGINT)
    with pytest.raises(asyncio.CancelledError):
        await main
    await asyncio.gather(*worker.tasks.values())

    assert counts(worker) == (0, 0, 1)
    assert "shutdown on SIGINT ◆ 0 jobs complete ◆ 0 failed ◆ 0 retries ◆ 1 ongoing to cancel" in messages(caplog)
    assert await pool.zcard(default_queue_name) == 1
    assert not await pool.exists("arq:in-progress:testing")


async def test_job_completion_wait_lets_jobs_finish(make: Make, pool: ArqRedis) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def waits(_ctx: Any) -> None:
        started.set()
        await go_on.wait()

    await enqueue(pool, "waits")
    worker = make(func(waits, name="waits"), burst=False, poll_delay=0.02, job_completion_wait=10)
    main = asyncio.create_task(worker.async_run())
    await started.wait()
    worker.handle_sig_wait_for_completion(signal.SIGTERM)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await main

    assert counts(worker) == (1, 0, 0)
    assert worker.allow_pick_jobs is False


# -- how it is made ---------------------------------------------------------------------------------------------------


def test_a_worker_needs_a_function() -> None:
    for kind in (Worker, BatchWorker):
        with pytest.raises(RuntimeError, match="at least one function or cron_job must be registered"):
            kind([])


def test_batch_workers_take_every_argument_of_arqs() -> None:
    class Settings:
        functions = (foobar,)
        queue_read_limit = 7
        redis_settings = RedisSettings()

    ours = BatchWorker(**get_kwargs(Settings), handle_signals=False)
    stock = create_worker(Settings, handle_signals=False)

    assert vars(stock).keys() <= vars(ours).keys()
    assert ours.queue_read_limit == stock.queue_read_limit == 7
    assert repr(ours) == repr(stock)


async def test_it_connects_by_settings_and_closes_what_it_opened(
    kind: Callable[..., Worker], redis_url: str, pool: ArqRedis
) -> None:
    job = await enqueue(pool, "foobar")
    worker = kind(functions=[foobar], redis_settings=redis_settings(redis_url), burst=True, handle_signals=False)

    await worker.main()
    await worker.close()

    assert await job.result(poll_delay=0) == 42
    assert worker._pool is None


def test_pickle_stays_the_default_on_the_wire() -> None:
    assert BatchWorker([foobar], handle_signals=False).job_serializer is None
    assert pickle.DEFAULT_PROTOCOL >= 4
