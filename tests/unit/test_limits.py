"""Rate limit, pause and breaker, shared through a real Redis; adaptive concurrency; the provider's headers."""

import asyncio

import pytest
from redis.asyncio import Redis

from normalizer.errors import ProviderRefused, ProviderUnavailable, RateLimited
from normalizer.llm.answer import RateLimitHeaders
from normalizer.llm.client import Answer, Usage
from normalizer.llm.limits import Admitted, Concurrency, Denied, GateState, LocalGate, SharedGate, read_gate


def answer(tokens=100, **headers):
    named = {f"x-ratelimit-{name.replace('_', '-')}": value for name, value in headers.items()}
    return Answer((), Usage(tokens, 0), 1.0, headers=named)


@pytest.fixture
def replica(redis):
    def make(client=redis, **options):
        return SharedGate(client, **({"name": "t", "largest": 100} | options))

    return make


async def admit(gate, tokens=100):
    admission = await gate.admit(tokens)
    assert isinstance(admission, Admitted), admission
    return admission


async def test_requests_are_counted_over_all_replicas(replica):
    one, two = replica(rpm=3), replica(rpm=3)

    for gate in (one, two, one):
        await admit(gate)

    denied = await two.admit(100)
    assert isinstance(denied, Denied)
    assert isinstance(denied.error, RateLimited)
    assert 59 < denied.wait_s <= 62.2
    assert not denied.closed


async def test_tokens_are_counted_over_all_replicas(replica):
    one, two = replica(tpm=1_000), replica(tpm=1_000)

    await admit(one, 600)

    assert isinstance(await two.admit(600), Denied)
    await admit(two, 400)


async def test_what_a_call_did_not_use_is_given_back(replica):
    gate = replica(tpm=1_000)
    call = await admit(gate, 900)

    await gate.succeeded(call, answer(tokens=200))

    await admit(gate, 800)
    assert isinstance(await gate.admit(1), Denied)


async def test_what_a_call_used_beyond_its_estimate_is_taken(replica):
    gate = replica(tpm=1_000)

    await gate.succeeded(await admit(gate, 100), answer(tokens=950))

    assert isinstance(await gate.admit(100), Denied)


async def test_a_failed_call_gives_its_tokens_back_but_counts_as_a_request(replica):
    gate = replica(rpm=2, tpm=1_000)

    await gate.failed(await admit(gate, 1_000), None)
    await gate.failed(await admit(gate, 0), None)

    assert isinstance(await gate.admit(0), Denied)


async def test_a_call_larger_than_the_limit_goes_alone(replica):
    gate = replica(tpm=1_000)

    await admit(gate, 5_000)

    assert isinstance(await gate.admit(10), Denied)


@pytest.mark.slow  # real time at a resolution that a busy machine does not have
async def test_places_come_back_with_time_and_no_window_ever_holds_more(replica):
    gates = [replica(rpm=10, window_s=0.6) for _ in range(3)]
    loop = asyncio.get_running_loop()
    starts = []

    async def call(gate):
        while isinstance(admission := await gate.admit(1), Denied):  # noqa: ASYNC110 - it says how long
            await asyncio.sleep(admission.wait_s)
        starts.append(loop.time())

    await asyncio.gather(*(call(gates[number % 3]) for number in range(35)))

    starts.sort()
    assert all(later - earlier > 0.59 for earlier, later in zip(starts, starts[10:], strict=False))
    assert starts[-1] - starts[0] < 3 * 0.6 * 1.25


async def test_unlimited_is_unlimited(replica):
    gate = replica()

    for _ in range(200):
        await admit(gate, 10_000)


async def test_a_retry_after_pauses_every_replica(replica):
    one, two = replica(), replica()

    await one.failed(await admit(one), RateLimited("slow", retry_after_s=30))

    denied = await two.admit(1)
    assert isinstance(denied.error, RateLimited)
    assert 29 < denied.wait_s <= 30.1


async def test_a_longer_pause_is_never_shortened(replica):
    gate = replica()
    first, second = await admit(gate), await admit(gate)
    await gate.failed(first, RateLimited("slow", retry_after_s=30))

    await gate.failed(second, RateLimited("slow", retry_after_s=1))

    assert (await gate.admit(1)).wait_s > 29


async def test_the_provider_lowers_our_limit_but_never_raises_it(replica):
    gate = replica(rpm=100)
    await gate.succeeded(await admit(gate), answer(limit_requests="2"))
    await admit(gate)
    assert isinstance(await gate.admit(1), Denied)

    other = replica(name="other", rpm=1)
    await other.succeeded(await admit(other), answer(limit_requests="500"))
    assert isinstance(await other.admit(1), Denied)


async def test_an_exhausted_provider_is_given_time_by_all_replicas(replica):
    one, two = replica(), replica()

    headers = {"limit_requests": "60", "remaining_requests": "0", "reset_requests": "1m0s"}
    await one.succeeded(await admit(one), answer(**headers))

    assert 0 < (await two.admit(1)).wait_s <= 1.1


async def test_the_breaker_is_shared_opens_probes_once_and_closes(replica):
    one, two = replica(failures_to_open=3, open_s=0.05), replica(failures_to_open=3, open_s=0.05)
    calls = [await admit(one) for _ in range(3)]
    for call in calls:
        await one.failed(call, ProviderUnavailable("down", retry_after_s=0))

    closed = await two.admit(1)
    assert closed.closed
    assert isinstance(closed.error, ProviderUnavailable)

    await asyncio.sleep(closed.wait_s)
    probe = await admit(two)
    assert (await one.admit(1)).closed, "one probe at a time"
    await two.succeeded(probe, answer())
    await admit(one)


async def test_a_failed_probe_opens_the_breaker_for_longer(replica):
    gate = replica(failures_to_open=1, open_s=0.05)
    waits = []
    for _ in range(4):
        call = await admit(gate)
        await gate.failed(call, ProviderUnavailable("down", retry_after_s=0))
        closed = await gate.admit(1)
        waits.append(closed.wait_s)
        await asyncio.sleep(closed.wait_s)

    assert [round(wait_s / 0.05) for wait_s in waits] == [1, 2, 4, 4], "doubled, up to four times"


async def test_calls_under_way_when_the_provider_refused_do_not_lengthen_the_stop(replica):
    gate = replica()
    calls = [await admit(gate) for _ in range(4)]
    for call in calls:
        await gate.refused(call, ProviderRefused("no such model", fix=""))

    assert 59 < (await gate.admit(1)).wait_s < 61


async def test_no_stop_is_longer_than_the_longest_pause(replica):
    down, refused = (replica(name=name, failures_to_open=1, open_s=100, longest_pause_s=2) for name in ("d", "r"))
    await down.failed(await admit(down), ProviderUnavailable("down"))
    await refused.refused(await admit(refused), ProviderRefused("no such model", fix=""))

    assert (await down.admit(1)).wait_s < 3
    assert (await refused.admit(1)).wait_s < 3


async def test_a_429_is_no_failure_of_the_provider(replica):
    gate = replica(failures_to_open=1)

    await gate.failed(await admit(gate), RateLimited("slow", retry_after_s=0))

    await admit(gate)


async def test_a_refused_batch_neither_pauses_nor_opens(replica):
    gate = replica(failures_to_open=1)

    await gate.failed(await admit(gate), None)

    await admit(gate)


async def test_names_do_not_share_limits(replica):
    await admit(replica(name="a", rpm=1))

    await admit(replica(name="b", rpm=1))


async def test_old_slots_are_swept(replica, redis):
    gate = replica(window_s=0.06)
    for _ in range(20):
        await admit(gate)
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    await admit(gate)

    assert await redis.hlen("norm:limit:t") <= 4
    assert 3_000 < await redis.ttl("norm:limit:t") <= 3_600


async def test_without_redis_each_process_guards_itself(replica):
    nowhere = Redis(host="127.0.0.1", port=1)
    gate = replica(nowhere, failures_to_open=1, open_s=30)

    await gate.succeeded(await admit(gate), answer())
    await gate.failed(await admit(gate), ProviderUnavailable("down"))

    assert (await gate.admit(1)).closed
    assert gate._concurrency.under_way == 0
    await nowhere.aclose()


async def test_redis_going_away_during_a_call_loses_no_place(replica, redis):
    gate = replica(largest=1)
    call = await admit(gate)
    await redis.config_set("maxmemory", 1)
    try:
        await gate.succeeded(call, answer())
        await asyncio.wait_for(gate.free(), 1)
    finally:
        await redis.config_set("maxmemory", 0)


async def test_concurrency_grows_by_one_a_round_and_halves_on_trouble():
    concurrency = Concurrency(start=2, largest=6)
    limits = []
    for _ in range(3):
        for _ in range(concurrency.limit):
            concurrency.begin()
            concurrency.end(succeeded=True)
        limits.append(concurrency.limit)
    concurrency.begin()
    concurrency.end(succeeded=False)

    assert limits == [2, 3, 4]
    assert concurrency.limit == 2
    for _ in range(10):
        concurrency.begin()
        concurrency.end(succeeded=False)
    assert concurrency.limit == 1
    for _ in range(100):
        concurrency.begin()
        concurrency.end(succeeded=True)
    assert concurrency.limit == 6


async def test_after_a_rest_concurrency_begins_anew():
    now = [0.0]
    concurrency = Concurrency(start=2, largest=4, rest_s=15, clock=lambda: now[0])
    for _ in range(20):
        concurrency.begin()
        concurrency.end(succeeded=True)
    assert concurrency.limit == 4
    now[0] += 16
    concurrency.begin()
    assert concurrency.limit == 2


async def test_a_full_house_waits_for_a_place():
    concurrency = Concurrency(start=1, largest=1)
    concurrency.begin()
    waiting = asyncio.create_task(concurrency.free())
    await asyncio.sleep(0)
    assert not waiting.done()

    concurrency.end(succeeded=None)

    await asyncio.wait_for(waiting, 1)


async def test_the_local_gate_pauses_opens_and_probes():
    now = [0.0]
    gate = LocalGate(failures_to_open=2, open_s=15, clock=lambda: now[0])
    await gate.failed(await admit(gate), RateLimited("slow", retry_after_s=3))
    paused = await gate.admit(1)
    assert (paused.wait_s, paused.closed) == (3, False)
    now[0] = 4
    for _ in range(2):
        call = await admit(gate)
        await gate.failed(call, ProviderUnavailable("down", retry_after_s=0))
        now[0] += 0.001
    assert (await gate.admit(1)).closed
    now[0] += 16
    probe = await admit(gate)
    assert (await gate.admit(1)).closed
    await gate.succeeded(probe, answer())
    await admit(gate)


@pytest.mark.parametrize(
    ("headers", "tokens", "pause_s"),
    [
        ({}, 100, 0),
        ({"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "60s"}, 100, 0),
        (
            {
                "x-ratelimit-limit-requests": "500",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1m0s",
            },
            100,
            60 / 500,
        ),
        (
            {
                "x-ratelimit-limit-tokens": "30000",
                "x-ratelimit-remaining-tokens": "500",
                "x-ratelimit-reset-tokens": "59s",
            },
            2_000,
            59 * 1_500 / 30_000,
        ),
        ({"x-ratelimit-remaining-tokens": "soon", "x-ratelimit-reset-tokens": "later"}, 100, 0),
        (
            {
                "x-ratelimit-limit-requests": "1",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "6h",
            },
            1,
            60,
        ),
    ],
)
def test_headers_say_how_long_to_pause(headers, tokens, pause_s):
    assert RateLimitHeaders.read(headers).pause_s(tokens) == pytest.approx(pause_s)


@pytest.mark.parametrize(
    ("text", "seconds"), [("6m0s", 360), ("1.5s", 1.5), ("20ms", 0.02), ("1h2m3s", 3_723), ("7", 7), ("", 0), ("x", 0)]
)
def test_durations_are_read_in_every_spelling(text, seconds):
    assert RateLimitHeaders.read({"x-ratelimit-reset-tokens": text}).reset_tokens_s == pytest.approx(seconds)


class TestWhatAnOperatorSees:
    async def test_nothing_yet(self, redis):
        assert await read_gate(redis, "t") == GateState("open", 0.0, None)

    async def test_a_pause_the_provider_asked_for(self, replica, redis):
        gate = replica()
        await gate.failed(await admit(gate), RateLimited("slower", retry_after_s=30))

        state = await read_gate(redis, "t")

        assert state.state == "paused"
        assert 25 < state.wait_s <= 30

    async def test_a_provider_that_is_down_then_probed_then_back(self, replica, redis):
        gate = replica(failures_to_open=1, open_s=0.05)
        await gate.failed(await admit(gate), ProviderUnavailable("down", retry_after_s=0.0))
        assert (await read_gate(redis, "t", failures_to_open=1)).state == "closed"

        denied = await gate.admit(1)
        assert isinstance(denied, Denied)
        await asyncio.sleep(denied.wait_s)
        probe = await admit(gate)
        assert (await read_gate(redis, "t", failures_to_open=1)).state == "probing"
        await gate.succeeded(probe, answer())

        assert (await read_gate(redis, "t", failures_to_open=1)).state == "open"

    async def test_why_the_provider_refuses_until_any_replica_is_answered(self, replica, redis):
        one, two = replica(), replica()
        under_way = await admit(two)
        await one.refused(await admit(one), ProviderRefused("conta sem saldo (402).", fix="Recarregue."))
        state = await read_gate(redis, "t")
        assert (state.state, state.refused) == ("closed", "conta sem saldo (402).")
        assert isinstance(await two.admit(1), Denied)

        await two.succeeded(under_way, answer())

        assert (await read_gate(redis, "t")).refused is None
