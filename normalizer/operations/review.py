"""The review desk: what is asked of persons, and their decisions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson

from normalizer.domain.address import Address, parse_address
from normalizer.domain.address.doubts import (
    Town,
    completed,
    town_without_state,
)
from normalizer.domain.address.taught import lesson
from normalizer.domain.appointment import Kind
from normalizer.domain.decision import Settled
from normalizer.domain.document import Document
from normalizer.domain.text import canonical
from normalizer.errors import InvalidInput
from normalizer.operations.candidates import Card, Neighbours, card, official_name
from normalizer.store.review import POSTPONED, Answer, Chosen, Decision, Example, Known, Question, Questions, kind_of

if TYPE_CHECKING:
    from normalizer.cache import Cache

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
    given = _Given(choice)
    done = await questions.apply(decision, given.answers, only=choice.only)
    if done is not None and choice.only is None:
        await cache.put_answers(given.addresses())
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


class _Given:
    """The answer to each text of one choice, and what is to be remembered of it."""

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._known: dict[str, Answer] = {}

    async def answers(self, texts: Sequence[str]) -> Mapping[str, Answer]:
        """What each text is from now on."""
        for turn, text in enumerate(text for text in dict.fromkeys(texts) if text not in self._known):
            self._known[text] = self._answer(text)
            if turn % _PARSES_PER_LOOP_TURN == 0:
                await asyncio.sleep(0)
        return self._known

    def _answer(self, text: str) -> Answer:
        answer = self._choice.answer
        if not isinstance(answer, str):
            return answer
        decision = parse_address(completed(text, answer))
        if isinstance(decision, Settled):
            return decision.value
        return Known({"estado": answer, "cidade": official_name(town_without_state(text), answer)})

    def addresses(self) -> dict[str, Address | None]:
        """What the cache is to know; of documents nothing is kept there."""
        if kind_of(self._choice.key) is not Kind.ADDRESS:
            return {}
        return {text: one for text, one in self._known.items() if one is None or isinstance(one, Address)}


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
