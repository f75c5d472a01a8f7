"""What a person sends back is read afresh: no answer of an earlier reading stands in its way."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr

from normalizer.cache import Entry
from normalizer.domain.appointment import Kind, Status
from normalizer.domain.decision import Reason, Undecided
from normalizer.operations.steering import requeue
from normalizer.runtime import build_worker, open_producer
from normalizer.settings import Settings, settings_of
from normalizer.worker import pipeline

TEXT = "Rua das Flores, 52, Recreio, Rio de Janeiro, RJ, 22790-285"
ADDRESS = {
    "rua": "Rua das Flores",
    "numero": "52",
    "complemento": None,
    "bairro": "Recreio",
    "cidade": "Rio de Janeiro",
    "estado": "RJ",
    "cep": "22790-285",
}


@pytest.fixture
def settings(redis_url: str, mongo_url: str, database: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(pipeline, "parse_address", lambda *_: Undecided(Reason.ADDRESS_AMBIGUOUS))
    return settings_of(
        {"REDIS_URL": redis_url, "MONGODB_URL": mongo_url, "DATABASE_NAME": database, "BATCH_LINGER_MS": "20"}
    )


async def work(settings: Settings, provider: Any) -> None:
    update = {"openai_base_url": provider.url, "openai_model": "simulated-model", "openai_api_key": SecretStr("k")}
    worker = build_worker(settings.model_copy(update=update), burst=True, handle_signals=False, poll_delay=0.05)
    await worker.async_run()
    await worker.close()


def asked(provider: Any) -> int:
    with urllib.request.urlopen(f"{provider.root_url}/stats", timeout=60) as answer:  # noqa: S310 — loopback
        return int(json.load(answer)["requests"])


async def test_what_the_model_could_not_read_is_asked_again_after_a_retry(
    settings: Settings, mongo: Any, start_provider: Callable[..., Any]
) -> None:
    row = {"_id": "a", "endereco_completo": TEXT, "documento_completo": "CPF: 11144477735"}
    mongo["appointments"].insert_one(row | {"normalizacao": {"status": "pendente"}})
    ignorant, wiser = start_provider({}), start_provider({TEXT: ADDRESS})
    model = settings.model_copy(update={"openai_model": "simulated-model"})
    async with open_producer(model) as producer:
        services = {"store": producer.store, "tasks": producer.tasks, "cache": producer.cache}
        await producer.tasks.enqueue("a")
        await work(settings, ignorant)
        assert mongo["appointments"].find_one({"_id": "a"})["normalizacao"]["status"] == "revisar"
        assert (await producer.cache.get_many(Kind.ADDRESS, [TEXT]))[TEXT].reason is Reason.MODEL_NO_ANSWER

        assert await requeue([Status.REVIEW], **services) == 1
        await work(settings, wiser)

    assert mongo["appointments"].find_one({"_id": "a"})["endereco_normalizado"] == ADDRESS
    assert asked(wiser) == 1


async def test_only_what_was_asked_for_is_forgotten(settings: Settings, mongo: Any) -> None:
    for name, status in (("a", "falhou"), ("b", "revisar")):
        mongo["appointments"].insert_one(
            {"_id": name, "endereco_completo": f"{TEXT} {name}", "normalizacao": {"status": status}}
        )
    negative = Entry(reason=Reason.MODEL_REFUSED)
    async with open_producer(settings) as producer:
        await producer.cache.put_many(Kind.ADDRESS, {f"{TEXT} a": negative, f"{TEXT} b": negative})

        queued = await requeue([Status.FAILED], store=producer.store, tasks=producer.tasks, cache=producer.cache)

        left = await producer.cache.get_many(Kind.ADDRESS, [f"{TEXT} a", f"{TEXT} b"])
        assert (queued, list(left)) == (1, [f"{TEXT} b"])
        assert (await producer.tasks.status()).due == 1
