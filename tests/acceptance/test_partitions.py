"""The network between workers and their services fails, or a service does: the processes stay up, go on by themselves,
and pay for nothing twice.

Workers reach Redis and MongoDB through a proxy of ours; the tests look at both directly.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.acceptance.harness import KEYS, LEASE_S, make_rows

ROWS = 200
# Small groups and a slow model: there is work left when the outage begins, and answers arrive in the midst of it.
SLOW = {"ARQ_MAX_JOBS": "2", "BATCH_MAX_ITEMS": "20"}
IN_WORK = 2 * 2 * 20


def start(deploy, *, redis_link=None, mongo_link=None, rows=ROWS, **options):
    """Two workers, in mid-import."""
    through = dict(SLOW)
    if redis_link:
        through["REDIS_URL"] = f"redis://127.0.0.1:{redis_link.port}"
    if mongo_link:
        impatient = "directConnection=true&socketTimeoutMS=8000&serverSelectionTimeoutMS=3000"
        through["MONGODB_URL"] = f"mongodb://127.0.0.1:{mongo_link.port}/?{impatient}"
    deployment = deploy(rows=rows, hard=0.4, latency_ms=300, settings=through, **options)
    workers = [deployment.start_worker() for _ in range(2)]
    deployment.wait(lambda: all(map(deployment.beats, workers)), "both workers beat")
    deployment.put(make_rows(rows, hard=0.4))
    deployment.wait(lambda: deployment.asked() > 0, "the model is asked")
    return deployment


def waited_for_redis(deployment):
    return all("queue.redis.waiting" in worker.output() for worker in deployment.workers)


def all_leases_ran_out(deployment):
    ends = [end for _, end in deployment.redis.zrange(KEYS.leases, 0, -1, withscores=True)]
    return all(end / 1000 < deployment.redis.time()[0] for end in ends)


def finish(deployment, *, rewritten=0, **allowed):
    deployment.wait_until_all_ended()
    assert all(worker.running for worker in deployment.workers), deployment.last_words()
    deployment.check(rewritten=rewritten, **allowed)
    assert deployment.appointments.distinct("normalizacao.tentativas") == [1], "an outage counted as a try"


def test_the_link_to_redis_is_half_open(deploy, redis_link):
    deployment = start(deploy, redis_link=redis_link)

    redis_link.swallow()
    deployment.wait(lambda: waited_for_redis(deployment), "the workers say what they wait for")
    deployment.wait(lambda: all_leases_ran_out(deployment), "the leases ran out")
    redis_link.heal()

    finish(deployment)
    assert deployment.said("queue.redis.back") >= 2


def test_redis_is_cut_off_for_longer_than_the_lease(deploy, redis_link):
    deployment = start(deploy, redis_link=redis_link)

    redis_link.cut()
    deployment.wait(lambda: waited_for_redis(deployment), "the workers say what they wait for")
    deployment.wait(lambda: all_leases_ran_out(deployment), "the leases ran out")
    redis_link.heal()

    finish(deployment)


def test_redis_answers_nobody_for_longer_than_the_lease(deploy):
    deployment = start(deploy)
    deployment.redis.execute_command("CLIENT", "PAUSE", (LEASE_S + 1) * 1000, "ALL")
    # Every lease has run out when the pause ends, but the living may renew before anyone takes over.
    finish(deployment)


def test_redis_becomes_a_read_only_replica(deploy):
    deployment = start(deploy)

    deployment.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    deployment.wait(lambda: waited_for_redis(deployment), "the workers say what they wait for")
    deployment.redis.execute_command("REPLICAOF", "NO", "ONE")

    finish(deployment)


def test_redis_comes_back_empty(deploy, breakable_valkey):
    """Restarted without persistence: what ran is finished, reconcile brings back the rest, no answer is paid twice."""
    deployment = start(deploy)

    deployment.redis.execute_command("CONFIG", "SET", "appendonly", "no")
    breakable_valkey.kill()
    for log in breakable_valkey.directory.glob("appendonlydir/*"):
        log.unlink()
    breakable_valkey.start()
    deployment.wait(lambda: quiet(deployment), "what was under way is over")
    assert deployment.statuses()["pendente"] > 0, "nothing was left for reconcile"
    deployment.age_pending()
    deployment.start_ready_worker()  # reconciles as it starts

    finish(deployment, results_kept=False)


def quiet(deployment):
    """Nothing is in work, and every worker has said so since Redis came back."""
    return all(map(deployment.beats, deployment.workers)) and not any(map(deployment.groups, deployment.workers))


def test_one_worker_loses_redis_and_another_takes_over(deploy, redis_link):
    deployment = deploy(rows=ROWS, hard=0.4, latency_ms=300, settings=SLOW)
    cut_off = deployment.start_ready_worker(REDIS_URL=f"redis://127.0.0.1:{redis_link.port}", **deployment.sabotage())
    deployment.put(make_rows(ROWS, hard=0.4))
    deployment.wait(lambda: deployment.asked() > 0, "the model is asked")
    redis_link.swallow()
    deployment.start_ready_worker(**deployment.sabotage())
    deployment.wait_until_all_ended()
    redis_link.heal()
    asleep = deployment.beats(cut_off)
    deployment.wait(lambda: deployment.beats(cut_off) > asleep, "the worker that was cut off beats again")

    assert all(worker.running for worker in deployment.workers)
    # Its answers could reach nobody: what it had asked, and only that, may be asked by the other one.
    journal = deployment.journal()
    asked_again = Counter(item for event in journal if event.what == "asked" for item in event.items)
    by_the_lost = {
        item for event in journal if event.what == "asked" and event.pid == cut_off.pid for item in event.items
    }
    assert {text for text, times in asked_again.items() if times > 1} <= by_the_lost
    deployment.check(repeated_calls=len(by_the_lost), rewritten=IN_WORK)


def test_the_link_to_mongodb_is_half_open(deploy, mongo_link):
    deployment = start(deploy, mongo_link=mongo_link)

    mongo_link.swallow()
    deployment.wait(lambda: deployment.said("store.unavailable"), "the workers say that the store is away")
    mongo_link.heal()

    finish(deployment, rewritten=IN_WORK)  # a write whose answer was swallowed is written again


def test_mongodb_is_slow(deploy, mongo_link):
    deployment = start(deploy, mongo_link=mongo_link, rows=100)
    mongo_link.delay(0.2)
    finish(deployment)


@pytest.fixture
def failing_updates(breakable_mongo):
    """Make MongoDB fail some `update` commands of the workers, as one that has no time for them does."""
    import pymongo

    client = pymongo.MongoClient(breakable_mongo.start().url)

    def fail(times):
        data = {"failCommands": ["update"], "errorCode": 50, "appName": "normalizer"}
        client.admin.command("configureFailPoint", "failCommand", mode={"times": times}, data=data)

    yield fail
    client.admin.command("configureFailPoint", "failCommand", mode="off")
    client.close()


def test_mongodb_refuses_writes_for_a_while(deploy, failing_updates):
    deployment = start(deploy)
    failing_updates(times=6)
    finish(deployment)


def test_mongodb_takes_only_part_of_a_bulk(deploy):
    """A rule of the collection refuses one row of a group: its neighbours are written, in the same bulk."""
    deployment = deploy(rows=60, latency_ms=100)
    deployment.put(make_rows(60))
    refused = "row-30"
    rule = {"$or": [{"id_agendamento": {"$ne": refused}}, {"normalizacao.status": {"$in": ["pendente", "falhou"]}}]}
    deployment.client[deployment.database].command("collMod", "appointments", validator=rule)
    deployment.start_ready_worker()
    deployment.wait_until_all_ended()

    failed = list(deployment.appointments.find({"normalizacao.status": "falhou"}))
    assert [record["id_agendamento"] for record in failed] == [refused]
    assert "121" in failed[0]["normalizacao"]["erro"]
    deployment.check(falhou=1)


def test_a_start_without_mongodb_ends_in_one_sentence_even_if_redis_goes_away_too(deploy, redis_link, mongo_link):
    deployment = deploy(rows=1)
    mongo_link.swallow()
    worker = deployment.start_worker(
        REDIS_URL=f"redis://127.0.0.1:{redis_link.port}",
        MONGODB_URL=f"mongodb://127.0.0.1:{mongo_link.port}/?serverSelectionTimeoutMS=2000&connectTimeoutMS=2000",
    )
    deployment.wait(lambda: "redis_version=" in worker.output(), "the worker found Redis")
    redis_link.swallow()

    assert worker.wait(30) == 3, worker.tail(40)
    assert worker.tail(1).startswith("Erro: O MongoDB não responde"), worker.tail(40)
    assert "Traceback" not in worker.output()
