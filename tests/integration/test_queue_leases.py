"""The claim scripts on a real Redis: who gets which job, for how long, and what a late settle may change."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from normalizer.queue.leases import HEAD_START_MS, Claim, ClaimTerms, GroupKind, JobEnd, Keys, Leases, SettleAction
from normalizer.queue.replicas import REPLICAS, dismiss, read_gone

QUEUE = "arq:queue:default"
LEASE_MS, HOLD_MS = 15_000, 310_000
KEEP_MS = 60_000
DONE = JobEnd(SettleAction.FINISH, result=b"{}", result_ms=60_000)


class Bench:
    """One queue, claimed from by named workers."""

    def __init__(self, redis: Redis) -> None:
        self.redis, self.keys = redis, Keys.of(QUEUE)
        self.leases = Leases(redis, self.keys)
        self._terms: dict[str, ClaimTerms] = {}
        self.now = int(time.time() * 1000)  # what is due is judged by Redis's clock, which is this machine's

    def terms(self, worker: str, **changed: Any) -> ClaimTerms:
        values: dict[str, Any] = {
            "functions": ["batch"],
            "max_items": 250,
            "lease_ms": LEASE_MS,
            "hold_ms": HOLD_MS,
            "stock_ms": 310_000,
            "heed_aborts": True,
        }
        if worker not in self._terms or changed:
            self._terms[worker] = ClaimTerms(worker_id=worker, **{**values, **changed})
        return self._terms[worker]

    async def put(self, *ids: str, score: float | None = None, function: str = "batch") -> None:
        for job_id in ids:
            payload = orjson.dumps({"t": None, "f": function, "a": [job_id], "k": {}, "et": self.now})
            await self.redis.set(f"arq:job:{job_id}", payload, px=86_400_000)
            await self.redis.zadd(QUEUE, {job_id: self.now if score is None else score})

    async def claim(self, worker: str = "w1", *, slots: int = 10, alone: bool = True, **changed: Any) -> Claim:
        terms = self.terms(worker, **changed)
        return await self.leases.claim(terms, token=terms.token(), slots=slots, alone=alone)

    async def die(self, claim: Claim) -> None:
        """The claim's worker is gone: its lease runs out at once instead of in fifteen seconds."""
        await self.redis.zadd(self.keys.leases, {claim.token: 1}, xx=True)

    async def outlive_hold(self, claim: Claim) -> None:
        """Nothing was renewed for longer than even stock workers keep off."""
        await self.die(claim)
        await self.redis.delete(*(f"arq:in-progress:{job_id}" for job_id in ids(claim)))
        await self.redis.zadd(self.keys.holds, {claim.token: 1}, xx=True)
        await self.redis.zadd(QUEUE, dict.fromkeys(ids(claim), 1), xx=True)

    async def settle(self, claim: Claim, ends: dict[str, JobEnd]) -> set[str]:
        return await self.leases.settle(claim.token, ends, keep_ms=KEEP_MS)

    async def renew(self, claim: Claim) -> set[str]:
        return await self.leases.renew([claim.token], lease_ms=LEASE_MS, hold_ms=HOLD_MS)

    async def come_due(self) -> None:
        """What waits for its time is due now."""
        for job_id, score in await self.redis.zrangebyscore(QUEUE, self.now, "+inf", withscores=True):
            if not await self.redis.exists(b"arq:in-progress:" + job_id):
                await self.redis.zadd(QUEUE, {job_id: min(score, self.now)})

    async def tries(self, job_id: str) -> int:
        return int(await self.redis.get(f"arq:retry:{job_id}") or 0)


@pytest.fixture
def bench(redis: Redis) -> Bench:
    return Bench(redis)


def ids(claim: Claim) -> list[str]:
    return [job.job_id.decode() for job in claim.group]


def numbered(count: int, prefix: str = "j") -> list[str]:
    return [f"{prefix}{n:04}" for n in range(count)]


async def test_of_a_worker_that_died_it_is_told_what_became_of_its_jobs(bench: Bench) -> None:
    await bench.put(*numbered(3))
    dead = await bench.claim("host:1:aa")
    await bench.redis.zadd(REPLICAS, {"host:1:aa": 1_000})
    await bench.die(dead)
    await bench.leases.sweep()

    async def told() -> tuple[int, int | None, int | None]:
        (one,) = await read_gone(bench.redis, [bench.keys.suspects])
        return one.put_back, one.waiting, one.ended

    assert await told() == (3, 3, 0)
    await bench.come_due()
    other = await bench.claim("w2")
    assert await bench.settle(other, dict.fromkeys(ids(other), DONE)) == set()
    assert await told() == (3, 3 - len(ids(other)), len(ids(other)))
    await dismiss(bench.redis, "host:1:aa")
    assert await read_gone(bench.redis, [bench.keys.suspects]) == []


# -- claiming ---------------------------------------------------------------------------------------------------------


async def test_a_claim_takes_the_oldest_due_jobs_up_to_its_size(bench: Bench) -> None:
    for number, job_id in enumerate(numbered(5)):
        await bench.put(job_id, score=bench.now - 10 + number)
    await bench.put("later", score=bench.now + 60_000)

    claim = await bench.claim(max_items=3)

    assert ids(claim) == ["j0000", "j0001", "j0002"]
    assert claim.kind is GroupKind.NORMAL
    assert [job.tries for job in claim.group] == [1, 1, 1]


async def test_a_claimed_group_has_one_short_lease_and_its_jobs_are_held_from_stock_workers(bench: Bench) -> None:
    await bench.put("a")

    claim = await bench.claim()

    assert await bench.redis.get("arq:in-progress:a") == claim.token.encode()
    assert LEASE_MS < await bench.redis.pttl("arq:in-progress:a") <= HOLD_MS
    assert await bench.redis.zscore(QUEUE, "a") == await bench.redis.zscore(bench.keys.holds, claim.token)
    lease = await bench.redis.zscore(bench.keys.leases, claim.token)
    assert lease == pytest.approx(claim.now_ms + LEASE_MS)


async def test_two_workers_never_get_the_same_job(bench: Bench) -> None:
    await bench.put(*numbered(1000))

    claims = await asyncio.gather(*(bench.claim(f"w{n}", max_items=100) for n in range(10)))

    taken = [job_id for claim in claims for job_id in ids(claim)]
    assert sorted(taken) == numbered(1000)


async def test_what_stock_workers_hold_is_walked_past_without_limit(bench: Bench) -> None:
    await bench.put(*numbered(700, "held"), score=bench.now - 1000)
    async with bench.redis.pipeline() as pipe:
        for job_id in numbered(700, "held"):
            pipe.set(f"arq:in-progress:{job_id}", b"1", px=310_000)
        await pipe.execute()
    await bench.put("free")

    assert ids(await bench.claim(max_items=10)) == ["free"]


async def test_no_job_starves_with_14_replicas_of_10_slots(bench: Bench) -> None:
    await bench.put(*numbered(140))

    claims = [await bench.claim(f"w{replica}", max_items=1) for replica in range(14) for _ in range(10)]

    assert sorted(job_id for claim in claims for job_id in ids(claim)) == numbered(140)


async def test_the_fence_grows_with_every_claim_and_over_a_flushed_redis(bench: Bench) -> None:
    await bench.put("a", "b")
    first = (await bench.claim(max_items=1)).fence
    second = (await bench.claim(max_items=1)).fence
    await bench.redis.flushdb()
    await bench.put("a")
    third = (await bench.claim()).fence

    assert first < second < third


async def test_a_paused_queue_gives_nothing(bench: Bench) -> None:
    await bench.put("a")
    await bench.redis.set(bench.keys.paused, b"paused")

    assert (await bench.claim()).status == "paused"


async def test_an_empty_queue_says_when_the_next_job_is_due(bench: Bench) -> None:
    due_ms = int(time.time() * 1000) + 60_000
    await bench.put("a", score=due_ms)

    claim = await bench.claim()

    assert (claim.status, claim.now_ms + claim.wait_ms) == ("empty", due_ms)


# -- jobs of other functions ------------------------------------------------------------------------------------------


async def test_jobs_of_other_functions_are_marked_as_stock_arq_marks_them(bench: Bench) -> None:
    await bench.put("cron", function="cron:other")
    await bench.put("a")

    claim = await bench.claim()

    assert claim.stock == [(b"cron", bench.now)]
    assert ids(claim) == ["a"]
    assert await bench.redis.get("arq:in-progress:cron") == b"1"
    assert await bench.tries("cron") == 0  # arq's run_job counts it


@pytest.mark.parametrize(("slots", "expected"), [(1, (1, 0)), (2, (2, 0)), (4, (3, 1))])
async def test_stock_jobs_and_the_group_share_the_free_slots(
    bench: Bench, slots: int, expected: tuple[int, int]
) -> None:
    await bench.put("s1", "s2", "s3", score=bench.now - 1, function="other")
    await bench.put("a", "b")

    claim = await bench.claim(slots=slots)

    assert (len(claim.stock), 1 if claim.group else 0) == expected


async def test_jobs_of_other_functions_that_find_no_slot_are_set_aside_and_taken_later(bench: Bench) -> None:
    await bench.put(*numbered(3, "s"), score=bench.now - 1_000, function="other")
    await bench.put("a")

    first = await bench.claim(slots=1)
    aside = await bench.redis.zrange(bench.keys.foreign, 0, -1)
    group = await bench.claim(slots=1)
    last = await bench.claim(slots=9)

    assert (first.stock, ids(first), aside) == ([(b"s0000", bench.now - 1_000)], [], [b"s0001", b"s0002"])
    assert (group.stock, ids(group)) == ([], ["a"])
    assert last.stock == [(b"s0001", bench.now - 1_000), (b"s0002", bench.now - 1_000)]
    assert not await bench.redis.exists(bench.keys.foreign)


async def test_a_job_set_aside_gets_its_turn_beside_groups(bench: Bench) -> None:
    await bench.put("s1", "s2", score=bench.now - 1_000, function="other")
    await bench.put(*numbered(4))
    await bench.claim(slots=1, max_items=1)
    terms = bench.terms("w1")

    its_turn = await bench.leases.claim(terms, token=terms.token(), slots=1, alone=False, foreign_first=True)

    assert (its_turn.stock, ids(its_turn)) == ([(b"s2", bench.now - 1_000)], [])


async def test_a_job_without_payload_goes_to_stock_arq_which_calls_it_expired(bench: Bench) -> None:
    await bench.redis.zadd(QUEUE, {"gone": bench.now})

    assert [job_id for job_id, _ in (await bench.claim()).stock] == [b"gone"]


@pytest.mark.parametrize(("heed_aborts", "tries"), [(True, [0, 1]), (False, [1, 1])])
async def test_a_job_aborted_before_it_started_comes_as_its_try_0(
    bench: Bench, heed_aborts: bool, tries: list[int]
) -> None:
    await bench.put("a", "b")
    await bench.redis.zadd("arq:abort", {"a": bench.now})

    claim = await bench.claim(heed_aborts=heed_aborts)

    assert ([taken.tries for taken in claim.group], ids(claim)) == (tries, ["a", "b"])


# -- the interactive lane ---------------------------------------------------------------------------------------------


async def test_a_single_job_overtakes_an_import(bench: Bench) -> None:
    await bench.put(*numbered(1000), score=bench.now - 5_000)
    await bench.put("single", score=bench.now - HEAD_START_MS)

    assert ids(await bench.claim(max_items=100))[0] == "single"


async def test_a_flood_of_single_jobs_leaves_the_import_a_quarter_of_each_group(bench: Bench) -> None:
    await bench.put(*numbered(300, "import"), score=bench.now - 5_000)
    await bench.put(*numbered(300, "single"), score=bench.now - HEAD_START_MS)

    taken = ids(await bench.claim(max_items=100))

    assert len([job_id for job_id in taken if job_id.startswith("import")]) == 25
    assert len(taken) == 100


async def test_an_import_older_than_the_head_start_is_overtaken_no_more(bench: Bench) -> None:
    await bench.put("import", score=bench.now - HEAD_START_MS - 1_000)
    await bench.put("single", score=bench.now - HEAD_START_MS)

    assert ids(await bench.claim(max_items=1)) == ["import"]


# -- settling ---------------------------------------------------------------------------------------------------------


async def test_a_done_job_leaves_its_result_and_nothing_else(bench: Bench) -> None:
    await bench.put("a")
    claim = await bench.claim()

    assert await bench.settle(claim, {"a": DONE}) == set()

    assert sorted(await bench.redis.keys("*")) == [b"arq:queue:default:fence", b"arq:result:a"]
    assert 0 < await bench.redis.pttl("arq:result:a") <= 60_000


async def test_a_result_may_be_kept_for_ever_or_not_at_all(bench: Bench) -> None:
    await bench.put("a", "b")
    claim = await bench.claim()

    await bench.settle(claim, {"a": JobEnd(SettleAction.FINISH, result=b"{}"), "b": JobEnd(SettleAction.FINISH)})

    assert await bench.redis.pttl("arq:result:a") == -1
    assert not await bench.redis.exists("arq:result:b")


async def test_retry_later_counts_and_hand_back_does_not(bench: Bench) -> None:
    await bench.put("retry", "back")
    claim = await bench.claim()

    await bench.settle(
        claim,
        {"retry": JobEnd(SettleAction.RETRY, after_ms=5_000), "back": JobEnd(SettleAction.SNOOZE, score=bench.now)},
    )

    assert (await bench.tries("retry"), await bench.tries("back")) == (1, 0)
    assert await bench.redis.ttl("arq:retry:retry") > 80_000
    assert await bench.redis.zscore(QUEUE, "retry") >= bench.now + 5_000
    assert await bench.redis.zscore(QUEUE, "back") == bench.now  # its old place
    assert await bench.redis.keys("arq:in-progress:*") == []
    assert not await bench.redis.exists(bench.keys.claims, bench.keys.sizes, bench.keys.leases, bench.keys.holds)


async def test_a_waiting_job_outlives_its_wait(bench: Bench) -> None:
    await bench.put("a")
    await bench.redis.pexpire("arq:job:a", 1_000)
    claim = await bench.claim()

    await bench.settle(claim, {"a": JobEnd(SettleAction.RETRY, after_ms=120_000)})

    assert await bench.redis.pttl("arq:job:a") > 120_000


async def test_a_frozen_worker_that_wakes_up_changes_nothing(bench: Bench) -> None:
    await bench.put("a")
    frozen = await bench.claim("frozen")
    await bench.die(frozen)
    await bench.leases.sweep()
    other = await bench.claim("other")
    before = await _dump(bench.redis)

    assert ids(other) == ["a"]
    assert await bench.settle(frozen, {"a": DONE}) == {"a"}
    after = await _dump(bench.redis)
    assert before.pop(bench.keys.suspects.encode())  # but one: it lives, so the crash booked on the job was none
    assert after == before
    assert await bench.settle(other, {"a": DONE}) == set()


async def test_a_lease_taken_by_anyone_else_is_lost(bench: Bench) -> None:
    await bench.put("a")
    claim = await bench.claim()
    await bench.redis.set("arq:in-progress:a", b"1")  # a stock worker, after the lease ran out

    assert await bench.settle(claim, {"a": DONE}) == {"a"}
    assert await bench.redis.get("arq:in-progress:a") == b"1"


async def test_a_lease_that_ran_out_but_was_not_taken_is_still_ones_own(bench: Bench) -> None:
    await bench.put("a")
    claim = await bench.claim()
    await bench.outlive_hold(claim)

    assert ids(await bench.claim("other")) == []  # looks free, and is its owner's or the sweeper's
    assert await bench.renew(claim) == set()
    assert await bench.redis.get("arq:in-progress:a") == claim.token.encode()
    assert await bench.leases.sweep() == {}
    assert await bench.settle(claim, {"a": DONE}) == set()


async def test_renewing_touches_no_job_before_half_of_its_hold_is_over(bench: Bench) -> None:
    await bench.put(*numbered(100))
    claim = await bench.claim()
    await bench.redis.config_resetstat()

    assert await bench.renew(claim) == set()

    calls = await bench.redis.info("commandstats")
    assert sum(calls[name]["calls"] for name in calls if name not in {"cmdstat_config|resetstat", "cmdstat_info"}) < 10


async def test_jobs_are_held_on_while_their_group_works_on(bench: Bench) -> None:
    await bench.put("a", "b")
    claim = await bench.claim()
    await bench.settle(claim, {"b": DONE})
    await bench.leases.renew([claim.token], lease_ms=LEASE_MS, hold_ms=3 * HOLD_MS)  # a third of this hold is left

    held_until = await bench.redis.zscore(bench.keys.holds, claim.token)
    assert held_until > claim.now_ms + 2 * HOLD_MS
    assert await bench.redis.zrange(QUEUE, 0, -1, withscores=True) == [(b"a", held_until)]
    assert await bench.redis.pttl("arq:in-progress:a") > 2 * HOLD_MS
    assert not await bench.redis.exists("arq:in-progress:b")


async def test_settling_twice_reports_the_second_as_lost(bench: Bench) -> None:
    await bench.put("a")
    claim = await bench.claim()

    assert await bench.settle(claim, {"a": DONE}) == set()
    assert await bench.settle(claim, {"a": DONE}) == {"a"}


async def test_large_groups_settle_and_renew_in_calls_redis_can_take(bench: Bench) -> None:
    await bench.put(*numbered(1000))
    claim = await bench.claim(max_items=1000)

    assert await bench.renew(claim) == set()
    assert await bench.settle(claim, dict.fromkeys(ids(claim), DONE)) == set()
    assert await bench.redis.zcard(QUEUE) == 0


async def test_a_job_enqueued_while_it_ran_runs_once_more(bench: Bench) -> None:
    await bench.put("a")
    claim = await bench.claim()
    await bench.redis.hset(bench.keys.rerun, "a", orjson.dumps({"f": "batch", "a": ["a"], "k": {}, "t": None, "et": 1}))

    await bench.settle(claim, {"a": DONE})
    second = await bench.claim()

    assert ids(second) == ["a"]
    assert second.group[0].tries == 1
    assert not await bench.redis.exists("arq:result:a", bench.keys.rerun)


# -- crashes ----------------------------------------------------------------------------------------------------------


async def test_jobs_of_a_dead_worker_return_to_their_place_with_the_try_taken_back(bench: Bench) -> None:
    await bench.put("a", "b", score=bench.now - 7)
    dead = await bench.claim("dead")
    await bench.settle(dead, {"b": DONE})
    await bench.die(dead)

    assert await bench.leases.sweep() == {dead.token: 1}
    again = await bench.claim("other")

    assert [(job.job_id, job.score, job.tries) for job in again.group] == [(b"a", bench.now - 7, 1)]
    assert again.kind is GroupKind.SUSPECT


async def test_a_living_workers_jobs_are_not_swept(bench: Bench) -> None:
    await bench.put("a")
    await bench.claim()

    assert await bench.leases.sweep() == {}


async def test_suspects_run_in_ever_smaller_groups_alone_and_end_condemned(bench: Bench) -> None:
    await bench.put(*numbered(16))
    sizes, kinds = [], []
    while True:
        claim = await bench.claim("w1")
        sizes.append(len(claim.group))
        kinds.append(claim.kind)
        if claim.kind is GroupKind.DEAD:
            break
        await bench.die(claim)  # "j0000" kills the process every time
        await bench.leases.sweep()

    assert sizes == [16, 8, 4, 2, 1, 1]
    assert kinds == [GroupKind.NORMAL, GroupKind.SUSPECT, *[GroupKind.EXCLUSIVE] * 3, GroupKind.DEAD]
    assert ids(claim) == ["j0000"]


async def test_three_kills_condemn_nobody(bench: Bench) -> None:
    await bench.put("a")
    for _ in range(3):
        claim = await bench.claim()
        await bench.die(claim)
        await bench.leases.sweep()

    assert (await bench.claim()).kind is GroupKind.EXCLUSIVE


async def test_a_suspect_whose_try_was_settled_is_a_suspect_no_more(bench: Bench) -> None:
    await bench.put("a", "b")
    await bench.die(await bench.claim())
    await bench.leases.sweep()
    for _ in range(2):
        suspect = await bench.claim()
        await bench.settle(suspect, {job_id: JobEnd(SettleAction.RETRY, after_ms=1) for job_id in ids(suspect)})
    await bench.come_due()

    claim = await bench.claim()

    assert (claim.kind, len(claim.group)) == (GroupKind.NORMAL, 2)


async def test_a_suspect_handed_back_untried_stays_one(bench: Bench) -> None:
    await bench.put("a", "b")
    await bench.die(await bench.claim())
    await bench.leases.sweep()
    suspect = await bench.claim()
    await bench.settle(suspect, dict.fromkeys(ids(suspect), JobEnd(SettleAction.SNOOZE, score=bench.now)))

    claim = await bench.claim()

    assert (claim.kind, len(claim.group)) == (GroupKind.SUSPECT, 1)


async def test_normal_jobs_and_suspects_never_share_a_group(bench: Bench) -> None:
    await bench.put("s1", "s2", score=bench.now - 100)
    await bench.die(await bench.claim())
    await bench.leases.sweep()
    await bench.put(*numbered(5))

    claims = [await bench.claim(alone=False) for _ in range(3)]

    assert [(claim.kind, len(claim.group)) for claim in claims] == [
        (GroupKind.SUSPECT, 1),
        (GroupKind.SUSPECT, 1),
        (GroupKind.NORMAL, 5),
    ]


async def _twice_crashed(bench: Bench, *job_ids: str) -> None:
    await bench.put(*job_ids, score=bench.now - 1_000)
    for _ in range(2):
        for _ in job_ids:
            claim = await bench.claim("dead")
            await bench.die(claim)
        await bench.leases.sweep()


async def test_twice_crashed_jobs_wait_for_a_worker_that_runs_nothing_else(bench: Bench) -> None:
    await _twice_crashed(bench, "s")
    await bench.put("normal")

    busy = await bench.claim("busy", alone=False)
    other = await bench.claim("other", alone=False)
    alone = await bench.claim("busy", alone=True)

    assert (busy.status, busy.group) == ("isolate", [])
    assert ids(other) == ["normal"]  # one worker isolates, the others go on
    assert (alone.kind, ids(alone)) == (GroupKind.EXCLUSIVE, ["s"])


async def test_an_idle_worker_goes_before_one_that_still_has_to_get_idle(bench: Bench) -> None:
    await _twice_crashed(bench, "s")

    busy = await bench.claim("busy", alone=False)
    idle = await bench.claim("idle", alone=True)

    assert (busy.status, ids(idle)) == ("isolate", ["s"])
    assert not await bench.leases.still_isolating(bench.terms("busy"))


async def test_the_lock_of_a_dead_isolating_worker_is_lifted_with_its_leases(bench: Bench) -> None:
    await _twice_crashed(bench, "s")
    await bench.die(await bench.claim("w1"))
    await bench.leases.sweep()

    assert not await bench.redis.exists(bench.keys.quarantine_owner)


async def test_a_worker_that_only_stood_still_takes_the_crash_back(bench: Bench) -> None:
    await bench.put("a")
    frozen = await bench.claim("frozen")
    await bench.die(frozen)
    await bench.leases.sweep()

    assert await bench.renew(frozen) == {frozen.token}
    await bench.leases.pardon(frozen.token, ["a"])

    assert (await bench.claim("other")).kind is GroupKind.NORMAL


async def test_a_group_that_raised_comes_back_in_halves_without_being_isolated(bench: Bench) -> None:
    await bench.put(*numbered(8))
    claim = await bench.claim()
    await bench.settle(claim, dict.fromkeys(ids(claim), JobEnd(SettleAction.SPLIT, after_ms=1, limit=4)))

    await bench.come_due()
    halves = [await bench.claim(alone=False) for _ in range(2)]

    assert [(half.kind, len(half.group)) for half in halves] == [(GroupKind.SUSPECT, 4), (GroupKind.SUSPECT, 4)]
    assert {job.tries for half in halves for job in half.group} == {1}


async def test_a_claim_whose_answer_was_lost_is_given_back(bench: Bench) -> None:
    await bench.put("a", "b")
    lost_answer = await bench.claim()

    assert await bench.leases.abandon([lost_answer.token]) == 2

    assert await bench.tries("a") == 0
    assert not await bench.redis.exists("arq:in-progress:a", bench.keys.claims)
    assert sorted(ids(await bench.claim())) == ["a", "b"]


async def _dump(redis: Redis) -> dict[bytes, bytes]:
    keys = await redis.keys("*")
    return {key: await redis.dump(key) for key in keys}
