"""Replicas are killed, stopped and started again, and the services under them too: no row is lost, none ends twice."""

import random
import signal

import pytest

from tests.acceptance.harness import LEASE_S, make_rows

ROWS = 300
GROUPS_IN_WORK = 3 * 50  # ARQ_MAX_JOBS x BATCH_MAX_ITEMS: what one replica can have in work


MOMENTS = {
    "after the claim": lambda d: d.claimed() > 0,
    "while the model works": lambda d: d.asked() > 0,
    "after the first saves": lambda d: d.ended() > 0,
    "half way": lambda d: d.ended() >= ROWS // 2,
}


QUICK = "half way"


@pytest.mark.parametrize("moment", [pytest.param(name, marks=[pytest.mark.slow] * (name != QUICK)) for name in MOMENTS])
def test_one_of_two_workers_is_killed(deploy, moment):
    deployment = deploy(rows=ROWS, latency_ms=300)
    victim, survivor = deployment.start_ready_worker(), deployment.start_ready_worker()
    deployment.put(make_rows(ROWS))

    deployment.wait(lambda: MOMENTS[moment](deployment), moment)
    victim.kill()
    deployment.wait_until_all_ended()

    assert survivor.running
    assert deployment.asked() > 0
    deployment.check(repeated_calls=GROUPS_IN_WORK, rewritten=GROUPS_IN_WORK)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_random_moments_twenty_times(deploy, seed):
    deployment = deploy(rows=ROWS, latency_ms=300)
    deployment.put(make_rows(ROWS))
    victim, _ = deployment.start_worker(), deployment.start_ready_worker()
    moment = random.Random(seed).randrange(ROWS)

    deployment.wait(lambda: deployment.ended() >= moment, f"{moment} rows ended")
    victim.kill()
    deployment.wait_until_all_ended()

    deployment.check(repeated_calls=GROUPS_IN_WORK, rewritten=GROUPS_IN_WORK)


def test_a_killed_workers_jobs_are_taken_over_within_the_lease(deploy):
    deployment = deploy(rows=60, hard=1.0, latency_ms=60_000)
    victim = deployment.start_ready_worker()
    deployment.put(make_rows(60, hard=1.0))
    deployment.wait(lambda: deployment.asked() > 0, "the model is asked")
    before = deployment.asked()
    survivor = deployment.start_ready_worker()

    victim.kill()
    deployment.wait(lambda: deployment.asked() > before, "the survivor asks", timeout_s=LEASE_S + 5)

    assert survivor.running


def test_ten_sigterm_restarts_in_mid_import_fail_nothing_and_pay_nothing_twice(deploy):
    small = {"ARQ_MAX_JOBS": "1", "BATCH_MAX_ITEMS": "15"}
    deployment = deploy(rows=ROWS, hard=0.5, latency_ms=400, settings=small)
    deployment.put(make_rows(ROWS, hard=0.5))
    for restart in range(1, 11):
        worker = deployment.start_ready_worker()
        before = deployment.ended()
        deployment.wait(lambda before=before: deployment.ended() > before, f"progress before restart {restart}")
        worker.signal(signal.SIGTERM)
        assert worker.wait(40) == 0, worker.tail()
        assert deployment.ended() < ROWS, "the import was over: this was no restart in the middle"
    deployment.start_ready_worker()
    deployment.wait_until_all_ended()

    deployment.check(repeated_calls=0, rewritten=0)
    assert deployment.appointments.distinct("normalizacao.tentativas") == [1], "a stop counted as a try"


@pytest.mark.parametrize("kill", [pytest.param(False, marks=pytest.mark.slow), True], ids=["SIGTERM", "SIGKILL"])
def test_redis_is_restarted_underneath(deploy, breakable_valkey, kill):
    deployment = deploy(rows=ROWS, latency_ms=300)
    workers = [deployment.start_ready_worker() for _ in range(2)]
    deployment.put(make_rows(ROWS))
    deployment.wait(lambda: deployment.ended() > 0, "the first rows ended")

    breakable_valkey.restart(kill=kill)
    deployment.wait_until_all_ended()

    assert all(worker.running for worker in workers)
    deployment.check(repeated_calls=GROUPS_IN_WORK, rewritten=2 * GROUPS_IN_WORK)


def test_redis_forgets_everything_and_reconcile_brings_it_back(deploy):
    deployment = deploy(rows=ROWS, latency_ms=300)
    workers = [deployment.start_ready_worker() for _ in range(2)]
    deployment.put(make_rows(ROWS))
    deployment.wait(lambda: deployment.ended() > 0, "the first rows ended")

    deployment.redis.flushall()
    deployment.age_pending()
    deployment.start_ready_worker()  # reconciles as it starts
    deployment.wait_until_all_ended()

    assert all(worker.running for worker in workers)
    deployment.check(repeated_calls=2 * GROUPS_IN_WORK, rewritten=2 * GROUPS_IN_WORK, results_kept=False)


@pytest.mark.parametrize("kill", [pytest.param(False, marks=pytest.mark.slow), True], ids=["SIGTERM", "SIGKILL"])
def test_mongodb_is_restarted_underneath(deploy, breakable_mongo, kill):
    deployment = deploy(rows=ROWS, latency_ms=300)
    workers = [deployment.start_ready_worker() for _ in range(2)]
    deployment.put(make_rows(ROWS))
    deployment.wait(lambda: deployment.ended() > 0, "the first rows ended")

    breakable_mongo.restart(kill=kill)
    deployment.wait_until_all_ended()

    assert all(worker.running for worker in workers)
    # Answers are in the cache before anyone is told: an outage of the store costs no second call.
    deployment.check(repeated_calls=0, rewritten=2 * GROUPS_IN_WORK)


def test_a_frozen_worker_that_wakes_up_changes_nothing(deploy):
    deployment = deploy(rows=ROWS, latency_ms=300)
    sleeper = deployment.start_ready_worker()
    deployment.put(make_rows(ROWS))
    deployment.wait(lambda: deployment.asked() > 0, "the model is asked")
    sleeper.freeze()
    deployment.start_ready_worker()
    deployment.wait_until_all_ended()
    before = list(deployment.appointments.find().sort("_id", 1))

    sleeper.thaw()
    asleep = deployment.beats(sleeper)
    deployment.wait(lambda: deployment.beats(sleeper) > asleep, "the sleeper beats again")

    assert list(deployment.appointments.find().sort("_id", 1)) == before
    deployment.check(repeated_calls=GROUPS_IN_WORK, rewritten=GROUPS_IN_WORK)
