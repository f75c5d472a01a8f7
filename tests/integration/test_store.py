"""The store's contract, on a real server and both drivers: motor, and pymongo's AsyncMongoClient that outlives it."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import bson
import pymongo
import pytest
from bson import Binary, ObjectId
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClient

from normalizer.domain.address import Address
from normalizer.domain.appointment import Kind, Normalized, Origin, Review, Status
from normalizer.domain.decision import Reason
from normalizer.domain.document import Document
from normalizer.errors import Misconfigured, StoreUnavailable
from normalizer.simulation import embedded
from normalizer.store import AppointmentStore, ImportRow, ImportState, Result
from normalizer.store.connection import UNREADABLE, decoded, now_utc
from normalizer.store.records import appointment_of

ADDRESS_TEXT = "rua das flores,10,centro,campinas,SP,13010-000"
DOCUMENT_TEXT = "CPF: 11144477735, RG: 123456789"
ADDRESS = Address(rua="Rua das Flores", numero="10", bairro="Centro", cidade="Campinas", estado="SP", cep="13010-000")
DOCUMENT = Document(cpf="11144477735", rg="123456789")
DONE = {Kind.ADDRESS: Normalized(ADDRESS, Origin.RULES), Kind.DOCUMENT: Normalized(DOCUMENT, Origin.RULES)}


class Clock:
    """The time, moved by hand."""

    def __init__(self):
        self.now = now_utc()

    def __call__(self):
        return self.now

    def forward(self, seconds):
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["motor", "pymongo"])
async def store(request, mongo_url, database, clock):
    opens = {"motor": AsyncIOMotorClient, "pymongo": pymongo.AsyncMongoClient}
    # After an error that speaks of a fail-over the driver waits for the next heartbeat; a test need not wait 10 s.
    client = opens[request.param](mongo_url, heartbeatFrequencyMS=500)
    async with AppointmentStore(client, database, owned=True, clock=clock) as store:
        await store.ensure_indexes()
        yield store


@pytest.fixture
def appointments(mongo):
    return mongo.appointments


def record(number=1, **fields):
    return {"_id": ObjectId(), "endereco_completo": ADDRESS_TEXT, "documento_completo": DOCUMENT_TEXT, **fields}


def insert(collection, count):
    records = [record(number) for number in range(count)]
    collection.insert_many(records)
    return [str(item["_id"]) for item in records]


async def loaded(store, *ids):
    found = await store.load(ids)
    return [found[id_] for id_ in ids]


def result(appointment, outcomes=DONE, fence=1, tries=1):
    return Result(appointment, outcomes, fence=fence, tries=tries)


# --- load ---------------------------------------------------------------------------------------------------------


async def test_load_finds_ids_of_every_form_and_reports_none_for_the_rest(store, appointments):
    as_object, as_hex, as_uuid = ObjectId(), str(ObjectId()), "5f0c6e0e-8f7e-4a39-9e3c-3f6cf0b2f0aa"
    for id_ in (as_object, as_hex, as_uuid):
        appointments.insert_one({"_id": id_, "endereco_completo": f"text of {id_}"})

    found = await store.load([str(as_object), as_hex, as_uuid, str(ObjectId()), "nobody"])

    assert set(found) == {str(as_object), as_hex, as_uuid}
    assert found[as_uuid].text(Kind.ADDRESS) == f"text of {as_uuid}"
    assert found[as_hex].sources["cpf"] is None


async def test_load_of_nothing_asks_nothing(store):
    assert await store.load([]) == {}


async def test_load_tells_the_status(store, appointments):
    waiting, foreign, odd = ObjectId(), ObjectId(), ObjectId()
    appointments.insert_many(
        [
            {"_id": waiting, "normalizacao": {"status": "pendente"}},
            {"_id": foreign},
            {"_id": odd, "normalizacao": {"status": "??"}},
        ]
    )
    found = await store.load([str(waiting), str(foreign), str(odd)])
    assert [found[str(id_)].status for id_ in (waiting, foreign, odd)] == [Status.PENDING, None, None]


# --- save: what is written ----------------------------------------------------------------------------------------


async def test_save_writes_results_mirrors_and_our_sub_document(store, appointments, clock):
    (id_,) = insert(appointments, 1)

    report = await store.save([result(*await loaded(store, id_), fence=7, tries=2)])

    assert report.saved == {id_: Status.DONE}
    assert (report.conflicts, report.failed, report.refused) == ([], [], {})
    stored = appointments.find_one()
    assert stored["endereco_normalizado"] == ADDRESS.as_dict()
    assert list(stored["endereco_normalizado"]) == ["rua", "numero", "complemento", "bairro", "cidade", "estado", "cep"]
    assert stored["documento_normalizado"] == DOCUMENT.as_dict()
    assert (stored["cpf"], stored["rg"]) == ("11144477735", "123456789")
    ours = stored["normalizacao"]
    assert ours["status"] == "concluido"
    assert ours["endereco"]["origem"] == "regras"
    assert ours["documento"]["origem"] == "regras"
    assert (ours["tentativas"], ours["fence"], ours["erro"], ours["revisao"]) == (2, 7, None, 1)
    assert ours["atualizado_em"].replace(tzinfo=UTC) == clock.now
    assert stored["updated_at"].replace(tzinfo=UTC) == clock.now


async def test_a_review_stores_no_value_and_says_why(store, appointments):
    (id_,) = insert(appointments, 1)
    review = Review(Reason.CITY_UNKNOWN, Origin.MODEL, {"rua": "Rua das Flores"})
    outcomes = {**DONE, Kind.ADDRESS: review}

    report = await store.save([result(*await loaded(store, id_), outcomes)])

    assert report.saved == {id_: Status.REVIEW}
    stored = appointments.find_one()
    assert stored["endereco_normalizado"] is None
    about = stored["normalizacao"]["endereco"]
    assert about == about | {
        "origem": "llm",
        "motivo": "cidade não identificada",
        "entendido": {"rua": "Rua das Flores"},
    }
    assert stored["documento_normalizado"] == DOCUMENT.as_dict()


async def test_a_note_is_stored_beside_the_value(store, appointments):
    (id_,) = insert(appointments, 1)
    noted = Normalized(Document(rg="123456789"), Origin.RULES, Reason.CPF_CHECK_DIGIT)

    await store.save([result(*await loaded(store, id_), {**DONE, Kind.DOCUMENT: noted})])

    stored = appointments.find_one()
    assert stored["normalizacao"]["status"] == "concluido"
    assert stored["normalizacao"]["documento"]["motivo"] == "CPF com dígito inválido"


async def test_a_document_without_cpf_erases_no_cpf(store, appointments):
    appointments.insert_one(record(_id="a", cpf="typed by hand") | {"documento_completo": "RG 123456789"})
    outcomes = {Kind.DOCUMENT: Normalized(Document(rg="123456789"), Origin.RULES)}

    await store.save([result(*await loaded(store, "a"), outcomes)])

    stored = appointments.find_one()
    assert (stored["cpf"], stored["rg"]) == ("typed by hand", "123456789")


@pytest.mark.parametrize("disabled", list(Kind))
async def test_a_disabled_kind_is_never_touched(store, appointments, disabled):
    (enabled,) = set(Kind) - {disabled}
    before = {"endereco_normalizado": {"rua": "x"}, "documento_normalizado": {"cpf": "y"}, "cpf": "y", "rg": "z"}
    about = {"endereco": {"origem": "manual"}, "documento": {"origem": "manual"}}
    appointments.insert_one(record(_id="a", normalizacao=about, **before))

    await store.save([result(*await loaded(store, "a"), {enabled: DONE[enabled]})])

    stored = appointments.find_one()
    assert stored[f"{disabled}_normalizado"] == before[f"{disabled}_normalizado"]
    assert stored["normalizacao"][disabled] == {"origem": "manual"}
    assert stored[f"{enabled}_normalizado"] == DONE[enabled].value.as_dict()
    if disabled is Kind.DOCUMENT:
        assert (stored["cpf"], stored["rg"]) == ("y", "z")


async def test_other_fields_of_the_appointment_are_left_alone(store, appointments):
    appointments.insert_one(record(_id="a", nome_paciente="Fulana", status="Agendado", extra={"a": [1]}))
    await store.save([result(*await loaded(store, "a"))])
    stored = appointments.find_one()
    assert (stored["nome_paciente"], stored["status"], stored["extra"]) == ("Fulana", "Agendado", {"a": [1]})


async def test_saving_nothing_reports_nothing(store):
    report = await store.save([])
    assert (report.saved, report.conflicts, report.failed) == ({}, [], [])


async def test_a_large_save_goes_through_in_pieces(store, appointments):
    ids = insert(appointments, 1_100)
    report = await store.save([result(item) for item in (await store.load(ids)).values()])
    assert set(report.saved) == set(ids)
    assert appointments.count_documents({"normalizacao.status": "concluido"}) == 1_100


# --- save: what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["endereco_completo", "endereco_coleta", "cep", "documento_completo", "cpf", "rg"])
@pytest.mark.parametrize("edited", ["another text", None, ["a list"]])
async def test_an_edit_meanwhile_wins(store, appointments, field, edited):
    appointments.insert_one(record(_id="a") | {field: "as it was"})
    (appointment,) = await loaded(store, "a")
    appointments.update_one({}, {"$set": {field: edited}})
    before = appointments.find_one()

    report = await store.save([result(appointment)])

    assert report.conflicts == ["a"]
    assert report.saved == {}
    assert appointments.find_one() == before


async def test_a_field_that_appears_or_vanishes_is_an_edit(store, appointments):
    appointments.insert_many([record(_id="gains"), record(_id="loses", cep="13010-000")])
    both = await loaded(store, "gains", "loses")
    appointments.update_one({"_id": "gains"}, {"$set": {"cep": "13010-000"}})
    appointments.update_one({"_id": "loses"}, {"$unset": {"cep": ""}})

    report = await store.save([result(item) for item in both])

    assert sorted(report.conflicts) == ["gains", "loses"]


async def test_an_edit_of_a_text_that_was_not_normalized_is_no_conflict(store, appointments):
    (id_,) = insert(appointments, 1)
    (appointment,) = await loaded(store, id_)
    appointments.update_one({}, {"$set": {"documento_completo": "another"}})
    report = await store.save([result(appointment, {Kind.ADDRESS: DONE[Kind.ADDRESS]})])
    assert report.saved == {id_: Status.DONE}


async def test_an_edited_row_does_not_hold_back_its_neighbours(store, appointments):
    ids = insert(appointments, 600)
    everything = await store.load(ids)
    edited = {ids[0], ids[250], ids[501], ids[599]}
    appointments.update_many({"_id": {"$in": [ObjectId(id_) for id_ in edited]}}, {"$set": {"cep": "1"}})

    report = await store.save([result(item) for item in everything.values()])

    assert set(report.conflicts) == edited
    assert set(report.saved) == set(ids) - edited
    assert appointments.count_documents({"normalizacao.status": "concluido"}) == 596


async def test_an_appointment_deleted_meanwhile_is_a_conflict_and_is_not_created_again(store, appointments):
    (id_,) = insert(appointments, 1)
    (appointment,) = await loaded(store, id_)
    appointments.delete_one({})
    assert (await store.save([result(appointment)])).conflicts == [id_]
    assert appointments.count_documents({}) == 0


async def test_a_frozen_replica_that_wakes_up_changes_nothing(store, appointments):
    (id_,) = insert(appointments, 1)
    (appointment,) = await loaded(store, id_)
    other = Normalized(Address(rua="Rua de Outra Leitura", cidade="Campinas", estado="SP"), Origin.MODEL)
    await store.save([result(appointment, fence=9)])  # the claim that took over
    before = appointments.find_one()
    (appointment,) = await loaded(store, id_)

    report = await store.save([result(appointment, {**DONE, Kind.ADDRESS: other}, fence=8)])

    assert report.conflicts == [id_]
    assert appointments.find_one() == before


async def test_a_frozen_replica_quarantines_nothing(store, appointments):
    (id_,) = insert(appointments, 1)
    await store.save([result(*await loaded(store, id_), fence=9)])
    assert (await store.mark_failed({id_: ("derrubou o processo", 8)})).conflicts == [id_]
    assert appointments.find_one()["normalizacao"]["status"] == "concluido"


async def test_the_same_claim_may_write_again(store, appointments):
    (id_,) = insert(appointments, 1)
    await store.save([result(*await loaded(store, id_), fence=9)])
    report = await store.save([result(*await loaded(store, id_), fence=9, tries=2)])
    assert report.saved == {id_: Status.DONE}
    assert appointments.find_one()["normalizacao"]["revisao"] == 2


async def test_of_many_claims_in_any_order_the_newest_stays(store, appointments):
    (id_,) = insert(appointments, 1)
    outcomes = {Kind.ADDRESS: DONE[Kind.ADDRESS]}
    (appointment,) = await loaded(store, id_)
    fences = [3, 1, 7, 2, 9, 8, 4]

    reports = await asyncio.gather(*(store.save([result(appointment, outcomes, fence=fence)]) for fence in fences))

    assert appointments.find_one()["normalizacao"]["fence"] == 9
    assert all(len(report.saved) + len(report.conflicts) == 1 for report in reports)


async def test_results_written_before_a_restart_of_the_server_stay_and_the_rest_follows(store, appointments, secantus):
    ids = insert(appointments, 20)
    everything = list((await store.load(ids)).values())
    await store.save([result(item) for item in everything[:10]])

    secantus.restart()

    assert appointments.count_documents({"normalizacao.status": "concluido"}) == 10
    report = await store.save([result(item) for item in everything[10:]])
    assert len(report.saved) == 10
    assert appointments.count_documents({"normalizacao.status": "concluido"}) == 20


# --- mark_failed, pending, requeue --------------------------------------------------------------------------------


async def test_mark_failed_keeps_results_and_names_the_cause(store, appointments):
    (id_,) = insert(appointments, 1)
    await store.save([result(*await loaded(store, id_), fence=1)])
    report = await store.mark_failed({id_: ("derrubou o processo", 2), "nobody": ("x", 2)})
    assert report.saved == {id_: Status.FAILED}
    assert report.conflicts == ["nobody"]
    stored = appointments.find_one()
    assert stored["normalizacao"]["erro"] == "derrubou o processo"
    assert stored["endereco_normalizado"] == ADDRESS.as_dict()


async def test_pending_yields_what_waits_long_enough_in_bounded_lists(store, clock):
    old = await store.upsert_rows([row(n) for n in range(25)], "i")
    clock.forward(60)
    await store.upsert_rows([row(n) for n in range(25, 30)], "i")

    chunks = [chunk async for chunk in store.pending(limit=10, older_than_s=30)]

    assert [len(chunk) for chunk in chunks] == [10, 10, 5]
    assert {item.id: item.fingerprint for chunk in chunks for item in chunk} == old.new


async def test_what_ended_is_no_longer_pending(store):
    report = await store.upsert_rows([row(1)], "i")
    await store.save([result(*await loaded(store, *report.new))])
    assert [chunk async for chunk in store.pending()] == []


async def test_requeue_takes_up_reviews_of_one_reason_under_a_new_fingerprint(store):
    report = await store.upsert_rows([row(n) for n in range(6)], "i")
    ids = list(report.new)
    reasons = [Reason.NO_MODEL_KEY] * 3 + [Reason.ADDRESS_JUNK] * 3
    items = await loaded(store, *ids)
    await store.save(
        [result(i, {**DONE, Kind.ADDRESS: Review(r, Origin.RULES)}) for i, r in zip(items, reasons, strict=True)]
    )

    chunks = [c async for c in store.requeue({Status.REVIEW}, reasons=[Reason.NO_MODEL_KEY.value], limit=2)]

    taken = {item.id: item.fingerprint for chunk in chunks for item in chunk}
    assert [len(chunk) for chunk in chunks] == [2, 1]
    assert set(taken) == set(ids[:3])
    assert all(report.new[id_] != fingerprint for id_, fingerprint in taken.items())
    # What reconcile would enqueue is the same content, hence the same job.
    assert {item.id: item.fingerprint async for chunk in store.pending() for item in chunk} == taken
    assert (await store.totals.counts()).by_status[Status.REVIEW] == 3


async def test_requeue_of_failures_clears_the_cause(store, appointments):
    (id_,) = (await store.upsert_rows([row(1)], "i")).new
    await store.mark_failed({id_: ("derrubou o processo", 1)})
    assert [len(chunk) async for chunk in store.requeue({Status.FAILED})] == [1]
    assert appointments.find_one()["normalizacao"]["erro"] is None
    assert [chunk async for chunk in store.requeue({Status.FAILED})] == []


# --- imports ------------------------------------------------------------------------------------------------------


def row(number, **fields):
    values = {"endereco_completo": f"rua {number}", "documento_completo": DOCUMENT_TEXT, "telefone": "1"}
    return ImportRow(f"key-{number}", {**values, **fields})


async def test_new_rows_are_stored_as_pending(store, appointments, clock):
    report = await store.upsert_rows([row(1, nome_paciente="Fulana")], "import-1")
    (id_,) = report.new
    stored = appointments.find_one()
    assert stored["id"] == id_
    assert str(uuid.UUID(id_)) == id_
    assert stored["id_agendamento"] == "key-1"
    assert stored["nome_paciente"] == "Fulana"
    assert stored["normalizacao"]["status"] == "pendente"
    assert stored["normalizacao"]["import_id"] == "import-1"
    assert stored["created_at"].replace(tzinfo=UTC) == clock.now


async def test_importing_the_same_rows_again_changes_nothing(store, appointments, clock):
    rows = [row(n, cpf="111.444.777-35") for n in range(700)]
    first = await store.upsert_rows(rows, "one")
    await store.save([result(item) for item in await loaded(store, *first.new)])  # mirrors another cpf spelling
    before = list(appointments.find().sort("_id", 1))
    clock.forward(60)

    second = await store.upsert_rows(rows, "two")

    assert (second.new, second.changed, second.refreshed, second.equal) == ({}, {}, 0, 700)
    assert list(appointments.find().sort("_id", 1)) == before


async def test_a_changed_text_is_pending_again_and_keeps_its_result_until_the_new_one_is_there(store, appointments):
    first = await store.upsert_rows([row(1), row(2)], "one")
    await store.save([result(item) for item in await loaded(store, *first.new)])

    second = await store.upsert_rows([row(1, endereco_completo="rua nova, 5"), row(2)], "two")

    assert (len(second.changed), second.equal) == (1, 1)
    stored = appointments.find_one({"id_agendamento": "key-1"})
    assert stored["endereco_completo"] == "rua nova, 5"
    assert stored["normalizacao"]["status"] == "pendente"
    assert stored["normalizacao"]["import_id"] == "two"
    assert stored["endereco_normalizado"] == ADDRESS.as_dict()
    assert {i.id: i.fingerprint async for chunk in store.pending() for i in chunk} == second.changed


async def test_another_phone_is_stored_and_nothing_is_normalized_again(store, appointments):
    first = await store.upsert_rows([row(1)], "one")
    await store.save([result(*await loaded(store, *first.new))])
    appointments.update_one({}, {"$set": {"endereco_completo": "corrigido à mão"}})

    second = await store.upsert_rows([row(1, telefone="2")], "two")

    assert (second.refreshed, second.changed, second.equal) == (1, {}, 0)
    stored = appointments.find_one()
    assert stored["telefone"] == "2"
    assert stored["endereco_completo"] == "corrigido à mão"
    assert stored["normalizacao"]["status"] == "concluido"


async def test_a_record_of_the_backend_with_the_same_texts_is_not_normalized_again(store, appointments):
    appointments.insert_one({"_id": "b", "id_agendamento": "key-1", **row(1).fields})
    report = await store.upsert_rows([row(1)], "one")
    assert (report.new, report.changed, report.refreshed, report.equal) == ({}, {}, 0, 1)


async def test_a_preview_tells_what_an_import_would_do_and_writes_nothing(store, appointments):
    await store.upsert_rows([row(1), row(2), row(3)], "one")
    before = list(appointments.find())
    rows = [row(1), row(2, telefone="2"), row(3, endereco_completo="outra"), row(4)]

    preview = await store.preview_rows(rows)

    assert list(appointments.find()) == before
    real = await store.upsert_rows(rows, "two")
    assert (preview.equal, preview.refreshed) == (real.equal, real.refreshed) == (1, 1)
    assert preview.changed == real.changed
    assert len(preview.changed) == 1
    assert list(preview.new) == ["key-4"]
    assert len(real.new) == 1


async def test_back_to_an_earlier_text_is_a_job_of_its_own(store):
    first = await store.upsert_rows([row(1)], "one")
    await store.upsert_rows([row(1, endereco_completo="outra")], "two")
    third = await store.upsert_rows([row(1)], "three")
    (id_,) = first.new
    assert third.changed[id_] != first.new[id_]


async def test_of_two_rows_with_one_key_the_last_counts(store, appointments):
    report = await store.upsert_rows([row(1), row(1, telefone="9")], "one")
    assert len(report.new) == 1
    assert appointments.find_one()["telefone"] == "9"


async def test_the_same_sheet_twice_at_once_is_stored_once(store, appointments):
    rows = [row(n) for n in range(1_200)]

    reports = await asyncio.gather(store.upsert_rows(rows, "one"), store.upsert_rows(rows, "two"))

    assert appointments.count_documents({}) == 1_200
    assert sum(len(report.new) for report in reports) == 1_200
    assert sum(report.equal for report in reports) == 1_200
    assert {item.id for report in reports for item in map(_Id, report.new)} == {
        item["id"] for item in appointments.find({}, {"id": 1})
    }


class _Id:
    def __init__(self, id_):
        self.id = id_


async def test_the_natural_key_is_unique_and_appointments_that_came_by_another_way_need_none(store, appointments):
    appointments.insert_many([{"a": 1}, {"a": 2}])
    appointments.insert_one({"id_agendamento": "k"})
    with pytest.raises(pymongo.errors.DuplicateKeyError):
        appointments.insert_one({"id_agendamento": "k"})


async def test_an_import_is_noted_from_start_to_end(store):
    import_id = await store.imports.begin(file="agenda.xlsx")
    assert (await store.imports.get(import_id)).stored_state == "em andamento"
    await store.imports.end(import_id, state=ImportState.FINISHED, rows=3)
    noted = await store.imports.get(import_id)
    assert (noted.id, noted.stored_state, noted.rows, noted.file) == (
        import_id,
        "concluida",
        3,
        "agenda.xlsx",
    )
    assert await store.imports.get(str(ObjectId())) is None


# --- overview -----------------------------------------------------------------------------------------------------


async def test_counts_by_status_reason_and_error(store, appointments):
    ids = list((await store.upsert_rows([row(n) for n in range(6)], "i")).new)
    done, cached, review, noted, failed, _ = await loaded(store, *ids)
    await store.save(
        [
            result(done),
            result(cached, {**DONE, Kind.ADDRESS: Normalized(ADDRESS, Origin.CACHE)}),
            result(review, {**DONE, Kind.ADDRESS: Review(Reason.CITY_UNKNOWN, Origin.MODEL)}),
            result(noted, {**DONE, Kind.DOCUMENT: Normalized(DOCUMENT, Origin.RULES, Reason.CPF_LENGTH)}),
        ]
    )
    await store.mark_failed({failed.id: ("derrubou o processo", 1)})
    appointments.insert_one({"not": "ours"})

    counts = await store.totals.counts()

    assert counts.by_status == {"concluido": 3, "revisar": 1, "falhou": 1, "pendente": 1}
    assert counts.total == 6
    assert counts.by_reason == {Kind.ADDRESS: {"cidade não identificada": 1}, Kind.DOCUMENT: {}}
    assert counts.by_error == {"derrubou o processo": 1}
    found = {one.fields["id_agendamento"]: one async for one in store.every("i")}
    assert len(found) == 6
    assert [found["key-1"].texts[kind].origin for kind in Kind] == ["cache", "regras"]
    assert found["key-3"].texts[Kind.DOCUMENT].reason == "CPF com quantidade de dígitos inválida"
    assert [one async for one in store.every("another import")] == []


# --- secret -------------------------------------------------------------------------------------------------------


async def test_the_secret_is_made_once_and_shared(store, mongo_url, database):
    client = pymongo.AsyncMongoClient(mongo_url)
    others = [AppointmentStore(client, database) for _ in range(5)]
    secrets = await asyncio.gather(store.secret.get(), *(other.secret.get() for other in others))
    assert len(set(secrets)) == 1
    assert len(secrets[0]) == 32
    await client.close()


# --- faults -------------------------------------------------------------------------------------------------------


async def test_only_the_unwritten_rows_of_a_partial_bulk_are_reported(store, appointments, mongo):
    ids = insert(appointments, 6)
    everything = await loaded(store, *ids)
    # A unique index on what is written makes the server refuse every row but the first of each value.
    appointments.create_index("documento_normalizado.rg", unique=True, sparse=True)
    rgs = ["1000001", "1000001", "1000002", "1000002", "1000003", "1000003"]
    outcomes = [{Kind.DOCUMENT: Normalized(Document(rg=rg), Origin.RULES)} for rg in rgs]
    appointments.update_one({"_id": ObjectId(ids[4])}, {"$set": {"rg": "edited"}})

    report = await store.save([result(item, out) for item, out in zip(everything, outcomes, strict=True)])

    assert set(report.saved) == {ids[0], ids[2], ids[5]}
    assert set(report.failed) == {ids[1], ids[3]}
    assert report.conflicts == [ids[4]]
    assert appointments.count_documents({"normalizacao.status": "concluido"}) == 3


async def test_a_row_the_server_will_never_take_is_refused_alone(store, appointments, mongo):
    appointments.insert_many([record(_id="good"), record(_id="bad")])
    rule = {"$or": [{"_id": {"$ne": "bad"}}, {"normalizacao": {"$exists": False}}]}
    mongo.command("collMod", "appointments", validator=rule)
    report = await store.save([result(item) for item in await loaded(store, "good", "bad")])
    assert report.saved == {"good": Status.DONE}
    assert list(report.refused) == ["bad"]
    assert "121" in report.refused["bad"]


@pytest.mark.parametrize("ours", [None, "text", {"revisao": "x", "endereco": None}])
async def test_what_a_typed_model_dumps_of_ours_does_not_stand_in_the_way(store, appointments, clock, ours):
    appointments.insert_many([record(_id="good"), record(_id="odd", normalizacao=ours, normalization_status="pending")])
    assert [chunk async for chunk in store.pending(older_than_s=1)] == [], "it waits from now on"
    clock.forward(2)
    assert [item.id for chunk in [chunk async for chunk in store.pending(older_than_s=1)] for item in chunk] == ["odd"]

    report = await store.save([result(item) for item in await loaded(store, "good", "odd")])

    assert report.saved == {"good": Status.DONE, "odd": Status.DONE}
    assert appointments.find_one({"_id": "odd"})["normalizacao"]["status"] == "concluido"


@pytest.fixture
def fail_point(mongo):
    """Make the server answer commands with an error, as a failing-over replica set does."""

    def arm(code, *commands, times):
        data = {"failCommands": list(commands), "errorCode": code}
        mongo.client.admin.command("configureFailPoint", "failCommand", mode={"times": times}, data=data)

    yield arm
    mongo.client.admin.command("configureFailPoint", "failCommand", mode="off")


async def test_a_server_that_steps_down_is_an_outage_not_a_bad_row(store, appointments, fail_point):
    (id_,) = insert(appointments, 1)
    items = await loaded(store, id_)
    fail_point(11602, "update", times=10)  # InterruptedDueToReplStateChange
    with pytest.raises(StoreUnavailable):
        await store.save([result(item) for item in items])
    fail_point(11602, "find", times=10)
    with pytest.raises(StoreUnavailable):
        await store.load([id_])


async def test_an_outage_in_the_middle_reports_what_was_written_before_it(store, appointments, fail_point):
    ids = insert(appointments, 1_200)
    items = list((await store.load(ids)).values())
    written = []
    clock = store._clock

    def at_the_second_chunk():
        written.append(1)
        if len(written) == 2:
            fail_point(11602, "update", times=10)
        return clock()

    store._clock = at_the_second_chunk
    report = await store.save([result(item) for item in items])

    assert set(report.saved) == {item.id for item in items[:500]}
    assert set(report.failed) == {item.id for item in items[500:]}
    assert appointments.count_documents({"normalizacao.status": "concluido"}) == 500


async def test_wrong_credentials_are_the_operators_to_mend(store, fail_point):
    fail_point(18, "ping", times=10)
    with pytest.raises(Misconfigured, match="usuário"):
        await store.ping()


async def test_indexes_that_cannot_be_are_the_operators_to_mend(mongo, mongo_url, database):
    mongo.appointments.insert_many([{"id_agendamento": "k"}, {"id_agendamento": "k"}])
    store = AppointmentStore.connect(mongo_url, database)
    with pytest.raises(Misconfigured, match="id_agendamento"):
        await store.ensure_indexes()
    await store.close()


async def test_a_server_that_is_down_is_noticed_in_seconds_and_found_again(tmp_path):
    with embedded.start_mongo(tmp_path) as service:
        url = f"{service.url}/?serverSelectionTimeoutMS=500"
        store = AppointmentStore.connect(url, "db")
        await store.ping()
        service.kill()
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(store.ping(), 25)
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(store.load(["a"]), 25)
        service.start()
        async with asyncio.timeout(30):  # the server's own start, on a busy machine
            while not await _answers(store):
                pass
        await store.close()


async def _answers(store: AppointmentStore) -> bool:
    try:
        await store.ping()
    except StoreUnavailable:
        return False
    return True


@pytest.mark.parametrize(
    "url",
    ["", "http://x", "mongodb://u:s3cr3t@:99999/", "mongodb://u:s3cr3t@h:port/", "mongodb://u:p@s3cr3t@h"],
)
def test_a_malformed_url_is_named_without_its_password(url):
    with pytest.raises(Misconfigured) as failure:
        AppointmentStore.connect(url, "db")
    assert "MONGODB_URL" in str(failure.value)
    assert "s3cr3t" not in repr(failure.value)


@pytest.mark.parametrize("query", ["s3cr3t=1", "readPreference=s3cr3t"])
def test_what_the_driver_does_not_know_of_a_url_is_not_quoted(query, recwarn):
    """It may be what stands behind the question mark of a password that was not encoded."""
    AppointmentStore.connect(f"mongodb://h/?{query}", "db")
    assert not [each for each in recwarn if "s3cr3t" in str(each.message)]


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a.b", "$x", "mongodb://u:s3cr3t@h"])
async def test_a_malformed_database_name_is_told_and_not_shown(name, mongo_url):
    with pytest.raises(Misconfigured, match="DATABASE_NAME") as failure:
        AppointmentStore.connect(mongo_url, name)
    assert "s3cr3t" not in str(failure.value)


def test_the_url_has_the_last_word_on_time_outs():
    store = AppointmentStore.connect("mongodb://localhost:1/?socketTimeoutMS=1234", "db")
    options = store._database.client.delegate.options
    assert options.pool_options.socket_timeout == 1.234
    assert options.server_selection_timeout == 5
    store._database.client.close()


def test_now_is_what_mongodb_can_store():
    assert now_utc().microsecond % 1000 == 0
    assert now_utc().tzinfo is UTC
    assert abs(datetime.now(UTC) - now_utc()) < timedelta(seconds=5)


async def test_bulks_shrink_while_mongodb_does_not_take_them_and_grow_again(store, appointments, fail_point):
    ids = insert(appointments, 900)
    items = list((await store.load(ids)).values())
    fail_point(50, "update", times=6)  # MaxTimeMSExpired: too slow for so many
    sizes = []
    for _ in range(6):
        with pytest.raises(StoreUnavailable):
            await store.save([result(item) for item in items])
        sizes.append(store._stride.size)

    report = await store.save([result(item) for item in items])

    assert sizes == [250, 125, 62, 31, 20, 20]
    assert set(report.saved) == set(ids)
    assert store._stride.size == 500


# --- the deployed backend's records -------------------------------------------------------------------------------


UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
FOREIGN = {"normalization_status": "pending", "normalization_job_id": "j", "normalization_error": None}


@pytest.mark.parametrize(
    ("stored", "names"),
    [
        ({"_id": ObjectId("5" * 24), "id": UUID}, [UUID, "5" * 24]),
        ({"_id": Binary.from_uuid(uuid.UUID(UUID))}, [UUID]),
        ({"_id": UUID}, [UUID]),
        ({"_id": 42}, ["42"]),
        ({"_id": "5" * 24}, ["5" * 24]),
        ({"_id": ObjectId(), "id": 42}, ["42"]),
    ],
)
async def test_an_appointment_is_found_by_its_id_and_by_its_native_id(store, appointments, stored, names):
    appointments.insert_one({**record(), **stored})
    found = await store.load(names)
    assert {name: item.id for name, item in found.items()} == dict.fromkeys(names, names[0])
    report = await store.save([result(found[names[-1]])])
    assert report.saved == {names[0]: Status.DONE}


async def test_a_group_is_loaded_by_one_query(store, appointments, mongo):
    appointments.insert_many([record(id=f"{UUID[:-3]}{number}") for number in range(100, 300)])
    await store.secret.get()
    await store.policies.recent()  # read again every ten seconds, whatever the number of groups
    mongo.command("profile", 0)
    before = mongo.command("serverStatus")["opcounters"]["query"]
    assert len(await store.load([f"{UUID[:-3]}{number}" for number in range(100, 300)])) == 200
    assert mongo.command("serverStatus")["opcounters"]["query"] - before == 1


async def test_of_two_records_with_one_id_the_waiting_one_is_next_and_the_index_is_plain(mongo, database, mongo_url):
    appointments = mongo.appointments
    appointments.insert_many([record(id=UUID, **FOREIGN), record(id=UUID, **FOREIGN)])
    async with AppointmentStore.connect(mongo_url, database) as store:
        await store.ensure_indexes()
        await store.ensure_indexes()
        assert (await store.diagnose()).repeated_ids
        for _ in range(2):
            await store.save([result(*await loaded(store, UUID))])
    assert appointments.count_documents({"normalization_status": "completed"}) == 2


async def test_both_accounts_are_written_at_once(store, appointments, clock):
    appointments.insert_one(record(id=UUID, updated_at=clock.now, **FOREIGN))
    (item,) = await loaded(store, UUID)
    clock.forward(5)
    await store.save([Result(item, DONE, fence=1, tries=1, job_id="norm:x")])
    stored = appointments.find_one()
    assert (stored["normalization_status"], stored["normalization_error"]) == ("completed", None)
    assert stored["normalization_job_id"] == "norm:x"
    assert stored["updated_at"].replace(tzinfo=UTC) == clock.now

    (item,) = await loaded(store, UUID)
    await store.save([result(item, {Kind.ADDRESS: Review(Reason.CITY_UNKNOWN, Origin.RULES)}, fence=2)])
    stored = appointments.find_one()
    assert stored["normalization_status"] == "failed"
    assert stored["normalization_error"] == "endereço: cidade não identificada"


async def test_a_correction_made_in_their_screens_wins_over_a_result_under_way(store, appointments):
    appointments.insert_one(record(id=UUID, **FOREIGN))
    (item,) = await loaded(store, UUID)
    appointments.update_one({}, {"$set": {"endereco_normalizado": {"rua": "Rua Certa"}}})

    assert (await store.save([result(item)])).conflicts == [UUID]

    (item,) = await loaded(store, UUID)
    assert item.kept == {Kind.ADDRESS}
    await store.save([result(item, {Kind.DOCUMENT: DONE[Kind.DOCUMENT]})])
    assert appointments.find_one()["endereco_normalizado"] == {"rua": "Rua Certa"}
    assert appointments.find_one()["normalization_status"] == "completed"


async def test_their_recipe_for_trying_again_is_taken_up(store, appointments, clock):
    appointments.insert_one(record(id=UUID, updated_at=clock.now, **FOREIGN))
    (item,) = await loaded(store, UUID)
    await store.save([result(item, {Kind.ADDRESS: Review(Reason.CITY_UNKNOWN, Origin.RULES)})])
    clock.forward(600)
    assert [chunk async for chunk in store.pending(older_than_s=120)] == []
    recipe = {"$set": {"normalization_status": "pending", "normalization_job_id": None}}
    appointments.update_many({"normalization_status": "failed"}, recipe)
    assert [item.id for chunk in [chunk async for chunk in store.pending(older_than_s=120)] for item in chunk] == [UUID]


async def test_a_row_the_old_worker_died_over_waits_again(store, appointments, clock):
    appointments.insert_one(record(id=UUID, updated_at=clock.now) | {"normalization_status": "processing"})
    clock.forward(300)
    assert [chunk async for chunk in store.pending(older_than_s=120)] == []
    clock.forward(400)
    assert len([chunk async for chunk in store.pending(older_than_s=120)]) == 1


def test_a_record_that_cannot_be_decoded_keeps_what_can_be_read():
    whole = bson.encode({"_id": ObjectId("5" * 24), "id": UUID, "cep": "###"})
    read = decoded(RawBSONDocument(whole.replace(b"###", b"\xff\xfe\xfd")))
    assert (read["id"], read[UNREADABLE]) == (UUID, True)
    assert "ilegível" in (appointment_of(read, secret=b"s").defect or "")
    assert decoded(RawBSONDocument(bson.encode({"_id": 1, "at": DatetimeMS(2**55)})))["at"] == DatetimeMS(2**55)
    unknown = decoded(RawBSONDocument(whole.replace(b"\x02cep", b"\x60cep")))
    assert unknown == {"_id": ObjectId("5" * 24), UNREADABLE: True}


async def test_a_record_without_a_defect_to_name_can_still_be_ended(store, appointments):
    appointments.insert_one(record(id=UUID, **FOREIGN))
    assert (await store.mark_failed({UUID: ("registro ilegível", 1)})).saved == {UUID: Status.FAILED}
    assert appointments.find_one()["normalization_error"] == "registro ilegível"
    assert len([chunk async for chunk in store.requeue({Status.FAILED})]) == 1
