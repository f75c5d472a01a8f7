"""What `normalizer estimate` says is what an import then takes, and saying it leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from normalizer.cache import Entry
from normalizer.domain.appointment import Kind
from normalizer.domain.decision import Reason
from normalizer.errors import InvalidInput
from normalizer.imports.estimate import LaneLimits, estimate_sheet
from normalizer.runtime import lane_of, open_known_answers, open_producer
from normalizer.settings import Settings, settings_of
from tests.integration.command import Ran

EASY = "Av. Brasil, 100, Centro, Cascavel, PR"
HARD = [f"Rua das Acácias {number}, Jardim Tal, Cidade Que Não Existe" for number in range(30)]
HEADER = "Id do agendamento;Nome do Paciente;Data/Hora Início Agendamento;Endereço Coleta;Documento(s) do Paciente"


def sheet(*addresses: str) -> bytes:
    rows = [
        f"a{number};Paciente {number};10/10/2026 08:00:00;{address};CPF: 11144477735"
        for number, address in enumerate(addresses)
    ]
    return "\n".join([HEADER, *rows]).encode()


SHEET = sheet(EASY, EASY.upper(), "", *HARD)


@pytest.fixture
def settings(redis_url: str, mongo_url: str, database: str) -> Settings:
    return settings_of({"REDIS_URL": redis_url, "MONGODB_URL": mongo_url, "DATABASE_NAME": database})


@pytest.fixture
def lane(settings: Settings) -> LaneLimits:
    return lane_of(settings)


async def test_texts_are_counted_by_who_would_answer_them(lane: LaneLimits) -> None:
    foreseen = await estimate_sheet(SHEET, lane=lane, cache=None)

    said = foreseen.as_dict()
    assert (said["linhas"], said["problemas"]) == (33, 0)
    assert (said["enderecos_distintos"], said["documentos_distintos"]) == (31, 1)
    assert (said["do_cache"], said["por_regras"], said["para_a_ia"]) == (None, 1, 30)
    assert said["chamadas"] == 2
    assert 0 < said["custo_usd"] < 0.01
    assert said["minutos"] > 0
    assert "cache não consultado" in "\n".join(foreseen.lines())
    assert "Sem OPENAI_API_KEY" in "\n".join(foreseen.lines())


async def test_what_the_cache_knows_costs_nothing(settings: Settings, lane: LaneLimits) -> None:
    async with open_producer(settings) as producer:
        known = dict.fromkeys(HARD[:20], Entry(reason=Reason.MODEL_NO_ANSWER))
        await producer.cache.put_many(Kind.ADDRESS, known)

    async with open_known_answers(settings) as cache:
        said = (await estimate_sheet(SHEET, lane=lane, cache=cache)).as_dict()

    assert said["cache_consultado"]
    assert (said["do_cache"], said["por_regras"], said["para_a_ia"], said["chamadas"]) == (20, 1, 10, 1)


async def test_an_appointment_that_stands_twice_counts_once(lane: LaneLimits) -> None:
    twice = SHEET + b"\n" + SHEET.split(b"\n")[1]

    said = (await estimate_sheet(twice, lane=lane, cache=None)).as_dict()

    assert (said["linhas"], said["problemas"]) == (33, 1)


async def test_a_budget_that_would_not_do_is_named() -> None:
    lane = LaneLimits(model="gpt-6-luna", has_key=True, daily_budget_usd=1e-6)

    assert "DAILY_BUDGET_USD" in "\n".join((await estimate_sheet(SHEET, lane=lane, cache=None)).lines())


async def test_a_file_that_is_no_sheet_is_refused(lane: LaneLimits) -> None:
    with pytest.raises(InvalidInput):
        await estimate_sheet(b"%PDF-1.7", lane=lane, cache=None, name="agenda.pdf")


async def test_looking_leaves_no_trace(settings: Settings, lane: LaneLimits, mongo: Any, redis: Any) -> None:
    async with open_known_answers(settings) as cache:
        await estimate_sheet(SHEET, lane=lane, cache=cache)

    assert mongo.list_collection_names() == []
    assert await redis.dbsize() == 0


def test_the_command_works_with_services(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Settings
) -> None:
    monkeypatch.setenv("REDIS_URL", settings.redis_url.get_secret_value())
    monkeypatch.setenv("MONGODB_URL", settings.mongodb_url.get_secret_value())
    monkeypatch.setenv("DATABASE_NAME", settings.database_name)
    (tmp_path / "agenda.csv").write_bytes(SHEET)

    ran = run("estimate", "agenda.csv", "--json")

    assert ran.code == 0
    assert (ran.json["para_a_ia"], ran.json["do_cache"], ran.json["cache_consultado"]) == (30, 0, True)


@pytest.mark.parametrize("secret", ["", "s"])
def test_the_command_works_without_any_service(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secret: str
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("MONGODB_URL", "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200")
    monkeypatch.setenv("CACHE_SECRET", secret)
    (tmp_path / "agenda.csv").write_bytes(SHEET)

    people, machine = run("estimate", "agenda.csv"), run("estimate", "agenda.csv", "--json")

    assert (people.code, machine.code) == (0, 0)
    assert "cache não consultado" in people.out
    assert (machine.json["para_a_ia"], machine.json["cache_consultado"]) == (30, False)
