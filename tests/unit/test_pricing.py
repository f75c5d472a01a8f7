"""What a call costs, the day's ledger on a real Redis, and the status an operator reads of it."""

import re
from datetime import UTC, date, datetime, timedelta

import pytest
import structlog
from redis.asyncio import Redis

from normalizer.errors import RateLimited
from normalizer.llm.client import Answer, CapabilityStore, EndpointCapabilities, Mode, Usage
from normalizer.llm.limits import Admitted, Denied, GateState, SharedGate, reopen_gate
from normalizer.llm.pricing import Ledger, ModelStatus, Spending, price, prices_as_of, read_model_status

MILLION = 1_000_000


def answer(tokens_in=MILLION, tokens_out=MILLION, **usage):
    return Usage(tokens_in, tokens_out, **usage)


class Clock:
    def __init__(self):
        self.now = datetime(2026, 11, 23, 23, 59, tzinfo=UTC)

    def __call__(self):
        return self.now


@pytest.mark.parametrize(
    ("model", "usage", "usd"),
    [
        ("gpt-6-luna", Usage(MILLION, MILLION), 0.60),
        ("gpt-6-luna", Usage(MILLION, 0, cached_in=MILLION), 0.01),
        ("gpt-6-luna", Usage(MILLION, 0, cached_in=MILLION // 2), 0.055),
        ("openai/gpt-6-luna", Usage(0, MILLION), 0.50),
        ("gpt-4o-mini-2024-07-18", Usage(MILLION, MILLION), 0.75),
        ("gpt-6-luna", Usage(MILLION, MILLION, cost_usd=0.0123), 0.0123),
        ("gpt-6-luna", Usage(10, 0, cached_in=20), 20 * 0.01 / 1e6),
    ],
)
def test_a_call_costs_what_the_table_or_the_provider_says(model, usage, usd):
    assert price(model).of(usage) == pytest.approx(usd)


def test_an_unlisted_model_is_never_taken_for_cheap():
    unknown = price("mistralai/mistral-small")

    assert not unknown.listed
    assert unknown.of(Usage(MILLION, MILLION)) >= max(
        price(listed).of(Usage(MILLION, MILLION)) for listed in ("gpt-6-luna", "gpt-4.1-mini", "gpt-5.6-luna")
    )


def test_the_table_is_dated():
    assert date.fromisoformat(prices_as_of()) >= date(2026, 1, 1)


async def test_replicas_count_into_one_day(redis):
    one, two = (Ledger(redis, model="gpt-6-luna") for _ in range(2))

    await one.record(answer(1_000, 100), 25)
    await two.record(answer(2_000, 200), 10)

    day = await one.day()
    assert (day.calls, day.records, day.tokens_in, day.tokens_out) == (2, 35, 3_000, 300)
    assert day.usd == pytest.approx(3_000 * 0.1e-6 + 300 * 0.5e-6)


async def test_days_are_counted_apart_and_forgotten_after_a_quarter(redis):
    clock = Clock()
    ledger = Ledger(redis, model="gpt-6-luna", clock=clock)
    await ledger.record(answer(), 1)

    clock.now = datetime(2026, 11, 24, 0, 1, tzinfo=UTC)

    assert await ledger.day() == Spending()
    assert (await ledger.day("2026-11-23")).calls == 1
    assert 90 < (await redis.ttl("norm:usage:2026-11-23")) / 86_400 <= 92


async def test_a_month_is_the_sum_of_its_days(redis):
    clock = Clock()
    ledger = Ledger(redis, model="gpt-6-luna", clock=clock)
    for day in (
        datetime(2026, 10, 31, tzinfo=UTC),
        datetime(2026, 11, 1, tzinfo=UTC),
        datetime(2026, 11, 23, tzinfo=UTC),
    ):
        clock.now = day
        await ledger.record(answer(1_000, 100), 5)

    month = await ledger.month()

    assert (month.calls, month.records, month.tokens_in, month.tokens_out) == (2, 10, 2_000, 200)
    assert month.usd == pytest.approx(2 * (1_000 * 0.1e-6 + 100 * 0.5e-6))


async def test_imports_that_share_a_call_share_its_cost(redis):
    ledger = Ledger(redis, model="gpt-6-luna")

    await ledger.record(answer(1_000, 100), 10, imports={"um": 7, "dois": 2})
    await ledger.record(answer(1_000, 100), 10, imports={"dois": 10})

    newest, all_ = await ledger.newest_imports(), await ledger.day()
    one, two = newest["um"], newest["dois"]
    assert (one.calls, one.records, one.tokens_in, one.tokens_out) == (1, 7, 700, 70)
    assert (two.calls, two.records, two.tokens_in, two.tokens_out) == (2, 12, 1_200, 120)
    assert one.usd + two.usd == pytest.approx(0.95 * all_.usd), "one record of the first call was of no import"
    assert list(newest) == ["dois", "um"]


async def test_only_the_newest_imports_are_listed_and_all_are_forgotten_in_time(redis):
    clock = Clock()
    ledger = Ledger(redis, model="gpt-6-luna", clock=clock)
    for number in range(103):
        clock.now += timedelta(seconds=1)
        await ledger.record(answer(10, 1), 1, imports={f"i{number}": 1})

    assert list(await ledger.newest_imports(2)) == ["i102", "i101"]
    assert len(await ledger.newest_imports(1_000)) == 100
    assert 90 < (await redis.ttl("norm:usage:import:i102")) / 86_400 <= 92


async def test_the_budget_is_that_of_all_replicas_and_starts_anew_each_day(redis):
    clock = Clock()
    one, two = (Ledger(redis, model="gpt-6-luna", daily_budget_usd=1.0, clock=clock) for _ in range(2))

    await one.record(answer(), 1)
    assert not await one.spent()
    await two.record(answer(), 1)
    assert await one.spent()
    assert await two.spent()

    clock.now = datetime(2026, 11, 24, 0, 1, tzinfo=UTC)
    assert not await one.spent()


async def test_four_fifths_of_the_budget_are_warned_of_once(redis):
    ledger = Ledger(redis, model="gpt-6-luna", daily_budget_usd=1.0)

    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await ledger.record(answer(), 1)

    assert [event["event"] for event in logs] == ["llm.budget.nearly_spent"]


async def test_without_a_budget_nothing_is_ever_spent(redis):
    ledger = Ledger(redis, model="gpt-6-luna")
    await ledger.record(answer(), 1)

    assert not await ledger.spent()


async def test_without_redis_the_process_counts_for_itself():
    nowhere = Redis(host="127.0.0.1", port=1)
    ledger = Ledger(nowhere, model="gpt-6-luna", daily_budget_usd=1.0)

    await ledger.record(answer(), 1)
    assert not await ledger.spent()
    await ledger.record(answer(), 1)
    assert await ledger.spent()
    await nowhere.aclose()


NAME = "api.openai.com:gpt-6-luna"
SPENT = Spending(3, 60, 3_000, 600, 0.5)


async def read(redis, **options):
    given = {"name": NAME, "model": "gpt-6-luna", "has_key": True, "daily_budget_usd": 2.0}
    return await read_model_status(redis, **(given | options))


async def test_everything_is_read_from_where_the_replicas_keep_it(redis):
    ledger = Ledger(redis, model="gpt-6-luna")
    await ledger.record(Usage(1_000, 100), 10, imports={"i1": 10})
    await CapabilityStore(redis, NAME).remember(EndpointCapabilities(Mode.JSON))
    gate = SharedGate(redis, name=NAME)
    await gate.admit(100)

    said = (await read(redis)).as_dict()

    assert (said["modelo"], said["modo"], said["disjuntor"], said["parada_por"]) == (
        "gpt-6-luna",
        "json_object",
        "closed",  # as the industry says of a breaker: calls go through
        None,
    )
    assert said["hoje"] == said["mes"] == said["por_importacao"]["i1"]
    assert (said["hoje"]["chamadas"], said["hoje"]["tokens_entrada"], said["orcamento_diario_usd"]) == (1, 1_000, 2.0)


async def test_without_redis_nothing_is_said():
    async with Redis(host="127.0.0.1", port=1) as nowhere:
        assert await read(nowhere) is None


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (ModelStatus("m", has_key=False), "sem OPENAI_API_KEY"),
        (ModelStatus("m", has_key=True, gate=GateState(refused="conta sem saldo (402).")), "conta sem saldo (402)."),
        (ModelStatus("m", has_key=True, today=SPENT, daily_budget_usd=0.5), "DAILY_BUDGET_USD esgotado"),
    ],
)
def test_a_lane_that_stands_still_says_why(status, words):
    assert words in (status.stopped or "")
    assert words in "\n".join(status.lines())
    assert words in status.as_dict()["parada_por"]


def test_people_read_what_was_spent_of_the_budget():
    status = ModelStatus(
        "m", has_key=True, gate=GateState("closed", 12.0), today=SPENT, imports={"i1": SPENT}, daily_budget_usd=2.0
    )

    text = "\n".join(status.lines())

    assert status.stopped is None
    assert re.search(r"provedor fora do ar\. Tenta de novo às \d\d:\d\d:\d\d; já: normalizer resume", text)
    assert "hoje 3 chamadas, 3.600 tokens, US$ 0,5000 (25% de DAILY_BUDGET_USD=2)" in text
    assert "importação i1: 3 chamadas" in text


async def test_a_pause_of_a_day_is_cut_short_told_and_ended_by_an_operator(redis):
    gate = SharedGate(redis, name=NAME, longest_pause_s=300)
    call = await gate.admit(100)
    await gate.failed(call, RateLimited("slow down", retry_after_s=86_400))

    status = await read(redis)
    assert 290 < status.gate.wait_s <= 300
    assert "Retry-After de 86400 s" in "\n".join(status.lines())
    denied = await gate.admit(100)
    assert denied.closed, "nobody holds a place for that long"

    await reopen_gate(redis, NAME)

    assert isinstance(await gate.admit(100), Admitted)
    assert (await read(redis)).gate == GateState()


async def test_after_a_long_pause_one_call_finds_out_for_all(redis):
    gate = SharedGate(redis, name=NAME, longest_pause_s=5.0)
    calls = [await gate.admit(100) for _ in range(4)]
    for call in calls:
        await gate.failed(call, RateLimited("slow down", retry_after_s=86_400))
    await redis.hset(f"norm:limit:{NAME}", "not_before", 0)  # the pause is over

    probe, second = await gate.admit(100), await gate.admit(100)
    assert isinstance(probe, Admitted)
    assert isinstance(second, Denied)
    await gate.succeeded(probe, Answer((), Usage(1, 1), 0.1))

    assert isinstance(await gate.admit(100), Admitted)
