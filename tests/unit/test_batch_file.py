"""The file of a batch: every text has one place, requests keep the packing's bounds, only our own answers are read."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizer.llm import batch_file
from normalizer.llm.batch_file import MAX_TEXTS, Place, plan, read_line, request_line
from normalizer.llm.client import LlmClient
from normalizer.llm.estimate import max_tokens_out
from normalizer.llm.packing import Cost
from normalizer.llm.pricing import price
from normalizer.llm.prompt import MAX_RECORD_CHARS, Record

PRICE = price("gpt-6-luna")
MILLION = 1_000_000
costs = st.dictionaries(
    st.text(min_size=1, max_size=5),
    st.builds(Cost, st.integers(1, 500), st.integers(1, 500), st.sampled_from([None, None, None, 1])),
    max_size=120,
)


def planned(texts, **options):
    return plan(texts, **({"items": 25, "count": len, "price": PRICE} | options))


@given(costs, st.integers(1, 50))
def test_every_text_has_one_place_and_slots_have_no_gap(texts, items):
    found = planned(texts, items=items)

    assert found.places.keys() == texts.keys()
    by_request = {}
    for text, place in found.places.items():
        by_request.setdefault(place.request, {})[place.slot] = text
    assert sorted(by_request) == list(range(found.requests))
    for slots in by_request.values():
        assert sorted(slots) == list(range(len(slots)))
        assert len(slots) <= items
        assert len(slots) == 1 or all(texts[text].company is None for text in slots.values())


@given(costs, st.floats(0, 0.002))
def test_no_more_is_taken_than_can_be_paid(texts, most_usd):
    found = planned(texts, most_usd=most_usd)

    assert found.usd <= most_usd
    assert len(set(found.places.values())) == len(found.places)


def test_what_is_planned_costs_what_a_call_costs():
    found = planned({"a": Cost(100, 10), "b": Cost(50, 5)}, count=lambda text: 1_000)

    assert found.places == {"a": Place(0, 0), "b": Place(0, 1)}
    assert found.usd == pytest.approx(((1_000 + 60 + 150) * 0.10 + 15 * 0.50) / MILLION)


async def test_the_largest_batch_there_can_be_keeps_the_providers_limits():
    client = LlmClient(api_key="k", model="gpt-6-luna")
    worst = Record("\U0001f3e0" * MAX_RECORD_CHARS)  # each alone in its request, four bytes a character
    body = await client.request([worst], max_tokens_out=max_tokens_out([Cost(9_999, 9_999)]))
    await client.close()

    assert MAX_TEXTS <= 50_000
    assert MAX_TEXTS * len(request_line("0" * 24, MAX_TEXTS, body)) < 200 * MILLION


async def test_a_request_is_the_call_the_other_lane_would_make():
    client = LlmClient(api_key="k", model="openai/gpt-6-luna", base_url="https://openrouter.ai/api/v1")
    body = await client.request([Record("Rua A, 1")], max_tokens_out=100)
    await client.close()

    line = json.loads(request_line("b1", 7, body))
    assert (line["custom_id"], line["method"], line["url"]) == ("b1:7", "POST", "/v1/chat/completions")
    assert line["body"]["messages"][-1]["content"] == "r00: Rua A, 1"
    assert line["body"]["response_format"]["json_schema"]["strict"] is True
    assert line["body"]["provider"] == {"require_parameters": True, "data_collection": "deny"}
    assert "extra_body" not in line["body"]


FIELDS = ["Rua A", "1", "", "Centro", "Itu", "SP", ""]


def result(custom_id="b1:3", status=200, content=None, error=None, **message):
    content = json.dumps({"r00": FIELDS}) if content is None else content
    message = {"role": "assistant", "content": content} | message
    body = {
        "choices": [{"message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    }
    return json.dumps({"custom_id": custom_id, "response": {"status_code": status, "body": body}, "error": error})


def test_an_answer_is_read_as_a_calls_is():
    request, answer = read_line("b1", result())

    assert request == 3
    assert answer.slots[0]["rua"] == "Rua A"
    assert answer.slots[1] is None
    assert (answer.usage.tokens_in, answer.usage.tokens_out) == (10, 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [("não sei", {}), ("", {"refusal": "no"}), ('{"r00": ["Rua A", "1"', {}), ('{"r05": []}', {})],
    ids=["prose", "refusal", "cut", "another slot"],
)
def test_an_answer_that_says_nothing_is_paid_for_and_leaves_its_slots_open(content, message):
    _, answer = read_line("b1", result(content=content, **message))

    assert not any(answer.slots)
    assert answer.usage.tokens_in == 10


@pytest.mark.parametrize(
    "line",
    [
        result("b2:3"),
        result("b1:x"),
        result("b1"),
        result(status=400),
        orjson.dumps({"custom_id": "b1:3", "response": None, "error": {"code": "batch_expired"}}).decode(),
        orjson.dumps(
            {"custom_id": "b1:3", "response": {"status_code": 200, "body": {"error": {"code": 500}}}}
        ).decode(),
        orjson.dumps({"custom_id": "b1:3", "response": {"status_code": 200}}).decode(),
        "[]",
        "3",
        "{",
        "",
    ],
)
def test_what_answers_nothing_of_ours_is_no_answer(line):
    assert read_line("b1", line) is None


@given(st.text(max_size=60))
def test_reading_never_raises(line):
    assert batch_file.read_line("b1", line) is None
