"""The benchmarks' store in memory: what a driver and our own store see on it is what they see on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest
from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import BulkWriteError, OperationFailure

from benchmarks.sink import SinkService, start_sink
from normalizer.domain.address import Address
from normalizer.domain.appointment import Kind, Normalized, Origin, Review, Status
from normalizer.domain.decision import Reason
from normalizer.domain.document import Document
from normalizer.store import AppointmentStore, ImportRow, Result

ROWS = 700  # more than one bulk, more than one batch of a cursor
ADDRESS = Address(rua="Rua das Flores", numero="10", bairro="Centro", cidade="Campinas", estado="SP", cep="13010-000")
DOCUMENT = Document(cpf="11144477735", rg=None)
DONE = {Kind.ADDRESS: Normalized(ADDRESS, Origin.RULES), Kind.DOCUMENT: Normalized(DOCUMENT, Origin.RULES)}
UNCLEAR = {Kind.ADDRESS: Review(Reason.NO_MODEL_KEY, Origin.RULES)}
START = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Clock:
    """Whole seconds, one more at each look."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SinkService]:
    with start_sink(tmp_path_factory.mktemp("sink")) as service:
        yield service


@pytest.fixture
async def collection(sink: SinkService, database: str) -> AsyncIterator[Any]:
    client: Any = AsyncIOMotorClient(sink.url)
    yield client[database]["appointments"]
    client.close()


async def test_our_store_sees_on_it_what_it_sees_on_a_real_server(
    sink: SinkService, mongo_url: str, database: str
) -> None:
    assert await life(sink.url, database) == await life(mongo_url, database)


async def life(url: str, database: str) -> list[Any]:
    """Import, import again, save, be overtaken, fail, ask, undo; what each step reported, ids replaced by keys."""
    async with AppointmentStore(AsyncIOMotorClient(url), database, owned=True, clock=Clock()) as store:
        await store.ensure_indexes()
        first = await store.upsert_rows([row(number) for number in range(ROWS)], "first")
        ids = list(first.new)
        found = list((await store.load(ids)).values())
        saved = await store.save([Result(each, DONE, fence=5, tries=1) for each in found[:-10]])
        overtaken = await store.save([Result(each, DONE, fence=4, tries=1) for each in found[:3]])
        unclear = await store.save([Result(found[-1], UNCLEAR, fence=6, tries=2)])
        failed = await store.mark_failed({ids[-2]: ("derruba o processo", 7), ids[0]: ("atrasado", 1)})
        second = await store.upsert_rows(
            [row(0, "rua nova, 1, centro, campinas, SP"), *map(row, range(1, 5))], "second"
        )
        stale = await store.save([Result(found[0], DONE, fence=9, tries=1)])
        waiting = [each async for chunk in store.pending(limit=500, older_than_s=0) for each in chunk]
        retried = [each async for chunk in store.requeue({Status.REVIEW}) for each in chunk]
        announced = [await store.imports.announce("0" * 24, file="a.csv", content="d") for _ in range(2)]
        counts = [await store.totals.counts(), await store.imports.progress("second")]
        page = await store.undo("second")
        by_key = {id_: number for number, id_ in enumerate(ids)}
        return [
            announced,
            len(first.new),
            found[3].text(Kind.ADDRESS),
            sorted(by_key[id_] for id_ in saved.saved),
            sorted(by_key[id_] for id_ in overtaken.conflicts),
            [by_key[id_] for id_ in unclear.saved],
            ([by_key[id_] for id_ in failed.saved], [by_key[id_] for id_ in failed.conflicts]),
            ([by_key[id_] for id_ in second.changed], second.equal),
            [by_key[id_] for id_ in stale.conflicts],
            sorted(by_key[each.id] for each in waiting),
            [by_key[each.id] for each in retried],
            counts,
            (page.removed, page.restored, page.kept),
            (await store.totals.counts()).by_status,
        ]


def row(number: int, text: str = "rua das flores,10,centro,campinas,SP,13010-000") -> ImportRow:
    return ImportRow(f"chave-{number}", {"endereco_coleta": text, "documento_completo": "CPF: 11144477735"})


async def test_motor_reads_back_what_it_wrote(collection: Any) -> None:
    written = [{"_id": ObjectId(), "n": number, "inner": {"even": number % 2 == 0}} for number in range(2_500)]
    await collection.insert_many(written)

    assert [each async for each in collection.find({})] == written
    assert await collection.count_documents({"inner.even": True}) == 1_250
    some = collection.find({"n": {"$gte": 10, "$lt": 2_000}}, {"n": 1, "_id": 0}).sort("n", -1).skip(5).limit(3)
    assert [each async for each in some] == [{"n": 1_994}, {"n": 1_993}, {"n": 1_992}]
    assert (await collection.delete_many({"inner.even": False})).deleted_count == 1_250
    assert await collection.estimated_document_count() == 1_250


async def test_a_bulk_changes_only_what_its_conditions_hold_for(collection: Any) -> None:
    await collection.insert_many([{"_id": number, "fence": number} for number in range(4)])
    writes = [
        pymongo.UpdateOne(
            {"_id": number, "fence": {"$not": {"$gt": 1}}}, {"$set": {"a.b": number}, "$inc": {"fence": 5}}
        )
        for number in range(4)
    ]

    outcome = await collection.bulk_write(writes, ordered=False)

    assert (outcome.matched_count, outcome.modified_count) == (2, 2)
    assert [each async for each in collection.find({"a.b": {"$exists": True}})] == [
        {"_id": 0, "fence": 5, "a": {"b": 0}},
        {"_id": 1, "fence": 6, "a": {"b": 1}},
    ]


async def test_a_unique_key_is_taken_once(collection: Any) -> None:
    await collection.create_index("key", unique=True, sparse=True)
    with pytest.raises(BulkWriteError) as raised:
        await collection.insert_many([{"key": 1}, {}, {"key": 1}, {}, {"key": 2}], ordered=False)

    assert raised.value.details is not None
    assert [error["index"] for error in raised.value.details["writeErrors"]] == [2]
    assert await collection.count_documents({}) == 4
    assert [each["key"] async for each in collection.find({"key": {"$in": [1, 2, 3]}})] == [1, 2]


@pytest.mark.parametrize(
    "refused",
    [
        {"find": "appointments", "filter": {"text": {"$regex": "^a"}}},
        {"update": "appointments", "updates": [{"q": {}, "u": {"$push": {"list": 1}}}]},
        {"update": "appointments", "updates": [{"q": {}, "u": {"$set": {"a": 1}}, "upsert": True}]},
        {"aggregate": "appointments", "pipeline": [{"$lookup": {}}], "cursor": {}},
        {"getMore": 123_456, "collection": "appointments"},
        {"mapReduce": "appointments"},
    ],
)
async def test_what_it_does_not_speak_is_refused_and_never_guessed(collection: Any, refused: dict[str, Any]) -> None:
    await collection.insert_one({"text": "abc"})
    with pytest.raises(OperationFailure, match="not spoken here"):
        await collection.database.command(refused)


async def test_it_says_what_it_was_asked(sink: SinkService, collection: Any) -> None:
    before = sink.stats()
    await collection.insert_many([{"_id": 1}, {"_id": 2}])
    await collection.update_many({}, {"$set": {"a": 1}})
    after = sink.stats()

    assert after["commands"]["update"] - before["commands"].get("update", 0) == 1
    assert after["rows"]["updated"] - before["rows"].get("updated", 0) == 2
    assert after["documents"][f"{collection.database.name}.appointments"] == 2
    assert after["cpu_s"] >= before["cpu_s"]
