"""What decisions teach: where several follow one pattern, an entry for the clinic's own word list is proposed.

An entry settles open texts as a person's decisions, each undone with it, and from then on what the rules leave open for
its sake. What is settled already is not read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from normalizer.cache import Cache
from normalizer.domain.address import Address
from normalizer.domain.address.taught import ClinicWord, Taught
from normalizer.domain.appointment import Kind
from normalizer.domain.text import fold
from normalizer.operations.review import Choice, decide, undo
from normalizer.store.clinic import ClinicWords, id_of
from normalizer.store.review import Chosen, Decision, Question, Questions

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


async def proposed(questions: Questions, words: ClinicWords) -> list[Lesson]:
    """What the desk proposes: nothing that is in the list, nothing that two decisions spell out differently."""
    known = await words.all()
    found = [(word, count) for word, count in await questions.lessons(LEAST) if id_of(word) not in known]
    names = [id_of(word) for word, _ in found]
    agreed = [(word, count) for word, count in found if names.count(id_of(word)) == 1]
    if not agreed:
        return []
    asked = await _asked(questions)
    lessons = [Lesson(word, count, sum(one.count for one, _ in await _settled(asked, word))) for word, count in agreed]
    return sorted(lessons, key=lambda lesson: -lesson.settles)


async def teach(word: ClinicWord, *, questions: Questions, words: ClinicWords, cache: Cache) -> int:
    """Put the entry into force and settle what is open for its sake; how many appointments."""
    word_id = await words.add(word)
    count = 0
    for question, address in await _settled(await _asked(questions), word):
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


async def _asked(questions: Questions) -> list[Question]:
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
