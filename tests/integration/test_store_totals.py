"""Figures of all appointments: right, and at a cost that follows what is open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from normalizer.domain.address import Address
from normalizer.domain.appointment import Absent, Kind, Normalized, Origin, Review, Status
from normalizer.domain.decision import Reason
from normalizer.store import AppointmentStore, ImportRow, ImportState, Result
from normalizer.store.connection import open_client
from normalizer.store.indexes import weaknesses

ADDRESS = Address(rua="Rua A", cidade="Campinas", estado="SP")
READ = Normalized(ADDRESS, Origin.RULES)
NOTHING = Absent(Reason.DOCUMENT_MISSING)


class Clock:
    """The time, moved by hand."""

    now = datetime(2026, 11, 27, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def store(mongo_url: str, database: str, clock: Clock) -> AsyncIterator[AppointmentStore]:
    async with AppointmentStore(open_client(mongo_url), database, owned=True, clock=clock) as store:
        await store.ensure_indexes()
        yield store


async def put(store: AppointmentStore, *keys: str) -> str:
    import_id = await store.imports.begin(file="agenda.csv")
    await store.upsert_rows([ImportRow(key, {"endereco_completo": f"rua {key}"}) for key in keys], import_id)
    await store.imports.end(import_id, state=ImportState.FINISHED)
    return import_id


async def end(store: AppointmentStore, *outcomes: Any) -> None:
    """The waiting ones, one after the other, so."""
    ids = [item.id for chunk in [chunk async for chunk in store.pending()] for item in chunk]
    loaded = await store.load(ids)
    results = [
        Result(loaded[id_], {Kind.ADDRESS: outcome, Kind.DOCUMENT: NOTHING}, fence=1, tries=1)
        for id_, outcome in zip(ids, outcomes, strict=True)
    ]
    assert len((await store.save(results)).saved) == len(outcomes)


async def test_all_accounts_are_counted_and_what_nobody_keeps_is_not(store: AppointmentStore, mongo: Any) -> None:
    await put(store, *"abcd")
    await end(store, READ, Normalized(ADDRESS, Origin.CACHE), Review(Reason.CITY_UNKNOWN, Origin.RULES), NOTHING)
    await put(store, "e")
    theirs = [{"normalization_status": status} for status in ("pending", "processing", "failed", "completed")]
    mongo.appointments.insert_many([*theirs, {"nome_paciente": "Fulano Fictício"}])

    counts = await store.totals.counts()

    assert dict(counts.by_status) == {"pendente": 3, "revisar": 1, "falhou": 1, "concluido": 4}
    assert counts.by_reason[Kind.ADDRESS] == {"cidade não identificada": 1}
    assert counts.by_error.total() == 1
    portions = await store.totals.progress(counts)
    assert portions.by_origin.total() == 4
    assert portions.by_origin["cache"] > 0


async def test_today_ends_at_midnight_in_brasilia(store: AppointmentStore, clock: Clock) -> None:
    await put(store, "a", "b")
    await end(store, READ, READ)
    assert await store.totals.concluded_today() == 2
    clock.now += timedelta(hours=14)  # 23:00 in Brasília
    assert await store.totals.concluded_today() == 2
    clock.now += timedelta(hours=1)
    assert await store.totals.concluded_today() == 0


async def test_what_earlier_versions_concluded_is_counted_once(store: AppointmentStore, mongo: Any) -> None:
    old = {"status": "concluido", "endereco": {"origem": "llm"}}
    mongo.appointments.insert_many([{"normalizacao": old} for _ in range(3)])
    counts = await store.totals.counts()
    assert (await store.totals.progress(counts)).by_origin == {"llm": 3}
    assert mongo.normalizer_totals.find_one({"_id": "antes"})["por"] == {"llm": 3}


async def test_an_import_s_figures_are_kept_once_none_waits_and_counted_anew_after_a_change(
    store: AppointmentStore, mongo: Any
) -> None:
    import_id = await put(store, "a", "b")
    assert (await store.imports.progress(import_id)).by_status == {"pendente": 2}
    await end(store, READ, Review(Reason.CITY_UNKNOWN, Origin.RULES))
    figures = await store.imports.progress(import_id)
    assert figures.by_status == {"concluido": 1, "revisar": 1}
    assert mongo.normalizer_imports.find_one()["figuras"]["estados"] == {"concluido": 1, "revisar": 1}
    assert await store.imports.progress(import_id) == figures

    assert [len(chunk) async for chunk in store.requeue({Status.REVIEW})] == [1]
    assert (await store.imports.progress(import_id)).by_status == {"concluido": 1, "pendente": 1}


@pytest.mark.parametrize(
    ("asked", "hello", "said"),
    [
        ({}, {"setName": "rs", "hosts": ["a", "b", "c"]}, []),
        ({"w": "majority", "j": True}, {"msg": "isdbgrid"}, []),
        ({"w": 0}, {"setName": "rs", "hosts": ["a", "b", "c"]}, ["w=0"]),
        ({"w": 1}, {"setName": "rs", "hosts": ["a", "b", "c"]}, ["w=1"]),
        ({"j": False}, {"setName": "rs", "hosts": ["a", "b", "c"]}, ["j=False"]),
        ({}, {}, ["um nó só"]),
        ({}, {"setName": "rs", "hosts": ["a", "b"], "arbiters": ["c"]}, ["árbitro"]),
    ],
)
def test_what_weakens_an_acknowledged_write(asked: Any, hello: Any, said: list[str]) -> None:
    found = [problem for problem, _ in weaknesses(asked, hello)]
    assert len(found) == len(said)
    assert all(word in problem for word, problem in zip(said, found, strict=True))
