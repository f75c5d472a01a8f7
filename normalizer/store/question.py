"""What is asked of a person, and what one decides: the values that `Questions` gives and takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from normalizer.domain.address import Address
from normalizer.domain.address.taught import ClinicWord
from normalizer.domain.appointment import Kind
from normalizer.domain.document import Document
from normalizer.store.records import LACK, QUESTION

_KIND: Final = {LACK: Kind.ADDRESS, **{letter: kind for kind, letter in QUESTION.items()}}


#: A decision to decide later: it writes on no row, and for a day the question stands behind all others.
POSTPONED: Final = "adiar"


@dataclass(frozen=True, slots=True)
class Example:
    """One open text of a question, with what tells of its patient. Holds patients' data."""

    id: str
    text: str
    motive: str
    understood: Mapping[str, str]
    unit: str
    patient: str
    contact: frozenset[str]
    natural_key: str
    date: datetime | None


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of `count` open appointments, of which one is the example."""

    key: str
    count: int
    example: Example

    @property
    def kind(self) -> Kind:
        """Of the texts."""
        return kind_of(self.key)

    @property
    def is_lack(self) -> bool:
        """Whether it asks what several texts lack, and not what one text means."""
        return is_lack(self.key)


@dataclass(frozen=True, slots=True)
class Known:
    """An answer that settles a lack and not yet the text: what is known of it from now on."""

    fields: Mapping[str, str]


#: What a person said of a text; None says that there is nothing.
Answer: TypeAlias = Address | Document | Known | None


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision on a question. `content` is sealed: the canonical text and what was decided. `lesson`: what it says
    of a district's short name, if anything.

    Attributes:
        count: appointments it wrote on.
        left: of those, how many still wait for something else.
    """

    key: str
    number: int
    action: str
    scope: str
    motive: str
    at: datetime
    state: str = "aplicando"
    count: int = 0
    left: int = 0
    content: bytes = b""
    lesson: ClinicWord | None = None

    @property
    def id(self) -> str:
        """Its name everywhere."""
        return f"{self.key}-{self.number}"

    @property
    def kind(self) -> Kind:
        """Of the texts it decided on."""
        return kind_of(self.key)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What a concluded appointment holds that may be of the same patient. Holds patients' data."""

    patient: str
    contact: frozenset[str]
    address: Mapping[str, str | None] | None
    document: Mapping[str, str | None] | None


def kind_of(key: str) -> Kind:
    """The kind of text that a question is asked of; of an address where the key is none of ours."""
    return _KIND.get(key[:1], Kind.ADDRESS)


def is_lack(key: str) -> bool:
    """Whether the key is of what several texts lack."""
    return key.startswith(LACK)
