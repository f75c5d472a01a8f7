"""The Batch API over the real SDK and the simulated provider, and its errors on the wire."""

import httpx2
import pytest
import respx

from benchmarks.provider import Fault, Options, build_app
from normalizer.errors import NoBatchLane, ProviderRefused, ProviderUnavailable, RateLimited
from normalizer.llm.batch_file import request_line
from normalizer.llm.batches import BatchApi

TEXT = "Rua das Flores, 12, Centro, Itu, SP"
LONG_AGO = 0.0


@pytest.fixture
async def wire():
    app = build_app({TEXT: {"rua": "Rua das Flores"}}, Options(batch_s=-1))
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app))
    api = BatchApi(api_key="test", base_url="http://simulated/v1", http_client=http)
    api.provider, api.http = app.state.provider, http
    yield api
    await api.close()


def content(batch_id, requests=1):
    body = {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": f"r00: {TEXT}"}]}
    return b"".join(request_line(batch_id, number, body) for number in range(requests))


async def make(api, batch_id="b1", requests=1):
    return await api.create(batch_id, await api.upload(batch_id, content(batch_id, requests)))


async def end(api, **how):
    await api.http.post("http://simulated/batches/end", json=how)


async def test_a_batch_goes_out_and_its_results_come_back(wire):
    await wire.check()
    provider_id = await make(wire, requests=5)
    assert not (await wire.state(provider_id)).ended
    await end(wire)

    state = await wire.state(provider_id)
    assert (state.ended, state.status, state.full) == (True, "completed", False)
    lines = [line async for line in wire.results(state.results)]
    assert len(lines) == 5
    assert [line async for line in wire.results(state.results, skip=3)] == lines[3:]
    for file_id in state.files:
        await wire.delete(file_id)
    assert await wire.find_file("b1", since_s=LONG_AGO) is None
    await wire.delete(state.files[0])


async def test_file_and_batch_are_found_by_our_id_among_many(wire):
    file_id, provider_id = None, None
    for number in range(130):
        made = await wire.upload(f"b{number}", content(f"b{number}"))
        if number == 3:
            file_id = made
        if number in {2, 3}:
            batch = await wire.create(f"b{number}", made)
            provider_id = batch if number == 3 else provider_id

    assert await wire.find_file("b3", since_s=LONG_AGO) == file_id
    assert await wire.find("b3", since_s=LONG_AGO) == provider_id
    assert await wire.find_file("b999", since_s=LONG_AGO) is None
    assert await wire.find("b999", since_s=LONG_AGO) is None


async def test_nobody_looks_further_back_than_the_batch_was_made(wire):
    await make(wire, "b1")
    await make(wire, "b2")
    tomorrow = 1e11

    assert await wire.find("b1", since_s=tomorrow) is None
    assert await wire.find_file("b1", since_s=tomorrow) is None


async def test_a_batch_the_provider_forgot_has_ended_without_results(wire):
    state = await wire.state("batch_of_nobody")

    assert (state.ended, state.results, state.files) == (True, None, ())
    await wire.cancel("batch_of_nobody")


@pytest.mark.parametrize(("code", "full"), [("token_limit_exceeded", True), ("invalid_json_line", False)])
async def test_an_account_that_is_full_is_told_from_a_batch_that_is_wrong(wire, code, full):
    provider_id = await make(wire)
    await end(wire, status="failed", code=code)

    state = await wire.state(provider_id)
    assert (state.ended, state.full, state.results) == (True, full, None)


async def test_cancelling_stops_a_batch_once(wire):
    provider_id = await make(wire)
    await wire.cancel(provider_id)
    assert (await wire.state(provider_id)).status == "cancelled"
    await wire.cancel(provider_id)


async def test_an_expired_batch_keeps_what_was_answered(wire):
    provider_id = await make(wire, requests=5)
    await end(wire, status="expired", answered=2)

    state = await wire.state(provider_id)
    assert state.status == "expired"
    assert len([line async for line in wire.results(state.results)]) == 2
    assert len(state.files) == 3


async def test_an_endpoint_without_batches_says_so():
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(build_app({}, Options(batches=False))))
    api = BatchApi(api_key="test", base_url="http://simulated/v1", http_client=http)

    for asking in (api.check(), api.upload("b1", b"{}"), api.create("b1", "file")):
        with pytest.raises(NoBatchLane):
            await asking
    await api.close()


async def test_a_batch_the_provider_will_not_take_is_no_batch(wire):
    with pytest.raises(NoBatchLane):
        await wire.create("b1", "file_of_nobody")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"status": 401}, ProviderRefused),
        ({"status": 402}, ProviderRefused),
        ({"status": 429, "retry_after_s": 3.0}, RateLimited),
        ({"status": 503}, ProviderUnavailable),
    ],
)
async def test_errors_say_what_to_do(wire, fault, error):
    wire.provider.faults.append(Fault("status", path="files", **fault))

    with pytest.raises(error) as raised:
        await wire.upload("b1", content("b1"))
    if error is RateLimited:
        assert raised.value.retry_after_s == pytest.approx(3.0)


async def test_a_file_at_openai_expires_by_itself(httpx2_mock):
    answer = {"id": "f", "object": "file", "created_at": 1, "filename": "x", "purpose": "batch", "bytes": 1}
    route = httpx2_mock.post("https://api.openai.com/v1/files").mock(respx.MockResponse(json=answer))
    api = BatchApi(api_key="test")
    await api.upload("b1", b"{}\n")
    await api.close()

    sent = route.calls[0].request.content
    assert b'name="expires_after[seconds]"\r\n\r\n259200' in sent
    assert b'filename="normalizer-b1.jsonl"' in sent
