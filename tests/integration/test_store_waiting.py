"""Who waits for a batch, and whose turn it is, on a real server and both drivers."""

import asyncio

import pytest

from normalizer.domain.appointment import Economy, Kind, Normalized, Origin, Status
from normalizer.store import ImportRow, Result, Seat, Stage
from tests.integration.test_store import ADDRESS, ADDRESS_TEXT, Clock, clock, store

__all__ = ["Clock", "clock", "store"]


@pytest.fixture
async def parked(store):
    """Three imported appointments that wait."""
    rows = [ImportRow(f"k{number}", {"endereco_completo": f"{ADDRESS_TEXT} {number}"}) for number in range(3)]
    report = await store.upsert_rows(rows, await store.create_import({"linhas": 3}))
    loaded = list((await store.load(list(report.new))).values())
    assert not (await store.waiting_room().park(loaded, fence=1)).conflicts
    return [appointment.id for appointment in loaded]


async def reload(store, appointment_id):
    return (await store.load([appointment_id]))[appointment_id]


async def test_imports_are_large_by_the_rows_of_their_sheet(store):
    small, large = [await store.create_import({"linhas": rows}) for rows in (9, 10)]
    room = store.waiting_room()

    assert await room.large_imports({small, large, "nobody"}, min_rows=10) == {large}
    assert await room.large_imports(set(), min_rows=10) == set()


async def test_an_appointment_says_where_it_stands(store, parked, mongo):
    room, first = store.waiting_room(), parked[0]
    assert (await reload(store, first)).economy is Economy.WAITING
    assert await room.as_imported([await reload(store, first)])
    assert (await room.queue()).number == 3

    await room.seat("b1", {first: Seat(0, 0, pays=True), parked[1]: Seat(0, 0, pays=False)})
    assert (await room.queue()).number == 1
    assert await room.seated_number() == await room.seated_number("b1") == 2
    await room.release(parked[:2])
    assert (await reload(store, first)).economy is Economy.PAID
    assert (await reload(store, parked[1])).economy is Economy.ASKED

    mongo.appointments.update_many({}, {"$set": {"endereco_completo": "outro"}})
    assert {(await reload(store, each)).economy for each in parked} == {Economy.NONE}
    assert not await room.as_imported([await reload(store, first)])


async def test_who_waits_is_not_pending_for_the_queue_until_let_go(store, parked, clock):
    clock.forward(600)
    assert [chunk async for chunk in store.pending()] == []

    released = await store.waiting_room().release(parked[:1])
    [[pending]] = [chunk async for chunk in store.pending()]
    assert released == [pending], "the job would be another one"
    assert await store.waiting_room().release(parked[:1]) == released, "let go twice is let go once"


async def test_a_text_edited_since_it_was_read_does_not_wait(store, mongo):
    report = await store.upsert_rows([ImportRow("k", {"endereco_completo": ADDRESS_TEXT})], "import")
    [appointment] = (await store.load(list(report.new))).values()
    mongo.appointments.update_many({}, {"$set": {"endereco_completo": "outro"}})

    assert (await store.waiting_room().park([appointment], fence=1)).conflicts == [appointment.id]


async def test_a_newer_claim_wins(store, parked):
    appointment = await reload(store, parked[0])
    await store.waiting_room().park([appointment], fence=7)

    assert (await store.waiting_room().park([appointment], fence=3)).conflicts == [appointment.id]


async def test_a_result_ends_the_waiting_for_good(store, parked, mongo):
    appointment = await reload(store, parked[0])
    await store.save([Result(appointment, {Kind.ADDRESS: Normalized(ADDRESS, Origin.MODEL)}, fence=9, tries=1)])

    assert "lote" not in mongo.appointments.find_one({"id_agendamento": "k0"})["normalizacao"]
    assert await store.waiting_room().release(parked[:1]) == []


async def test_another_text_from_a_later_sheet_ends_the_waiting(store, parked, clock):
    await store.upsert_rows([ImportRow("k0", {"endereco_completo": "outro"})], "later")
    clock.forward(600)

    [[pending]] = [chunk async for chunk in store.pending()]
    assert pending.id == parked[0]


async def test_a_place_is_given_once_and_taken_back_with_the_batch(store, parked):
    room = store.waiting_room()
    await room.seat("b1", {parked[0]: Seat(0, 0, pays=True)})
    await room.seat("b2", {parked[0]: Seat(5, 5, pays=True), parked[1]: Seat(0, 0, pays=True)})

    [[seated]] = [chunk async for chunk in room.seated("b1")]
    assert (seated.appointment.id, seated.request, seated.slot) == (parked[0], 0, 0)
    assert await room.strays(["b1"]) == [parked[1]]
    await room.unseat("b1")
    await room.unseat("b2")
    assert (await room.queue()).number == 3


async def test_those_who_share_a_place_come_together_whoever_pays_first(store, parked):
    room = store.waiting_room()
    await room.seat("b1", {id_: Seat(1, 0, pays=id_ == parked[2]) for id_ in parked})

    [[first, *others]] = [chunk async for chunk in room.seated("b1", [1])]
    assert first.appointment.id == parked[2]
    assert len(others) == 2
    assert [chunk async for chunk in room.seated("b1", [0])] == []


async def test_what_is_read_is_the_text_that_was_asked(store, parked, mongo):
    room = store.waiting_room()
    await room.seat("b1", {parked[0]: Seat(0, 0, pays=True)})
    mongo.appointments.update_many({}, {"$set": {"endereco_completo": "outro"}})

    [[seated]] = [chunk async for chunk in room.seated("b1")]
    assert seated.appointment.text(Kind.ADDRESS) == f"{ADDRESS_TEXT} 0"


async def test_who_was_corrected_meanwhile_is_not_enqueued(store, parked, mongo):
    mongo.appointments.update_one({"id_agendamento": "k0"}, {"$set": {"normalizacao.status": Status.DONE.value}})

    released = await store.waiting_room().release(parked)
    assert {pending.id for pending in released} == set(parked[1:])


async def test_one_process_has_the_turn_until_it_ends_or_stops_renewing_it(store, clock):
    batches = store.batches()
    async with batches.turn() as first:
        async with store.batches().turn() as second:
            assert second is None
        assert await first.held()
        clock.forward(31)
        async with store.batches().turn() as heir:
            assert heir is not None
            assert not await first.held(), "two have the turn"
    async with batches.turn() as again:
        assert again is not None


async def test_of_many_at_once_one_has_the_turn(store):
    async def take():
        async with store.batches().turn() as turn:
            await asyncio.sleep(0.2)
            return turn is not None

    assert sum(await asyncio.gather(*(take() for _ in range(5)))) == 1


async def test_a_batch_is_known_until_it_is_over(store, mongo):
    batches = store.batches()
    batch = await batches.begin()
    await batches.note(batch, stage=Stage.UPLOADED, arquivo="file-1", usd=0.5)
    assert await batches.adopt(batch, "batch-1")
    assert await batches.adopt(batch, "batch-1"), "adopting it again is no conflict"
    assert not await batches.adopt(batch, "batch-2"), "two batches for one"
    await batches.note(batch, linhas=40)

    [found] = await batches.open()
    assert (found.stage, found.file_id, found.provider_id, found.lines) == (Stage.OUT, "file-1", "batch-1", 40)
    await batches.note(batch, stage=Stage.ENDED)
    assert await batches.open() == []
    assert mongo.normalizer_batches.find_one()["expira_em"] is not None
