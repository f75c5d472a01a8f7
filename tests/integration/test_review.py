"""The review desk on real services: what is asked, decisions that settle all equal texts, conflicts, undo."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from normalizer.cache import Cache
from normalizer.domain.address import Address
from normalizer.domain.appointment import Kind, Status
from normalizer.domain.document import Document
from normalizer.operations.review import Choice, Conflict, dataset, decide, finish_interrupted, look, undo
from normalizer.store import AppointmentStore, ImportRow, Result
from normalizer.store.records import status_of
from normalizer.store.review import Chosen, Decision, Questions
from normalizer.worker.pipeline import Finished, Pipeline
from tests.integration.command import Ran

OPEN = "Tv. Padre Eutíquio 1379, B. Campos, Belém PA"
READ = Address(rua="Travessa Padre Eutíquio", numero="1379", bairro="Batista Campos", cidade="Belém", estado="PA")
NO_STATE = ("Rua Pedro Álvares Cabral, 88, Centro, Cascavel", "R. Tiradentes 55 centro cascavel", "Zona 7, Cascavel")


@pytest.fixture
def questions(store: AppointmentStore) -> Questions:
    return store.questions


@pytest.fixture
def cache(redis: Redis) -> Cache:
    return Cache(redis, secret=b"s" * 32, model="m", prompt_version="p", rules_version=1)


@pytest.fixture
def seed(store: AppointmentStore, cache: Cache) -> Callable[..., Any]:
    """Import rows given as key=text or key=fields, and let a worker without a model end them."""

    async def rows(**given: Any) -> str:
        import_id = await store.imports.begin(file="agenda.csv")
        fields = {key: one if isinstance(one, dict) else {"endereco_completo": one} for key, one in given.items()}
        filled = [ImportRow(key, {"nome_paciente": "Um", "nome_unidade": "U"} | one) for key, one in fields.items()]
        await store.upsert_rows(filled, import_id)
        await work(store, cache)
        return import_id

    return rows


async def work(store: AppointmentStore, cache: Cache) -> None:
    pipeline = Pipeline(cache=cache, coalescer=None, unasked=None)
    async for chunk in store.pending():
        loaded = list((await store.load([one.id for one in chunk])).values())
        async for progress in pipeline.run(loaded, deadline=1e9):
            ended = [each for each in progress if isinstance(each, Finished)]
            await store.save([Result(each.appointment, each.outcomes, fence=1, tries=1) for each in ended])


def by_key(mongo: Any) -> dict[str, Any]:
    return {record["id_agendamento"]: record for record in mongo["appointments"].find()}


def statuses(mongo: Any) -> dict[str, str]:
    return {key: str(status_of(record)) for key, record in by_key(mongo).items()}


class TestQuestions:
    async def test_equal_texts_are_one_question_the_largest_first_also_across_imports(
        self, questions: Questions, seed: Callable[..., Any]
    ) -> None:
        await seed(a="a combinar com a filha", b=OPEN, x="", y="Rua das Flores, 10, Centro, Campinas, SP")
        await seed(c=OPEN.upper(), d=f"  {OPEN}  ")

        desk = await look(questions, Chosen())

        assert [(card.question.count, card.question.example.motive) for card in desk.cards] == [
            (3, "bairro ambíguo"),
            (1, "texto não é um endereço"),
        ]
        assert await questions.count(Chosen()) == 4
        assert not any(OPEN[:8].lower() in card.question.key for card in desk.cards)

    async def test_pages_follow_on_and_filters_hold(self, questions: Questions, seed: Callable[..., Any]) -> None:
        texts = [f"a confirmar com a filha {at}" for at in range(5)]
        import_id = await seed(**{f"k{at}": text for at, text in enumerate(texts)})
        await seed(other=OPEN)

        seen, after = [], None
        while True:
            desk = await look(questions, Chosen(import_id=import_id), after=after, limit=2)
            seen += [card.question.example.text for card in desk.cards]
            if (after := desk.after) is None:
                break

        assert sorted(seen) == texts
        only = await look(questions, Chosen(motive="bairro ambíguo", kind=Kind.ADDRESS))
        assert [card.question.example.text for card in only.cards] == [OPEN]

    async def test_rows_of_earlier_versions_are_grouped_on_the_fly(
        self, questions: Questions, seed: Callable[..., Any], mongo: Any
    ) -> None:
        await seed(a=OPEN, b=OPEN)
        mongo["appointments"].update_many({}, {"$unset": {"normalizacao.endereco.perguntas": ""}})

        desk = await look(questions, Chosen())

        assert [card.question.count for card in desk.cards] == [2]

    async def test_candidates_tell_where_they_come_from_and_what_the_text_does_not_say(
        self, questions: Questions, seed: Callable[..., Any]
    ) -> None:
        phone = {"telefone": "4133334444", "nome_paciente": "Ana Modelo"}
        await seed(
            a={"endereco_completo": "Av. Brasil, 100, Centro, Curitiba, PR", **phone},
            b="Av. Brasil, 101, Centro, Curitiba, PR",
        )
        await seed(c={"endereco_completo": "Rua XV de Novembro, 55, Centro", **phone}, d=NO_STATE[0], e=OPEN)

        found = {card.question.example.text: card for card in (await look(questions, Chosen())).cards}

        unit, patient = found["Rua XV de Novembro, 55, Centro"].candidates
        assert (unit.source, unit.inferred) == ("cidade da unidade U", ("estado", "cidade"))
        assert isinstance(unit.value, Address)
        assert (unit.value.cidade, unit.value.rua) == ("Curitiba", "Rua XV de Novembro")
        assert patient.source == "outro agendamento do mesmo paciente"
        assert {"rua", "numero", "cidade"} <= set(patient.inferred)
        by_table = found[NO_STATE[0]]
        assert [one.source for one in by_table.candidates[:2]] == [
            "tabela de municípios: Cascavel - CE",
            "tabela de municípios: Cascavel - PR",
        ]
        assert by_table.candidates[0].inferred == ("estado",)
        assert by_table.words == "Em que estado fica Cascavel?"
        readings = found[OPEN]
        assert readings.words == "O que é «B. Campos»?"
        assert [one.inferred for one in readings.candidates] == [(), (), ()]
        assert ("B. Campos", "duvida") in [(part.text, part.field) for part in readings.parts]
        assert readings.known["rua"] == "Travessa Padre Eutíquio"


async def test_of_a_sheet_as_clinics_write_it_only_real_questions_are_asked(
    questions: Questions, seed: Callable[..., Any], mongo: Any
) -> None:
    """2,000 rows, of which 62 % have no address: the patient comes to the clinic."""
    asked = {f"a{at}": text for at, text in enumerate([OPEN, *NO_STATE])}
    await seed(here="", home="Av. Brasil, 100, Centro, Curitiba, PR", **asked)
    records = {record.pop("id_agendamento"): record for record in mongo["appointments"].find({}, {"_id": 0})}
    more = [("here", 1_238), ("home", 656), ("a0", 100)]
    # What a worker made of one row it makes of all rows alike.
    mongo["appointments"].insert_many(
        [
            {**records[key], "id": f"{key}-{at}", "id_agendamento": f"{key}-{at}"}
            for key, count in more
            for at in range(count)
        ]
    )
    assert mongo["appointments"].count_documents({}) == 2_000

    desk = await look(questions, Chosen())

    assert await questions.count(Chosen()) == 104
    assert [lack.count for lack in desk.lacks] == [3]
    assert [card.question.count for card in desk.cards] == [101, 1, 1, 1]
    assert all(card.question.example.text for card in desk.cards)


class _Killed(BaseException):
    """As a process ends: nothing is cleaned up."""


async def _die(*_: Any) -> Any:
    raise _Killed


class TestDecision:
    async def test_one_settles_all_equal_texts_and_those_to_come(
        self, store: AppointmentStore, questions: Questions, cache: Cache, seed: Callable[..., Any], mongo: Any
    ) -> None:
        await seed(a=OPEN, b=OPEN)
        await seed(c=OPEN, d="vai confirmar por whatsapp")
        (key,) = [card.question.key for card in (await look(questions, Chosen())).cards if card.question.count == 3]

        done = await decide(Choice(key, READ, seen=0), questions=questions, cache=cache)

        assert isinstance(done, Decision)
        assert (done.count, done.left, done.state) == (3, 0, "aplicada")
        await seed(later=OPEN)
        records = by_key(mongo)
        assert {records[name]["endereco_normalizado"]["bairro"] for name in ("a", "b", "c", "later")} == {
            "Batista Campos"
        }
        assert {records[name]["normalizacao"]["endereco"]["origem"] for name in ("a", "b", "c", "later")} == {"manual"}
        assert statuses(mongo) == dict.fromkeys(("a", "b", "c", "later"), "concluido") | {"d": "revisar"}

    async def test_it_may_hold_for_one_alone(
        self, questions: Questions, cache: Cache, seed: Callable[..., Any], mongo: Any
    ) -> None:
        await seed(a=OPEN, b=OPEN)
        (card,) = (await look(questions, Chosen())).cards

        choice = Choice(card.question.key, READ, only=card.question.example.id, seen=0)
        done = await decide(choice, questions=questions, cache=cache)

        assert isinstance(done, Decision)
        assert done.count == 1
        assert sorted(statuses(mongo).values()) == ["concluido", "revisar"]
        assert await cache.get_many(Kind.ADDRESS, [OPEN]) == {}
        (left,) = (await look(questions, Chosen())).cards
        assert (left.question.count, left.version) == (1, 1)

    async def test_not_needed_is_absent_and_stays_so(
        self, questions: Questions, cache: Cache, seed: Callable[..., Any], mongo: Any
    ) -> None:
        await seed(a="a combinar com a filha")
        (card,) = (await look(questions, Chosen())).cards

        await decide(Choice(card.question.key, None, seen=0), questions=questions, cache=cache)
        await seed(b="a combinar com a filha")

        assert statuses(mongo) == {"a": "concluido", "b": "concluido"}
        assert {each["normalizacao"]["endereco"]["origem"] for each in by_key(mongo).values()} == {"ausente"}

    async def test_what_several_texts_lack_is_said_once(
        self, questions: Questions, cache: Cache, seed: Callable[..., Any], mongo: Any
    ) -> None:
        await seed(a=NO_STATE[0], b=NO_STATE[1], c=NO_STATE[2], d=OPEN)
        (lack,) = (await look(questions, Chosen())).lacks
        assert (lack.town.name, lack.town.ufs, lack.count) == ("Cascavel", ("CE", "PR"), 3)

        done = await decide(Choice(lack.key, "PR", seen=0), questions=questions, cache=cache)

        assert isinstance(done, Decision)
        assert (done.count, done.left) == (3, 1)
        assert statuses(mongo) == {"a": "concluido", "b": "concluido", "c": "revisar", "d": "revisar"}
        assert by_key(mongo)["b"]["endereco_normalizado"]["rua"] == "Rua Tiradentes"
        desk = await look(questions, Chosen())
        assert desk.lacks == []
        (rest,) = [card for card in desk.cards if card.question.example.text == NO_STATE[2]]
        assert rest.known["estado"] == "PR"

        assert await undo(done.id, questions=questions, cache=cache) == (3, 0)
        assert set(statuses(mongo).values()) == {"revisar"}
        assert [one.count for one in (await look(questions, Chosen())).lacks] == [3]

    async def test_of_two_who_decide_the_second_is_told_and_nothing_is_lost(
        self, questions: Questions, cache: Cache, seed: Callable[..., Any], mongo: Any
    ) -> None:
        await seed(a=OPEN, b=OPEN)
        (card,) = (await look(questions, Chosen())).cards
        other = Address(rua="Rua Errada", cidade="Belém", estado="PA")

        first = await decide(Choice(card.question.key, READ, seen=card.version), questions=questions, cache=cache)
        second = await decide(Choice(card.question.key, other, seen=card.version), questions=questions, cache=cache)

        assert second == Conflict(first)
        assert {each["endereco_normalizado"]["rua"] for each in by_key(mongo).values()} == {"Travessa Padre Eutíquio"}

    async def test_one_whose_process_ended_amid_its_rows_is_finished(
        self, questions: Questions, cache: Cache, seed: Callable[..., Any], mongo: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await seed(a=OPEN, b=OPEN)
        (card,) = (await look(questions, Chosen())).cards
        with monkeypatch.context() as dying:
            dying.setattr("normalizer.operations.review._answers", _die)
            with pytest.raises(_Killed):
                await decide(Choice(card.question.key, READ, seen=0), questions=questions, cache=cache)
        assert await finish_interrupted(questions, cache) == 0  # it may still be under way
        long_ago = datetime.now(UTC) - timedelta(minutes=5)
        mongo["normalizer_decisions"].update_one({}, {"$set": {"em": long_ago}})

        assert await finish_interrupted(questions, cache) == 1

        assert statuses(mongo) == {"a": "concluido", "b": "concluido"}
        (done,) = await questions.decisions()
        assert (done.count, done.state) == (2, "aplicada")
        assert (await cache.get_many(Kind.ADDRESS, [OPEN]))[OPEN].manual

    async def test_a_text_that_was_edited_meanwhile_is_not_answered(
        self, questions: Questions, cache: Cache, seed: Callable[..., Any], mongo: Any
    ) -> None:
        await seed(a=OPEN, b=OPEN)
        (card,) = (await look(questions, Chosen())).cards
        mongo["appointments"].update_one({"id_agendamento": "b"}, {"$set": {"endereco_completo": "Rua Nova, 3"}})

        done = await decide(Choice(card.question.key, READ, seen=0), questions=questions, cache=cache)

        assert isinstance(done, Decision)
        assert done.count == 1
        assert by_key(mongo)["b"]["endereco_normalizado"] is None
        assert [one.question.example.text for one in (await look(questions, Chosen())).cards] == ["Rua Nova, 3"]

    async def test_undo_asks_again_and_keeps_what_was_corrected_since(
        self, store: AppointmentStore, questions: Questions, cache: Cache, seed: Callable[..., Any], mongo: Any
    ) -> None:
        await seed(a=OPEN, b=OPEN)
        (card,) = (await look(questions, Chosen())).cards
        done = await decide(Choice(card.question.key, READ, seen=0), questions=questions, cache=cache)
        assert isinstance(done, Decision)
        mine = Address(rua="Rua Minha", cidade="Belém", estado="PA")
        corrected = await store.one(by_key(mongo)["b"]["id"])
        assert corrected is not None
        await store.correct(corrected, {Kind.ADDRESS: mine})

        assert await undo(done.id, questions=questions, cache=cache) == (1, 1)

        assert by_key(mongo)["b"]["endereco_normalizado"]["rua"] == "Rua Minha"
        assert statuses(mongo) == {"a": "revisar", "b": "concluido"}
        assert await cache.get_many(Kind.ADDRESS, [OPEN]) == {}
        assert await undo(done.id, questions=questions, cache=cache) is None
        (again,) = (await look(questions, Chosen())).cards
        assert (again.question.count, again.version) == (1, 1)

    async def test_a_document_is_decided_as_well(
        self, questions: Questions, cache: Cache, seed: Callable[..., Any], mongo: Any
    ) -> None:
        patient = {"nome_paciente": "Ana Modelo", "telefone": "4133334444"}
        await seed(a={"documento_completo": "CPF: 111.444.777-35", **patient})
        await seed(b={"documento_completo": "CPF: 111.444.777-36", **patient})
        (card,) = (await look(questions, Chosen(kind=Kind.DOCUMENT))).cards
        (candidate,) = card.candidates
        assert (candidate.value, candidate.inferred) == (Document(cpf="11144477735"), ("cpf",))

        done = await decide(Choice(card.question.key, candidate.value, seen=0), questions=questions, cache=cache)

        assert isinstance(done, Decision)
        assert by_key(mongo)["b"]["cpf"] == "11144477735"
        await undo(done.id, questions=questions, cache=cache)
        assert by_key(mongo)["b"]["documento_normalizado"] is None
        assert by_key(mongo)["b"]["normalizacao"]["status"] == Status.REVIEW


async def test_decisions_are_a_dataset_that_is_sealed_and_erased_on_request(
    questions: Questions, cache: Cache, seed: Callable[..., Any], mongo: Any
) -> None:
    await seed(a=OPEN)
    (card,) = (await look(questions, Chosen())).cards
    await decide(Choice(card.question.key, READ, seen=0, source="leitura"), questions=questions, cache=cache)

    assert "eutíquio" not in str(mongo["normalizer_decisions"].find_one()).lower()
    (kept,) = [each async for each in dataset(questions, cache)]
    assert (kept["texto"], kept["decisao"]["bairro"], kept["fonte"]) == (OPEN.lower(), "Batista Campos", "leitura")
    assert await questions.forget(card.question.example.id) == 1
    assert [each async for each in dataset(questions, cache)] == []


async def test_the_command_exports_and_erases(
    run: Callable[..., Ran], services: str, questions: Questions, seed: Callable[..., Any], store: AppointmentStore
) -> None:
    await seed(a=OPEN)
    (card,) = (await look(questions, Chosen())).cards
    async with Redis.from_url(services) as client:
        theirs = Cache(client, secret=await store.secret.get(), model="m", prompt_version="p", rules_version=1)
        await decide(Choice(card.question.key, READ, seen=0), questions=questions, cache=theirs)

    exported = await asyncio.to_thread(run, "decisions")
    assert exported.code == 0, exported.err
    assert orjson.loads(exported.out)["decisao"]["rua"] == "Travessa Padre Eutíquio"
    erased = await asyncio.to_thread(run, "decisions", "--forget", card.question.example.id, "--json")
    assert orjson.loads(erased.out) == {"apagadas": 1}
