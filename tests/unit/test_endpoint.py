"""What an endpoint takes is found out once, by whichever replica asks first, and not again after a restart."""

import asyncio
import json

import pytest
import respx
from redis.asyncio import Redis

from normalizer.llm.client import CapabilityStore, EndpointCapabilities, LlmClient, Mode
from tests.unit.test_client import GOOD, RECORDS, URL, completion, route

__all__ = ["route"]

NO_SCHEMA = {"error": {"message": "response_format json_schema is not supported", "param": "response_format"}}
NO_EFFORT = {"error": {"message": "unknown reasoning_effort", "param": "reasoning_effort"}}


@pytest.fixture
def memory(redis):
    return CapabilityStore(redis, "model.test:gpt-6-luna")


async def ask(memory, **options):
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

    first = await ask(memory)
    assert route.call_count == 3
    second = await ask(memory)

    assert route.call_count == 4, "the second process knew"
    assert first.capabilities == second.capabilities == EndpointCapabilities(Mode.JSON, frozenset({"reasoning_effort"}))
    assert await memory.recall() == first.capabilities


async def test_an_endpoint_that_takes_everything_is_remembered_as_well(memory, route):
    route.respond(json=completion(GOOD))
    assert await memory.recall() is None

    await ask(memory)

    assert await memory.recall() == EndpointCapabilities()


async def test_it_is_forgotten_after_a_week_because_endpoints_learn(memory, redis, route):
    route.respond(json=completion(GOOD))
    await ask(memory)

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
        client = await ask(CapabilityStore(nowhere, "x"))

    assert client.capabilities == EndpointCapabilities()


async def test_a_redis_that_hangs_delays_a_call_for_a_moment_only(route, monkeypatch):
    async def swallow(reader, writer):
        await reader.read()
        writer.close()

    monkeypatch.setattr("normalizer.llm.client._REDIS_S", 0.05)
    route.respond(json=completion(GOOD))
    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    async with Redis(host="127.0.0.1", port=server.sockets[0].getsockname()[1]) as hanging, asyncio.timeout(5):
        client = await ask(CapabilityStore(hanging, "x"))
    server.close()

    assert client.capabilities == EndpointCapabilities()
