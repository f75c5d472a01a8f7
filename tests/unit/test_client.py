"""The wire: what is sent, what every kind of answer or failure becomes, and what is remembered of an endpoint."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest
import respx
from redis.asyncio import Redis

from normalizer.errors import BatchRejected, ProviderRefused, ProviderUnavailable, RateLimited, UnusableAnswer
from normalizer.llm.client import CapabilityStore, EndpointCapabilities, LlmClient, Mode
from normalizer.llm.prompt import Record

URL = "http://model.test/v1"
RECORDS = [Record("R. A, 1, Itu SP"), Record("R. B, 2, Itu SP")]
SEVEN = ["R. A", "1", "", "", "Itu", "SP", ""]
GOOD = json.dumps({"r00": SEVEN, "r01": SEVEN})


def completion(content, finish="stop", **message):
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish,
                "message": {"role": "assistant", "content": content, **message},
            }
        ],
        "usage": {
            "prompt_tokens": 300,
            "completion_tokens": 60,
            "total_tokens": 360,
            "prompt_tokens_details": {"cached_tokens": 128},
            "cost": 0.00012,
        },
    }


@pytest.fixture
def route(httpx2_mock):
    httpx2_mock._assert_all_called = False  # a call that is left half-way does not count as made
    return httpx2_mock.post(f"{URL}/chat/completions")


@pytest.fixture
async def client():
    client = LlmClient(api_key="test", model="gpt-6-luna", base_url=URL)
    yield client
    await client.close()


def ask(client, **options):
    return client.complete(RECORDS, max_tokens_out=500, **options)


def sent(route, index=-1):
    return json.loads(route.calls[index].request.content)


async def test_a_good_answer_brings_slots_usage_and_limits(client, route):
    route.respond(json=completion(GOOD), headers={"X-RateLimit-Remaining-Tokens": "12000", "x-request-id": "not kept"})

    answer = await ask(client)

    assert [slot["rua"] for slot in answer.slots] == ["R. A", "R. A"]
    assert (answer.usage.tokens_in, answer.usage.tokens_out, answer.usage.cached_in) == (300, 60, 128)
    assert answer.usage.cost_usd == pytest.approx(0.00012)
    assert answer.headers == {"x-ratelimit-remaining-tokens": "12000"}
    assert not answer.refused


async def test_the_request_asks_for_the_strict_schema_without_reasoning(client, route):
    route.respond(json=completion(GOOD))

    await ask(client)

    body = sent(route)
    assert body["model"] == "gpt-6-luna"
    assert body["reasoning_effort"] == "none"
    assert body["max_tokens"] == 500
    assert body["response_format"]["json_schema"]["strict"] is True
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["r00", "r01"]
    assert "temperature" not in body


@pytest.mark.parametrize(
    ("url", "model", "expected"),
    [
        ("https://api.openai.com/v1", "gpt-6-luna", {"store": False, "reasoning_effort": "none"}),
        ("https://api.openai.com/v1", "gpt-5-nano", {"store": False, "reasoning_effort": "minimal"}),
        ("https://api.openai.com/v1", "gpt-4o-mini", {"store": False, "temperature": 0}),
        (
            "https://openrouter.ai/api/v1",
            "openai/gpt-6-luna",
            {
                "provider": {"require_parameters": True, "data_collection": "deny"},
                "reasoning": {"effort": "none"},
            },
        ),
        (
            "https://openrouter.ai/api/v1",
            "mistralai/mistral-small",
            {"provider": {"require_parameters": True, "data_collection": "deny"}, "temperature": 0},
        ),
    ],
)
async def test_each_endpoint_gets_the_options_it_knows(httpx2_mock, url, model, expected):
    route = httpx2_mock.post(f"{url}/chat/completions").respond(json=completion(GOOD))
    client = LlmClient(api_key="test", model=model, base_url=url)

    await ask(client)

    body = sent(route)
    always = {"model", "messages", "response_format", "max_tokens", "max_completion_tokens"}
    assert {key: value for key, value in body.items() if key not in always} == expected
    assert body["max_completion_tokens" if "openai.com" in url else "max_tokens"] == 500
    await client.close()


async def test_an_endpoint_without_schema_is_asked_in_json_mode_then_in_plain_text_and_that_is_remembered(
    client, route
):
    no_schema = respx.MockResponse(400, json={"error": {"message": "response_format json_schema unsupported"}})
    no_json = respx.MockResponse(400, json={"error": {"message": "bad", "param": "response_format"}})
    good = respx.MockResponse(200, json=completion(GOOD))
    route.side_effect = [no_schema, no_json, good, good]

    first = await ask(client)
    await ask(client)

    assert all(first.slots)
    assert client.capabilities.mode is Mode.TEXT
    formats = [sent(route, index).get("response_format", {}).get("type") for index in range(4)]
    assert formats == ["json_schema", "json_object", None, None]


async def test_calls_under_way_at_once_give_up_one_thing_only_once(client, route):
    both_sent = asyncio.Barrier(2)

    async def refuse_schema(request):
        kind = json.loads(request.content).get("response_format", {}).get("type")
        if kind == "json_schema":
            await both_sent.wait()
            return respx.MockResponse(400, json={"error": {"message": "no json_schema here"}})
        return respx.MockResponse(200, json=completion(GOOD))

    route.side_effect = refuse_schema

    await asyncio.gather(ask(client), ask(client))

    assert client.capabilities.mode is Mode.JSON


async def test_an_option_complained_of_twice_at_once_is_dropped_once(client, route):
    both_sent = asyncio.Barrier(2)

    async def refuse_effort(request):
        if "reasoning_effort" in json.loads(request.content):
            await both_sent.wait()
            return respx.MockResponse(400, json={"error": {"message": "x", "param": "reasoning_effort"}})
        return respx.MockResponse(200, json=completion(GOOD))

    route.side_effect = refuse_effort

    first, second = await asyncio.gather(ask(client), ask(client))

    assert all(first.slots)
    assert all(second.slots)


async def test_an_option_the_model_does_not_take_is_dropped(client, route):
    complaint = {
        "error": {"message": "Unsupported parameter", "param": "reasoning_effort", "code": "unsupported_value"}
    }
    route.side_effect = [respx.MockResponse(400, json=complaint), respx.MockResponse(200, json=completion(GOOD))]

    await ask(client)

    assert "reasoning_effort" not in sent(route)


@pytest.mark.parametrize(
    ("content", "finish", "extra", "slots", "refused"),
    [
        (GOOD[:50], "length", {}, [True, False], False),
        (None, "stop", {"refusal": "I can't"}, [False, False], True),
        ("", "content_filter", {}, [False, False], True),
        (GOOD[:50], "content_filter", {}, [True, False], True),
        (f"Aqui está: {GOOD} Abraço!", "stop", {}, [True, True], False),
    ],
)
async def test_an_answer_that_ends_badly_keeps_what_it_said(client, route, content, finish, extra, slots, refused):
    route.respond(json=completion(content, finish, **extra))

    answer = await ask(client)

    assert [slot is not None for slot in answer.slots] == slots
    assert answer.refused is refused
    assert answer.usage.tokens_out == 60


async def test_429_says_how_long_to_wait(client, route):
    route.respond(429, headers={"Retry-After": "7"}, json={"error": {"message": "slow down"}})

    with pytest.raises(RateLimited) as caught:
        await ask(client)

    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500", "Retry-After": "9"}, 1.5),
        ({"Retry-After": "0.25"}, 0.25),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
async def test_every_spelling_of_retry_after_is_read(client, route, headers, seconds):
    route.respond(503, headers=headers)

    with pytest.raises(ProviderUnavailable) as caught:
        await ask(client)

    assert caught.value.retry_after_s == seconds


async def test_retry_after_may_be_a_date(client, route):
    route.respond(429, headers={"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)})

    with pytest.raises(RateLimited) as caught:
        await ask(client)

    assert 80 < caught.value.retry_after_s <= 90


@pytest.mark.parametrize("status", [500, 502, 503, 504, 529, 408, 409])
async def test_a_failing_provider_is_unavailable(client, route, status):
    route.respond(status)

    with pytest.raises(ProviderUnavailable):
        await ask(client)


@pytest.mark.parametrize(
    "error", [httpx2.ConnectError("no"), httpx2.ReadTimeout("late"), httpx2.RemoteProtocolError("cut")]
)
async def test_a_broken_connection_is_unavailable_and_not_tried_again_here(client, route, error):
    route.side_effect = error

    with pytest.raises(ProviderUnavailable):
        await ask(client)

    assert route.call_count == 1


@pytest.mark.parametrize("status", [401, 402, 403, 404])
async def test_a_refused_key_account_or_model_stops_everything(client, route, status):
    route.respond(status, json={"error": {"message": "no"}})

    with pytest.raises(ProviderRefused, match="OPENAI_API_KEY"):
        await ask(client)


async def test_an_empty_account_is_no_rate_limit(client, route):
    route.respond(429, json={"error": {"message": "quota", "code": "insufficient_quota"}})

    with pytest.raises(ProviderRefused, match="saldo"):
        await ask(client)


async def test_a_flagged_text_is_the_batchs_fault_not_the_keys(client, route):
    route.respond(403, json={"error": {"code": 403, "message": "flagged", "metadata": {"reasons": ["x"]}}})

    with pytest.raises(BatchRejected):
        await ask(client)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_refused_batch_is_to_be_bisected(client, route, status):
    route.respond(status, json={"error": {"message": "too long", "code": "context_length_exceeded"}})

    with pytest.raises(BatchRejected):
        await ask(client)


async def test_a_request_that_fails_for_every_text_is_the_operators(client, route):
    route.respond(400, json={"error": {"message": "x", "param": "max_tokens", "code": "unsupported_parameter"}})

    with pytest.raises(ProviderRefused, match="unsupported_parameter"):
        await ask(client)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"error": {"code": 429, "message": "busy"}}, RateLimited),
        ({"error": {"code": 502, "message": "down"}}, ProviderUnavailable),
        ({"error": {"code": 402, "message": "credits"}}, ProviderRefused),
        ({"choices": []}, UnusableAnswer),
        (completion("", "error"), ProviderUnavailable),
    ],
)
async def test_a_router_says_200_and_means_an_error(client, route, body, error):
    route.respond(json=body)

    with pytest.raises(error):
        await ask(client)


async def test_a_web_page_is_no_api(client, route):
    route.respond(200, content=b"<html>Sign in</html>", headers={"content-type": "text/html"})

    with pytest.raises(ProviderRefused, match="OPENAI_BASE_URL") as caught:
        await ask(client)

    assert caught.value.said == "Sign in"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b"null", b'"text"', b'{"choices": {"a": 1}}'])
async def test_a_body_that_is_no_answer_is_one_failure_that_is_paid_for(client, route, content):
    route.respond(200, content=content, headers={"content-type": "application/json"})

    with pytest.raises(UnusableAnswer) as caught:
        await ask(client)

    assert caught.value.usage.tokens_in > 0


async def test_a_hanging_provider_is_left_when_the_time_is_over(client, route):
    begun = asyncio.Event()

    async def hang(_request):
        begun.set()
        await asyncio.Event().wait()

    route.side_effect = hang

    with pytest.raises(ProviderUnavailable, match="in time"):
        await ask(client, timeout_s=1)
    assert begun.is_set()


async def test_no_error_repeats_what_was_sent(client, route):
    route.respond(400, json={"error": {"message": "cannot read 'R. A, 1, Itu SP'"}})

    with pytest.raises(BatchRejected) as caught:
        await ask(client)

    assert "Itu" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("by_name", "listed", "offers"),
    [
        ((200, {"id": "gpt-6-luna"}), (500, {}), True),
        ((404, {}), (200, {"data": [{"id": "gpt-6-luna"}]}), True),
        ((404, {}), (200, {"data": [{"id": "other"}]}), False),
        ((404, {}), (404, {}), False),
    ],
)
async def test_an_endpoint_may_say_that_it_has_the_model(client, httpx2_mock, by_name, listed, offers):
    httpx2_mock._assert_all_called = False
    for path, (status, body) in (("models/gpt-6-luna", by_name), ("models", listed)):
        httpx2_mock.get(f"{URL}/{path}").respond(status, json=body)

    assert await client.offers_model() is offers


async def test_models_are_listed_for_the_doctor(client, httpx2_mock):
    httpx2_mock.get(f"{URL}/models").respond(json={"object": "list", "data": [{"id": "gpt-6-luna", "object": "model"}]})

    assert await client.models() == ["gpt-6-luna"]


__all__ = ["route"]

NO_SCHEMA = {"error": {"message": "response_format json_schema is not supported", "param": "response_format"}}
NO_EFFORT = {"error": {"message": "unknown reasoning_effort", "param": "reasoning_effort"}}


@pytest.fixture
def memory(redis):
    return CapabilityStore(redis, "model.test:gpt-6-luna")


async def ask_as(memory, **options):
    client = LlmClient(api_key="test", model="gpt-6-luna", base_url=URL, memory=memory, **options)
    await client.complete(RECORDS, max_tokens_out=500)
    await client.close()
    return client


def simple_endpoint(request):
    """Knows JSON mode, but neither schema nor reasoning effort."""
    asked = json.loads(request.content)
    if asked.get("response_format", {}).get("type") == "json_schema":
        return respx.MockResponse(400, json=NO_SCHEMA)
    if "reasoning_effort" in asked:
        return respx.MockResponse(400, json=NO_EFFORT)
    return respx.MockResponse(200, json=completion(GOOD))


async def test_a_restart_does_not_ask_again(memory, route):
    route.mock(side_effect=simple_endpoint)

    first = await ask_as(memory)
    assert route.call_count == 3
    second = await ask_as(memory)

    assert route.call_count == 4, "the second process knew"
    assert first.capabilities == second.capabilities == EndpointCapabilities(Mode.JSON, frozenset({"reasoning_effort"}))
    assert await memory.recall() == first.capabilities


async def test_an_endpoint_that_takes_everything_is_remembered_as_well(memory, route):
    route.respond(json=completion(GOOD))
    assert await memory.recall() is None

    await ask_as(memory)

    assert await memory.recall() == EndpointCapabilities()


async def test_it_is_forgotten_after_a_week_because_endpoints_learn(memory, redis, route):
    route.respond(json=completion(GOOD))
    await ask_as(memory)

    assert 6 < await redis.ttl("norm:endpoint:model.test:gpt-6-luna") / 86_400 <= 7


async def test_other_endpoints_and_models_are_not_meant(memory, redis, route):
    await memory.remember(EndpointCapabilities(Mode.TEXT))

    assert await CapabilityStore(redis, "model.test:other").recall() is None


@pytest.mark.parametrize("stored", [b"", b"{", b"[]", b"{}", b'{"mode": "telepathy", "without": []}', b'{"mode": 1}'])
async def test_what_cannot_be_read_is_unknown(memory, redis, stored):
    await redis.set("norm:endpoint:model.test:gpt-6-luna", stored)

    assert await memory.recall() is None


async def test_without_redis_it_is_asked_anew(route):
    route.respond(json=completion(GOOD))
    async with Redis(host="127.0.0.1", port=1) as nowhere:
        client = await ask_as(CapabilityStore(nowhere, "x"))

    assert client.capabilities == EndpointCapabilities()


async def test_a_redis_that_hangs_delays_a_call_for_a_moment_only(route, monkeypatch):
    async def swallow(reader, writer):
        await reader.read()
        writer.close()

    monkeypatch.setattr("normalizer.llm.client._REDIS_S", 0.05)
    route.respond(json=completion(GOOD))
    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    async with Redis(host="127.0.0.1", port=server.sockets[0].getsockname()[1]) as hanging, asyncio.timeout(5):
        client = await ask_as(CapabilityStore(hanging, "x"))
    server.close()

    assert client.capabilities == EndpointCapabilities()
