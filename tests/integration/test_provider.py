"""The simulated provider as its own process: what it answers, how it fails, what it counts, and that it says so."""

import json
import statistics
import time

import httpx2
import pytest

from normalizer.llm.client import LlmClient
from normalizer.llm.prompt import Record, build_messages, parse_answer, response_schema
from normalizer.simulation.demo import baseline_messages
from normalizer.simulation.provider import Options, Provider

TEXT = "R. das Flores, 12, Centro, Itu/SP tel (11) 98765-4321"
EXPECTED = {
    "rua": "Rua das Flores",
    "numero": "12",
    "complemento": None,
    "bairro": "Centro",
    "cidade": "Itu",
    "estado": "SP",
    "cep": None,
}
LABELS = {TEXT: EXPECTED, "ligar antes": None}


def request(*texts, **extra):
    records = [Record.of(text) for text in texts]
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": response_schema(len(records))}}
    return {"model": "any", "messages": build_messages(records), "response_format": schema} | extra


@pytest.fixture
def serve(start_provider):
    clients = []

    def serve(*, labels=LABELS, **options):
        provider = start_provider(labels, **options)
        clients.append(httpx2.Client(base_url=provider.root_url, timeout=10))
        return clients[-1]

    yield serve
    for client in clients:
        client.close()


def complete(client, *texts, **extra):
    return client.post("/v1/chat/completions", json=request(*texts, **extra))


def content(response):
    return response.json()["choices"][0]["message"]["content"]


def test_it_answers_from_labels_whatever_the_spelling_and_says_it_is_simulated(serve):
    client = serve()

    response = complete(client, TEXT.upper(), "ligar antes", "nunca visto")

    first, second, third = parse_answer(content(response), 3)
    assert first == EXPECTED
    assert not any(second.values())
    assert not any(third.values())
    assert response.headers["x-simulated"] == "true"
    assert response.json()["model"] == response.json()["system_fingerprint"] == "simulated"
    assert client.get("/v1/models").json()["data"][0]["id"] == "simulated"


def test_it_counts_tokens_records_and_keeps_the_requests(serve):
    client = serve()
    usage = complete(client, TEXT, TEXT).json()["usage"]

    stats = client.get("/stats").json()

    assert stats["requests"] == 1
    assert stats["records"] == 2
    assert stats["tokens_in"] == usage["prompt_tokens"] > 400
    assert stats["tokens_out"] == usage["completion_tokens"] > 30
    assert stats["by_status"] == {"200": 1}
    assert client.get("/requests").json()["requests"] == [request(TEXT, TEXT)]
    assert client.post("/reset").json()["requests"] == 0


@pytest.mark.parametrize(("kind", "fields"), [("endereco", tuple(EXPECTED)), ("documento", ("cpf", "rg"))])
def test_it_answers_the_replaced_workers_calls_too(serve, kind, fields):
    client = serve()

    body = {"model": "any", "messages": baseline_messages(kind, TEXT), "response_format": {"type": "json_object"}}
    answer = json.loads(content(client.post("/v1/chat/completions", json=body)))

    if kind == "endereco":
        assert answer == EXPECTED
    else:
        assert answer.keys() >= set(fields)
        assert not any(answer.values())


def test_it_answers_documents_in_batches_as_others_ask_for_them(serve):
    labels = {"CPF: 11144477735": {"cpf": "11144477735", "rg": None}, "RG 12.345.678": {"cpf": None, "rg": "12345678"}}
    client = serve(labels=labels)
    system = {"role": "system", "content": "cpf, rg, cpf_formatted, rg_formatted"}
    user = {"role": "user", "content": "r00: RG 12.345.678\nr01: CPF: 11144477735"}

    answer = json.loads(content(client.post("/v1/chat/completions", json={"messages": [system, user]})))

    assert answer == {"r00": ["", "12345678", "", ""], "r01": ["11144477735", "", "", ""]}


def test_it_takes_its_time(serve):
    client = serve(latency_ms=100, tokens_per_s=200)
    started = time.monotonic()

    spent = complete(client, TEXT).json()["usage"]["completion_tokens"]

    assert time.monotonic() - started >= 0.1 + spent / 200


def test_its_time_varies_by_the_seed():
    def seconds(**options):
        provider = Provider({}, Options(latency_ms=100, tokens_per_s=100, **options))
        return [provider.seconds_for(40) for _ in range(400)]

    assert set(seconds()) == {0.5}
    assert seconds(spread=0.3) == seconds(spread=0.3) != seconds(spread=0.3, seed=2)
    first, median, third = statistics.quantiles(seconds(spread=0.3), n=4)
    assert 0.35 < first < 0.45 < median < 0.55 < third < 0.7


def test_it_enforces_its_limits_and_tells_them(serve):
    client = serve(rpm=2, window_s=30)

    answers = [complete(client, TEXT) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 0 < float(answers[2].headers["retry-after"]) <= 30
    assert answers[1].headers["x-ratelimit-limit-requests"] == "2"
    assert answers[1].headers["x-ratelimit-remaining-requests"] == "0"


def test_it_enforces_tokens(serve):
    used = complete(serve(), TEXT).json()["usage"]["total_tokens"]
    client = serve(tpm=2 * used + used // 2, window_s=30)

    assert [complete(client, TEXT).status_code for _ in range(3)] == [200, 200, 429]


def test_an_endpoint_without_schema_refuses_one(serve):
    client = serve(schema=None, **{"no-schema": True})

    assert complete(client, TEXT).status_code == 400
    assert complete(client, TEXT, response_format={"type": "json_object"}).status_code == 200


def test_faults_are_scripted_and_end(serve):
    client = serve()
    client.post("/faults", json=[{"kind": "status", "status": 503, "retry_after_s": 2, "times": 2}])

    answers = [complete(client, TEXT) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].headers["retry-after"] == "2.000"


def test_a_fault_may_hit_one_text_or_a_share_of_calls(serve):
    client = serve()
    client.post("/faults", json=[{"kind": "garbage", "text": "Rua B", "times": 9}])
    assert content(complete(client, TEXT)).startswith("{")
    assert not content(complete(client, "Rua B, 2")).startswith("{")

    client.post("/faults", json=[{"kind": "empty", "rate": 0.5}])
    empty = sum(content(complete(client, TEXT)) == "" for _ in range(40))
    assert 8 <= empty <= 32


def test_a_dropped_connection_and_a_hang_look_like_real_ones(serve):
    client = serve()
    client.post("/faults", json=[{"kind": "drop_connection"}, {"kind": "hang"}])

    with pytest.raises(httpx2.RemoteProtocolError):
        complete(client, TEXT)
    with pytest.raises(httpx2.ReadTimeout):
        client.post("/v1/chat/completions", json=request(TEXT), timeout=0.1)


def test_an_answer_over_its_token_limit_is_cut(serve):
    choice = complete(serve(), TEXT, TEXT, max_tokens=20).json()["choices"][0]

    assert choice["finish_reason"] == "length"
    assert None in parse_answer(choice["message"]["content"], 2)


def test_a_slow_start_is_a_good_answer_that_comes_late(serve):
    client = serve()
    client.post("/faults", json=[{"kind": "slow_start", "seconds": 0.3}])
    started = time.monotonic()

    answer = parse_answer(content(complete(client, TEXT)), 1)

    assert time.monotonic() - started >= 0.3
    assert answer == (EXPECTED,)
    assert client.get("/stats").json()["by_fault"] == {"slow_start": 1}


def test_faults_may_be_scripted_before_it_starts(serve, tmp_path):
    script = tmp_path / "faults.json"
    script.write_text('[{"kind": "status", "status": 502}, {"kind": "empty"}]')
    client = serve(faults=script)

    assert complete(client, TEXT).status_code == 502
    assert content(complete(client, TEXT)) == ""
    assert content(complete(client, TEXT))


def test_an_unknown_fault_option_is_refused(serve):
    response = serve().post("/faults", json=[{"kind": "status", "statsu": 500}])

    assert response.status_code == 400
    assert "statsu" in response.json()["error"]["message"]


async def test_a_call_that_is_given_longer_than_others_is_not_ended_by_the_connection(start_provider):
    provider = start_provider(LABELS)
    with httpx2.Client(base_url=provider.root_url) as http:
        http.post("/faults", json=[{"kind": "slow_start", "seconds": 0.6}]).raise_for_status()
    client = LlmClient(api_key="test", model="simulated", base_url=provider.url, timeout_s=0.2)

    answer = await client.complete([Record.of(TEXT)], max_tokens_out=200, timeout_s=60)
    await client.close()

    assert answer.slots[0]["numero"] == "12"
