"""What an operator does through the store: look, correct, undo. On a real server and both drivers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pymongo
import pytest
from motor.motor_asyncio import AsyncIOMotorClient

from normalizer.domain.address import Address
from normalizer.domain.appointment import Kind, Normalized, Origin, Outcome, Review, Status
from normalizer.domain.decision import Reason
from normalizer.domain.document import Document
from normalizer.store import (
    AppointmentStore,
    CellProblem,
    Filter,
    ImportRow,
    ProblemRow,
    Result,
    StoredAppointment,
    StoredText,
)

TEXT = "rua das flores,10,centro,campinas,SP,13010-000"
ADDRESS = Address(rua="Rua das Flores", numero="10", bairro="Centro", cidade="Campinas", estado="SP", cep="13010-000")
BETTER = Address(rua="Rua das Flores", numero="12", cidade="Campinas", estado="SP")
DOCUMENT = Document(cpf="11144477735")
READ: dict[Kind, Outcome] = {
    Kind.ADDRESS: Normalized(ADDRESS, Origin.RULES),
    Kind.DOCUMENT: Review(Reason.CPF_CHECK_DIGIT, Origin.RULES),
}


@pytest.fixture(params=["motor", "pymongo"])
async def store(request: pytest.FixtureRequest, mongo_url: str, database: str) -> AsyncIterator[AppointmentStore]:
    client: Any = AsyncIOMotorClient if request.param == "motor" else pymongo.AsyncMongoClient
    async with AppointmentStore(client(mongo_url), database, owned=True) as opened:
        await opened.ensure_indexes()
        yield opened


@pytest.fixture
def put(store: AppointmentStore) -> Callable[..., Any]:
    """Import rows given as key=text; returns the import's id."""

    async def put_rows(**texts: str) -> str:
        import_id = await store.imports.begin(file="agenda.csv")
        rows = [ImportRow(key, {"endereco_completo": text, "nome_paciente": "Um"}) for key, text in texts.items()]
        await store.upsert_rows(rows, import_id)
        return import_id

    return put_rows


async def end(store: AppointmentStore, outcomes: dict[Kind, Outcome] | None = None, fence: int = 1) -> None:
    """Let a worker finish everything that waits, as the tasks do."""
    async for chunk in store.pending():
        for item in (await store.load([one.id for one in chunk])).values():
            open_kinds = {k: v for k, v in (outcomes or READ).items() if k not in item.kept}
            await store.save([Result(item, open_kinds, fence=fence, tries=1)])


async def only(store: AppointmentStore, **chosen: Any) -> StoredAppointment:
    (found,) = (await store.browse(Filter(**chosen))).appointments
    return found


def address(found: StoredAppointment) -> StoredText:
    return found.texts[Kind.ADDRESS]


class TestBrowse:
    async def test_filters_combine_and_pages_follow_on(self, store: AppointmentStore, put: Callable[..., Any]) -> None:
        first = await put(a=TEXT, b=TEXT)
        await end(store)
        await put(c=TEXT)

        assert (await store.browse(Filter())).total == 3
        assert (await store.browse(Filter(status=Status.REVIEW, import_id=first))).total == 2
        assert (await store.browse(Filter(cause=Reason.CPF_CHECK_DIGIT, origin=Origin.RULES))).total == 2
        assert (await store.browse(Filter(origin=Origin.MODEL))).total == 0
        pages = [await store.browse(Filter(), skip=skip, limit=1) for skip in range(3)]
        assert {page.appointments[0].fields["id_agendamento"] for page in pages} == {"a", "b", "c"}
        assert address(await only(store, key="b")).value["rua"] == "Rua das Flores"

    async def test_a_record_that_is_not_ours_is_not_shown(self, store: AppointmentStore, mongo: Any) -> None:
        mongo["appointments"].insert_one({"_id": "foreign"})

        assert await store.one("foreign") is None
        assert (await store.browse(Filter())).total == 0

    async def test_portions_count_each_appointment_once(self, store: AppointmentStore, put: Callable[..., Any]) -> None:
        import_id = await put(a=TEXT, b=TEXT)
        await end(store, {Kind.ADDRESS: Normalized(ADDRESS, Origin.CACHE)})
        await put(c=TEXT)

        portions = await store.imports.progress(import_id)

        assert (portions.total, dict(portions.by_origin)) == (2, {"cache": 2})
        everything = await store.totals.progress(await store.totals.counts())
        assert everything.by_status["pendente"] == 1


class TestCorrection:
    async def test_it_settles_the_text_and_says_that_a_person_did(
        self, store: AppointmentStore, put: Callable[..., Any]
    ) -> None:
        await put(a=TEXT)
        await end(store)

        record = await store.correct(await only(store), {Kind.DOCUMENT: DOCUMENT})

        assert record is not None
        assert record.texts[Kind.DOCUMENT].value["cpf_formatted"] == "111.444.777-35"
        assert record.sources["cpf"] == "11144477735"
        assert record.texts[Kind.DOCUMENT].origin == "manual"
        assert record.status == "concluido"

    async def test_what_else_needs_a_person_keeps_the_appointment_in_review(
        self, store: AppointmentStore, put: Callable[..., Any]
    ) -> None:
        await put(a=TEXT)
        await end(store)

        record = await store.correct(await only(store), {Kind.ADDRESS: BETTER})

        assert record is not None
        assert record.status == "revisar"

    async def test_no_machine_replaces_it_while_the_text_stands(
        self, store: AppointmentStore, put: Callable[..., Any]
    ) -> None:
        await put(a=TEXT)
        await end(store)
        await store.correct(await only(store), {Kind.ADDRESS: BETTER})

        async for _ in store.requeue({Status.REVIEW}):
            await end(store, fence=2)

        record = await only(store)
        assert address(record).value["numero"] == "12"
        assert address(record).origin == "manual"
        assert record.status == "revisar"

    async def test_a_result_under_way_when_it_was_made_is_refused(
        self, store: AppointmentStore, put: Callable[..., Any]
    ) -> None:
        await put(a=TEXT)
        record = await only(store)
        loaded = (await store.load([record.id]))[record.id]
        await store.correct(record, {Kind.ADDRESS: BETTER})

        report = await store.save([Result(loaded, READ, fence=5, tries=1)])

        assert report.conflicts == [loaded.id]
        assert address(await only(store)).value["numero"] == "12"

    async def test_an_edited_text_ends_it(self, store: AppointmentStore, put: Callable[..., Any]) -> None:
        await put(a=TEXT)
        await end(store)
        await store.correct(await only(store), {Kind.ADDRESS: BETTER})

        await put(a=TEXT + " fundos")
        await end(store, fence=2)

        record = await only(store)
        assert address(record).origin == "regras"
        assert address(record).value["numero"] == "10"

    async def test_of_two_people_the_second_is_told(self, store: AppointmentStore, put: Callable[..., Any]) -> None:
        await put(a=TEXT)
        await end(store)
        seen = await only(store)

        assert await store.correct(seen, {Kind.ADDRESS: BETTER}) is not None
        assert await store.correct(seen, {Kind.ADDRESS: ADDRESS}) is None

    async def test_while_it_waits_the_other_text_is_still_to_be_done(
        self, store: AppointmentStore, put: Callable[..., Any]
    ) -> None:
        await put(a=TEXT)

        record = await store.correct(await only(store), {Kind.ADDRESS: BETTER})

        assert record is not None
        assert record.status == "pendente"


class TestUndo:
    async def test_new_rows_go_and_changed_rows_are_as_before(
        self, store: AppointmentStore, put: Callable[..., Any]
    ) -> None:
        await put(a=TEXT)
        await end(store)
        before = await only(store)
        wrong = await put(a="rua errada", b="rua nova")
        await end(store, {Kind.ADDRESS: Review(Reason.CITY_UNKNOWN, Origin.RULES)}, fence=2)

        undone = await store.undo(wrong)

        assert (undone.removed, undone.restored, undone.kept, undone.pending) == (1, 1, 0, [])
        after = await only(store)
        assert (after.fields["endereco_completo"], after.fields["nome_paciente"]) == (TEXT, "Um")
        assert (after.texts, after.status) == (before.texts, before.status)
        assert after.revision > before.revision

    async def test_the_same_sheet_imports_as_new_again_and_the_one_before_as_equal(
        self, store: AppointmentStore, put: Callable[..., Any]
    ) -> None:
        await put(a=TEXT)
        wrong = await put(a="rua errada", b="rua nova")
        await store.undo(wrong)

        rows = {key: ImportRow(key, {"endereco_completo": TEXT, "nome_paciente": "Um"}) for key in "ab"}
        preview = await store.preview_rows(list(rows.values()))

        assert (preview.equal, list(preview.new)) == (1, ["b"])

    async def test_a_later_import_is_left_alone(self, store: AppointmentStore, put: Callable[..., Any]) -> None:
        await put(a=TEXT)
        wrong = await put(a="rua errada", b="rua nova")
        await put(a="rua certa", b="rua certa")

        undone = await store.undo(wrong)

        assert (undone.removed, undone.restored, undone.kept) == (0, 0, 2)
        assert {address(one).text for one in (await store.browse(Filter())).appointments} == {"rua certa"}

    @pytest.mark.parametrize("text", [TEXT, "rua errada"], ids=["refreshed", "changed"])
    async def test_what_a_person_corrected_since_is_kept(
        self, store: AppointmentStore, put: Callable[..., Any], text: str
    ) -> None:
        await put(a=TEXT)
        await end(store)
        wrong = await store.imports.begin(file="errada.csv")
        await store.upsert_rows([ImportRow("a", {"endereco_completo": text, "nome_paciente": "Dois"})], wrong)
        await end(store, fence=2)
        corrected = await store.correct(await only(store), {Kind.ADDRESS: BETTER})

        undone = await store.undo(wrong)

        assert (undone.removed, undone.restored, undone.kept) == (0, 0, 1)
        assert await only(store) == corrected

    async def test_what_was_corrected_before_is_no_reason_to_keep(
        self, store: AppointmentStore, put: Callable[..., Any]
    ) -> None:
        await put(a=TEXT)
        await end(store)
        await store.correct(await only(store), {Kind.ADDRESS: BETTER})
        wrong = await put(a="rua errada")
        await end(store, fence=2)

        undone = await store.undo(wrong)

        assert (undone.restored, undone.kept) == (1, 0)
        assert address(await only(store)).value == BETTER.as_dict()

    @pytest.mark.parametrize("name", ["endereco_completo", "nome_paciente"])
    async def test_what_the_backend_edited_since_is_kept(
        self, store: AppointmentStore, put: Callable[..., Any], mongo: Any, name: str
    ) -> None:
        await put(a=TEXT)
        wrong = await put(a="rua errada")
        await end(store, fence=2)
        mongo["appointments"].update_one({}, {"$set": {name: "editado"}})

        undone = await store.undo(wrong)

        assert (undone.restored, undone.kept) == (0, 1)
        assert mongo["appointments"].find_one()[name] == "editado"

    async def test_what_waited_before_waits_again(self, store: AppointmentStore, put: Callable[..., Any]) -> None:
        await put(a=TEXT)
        wrong = await put(a="rua errada")

        undone = await store.undo(wrong)

        (pending,) = undone.pending
        assert pending.id == (await only(store)).id
        loaded = (await store.load([pending.id]))[pending.id]
        assert loaded.text(Kind.ADDRESS) == TEXT

    async def test_a_worker_that_read_the_undone_text_writes_nothing(
        self, store: AppointmentStore, put: Callable[..., Any]
    ) -> None:
        await put(a=TEXT)
        wrong = await put(a="rua errada")
        loaded = list((await store.load([one.id async for one in store.every(wrong)])).values())
        await store.undo(wrong)

        report = await store.save([Result(loaded[0], READ, fence=9, tries=1)])

        assert report.conflicts == [loaded[0].id]

    async def test_a_record_of_the_clinics_own_becomes_what_it_was(
        self, store: AppointmentStore, put: Callable[..., Any], mongo: Any
    ) -> None:
        own = {"_id": "x", "id_agendamento": "a", "endereco_completo": TEXT, "carro": "sim"}
        mongo["appointments"].insert_one(dict(own))
        wrong = await put(a="rua errada")

        await store.undo(wrong)

        found = mongo["appointments"].find_one({"_id": "x"})
        assert {name: found[name] for name in own} == own
        assert "normalizacao" not in found
        assert "nome_paciente" not in found


async def test_problems_are_kept_in_order_until_the_import_is_undone(store: AppointmentStore) -> None:
    told = CellProblem("CPF", "um CPF", "“00”", "Confira.")
    rows = [ProblemRow("Agenda", number, [told], (f"célula {number}",)) for number in (2, 1)]
    await store.problems.keep("i", rows)

    assert await store.problems.of("i") == rows
    assert await store.problems.of("i", skip=1) == rows[1:]
    await store.undo("i")
    assert await store.problems.of("i") == []


async def test_one_is_put_back_once(store: AppointmentStore, put: Callable[..., Any]) -> None:
    await put(a=TEXT)
    await end(store)
    seen = await only(store)

    assert await store.requeue_one(seen) is not None
    assert await store.requeue_one(seen) is None
    assert (await only(store)).status == "pendente"
