"""The review desk: what is asked of persons, what may be the answer, their decisions, and what those teach.

A candidate is one way to settle a text; what of it the text does not say is marked, and nobody but a person chooses it.
Where several decisions follow one pattern, an entry for the clinic's own word list is proposed. It settles open texts
as a person's decisions, each undone with it, and from then on what the rules leave open for its sake; what is settled
already is not read again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeAlias

import orjson

from normalizer.cache import Cache
from normalizer.domain.address import Address, parse_address
from normalizer.domain.address.explain import (
    LEFT,
    ClinicWord,
    Doubt,
    Part,
    Taught,
    Town,
    completed,
    inferred,
    lesson,
    reason_of,
    town_without_state,
)
from normalizer.domain.appointment import Kind
from normalizer.domain.decision import Reason, Settled
from normalizer.domain.document import Document
from normalizer.domain.document.value import Cpf
from normalizer.domain.gazetteer import municipalities, name_key
from normalizer.domain.text import canonical, fold
from normalizer.errors import InvalidInput
from normalizer.store.clinic import ClinicWords, id_of
from normalizer.store.review import (
    POSTPONED,
    Answer,
    Chosen,
    Decision,
    Elsewhere,
    Example,
    Known,
    Question,
    Questions,
    kind_of,
)

_BUTTONS: Final = 4
_ELEVEN_DIGITS: Final = re.compile(r"(?<!\d)\d{3}\.?\d{3}\.?\d{3}[-./ ]?\d{2}(?!\d)", re.ASCII)


_WORDS: Final[Mapping[str, str]] = {
    Reason.ADDRESS_JUNK: "Isto é um endereço?",
    Reason.STREET_UNKNOWN: "Qual é a rua?",
    Reason.CITY_UNKNOWN: "Em que cidade fica?",
    Reason.STATE_UNKNOWN: "Em que estado fica?",
    Reason.NUMBER_AMBIGUOUS: "Qual é o número?",
    Reason.ADDRESS_AMBIGUOUS: "Qual destas leituras é a certa?",
    Reason.CITY_STATE_CONFLICT: "Qual vale: a cidade ou o estado?",
    Reason.CEP_STATE_CONFLICT: "O CEP é de outro estado. Qual vale?",
    Reason.ADDRESS_FOREIGN: "Há um endereço no Brasil?",
    Reason.CPF_CHECK_DIGIT: "Este CPF não confere. Qual é o certo?",
    Reason.CPF_LENGTH: "Faltam ou sobram dígitos neste CPF. Qual é o certo?",
    Reason.CPF_MASKED: "Este CPF está incompleto. Qual é?",
    Reason.EXCEL_SCIENTIFIC: "O Excel cortou este número. Qual é?",
    Reason.DOCUMENT_OF_SEVERAL: "Há documentos de vários. Qual é o do paciente?",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One answer on a button: where it comes from, and what of it the text does not say."""

    value: Address | Document
    source: str
    inferred: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """One text that is asked about, and all a person needs to decide. Holds a patient's data.

    Attributes:
        known: the fields that were read.
        version: how often its question was decided on; a decision says which one it saw.
        put_off: when somebody last said that it is decided later.
    """

    question: Question
    words: str
    parts: tuple[Part, ...]
    known: Mapping[str, str]
    candidates: tuple[Candidate, ...]
    version: int
    put_off: datetime | None = None


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What other appointments tell: where each unit's patients live, and results of patients of these names."""

    cities: Mapping[str, tuple[str, str]]
    elsewhere: Sequence[Elsewhere]


def card(question: Question, around: Neighbours, version: int) -> Card:
    """The card of one question. Pure."""
    example = question.example
    found: dict[Address | Document, Candidate] = {}
    for source in _SOURCES[question.kind]:
        for candidate in source(question, around):
            found.setdefault(candidate.value, candidate)
    candidates = tuple(found.values())[:_BUTTONS]
    if question.kind is Kind.DOCUMENT:
        words = _WORDS.get(example.motive, "Qual é o documento?")
        return Card(question, words, (Part(example.text, LEFT),), {}, candidates, version)
    parts, known = _understood(example.text, around.cities.get(example.unit))
    return Card(question, _asked(example.text), parts, {**known, **example.understood}, candidates, version)


def _asked(text: str) -> str:
    """The question in words."""
    if not text:
        return "Não há endereço. Qual é?"
    reason, town = reason_of(text), town_without_state(text)
    if reason is Reason.CITY_UNKNOWN and town is not None:
        return f"Em que estado fica {town.name}?"
    left = Doubt(text).left if reason in {Reason.DISTRICT_AMBIGUOUS, Reason.TEXT_UNEXPLAINED} else ()
    if left:
        return f"O que é «{left[0]}»?"
    return _WORDS.get(reason or "", "Qual é o endereço?")


def _understood(text: str, city: tuple[str, str] | None) -> tuple[tuple[Part, ...], dict[str, str]]:
    """The text in pieces and the fields that were read; where it names no city, as if it did."""
    doubt = Doubt(text)
    town = town_without_state(text)
    if doubt.known.get("rua") or not (town or city):
        return doubt.parts(), doubt.known
    whole = completed(text, town.ufs[0]) if town else completed(text, (city or ("", ""))[1], (city or ("", ""))[0])
    supposed = Doubt(whole)
    unsaid = {"estado"} if town else {"estado", "cidade"}
    known = {name: value for name, value in supposed.known.items() if name not in unsaid}
    return supposed.parts(added=len(whole) - len(text)), known


_Source: TypeAlias = Callable[[Question, Neighbours], Iterator[Candidate]]


def _readings(question: Question, _: Neighbours) -> Iterator[Candidate]:
    """The readings of the rules, the runners-up too."""
    for proposal in Doubt(question.example.text).proposals():
        yield _address(question, proposal.address, proposal.how)


def _by_table(question: Question, _: Neighbours) -> Iterator[Candidate]:
    """The states that have a town of the name that stands without one; the CEP's state first."""
    text = question.example.text
    town, by_cep = town_without_state(text), Doubt(text).cep_uf
    for uf in sorted(town.ufs if town else (), key=lambda uf: uf != by_cep):
        source = f"estado do CEP: {uf}" if uf == by_cep else f"tabela de municípios: {official_name(town, uf)} - {uf}"
        yield from _completed(question, source, uf)


def _by_unit(question: Question, around: Neighbours) -> Iterator[Candidate]:
    """The city that most of the unit's patients live in."""
    place = around.cities.get(question.example.unit)
    if place is not None and "cidade" not in Doubt(question.example.text).known:
        yield from _completed(question, f"cidade da unidade {question.example.unit}", place[1], place[0])


def _of_patient(question: Question, around: Neighbours) -> Iterator[Candidate]:
    """What another appointment of the same patient has."""
    asked = question.example
    for one in around.elsewhere:  # the same name, and one more thing in common
        if one.patient != asked.patient or one.contact.isdisjoint(asked.contact):
            continue
        if question.kind is Kind.ADDRESS and one.address:
            yield _address(question, Address.from_dict({**one.address}), "outro agendamento do mesmo paciente")
        if question.kind is Kind.DOCUMENT and one.document:
            yield _document(question, one.document)


def _in_text(question: Question, _: Neighbours) -> Iterator[Candidate]:
    """Each of several CPFs that hold: which one is the patient's, no rule knows."""
    for run in _ELEVEN_DIGITS.findall(question.example.text):
        if cpf := Cpf.parse(run):
            yield Candidate(Document(cpf=cpf.digits), "um dos documentos do texto")


_SOURCES: Final[Mapping[Kind, tuple[_Source, ...]]] = {
    Kind.ADDRESS: (_readings, _by_table, _by_unit, _of_patient),
    Kind.DOCUMENT: (_in_text, _of_patient),
}


def _completed(question: Question, source: str, uf: str, city: str | None = None) -> Iterator[Candidate]:
    for proposal in Doubt(completed(question.example.text, uf, city)).proposals():
        yield _address(question, proposal.address, source)


def official_name(town: Town | None, uf: str) -> str:
    """Of a town as its state writes it; empty for none."""
    return municipalities(name_key(town.name)).get(uf, town.name) if town else ""


def _address(question: Question, address: Address, source: str) -> Candidate:
    return Candidate(address, source, inferred(question.example.text, address))


def _document(question: Question, found: Mapping[str, Any]) -> Candidate:
    document = Document(cpf=found.get("cpf"), rg=found.get("rg"))
    digits = "".join(filter(str.isdigit, question.example.text))
    unsaid = [name for name, value in (("cpf", document.cpf), ("rg", document.rg)) if value and value not in digits]
    return Candidate(document, "outro agendamento do mesmo paciente", tuple(unsaid))


_MOST_PUT_OFF: Final = 100
_PARSES_PER_LOOP_TURN: Final = 50
_UNDER_WAY: Final = timedelta(minutes=2)  # a decision that is not done by then has lost its process


@dataclass(frozen=True, slots=True)
class Lack:
    """What several texts lack: a town's state. One decision settles them all."""

    key: str
    town: Town
    count: int
    version: int


@dataclass(frozen=True, slots=True)
class Desk:
    """What lies on the desk: the largest lacks, then cards; `after` leads to the next ones."""

    lacks: Sequence[Lack]
    cards: Sequence[Card]
    after: tuple[int, str] | None


@dataclass(frozen=True, slots=True)
class Conflict:
    """Somebody decided since the question was shown; `by` is that decision, None where the texts have changed."""

    by: Decision | None


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person decided.

    Args:
        key: of the question.
        answer: an address or a document; a state's sigla for a lack; None: there is nothing, and nothing is needed.
        only: the one appointment it holds for; None: for all that ask.
        seen: the question's version as it was shown; None: whatever it is now.
        source: where the chosen candidate came from, for the dataset.
    """

    key: str
    answer: Address | Document | str | None
    only: str | None = None
    seen: int | None = None
    source: str = ""


# -- what is asked ----------------------------------------------------------------------------------------------------


async def look(questions: Questions, chosen: Chosen, *, after: tuple[int, str] | None = None, limit: int = 20) -> Desk:
    """The questions that are open, those of most appointments first, each with candidates; last what was put off."""
    put_off = await questions.put_off()
    found = await questions.open(chosen, after=after, limit=limit + 1, but=put_off)
    last = found[limit - 1] if len(found) > limit else None
    found = found[:limit]
    if put_off and last is None:
        found += await questions.open(chosen, limit=_MOST_PUT_OFF, only=put_off)
    versions = await questions.last_decisions([one.key for one in found])
    asked = [one for one in found if not one.is_lack]
    around = await _neighbours(questions, [one.example for one in asked])
    cards = []
    for one in asked:
        said = versions.get(one.key)
        at = said.at if said is not None and one.key in put_off else None
        cards.append(replace(card(one, around, _version(versions, one.key)), put_off=at))
        await asyncio.sleep(0)  # some milliseconds of rules each
    lacks = [
        Lack(one.key, town, one.count, _version(versions, one.key))
        for one in found
        if one.is_lack and (town := town_without_state(one.example.text)) is not None
    ]
    return Desk(lacks, cards, (last.count, last.key) if last is not None else None)


async def one_card(questions: Questions, key: str) -> Card | None:
    """One question again, as it is now; None when nobody asks it any more."""
    question = await questions.one(key)
    if question is None or question.is_lack:
        return None
    versions = await questions.last_decisions([key])
    return card(question, await _neighbours(questions, [question.example]), _version(versions, key))


async def _neighbours(questions: Questions, examples: Sequence[Example]) -> Neighbours:
    units = {one.unit for one in examples if one.unit}
    patients = {one.patient for one in examples if one.patient and one.contact}
    cities = await questions.cities_of(units) if units else {}
    return Neighbours(cities, await questions.elsewhere(patients) if patients else [])


def _version(decisions: Mapping[str, Decision], key: str) -> int:
    return decisions[key].number if key in decisions else 0


# -- decisions --------------------------------------------------------------------------------------------------------


async def decide(choice: Choice, *, questions: Questions, cache: Cache) -> Decision | Conflict | None:
    """Write a person's decision on all appointments that ask, as one; None where there is no such question.

    Equal texts have the answer from now on, also those still to come; not where it holds for one appointment only.
    """
    question = await questions.one(choice.key)
    last = (await questions.last_decisions([choice.key])).get(choice.key)
    number = last.number if last is not None else 0
    since = 1 if last is not None and last.action == POSTPONED else 0  # whoever puts off decides nothing
    if choice.seen is not None and choice.seen not in {number, number - since}:
        return Conflict(last)
    if question is None:
        return Conflict(last) if last is not None else None
    if not question.example.text and choice.answer is not None and choice.only is None:
        fix = "Escolha só este: a resposta é de um paciente, não de todos."
        raise InvalidInput(where="escopo", expected="este", found="iguais, de um texto que não há", fix=fix)
    decision = _decision(choice, question, number + 1, cache)
    if not await questions.begin(decision):
        return Conflict((await questions.last_decisions([choice.key])).get(choice.key))
    return await _apply(decision, choice, questions, cache) or Conflict(last)


async def put_off(key: str, *, questions: Questions) -> Decision | Conflict | None:
    """Note that a question is to be decided later: for a day it stands behind the others; None where nobody asks it."""
    question = await questions.one(key)
    if question is None:
        return None
    number = _version(await questions.last_decisions([key]), key) + 1
    now, count, motive = datetime.now(UTC), question.count, question.example.motive
    decision = Decision(key, number, POSTPONED, "iguais", motive, now, state="aplicada", count=count, left=count)
    return decision if await questions.begin(decision) else Conflict(None)


async def _apply(decision: Decision, choice: Choice, questions: Questions, cache: Cache) -> Decision | None:
    given: dict[str, Answer] = {}
    done = await questions.apply(decision, partial(_answers, choice, given), only=choice.only)
    if done is not None and choice.only is None and decision.kind is Kind.ADDRESS:  # of documents nothing is kept there
        known = {text: one for text, one in given.items() if one is None or isinstance(one, Address)}
        await cache.put_answers(known)
    return done


async def finish_interrupted(questions: Questions, cache: Cache) -> int:
    """Write the rest of the decisions whose process ended amid its rows; how many decisions."""
    begun = await questions.interrupted(datetime.now(UTC) - _UNDER_WAY)
    for one in begun:
        content = _opened(one, cache)
        if content:
            choice = Choice(one.key, _answer_of(content["decisao"]), content["agendamento"])
            await _apply(one, choice, questions, cache)
    return len(begun)


def _opened(decision: Decision, cache: Cache) -> dict[str, Any]:
    """What a decision holds; empty where its secret is no longer known."""
    opened = cache.unseal(decision.id, decision.content)
    found: dict[str, Any] = orjson.loads(opened) if opened is not None else {}
    return found


def _answer_of(stored: Any) -> Address | Document | str | None:
    if not isinstance(stored, dict):
        return str(stored) if stored is not None else None
    return Address.from_dict(stored) if "rua" in stored else Document.from_dict(stored)


def _decision(choice: Choice, question: Question, number: int, cache: Cache) -> Decision:
    name = f"{choice.key}-{number}"
    answer = choice.answer
    content = {
        "texto": canonical(question.example.text),
        "decisao": answer.as_dict() if isinstance(answer, Address | Document) else answer,
        "fonte": choice.source,
        "agendamento": choice.only,
    }
    return Decision(
        key=choice.key,
        number=number,
        action="dispensar" if answer is None else "decidir",
        scope="este" if choice.only is not None else "iguais",
        motive=question.example.motive,
        at=datetime.now(UTC),
        content=cache.seal(name, orjson.dumps(content)),
        lesson=lesson(question.example.text, answer) if isinstance(answer, Address) else None,
    )


async def _answers(choice: Choice, given: dict[str, Answer], texts: Sequence[str]) -> Mapping[str, Answer]:
    """What each text is from now on; worked out once for each, and kept in `given`."""
    for turn, text in enumerate(text for text in dict.fromkeys(texts) if text not in given):
        given[text] = _answer(choice.answer, text)
        if turn % _PARSES_PER_LOOP_TURN == 0:
            await asyncio.sleep(0)
    return given


def _answer(answer: Address | Document | str | None, text: str) -> Answer:
    if not isinstance(answer, str):
        return answer
    decision = parse_address(completed(text, answer))
    if isinstance(decision, Settled):
        return decision.value
    return Known({"estado": answer, "cidade": official_name(town_without_state(text), answer)})


async def undo(decision_id: str, *, questions: Questions, cache: Cache) -> tuple[int, int] | None:
    """Ask again what a decision settled: how many rows, and how many were written on since and stay.

    None when there is no such decision, or it was undone before.
    """
    undone = await questions.undo(decision_id)
    if undone is None:
        return None
    restored, kept, texts = undone
    await cache.forget_many(kind_of(decision_id), texts, manual=True)
    return restored, kept


async def dataset(questions: Questions, cache: Cache) -> AsyncIterator[dict[str, Any]]:
    """Every decision with its text and answer in plain: what operators taught. Holds patients' data."""
    for one in await questions.decisions(limit=0):
        if one.action == POSTPONED:
            continue
        yield {
            "id": one.id,
            "em": one.at.isoformat(),
            "tipo": kind_of(one.key).value,
            "motivo": one.motive,
            "acao": one.action,
            "escopo": one.scope,
            "estado": one.state,
            "agendamentos": one.count,
            **_opened(one, cache),
        }


#: Decisions on different texts that make a pattern.
LEAST: Final = 3
_LOOKED_AT: Final = 500  # questions, those of most appointments first
_SOURCE: Final = "lista da clínica"


@dataclass(frozen=True, slots=True)
class Lesson:
    """An entry that decisions speak for, and how many open appointments it would settle."""

    word: ClinicWord
    decisions: int
    settles: int

    @property
    def id(self) -> str:
        """As the entry would be called."""
        return id_of(self.word)


async def proposed_words(questions: Questions, words: ClinicWords) -> list[Lesson]:
    """What the desk proposes: nothing that is in the list, nothing that two decisions spell out differently."""
    known = await words.all()
    found = [(word, count) for word, count in await questions.lessons(LEAST) if id_of(word) not in known]
    names = [id_of(word) for word, _ in found]
    agreed = [(word, count) for word, count in found if names.count(id_of(word)) == 1]
    if not agreed:
        return []
    asked = await _open_addresses(questions)
    lessons = [Lesson(word, count, sum(one.count for one, _ in await _settled(asked, word))) for word, count in agreed]
    return sorted(lessons, key=lambda lesson: -lesson.settles)


async def teach(word: ClinicWord, *, questions: Questions, words: ClinicWords, cache: Cache) -> int:
    """Put the entry into force and settle what is open for its sake; how many appointments."""
    word_id = await words.add(word)
    count = 0
    for question, address in await _settled(await _open_addresses(questions), word):
        choice = Choice(question.key, address, source=_SOURCE)
        done = await decide(choice, questions=questions, cache=cache)
        if isinstance(done, Decision):
            await words.made(word_id, [done.id])
            count += done.count
    return count


async def unteach(word_id: str, *, questions: Questions, words: ClinicWords, cache: Cache) -> int | None:
    """Take the entry back and ask again what it settled; how many appointments. None when there is none."""
    decisions = await words.remove(word_id)
    if decisions is None:
        return None
    undone = [await undo(one, questions=questions, cache=cache) for one in decisions]
    return sum(each[0] for each in undone if each is not None)


async def _open_addresses(questions: Questions) -> list[Question]:
    found = await questions.open(Chosen(kind=Kind.ADDRESS), limit=_LOOKED_AT)
    return [one for one in found if not one.is_lack]


async def _settled(asked: Sequence[Question], word: ClinicWord) -> list[tuple[Question, Address]]:
    taught, found = Taught([word]), []
    for question in asked:
        if not all(each in fold(question.example.text) for each in word.short.split()):
            continue
        decision = taught.read(question.example.text)
        if decision is not None:
            found.append((question, decision.value))
        await asyncio.sleep(0)  # a millisecond of rules each
    return found
