"""What may be the answer to a question, and where that comes from. Pure.

A candidate is one way to settle a text. What of it the text does not say is marked; nobody but a person chooses it.
Further sources of candidates are further entries of `_SOURCES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias

from normalizer.domain.address import Address
from normalizer.domain.address.doubts import (
    LEFT,
    Doubt,
    Part,
    Town,
    completed,
    inferred,
    reason_of,
    town_without_state,
)
from normalizer.domain.appointment import Kind
from normalizer.domain.decision import Reason
from normalizer.domain.document import Document
from normalizer.domain.document.value import Cpf
from normalizer.domain.gazetteer import municipalities, name_key
from normalizer.store.review import Elsewhere, Example, Question

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

    def of_patient(self, example: Example) -> Iterator[Elsewhere]:
        """Results of the same patient: the same name, and one more thing in common."""
        return (
            one
            for one in self.elsewhere
            if one.patient == example.patient and not one.contact.isdisjoint(example.contact)
        )


def card(question: Question, around: Neighbours, version: int) -> Card:
    """The card of one question. Pure."""
    example = question.example
    candidates = tuple(_distinct(_candidates(question, around)))[:_BUTTONS]
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


def _candidates(question: Question, around: Neighbours) -> Iterator[Candidate]:
    for source in _SOURCES[question.kind]:
        yield from source(question, around)


def _distinct(candidates: Iterator[Candidate]) -> Iterator[Candidate]:
    seen: set[Address | Document] = set()
    for candidate in candidates:
        if candidate.value not in seen:
            seen.add(candidate.value)
            yield candidate


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
    for one in around.of_patient(question.example):
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
