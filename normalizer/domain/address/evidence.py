"""Evidence of one text before any reading is tried: its tokens, one mark each, and what was found on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from normalizer.domain.address.marks import FREE

if TYPE_CHECKING:
    from normalizer.domain.address.places import State
    from normalizer.domain.address.tokens import Tokens
    from normalizer.domain.address.units import Unit


@dataclass(slots=True)
class Evidence:
    """The tokens of one text with their marks; `passes.gather` fills it."""

    tokens: Tokens
    marks: bytearray
    ceps: list[str] = field(default_factory=list)  # eight digits each
    cep_ufs: list[str] = field(default_factory=list)  # the state of each of them
    labelled: dict[int, str] = field(default_factory=dict)  # first token of a labelled value → field
    no_number: int = -1  # where "S/N" ends
    ordered: bool = False  # the text gives orders
    states: list[State] | None = None  # what `places.states` found, kept
    slot: tuple[int, int] = (0, 0)  # the field right before "CITY - UF": where a register prints the district
    city: tuple[int, int] = (0, 0)  # the whole field before the last sigla, if it is a municipality of that state
    trailing_type: str | None = None  # the street's type that stands behind its number: "FULANO, 121 RUA."
    units: list[Unit] = field(default_factory=list)

    def in_slot(self, at: int) -> bool:
        """Does the token stand where a register prints the district."""
        return self.slot[0] <= at < self.slot[1]

    def in_city(self, at: int) -> bool:
        """Does the token stand in a field that is a municipality right before its state."""
        return self.city[0] <= at < self.city[1]

    def free(self, at: int) -> bool:
        """Is the token there and still unexplained."""
        return 0 <= at < self.tokens.size and not self.marks[at]

    def mark(self, start: int, end: int, kind: int) -> None:
        """Explain the tokens of [start, end) that are still free."""
        marks = self.marks
        for at in range(start, min(end, len(marks))):
            if marks[at] == FREE:
                marks[at] = kind

    def numeric(self, at: int) -> bool:
        """Is a free number there."""
        return self.free(at) and self.tokens.is_number(at)
