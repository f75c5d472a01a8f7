"""`normalizer doctor` and `normalizer cache` as an operator runs them, on real services with real faults."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from arq import create_pool
from arq.connections import RedisSettings
from redis import Redis

from normalizer import cli
from normalizer.cache import Entry
from normalizer.domain.decision import Reason
from normalizer.queue.serializer import job_deserializer, job_serializer
from normalizer.queue.service import QUEUE_NAME
from normalizer.runtime import lane_name, open_cache
from normalizer.settings import load_settings
from normalizer.simulation import embedded
from normalizer.store import AppointmentStore
from tests.integration.command import Ran

KEY = "sk-s3cret-key"


pytestmark = pytest.mark.usefixtures("services")


def findings(ran: Ran, area: str) -> list[tuple[str, str]]:
    return [(each["nivel"], each["achado"]) for each in ran.json["achados"] if each["area"] == area]


def wrong(ran: Ran, area: str) -> list[str]:
    return [what for level, what in findings(ran, area) if level != "ok"]


@pytest.fixture
def model(
    monkeypatch: pytest.MonkeyPatch, start_provider: Callable[..., embedded.ProviderService]
) -> Callable[..., embedded.ProviderService]:
    def start(**options: object) -> embedded.ProviderService:
        provider = start_provider({}, **options)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        monkeypatch.setenv("OPENAI_MODEL", "simulated")
        return provider

    return start


def test_a_sound_system_without_a_worker_has_warnings_only(run: Callable[..., Ran], model: Callable[..., Any]) -> None:
    model(rpm=1_000, tpm=300_000)

    ran = run("doctor", "--json")

    assert ran.code == 0, ran.out
    assert json.loads(ran.out)["ok"] is True
    assert wrong(ran, "Redis") == []
    assert findings(ran, "IA")[-1] == ("ok", "LLM_TPM=200000 cabe no limite do provedor (300000)")
    assert ("ok", "aceita o esquema JSON estrito") in findings(ran, "IA")
    assert any("nenhum worker" in what for what in wrong(ran, "Workers"))
    assert [what.split(":")[0] for what in wrong(ran, "MongoDB")] == ["faltam índices"]
    assert KEY not in ran.out + ran.err


def test_people_get_a_mend_for_each_problem(run: Callable[..., Ran]) -> None:
    ran = run("doctor", "--offline")

    assert ran.code == 0
    assert "normalizer retry --review" in ran.out
    assert "0 erros" in ran.out


async def test_jobs_in_a_queue_nobody_reads_are_found(run: Callable[..., Ran], redis_url: str) -> None:
    pool = await create_pool(RedisSettings.from_dsn(redis_url), default_queue_name="arq:fila")
    await pool.enqueue_job("normalize_appointment", "a")
    await pool.aclose()

    ran = await asyncio.to_thread(run, "doctor", "--offline", "--json")

    assert [what for what in wrong(ran, "Workers") if "fila" in what] == ["1 jobs na fila arq:fila, que ninguém lê."]


def test_a_redis_that_evicts_is_wrong(run: Callable[..., Ran], valkey: embedded.RedisService) -> None:
    with Redis.from_url(valkey.url) as server:
        server.config_set("maxmemory", "500mb")
        server.config_set("maxmemory-policy", "allkeys-lru")
        try:
            ran = run("doctor", "--json")
        finally:
            server.config_set("maxmemory-policy", "noeviction")
            server.config_set("maxmemory", "0")

    assert ran.code == cli.FAILED
    assert wrong(ran, "Redis") == ["maxmemory-policy é allkeys-lru."]


def test_a_redis_that_wakes_nobody_is_told_how(run: Callable[..., Ran], valkey: embedded.RedisService) -> None:
    with Redis.from_url(valkey.url) as server:
        server.config_set("notify-keyspace-events", "Kx")
        try:
            ran = run("doctor", "--json")
        finally:
            server.config_set("notify-keyspace-events", "Kz")

    assert ran.code == 0
    assert wrong(ran, "Redis") == ["o Redis não avisa de jobs novos."]


@pytest.mark.parametrize(
    ("name", "value", "area"),
    [
        ("REDIS_URL", "redis://:s3cret@127.0.0.1:1", "Redis"),
        ("MONGODB_URL", "mongodb://u:s3cret@127.0.0.1:1/?serverSelectionTimeoutMS=300", "MongoDB"),
    ],
)
def test_a_service_that_is_away_is_not_ready_and_the_others_are_still_examined(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, name: str, value: str, area: str
) -> None:
    monkeypatch.setenv(name, value)

    ran = run("doctor", "--lgpd", "--json")

    assert ran.code == cli.NOT_READY
    assert [level for level, _ in findings(ran, area)] == ["fora do ar"]
    assert findings(ran, {"Redis": "MongoDB", "MongoDB": "Redis"}[area])[0][0] == "ok"
    assert "s3cret" not in ran.out + ran.err


def test_a_wrong_setting_is_a_finding(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARQ_MAX_JOBS", "muitos")

    ran = run("doctor", "--json")

    assert ran.code == cli.USAGE
    assert "ARQ_MAX_JOBS" in wrong(ran, "Configuração")[0]


def test_a_refused_key_is_wrong_and_not_shown(
    run: Callable[..., Ran], model: Callable[..., Any], post: Callable[..., None]
) -> None:
    post(model(), {"kind": "status", "status": 401})

    ran = run("doctor", "--json")

    assert ran.code == cli.FAILED
    assert "401" in wrong(ran, "IA")[0]
    assert KEY not in ran.out + ran.err


def test_an_endpoint_without_schemas_and_with_lower_limits_is_a_warning(
    run: Callable[..., Ran], model: Callable[..., Any]
) -> None:
    model(no_schema=True, rpm=10, tpm=5_000)

    ran = run("doctor", "--json")

    assert ran.code == 0
    said = " ".join(wrong(ran, "IA"))
    assert "esquema estrito" in said
    assert "LLM_RPM=500, e o provedor permite 10." in said


def test_how_the_endpoint_must_be_asked_is_found_out_afresh_and_the_workers_are_told(
    run: Callable[..., Ran], model: Callable[..., Any], redis_url: str, asked: Callable[..., int]
) -> None:
    provider = model(no_schema=True)
    key = f"norm:endpoint:{lane_name(load_settings())}"
    with Redis.from_url(redis_url) as client:
        client.set(key, b'{"mode": "text", "without": []}')
        run("doctor", "--json")
        assert json.loads(client.get(key) or b"")["mode"] == "json_object"
        run("doctor", "--offline")
    assert asked(provider) == 2, "refused with a schema, answered in JSON mode, and left alone when offline"


def test_what_the_workers_found_out_of_the_endpoint_is_shown(
    run: Callable[..., Ran], model: Callable[..., Any], redis_url: str
) -> None:
    model()
    name = lane_name(load_settings())
    with Redis.from_url(redis_url) as client:
        client.set(f"norm:endpoint:{name}", b'{"mode": "json_object", "without": []}')
        client.hset(f"norm:limit:{name}", "refused", "conta sem saldo (402).")

    ran = run("doctor", "--offline", "--json")

    assert any("json_object" in what for level, what in findings(ran, "IA") if level == "ok")
    assert "a IA está parada: conta sem saldo (402)." in " ".join(wrong(ran, "IA"))


def test_offline_asks_nobody(run: Callable[..., Ran], model: Callable[..., Any], asked: Callable[..., int]) -> None:
    provider = model()

    assert run("doctor", "--offline").code == 0
    assert asked(provider) == 0


class TestLgpd:
    def test_jobs_that_carry_more_than_an_id_are_wrong(self, run: Callable[..., Ran], redis_url: str) -> None:
        async def enqueue() -> None:
            pool = await create_pool(
                RedisSettings.from_dsn(redis_url),
                default_queue_name=QUEUE_NAME,
                job_serializer=job_serializer,
                job_deserializer=job_deserializer,
            )
            await pool.enqueue_job("normalize_appointment", "6540f")
            await pool.enqueue_job("normalize_appointment", "CPF: 111.444.777-35")
            await pool.enqueue_job("normalize_appointment", {"nome": "Fulana"})
            await pool.aclose()

        asyncio.run(enqueue())

        ran = run("doctor", "--lgpd", "--json")

        assert ran.code == cli.FAILED
        assert any(what.startswith("2 de 3 jobs") for what in wrong(ran, "LGPD"))
        assert "111.444" not in ran.out
        assert "Fulana" not in ran.out

    def test_what_should_expire_and_does_not_is_wrong(
        self, run: Callable[..., Ran], mongo_url: str, database: str, mongo: Any
    ) -> None:
        async def prepare() -> None:
            async with AppointmentStore.connect(mongo_url, database) as store:
                await store.ensure_indexes()

        asyncio.run(prepare())
        before = run("doctor", "--lgpd", "--json")
        mongo["normalizer_undo"].drop_index("normalizer_expiry")
        after = run("doctor", "--lgpd", "--json")

        assert (before.code, after.code) == (0, cli.FAILED)
        assert "registros de normalizer_undo não expiram." in wrong(after, "LGPD")

    def test_cache_values_in_clear_are_told_from_sealed_ones(self, run: Callable[..., Ran], redis_url: str) -> None:
        fill_cache()
        sealed = run("doctor", "--lgpd", "--json")
        Redis.from_url(redis_url).set("norm:c1r1:a:m:endereco:00", b"\x00{}")
        plain = run("doctor", "--lgpd", "--json")

        assert (sealed.code, plain.code) == (0, 0)
        assert ("ok", "cache: 1 valores lidos, 1 cifrados") in findings(sealed, "LGPD")
        assert any("1 de 2" in what and "em claro" in what for what in wrong(plain, "LGPD"))

    def test_a_log_with_personal_data_is_wrong_by_line(self, run: Callable[..., Ran], tmp_path: Path) -> None:
        dirty, clean = tmp_path / "dirty.log", tmp_path / "clean.log"
        dirty.write_text("ok\ncpf 111.444.777-35\nok 11111111111\nliga (11) 91234-5678\n", encoding="utf-8")
        clean.write_text('{"event": "queue.group.done", "jobs": 250, "at": 11444777000}\n', encoding="utf-8")

        ran = run("doctor", "--lgpd", "--log", str(dirty), "--log", str(clean), "--json")

        assert ran.code == cli.FAILED
        assert "dirty.log: 2 linhas com dado pessoal (2, 4)." in wrong(ran, "LGPD")
        assert ("ok", "clean.log: nenhum CPF, telefone ou e-mail") in findings(ran, "LGPD")
        assert "111.444" not in ran.out


def fill_cache() -> None:
    async def fill() -> None:
        async with open_cache() as cache:
            await cache.put_many("endereco", {"Rua A, 1": Entry(reason=Reason.ADDRESS_JUNK)})

    asyncio.run(fill())


class TestCache:
    def test_stats_counts_and_purge_removes_but_what_a_person_said(
        self, run: Callable[..., Ran], redis_url: str
    ) -> None:
        fill_cache()
        with Redis.from_url(redis_url) as redis:
            redis.set("norm:c0r0:old:model:endereco:x", b"\0{}")
            redis.set("norm:manual:endereco:y", b"\0{}")

        counted = json.loads(run("cache", "stats", "--json").out)
        older = json.loads(run("cache", "purge", "--older", "--json").out)
        rest = json.loads(run("cache", "purge", "--yes", "--json").out)

        assert counted == {"atuais": 1, "antigas": 1, "manuais": 1}
        assert (older, rest) == ({"apagadas": 1}, {"apagadas": 1})
        assert run("cache", "stats").out == "0 atuais, 0 antigas, 1 manuais\n"

    def test_a_purge_of_everything_must_be_confirmed(self, run: Callable[..., Ran]) -> None:
        fill_cache()

        ran = run("cache", "purge")

        assert ran.code == cli.USAGE
        assert "--yes" in ran.err
        assert json.loads(run("cache", "stats", "--json").out)["atuais"] == 1


@pytest.fixture
def post() -> Callable[..., None]:
    import httpx

    return lambda provider, *faults: httpx.post(f"{provider.root_url}/faults", json=list(faults)).raise_for_status()


@pytest.fixture
def asked() -> Callable[..., int]:
    import httpx

    return lambda provider: httpx.get(f"{provider.root_url}/stats").json()["requests"]


BAD_SETTINGS = [
    {"ALL_PROXY": "socks5://127.0.0.1:1080"},
    {"ALL_PROXY": "nonsense://x"},
    {"OPENAI_BASE_URL": "api.openai.com/v1"},
    {"OPENAI_BASE_URL": "https://host:<PORT>/v1"},
    {"OPENAI_API_KEY": '"sk-s3cret-key"'},
    {"OPENAI_API_KEY": "sk-s3cret-key\n"},
    {"OPENAI_API_KEY": "sk-s3cret-kéy"},
]


@pytest.mark.parametrize("given", BAD_SETTINGS, ids=lambda given: str(given)[:45])
def test_a_setting_no_call_can_be_made_with_is_one_sentence_here_and_at_the_start_of_a_worker(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    ran = run("doctor", "--json")
    started = subprocess.run(
        [sys.executable, str(Path(__file__).parents[2] / "workers.py")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ran.code == 2
    assert len([each for each in ran.json["achados"] if each["nivel"] == "configuração"]) == 1
    assert started.returncode == 2, started.stderr
    [sentence] = [line for line in started.stderr.splitlines() if line.startswith("Erro: ")]
    assert "Traceback" not in started.stdout + started.stderr
    assert "s3cret" not in ran.out + sentence
