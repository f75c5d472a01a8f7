"""Pages of appointments: all of them once, whatever was touched at one moment, and the next from where one ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from bson import ObjectId

from normalizer.domain.appointment import Origin, Status
from normalizer.errors import InvalidInput
from normalizer.store import AppointmentStore, Filter, Order, Page
from normalizer.store.connection import open_client

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
CITY, STATE = "cidade não identificada", "estado não identificado"


@pytest_asyncio.fixture
async def store(mongo_url: str, database: str) -> AsyncIterator[AppointmentStore]:
    async with AppointmentStore(open_client(mongo_url), database, owned=True, clock=lambda: NOW) as store:
        await store.ensure_indexes()
        yield store


def row(number: int, *, touched: int = 0, status: str = "revisar", **ours: Any) -> dict[str, Any]:
    """An appointment touched so many seconds ago."""
    tracking = {"revisar": "failed", "falhou": "failed", "concluido": "completed", "pendente": "pending"}[status]
    about = {"status": status, "import_id": "one", **ours}
    at = NOW - timedelta(seconds=touched)
    return {"id": f"a{number}", "updated_at": at, "normalization_status": tracking, "normalizacao": about}


async def pages(store: AppointmentStore, chosen: Filter, limit: int) -> list[list[str]]:
    found, page = [], Page((), 0)
    while True:
        page = await store.browse(chosen, after=page.after, limit=limit)
        found.append([each.id for each in page.appointments])
        if page.after is None:
            return found


async def test_pages_meet_where_many_were_touched_at_one_moment(store: AppointmentStore, mongo: Any) -> None:
    # Two are older, seven are of one moment, one is younger; one in the account of an earlier version.
    mongo.appointments.insert_many([row(n, touched=60 if 1 <= n <= 7 else 0 if n == 0 else 100 + n) for n in range(10)])
    mongo.appointments.update_one({"id": "a4"}, {"$unset": {"normalization_status": ""}})

    for limit in (1, 2, 3, 7):
        found = await pages(store, Filter(Status.REVIEW), limit)
        assert all(len(page) == limit for page in found[:-1])
        flat = [name for page in found for name in page]
        assert (flat[0], flat[-2:]) == ("a0", ["a8", "a9"])
        assert sorted(flat) == [f"a{n}" for n in range(10)], "each once"


async def test_a_page_is_not_moved_by_what_came_meanwhile(store: AppointmentStore, mongo: Any) -> None:
    mongo.appointments.insert_many([row(n, touched=n + 1) for n in range(4)])
    first = await store.browse(Filter(Status.REVIEW), limit=2)
    mongo.appointments.insert_one(row(9, touched=0))

    second = await store.browse(Filter(Status.REVIEW), after=first.after, limit=2)

    assert [each.id for each in second.appointments] == ["a2", "a3"]
    assert second.total == 5
    by_number = await store.browse(Filter(Status.REVIEW), skip=1, limit=2)
    assert [each.id for each in by_number.appointments] == ["a0", "a1"]


@pytest.mark.parametrize("key", ["_id of ours", "the backend's own"])
async def test_an_imports_appointments_stand_in_the_order_of_its_sheet(
    store: AppointmentStore, mongo: Any, key: str
) -> None:
    rows = [row(n, touched=n % 3) for n in range(5)]
    if key == "the backend's own":
        rows = [{"_id": f"k{n}", **each} for n, each in enumerate(rows[:3])] + rows[3:]
    mongo.appointments.insert_many([*rows, row(7, import_id="other")])

    assert await pages(store, Filter(import_id="one"), 2) == [["a0", "a1"], ["a2", "a3"], ["a4"]]
    assert [len(found) async for found in store.each(Filter(import_id="one"), most=3)] == [3]


async def test_a_cause_or_an_origin_counts_an_appointment_once(store: AppointmentStore, mongo: Any) -> None:
    both = {"endereco": {"motivo": CITY, "origem": "llm"}, "documento": {"motivo": CITY, "origem": "llm"}}
    mongo.appointments.insert_many(
        [
            row(0, **both),
            row(1, documento={"motivo": CITY, "origem": "regras"}),
            row(2, endereco={"motivo": STATE, "origem": "regras"}),
            row(3, status="falhou", erro=CITY),
            row(4, status="concluido", endereco={"origem": "llm"}),
            row(5, status="concluido", touched=40 * 86_400, endereco={"origem": "llm"}),
        ]
    )

    async def found(**chosen: Any) -> tuple[set[str], int]:
        page = await store.browse(Filter(**chosen))
        return {each.id for each in page.appointments}, page.total

    assert await found(status=Status.REVIEW, cause=CITY) == ({"a0", "a1"}, 2)
    assert await found(cause=CITY) == ({"a0", "a1", "a3"}, 3)
    assert await found(origin=Origin.MODEL) == ({"a0", "a4"}, 2), "concluded ones of the last month"
    assert await found(status=Status.REVIEW, origin=Origin.MODEL, cause=CITY) == ({"a0"}, 1)
    assert await found(status=Status.DONE) == ({"a4", "a5"}, 2)
    assert await found() == ({f"a{n}" for n in range(6)}, 6)


@pytest.mark.parametrize("text", ["", "2", "não é um lugar", "AAAA"])
async def test_a_place_nobody_gave_is_refused_in_a_sentence(store: AppointmentStore, text: str) -> None:
    with pytest.raises(InvalidInput, match="página"):
        await store.browse(Filter(), after=text)


@pytest.mark.parametrize("order", Order)
async def test_in_any_order_each_is_shown_once(store: AppointmentStore, mongo: Any, order: Order) -> None:
    """Three are of one hour, three were touched at one moment, one has no date."""
    days = [3, 1, 1, 1, 2, None]
    rows = [row(n, touched=(50, 50, 50, 9, 60, 70)[n]) | {"_id": ObjectId(f"{n:024}")} for n in range(6)]
    dates = [{"data_agendamento": datetime(2026, 12, day) if day else None} for day in days]
    mongo.appointments.insert_many([each | date for each, date in zip(rows, dates, strict=True)])
    expected = {
        Order.RECENT: ["3", "012", "4", "5"],
        Order.OLDEST: ["5", "4", "012", "3"],
        Order.SHEET: ["0", "1", "2", "3", "4", "5"],
        Order.DATE: ["123", "4", "0"],
        Order.DATE_LAST: ["0", "4", "123"],
    }[order]

    for limit in (1, 2, 4, 50):
        flat = [name[1:] for page in await pages(store, Filter(order=order), limit) for name in page]
        assert len(flat) == sum(map(len, expected))
        for alike in expected:
            assert sorted(flat[: len(alike)]) == list(alike)
            flat = flat[len(alike) :]


async def test_a_place_of_another_order_is_refused(store: AppointmentStore, mongo: Any) -> None:
    mongo.appointments.insert_many([row(n) for n in range(3)])
    first = await store.browse(Filter(order=Order.SHEET), limit=2)
    with pytest.raises(InvalidInput, match="página"):
        await store.browse(Filter(order=Order.OLDEST), after=first.after)
