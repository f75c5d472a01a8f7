"""What an operator reads of the model lane, as JSON and as sentences."""

import re

import pytest
from redis.asyncio import Redis

from normalizer.errors import RateLimited
from normalizer.llm.client import Answer, CapabilityStore, EndpointCapabilities, Mode, Usage
from normalizer.llm.limits import Admitted, Denied, GateState, SharedGate, reopen_gate
from normalizer.llm.pricing import Ledger, ModelStatus, Spending, read_model_status

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
