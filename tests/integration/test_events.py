"""What is told of results, imports and the model lane: once, in order, over every crash, and never with a value."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest
from redis.asyncio import Redis as AsyncRedis

from normalizer.domain.address import Address
from normalizer.domain.appointment import Kind, Normalized, Origin, Review
from normalizer.domain.decision import Reason
from normalizer.domain.document import Document
from normalizer.llm.limits import GateState
from normalizer.llm.pricing import ModelStatus, Spending
from normalizer.operations.events import Dispatcher, Refused, StreamSender
from normalizer.queue.waiting import cancel_and_wait
from normalizer.store import AppointmentStore, ImportState, Result
from normalizer.store.outbox import Event, Outbox

ADDRESS = Address(rua="Rua das Flores", numero="10", cidade="Campinas", estado="SP")
DOCUMENT = Document(cpf="11144477735")


@dataclass
class Receiver:
    """Takes what it is sent, or refuses it."""

    answer: Refused | None = None
    got: list[Event] = field(default_factory=list)

    async def send(self, event: Event) -> Refused | None:
        self.got.append(event)
        return self.answer


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 27, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(mongo_url: str, database: str, clock: Clock) -> AsyncIterator[AppointmentStore]:
    client: Any = pymongo.AsyncMongoClient(mongo_url, tz_aware=True)
    yield AppointmentStore(client, database, clock=clock, announces=True)
    await client.close()


@pytest.fixture
async def outbox(store: AppointmentStore) -> Outbox:
    box = store.outbox()
    await box.ensure_indexes()
    return box


async def end(store: AppointmentStore, mongo: Any, clock: Clock, *ids: str, review: bool = False) -> None:
    """End appointments as a worker does, each a millisecond later than the last."""
    for name in ids:
        row = {"_id": name, "id": name, "endereco_completo": "rua das flores 10 campinas sp", "nome_paciente": "Ana"}
        mongo["appointments"].update_one(
            {"_id": name}, {"$set": {**row, "normalizacao.status": "pendente"}}, upsert=True
        )
    outcomes = (
        {Kind.ADDRESS: Review(Reason.ADDRESS_JUNK, Origin.RULES)}
        if review
        else {Kind.ADDRESS: Normalized(ADDRESS, Origin.RULES), Kind.DOCUMENT: Normalized(DOCUMENT, Origin.RULES)}
    )
    loaded = await store.load(list(ids))
    clock.now += timedelta(milliseconds=1)
    report = await store.save([Result(loaded[name], outcomes, fence=1, tries=1) for name in ids])
    assert set(report.saved) == set(ids)


def dispatcher(outbox: Outbox, redis: AsyncRedis, clock: Clock, **senders: Any) -> Dispatcher:
    async def nothing() -> None:
        return None

    return Dispatcher(outbox, senders, redis, read_lane=nothing, clock=clock)


async def test_results_are_told_with_names_of_fields_and_no_value(
    store: AppointmentStore, outbox: Outbox, mongo: Any, redis: AsyncRedis, clock: Clock
) -> None:
    receiver = Receiver()
    work = dispatcher(outbox, redis, clock, webhook=receiver, stream=StreamSender(redis, "events"))
    await end(store, mongo, clock, "a", "b")
    await end(store, mongo, clock, "c", review=True)

    assert await work.collect()
    assert not await work.collect()
    while await work.send_next("webhook"):
        pass
    while await work.send_next("stream"):
        pass

    told = {event.type: event.data["appointments"] for event in receiver.got}
    fields = ["endereco_normalizado", "documento_normalizado", "cpf"]
    assert told == {
        "appointments.normalized": [{"id": name, "fields": fields, "import_id": None} for name in ("a", "b")],
        "appointments.review": [{"id": "c", "fields": [], "import_id": None}],
    }
    streamed = [json.loads(fields[b"body"]) for _, fields in await redis.xrange("events")]
    assert [one["type"] for one in streamed] == [event.type for event in receiver.got]
    said = str(streamed) + str(receiver.got)
    assert not any(value in said for value in ("Flores", "11144477735", "Campinas", "Ana", "flores"))
    assert mongo["normalizer_events"].count_documents({}) == 0
    assert mongo["appointments"].count_documents({"normalizacao.evento": {"$exists": True}}) == 0


@pytest.mark.parametrize("died", ["before the marks were removed", "after some were removed"])
async def test_a_crash_while_collecting_tells_nothing_twice(
    store: AppointmentStore, outbox: Outbox, mongo: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch, died: str
) -> None:
    await end(store, mongo, clock, "a")
    await end(store, mongo, clock, "b")

    async def die(event: dict[str, Any]) -> None:
        if died.startswith("after"):
            mongo["appointments"].update_one({"_id": "a"}, {"$unset": {"normalizacao.evento": ""}})
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(outbox, "_close", die)
        with pytest.raises(KeyboardInterrupt):
            await outbox.collect(["webhook"])
    await end(store, mongo, clock, "c")

    await outbox.collect(["webhook"])

    events = list(mongo["normalizer_events"].find().sort("_id"))
    assert [[one["id"] for one in event["dados"]["appointments"]] for event in events] == [["a", "b"], ["c"]]


async def test_a_result_newer_than_its_event_is_told_by_the_next_one(
    store: AppointmentStore, outbox: Outbox, mongo: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await end(store, mongo, clock, "a")
    close = outbox._close

    async def meanwhile(event: dict[str, Any]) -> None:
        await end(store, mongo, clock, "a", review=True)
        await close(event)

    with monkeypatch.context() as racing:
        racing.setattr(outbox, "_close", meanwhile)
        await outbox.collect(["webhook"])
    await outbox.collect(["webhook"])

    assert [event["tipo"] for event in mongo["normalizer_events"].find().sort("_id")] == [
        "appointments.normalized",
        "appointments.review",
    ]


async def test_a_receiver_that_is_away_gets_the_same_event_later_and_the_others_behind_it(
    store: AppointmentStore, outbox: Outbox, mongo: Any, redis: AsyncRedis, clock: Clock
) -> None:
    receiver = Receiver(Refused("HTTP 500"))
    work = dispatcher(outbox, redis, clock, webhook=receiver)
    await end(store, mongo, clock, "a")
    await work.collect()
    await end(store, mongo, clock, "b")
    await work.collect()

    assert not await work.send_next("webhook")
    assert not await work.send_next("webhook")  # not due yet: nothing is sent
    receiver.answer = None
    clock.now += timedelta(seconds=7)
    while await work.send_next("webhook"):
        pass

    assert [event.data["appointments"][0]["id"] for event in receiver.got] == ["a", "a", "b"]
    assert receiver.got[0] == receiver.got[1]


async def test_after_a_day_an_event_is_failed_and_sent_again_on_demand_only(
    store: AppointmentStore, outbox: Outbox, mongo: Any, redis: AsyncRedis, clock: Clock
) -> None:
    receiver = Receiver(Refused("HTTP 500"))
    work = dispatcher(outbox, redis, clock, webhook=receiver)
    await end(store, mongo, clock, "a")
    await work.collect()
    for _ in range(100):
        await work.send_next("webhook")
        clock.now += timedelta(hours=1)

    (failed,) = await outbox.failed("webhook")
    assert (failed.error, await outbox.count_failed()) == ("HTTP 500", 1)
    assert len(receiver.got) < 50
    assert await outbox.send_again("webhook") == 1
    receiver.answer = None
    assert await work.send_next("webhook")
    assert await outbox.count_failed() == 0


async def test_the_order_holds_where_who_told_before_had_a_faster_clock(
    store: AppointmentStore, outbox: Outbox, mongo: Any, clock: Clock
) -> None:
    await end(store, mongo, clock, "a")
    await outbox.collect(["webhook"])
    first = mongo["normalizer_events"].find_one_and_delete({})
    mongo["normalizer_events"].insert_one(first | {"_id": "msg_fffffffe0000000000000000"})
    for kind in ("lane.stopped", "lane.resumed"):
        await outbox.add(kind, {}, ["webhook"], once=kind)

    told = [event["tipo"] for event in mongo["normalizer_events"].find().sort("_id")]
    assert told == ["appointments.normalized", "lane.stopped", "lane.resumed"]


async def test_a_bug_in_one_step_does_not_end_the_telling(
    store: AppointmentStore, outbox: Outbox, mongo: Any, redis: AsyncRedis, clock: Clock
) -> None:
    told = asyncio.Event()

    class Broken(Receiver):
        async def send(self, event: Event) -> Refused | None:
            self.got.append(event)
            if len(self.got) == 1:
                raise ValueError("a bug")
            told.set()
            return None

    async def nothing() -> None:
        return None

    work = Dispatcher(outbox, {"webhook": Broken()}, redis, read_lane=nothing, every_s=0.01, clock=clock)
    await end(store, mongo, clock, "a")
    running = asyncio.create_task(work.run())
    async with asyncio.timeout(30):
        await told.wait()
    await cancel_and_wait(running)


async def test_telling_ends_although_a_step_swallowed_the_cancellation(
    store: AppointmentStore, outbox: Outbox, mongo: Any, redis: AsyncRedis, clock: Clock
) -> None:
    sending = asyncio.Event()

    class Deaf(Receiver):
        async def send(self, event: Event) -> Refused | None:
            sending.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return None

    work = dispatcher(outbox, redis, clock, webhook=Deaf())
    await end(store, mongo, clock, "a")
    running = asyncio.create_task(work.run())
    async with asyncio.timeout(30):
        await sending.wait()
    await cancel_and_wait(running, patience_s=30)

    assert running.cancelled()


async def test_who_is_gone_is_asked_no_more(
    store: AppointmentStore, outbox: Outbox, mongo: Any, redis: AsyncRedis, clock: Clock
) -> None:
    receiver = Receiver(Refused("410", for_good=True))
    work = dispatcher(outbox, redis, clock, webhook=receiver)
    for name in ("a", "b"):
        await end(store, mongo, clock, name)
        await work.collect()
    for _ in range(5):
        await work.send_next("webhook")

    assert len(receiver.got) == 1
    assert [one.error for one in await outbox.failed("webhook")] == ["410"]


async def test_an_import_is_told_once_when_nothing_of_it_waits_and_when_it_is_undone(
    store: AppointmentStore, outbox: Outbox, mongo: Any, redis: AsyncRedis, clock: Clock
) -> None:
    work = dispatcher(outbox, redis, clock, webhook=Receiver())
    import_id = await store.imports.begin(file="agenda.csv", rows=1)
    await store.imports.end(import_id, state=ImportState.FINISHED, used=1, new=1)
    mongo["appointments"].insert_one({"_id": "x", "normalizacao": {"status": "pendente", "import_id": import_id}})

    await work.observe()
    assert mongo["normalizer_events"].count_documents({}) == 0
    mongo["appointments"].update_one({"_id": "x"}, {"$set": {"normalizacao.status": "concluido"}})
    await work.observe()
    await work.observe()
    mongo["normalizer_imports"].update_one({}, {"$set": {"status": "desfeita"}})
    await work.observe()

    events = list(mongo["normalizer_events"].find().sort("_id"))
    assert [event["tipo"] for event in events] == ["import.completed", "import.undone"]
    assert events[0]["dados"] == {"import_id": import_id, "rows": 1, "new": 1, "changed": 0, "problems": 0}


async def test_the_lane_and_the_budget_are_told_when_they_change(
    outbox: Outbox, mongo: Any, redis: AsyncRedis, clock: Clock
) -> None:
    states = [
        ModelStatus("m", True, daily_budget_usd=1.0, today=Spending(usd=0.5)),
        ModelStatus("m", True, daily_budget_usd=1.0, today=Spending(usd=0.9)),
        ModelStatus("m", True, daily_budget_usd=1.0, today=Spending(usd=1.1)),
        ModelStatus("m", True, daily_budget_usd=1.0, today=Spending(usd=1.1)),
        ModelStatus("m", True),
        ModelStatus("m", True, GateState(refused="chave recusada (401)")),
        ModelStatus("m", True),
    ]
    left = iter(states)

    async def read() -> ModelStatus:
        return next(left)

    work = Dispatcher(outbox, {"webhook": Receiver()}, redis, read_lane=read, clock=clock)
    for _ in states:
        clock.now += timedelta(seconds=10)
        await work.observe()

    assert [event["tipo"] for event in mongo["normalizer_events"].find().sort("_id")] == [
        "budget.warned",
        "budget.paused",
        "lane.stopped",
        "lane.resumed",
        "lane.stopped",
        "lane.resumed",
    ]


async def test_without_a_destination_nothing_is_marked(mongo_url: str, database: str, mongo: Any, clock: Clock) -> None:
    client: Any = pymongo.AsyncMongoClient(mongo_url, tz_aware=True)
    await end(AppointmentStore(client, database, clock=clock), mongo, clock, "a")
    await client.close()
    assert "evento" not in mongo["appointments"].find_one()["normalizacao"]
