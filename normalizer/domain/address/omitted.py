"""Omissions of an address: what it leaves of its text, and whether that may be left (labels, connectives, remarks).

Every other word is part of the address: left over, it was dropped from a field, or makes a second address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from normalizer.domain.address import lexicon as lx
from normalizer.domain.address import towns
from normalizer.domain.address.marks import FREE, NUMBER, UNIT
from normalizer.domain.address.places import states
from normalizer.domain.address.tokens import GLUED, HARD, HYPHEN, NUM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normalizer.domain.address.carried import Span
    from normalizer.domain.address.evidence import Evidence
    from normalizer.domain.address.places import State
    from normalizer.domain.address.value import Address

# What may be left over between two fields: "no Centro", "na cidade de Itu", "Itu - estado de SP".
_LOCATIVES: Final = lx.IN_THE | lx.IN_TOWN
_OF_PLACES: Final = lx.OF | lx.AND | lx.TOWN_NAMES | lx.STATE_WORDS


class Omitted:
    """The tokens of a text that no field of an address claims."""

    def __init__(self, evidence: Evidence, address: Address, claims: Sequence[tuple[str, Span]]) -> None:
        self.evidence, self.address = evidence, address
        self.tokens, self.marks = evidence.tokens, evidence.marks
        self.owners: list[str] = [""] * self.tokens.size
        for name, (start, end) in claims:
            self.owners[start:end] = [name] * (end - start)
        self.city = dict(claims)["cidade"]
        self.district = dict(claims).get("bairro")
        for state in states(evidence):
            if state.uf == address.estado and self._is_state(state):
                self.owners[state.start : state.end] = ["estado"] * (state.end - state.start)

    def units(self) -> bool:
        """Is a part of the complement left over."""
        return any(mark == UNIT and not self.owners[at] for at, mark in enumerate(self.marks))

    def words(self) -> bool:
        """Is anything left over that is more than a label, a connective or a remark."""
        return any(
            mark == FREE and not self.owners[at] and self._matters(at) and not self._is_aside(at)
            for at, mark in enumerate(self.marks)
        )

    def _is_state(self, state: State) -> bool:
        """Does a state that no field claims stand in a state's place: behind the city, or apart from the rest."""
        start, end = state.start, state.end
        if any(self.owners[start:end]):
            return False
        if self._last_before(start) < 0 or self._follows(start, "cidade", "estado"):
            return True
        apart = self.tokens.gaps[start] == HARD and (end == self.tokens.size or self.tokens.hard_end(start) == end)
        return apart and (end != self.city[0] or not self._state_behind_city())

    def _state_behind_city(self) -> bool:
        return any(state.start == self.city[1] for state in states(self.evidence))

    def _last_before(self, at: int) -> int:
        """Return the last token before `at` that a field claims or nothing explains; -1 if there is none."""
        at -= 1
        while at >= 0 and self.marks[at] not in (FREE, UNIT, NUMBER):
            at -= 1
        return at

    def _matters(self, at: int) -> bool:
        tokens, key = self.tokens, self.tokens.keys[at]
        if tokens.kinds[at] == NUM:
            return self.address.numero is not None or key.strip("0") != ""
        if len(key) == 1 and at and tokens.kinds[at - 1] == NUM and tokens.gaps[at] in (GLUED, HYPHEN):
            return True  # the letter of "83-A"
        return not self._announces(at, key)

    def _announces(self, at: int, key: str) -> bool:
        """Is the word a label or a preposition of what stands right behind it, or the country's name at the end."""
        following = at + 1
        owner = self.owners[following] if following < self.tokens.size else ""
        if key in lx.NUMBER_WORDS and (owner == "numero" or self._is_number(following)):
            return True
        if key in lx.DISTRICT_LABELS or (key in lx.SHORT_DISTRICT_LABELS and self.tokens.dots[at]):
            return owner == "bairro"
        if key in lx.OWN_COUNTRY:
            return self._follows(at, "cidade", "estado")
        if key in _OF_PLACES or key in _LOCATIVES:
            return (key in _LOCATIVES and owner in ("rua", "bairro")) or self._leads_to_place(following)
        return lx.LABELS.get(key) == "cep" or self._repeats_type(at, key)

    def _follows(self, at: int, *fields: str) -> bool:
        before = self._last_before(at)
        return before >= 0 and self.owners[before] in fields

    def _is_number(self, at: int) -> bool:
        return at < self.tokens.size and (self.marks[at] == NUMBER or self.tokens.kinds[at] == NUM)

    def _leads_to_place(self, at: int) -> bool:
        """Do none but such words stand between `at` and the city or state: "na cidade de Itu"."""
        while at < self.tokens.size and not self.owners[at] and self.tokens.keys[at] in _OF_PLACES:
            at += 1
        return at < self.tokens.size and self.owners[at] in ("cidade", "estado")

    def _repeats_type(self, at: int, key: str) -> bool:
        """Is the street's type said again behind its number: "ALAMEDA X, 331 ALAMEDA."."""
        kind = lx.STREET_TYPES.get(key)
        numbered = self._follows(at, "numero") or self.marks[at - 1] == NUMBER
        return kind is not None and numbered and self.address.rua.startswith(f"{kind} ")

    def _is_inner_district(self, district: Span) -> bool:
        """Does a field of its own stand between the district and the city behind it."""
        return any(self.tokens.gaps[at] == HARD for at in range(district[1], self.city[0]))

    def _is_aside(self, at: int) -> bool:
        """Is the token in a field that may be left out: words only (a name, a remark), the district known.

        What stands right before the city is never aside: it is where the district stands. Nor, where more follows the
        district, is what stands before it: of several quarters, the first is meant.
        """
        tokens = self.tokens
        if self.district is None or (at < self.district[0] and self._is_inner_district(self.district)):
            return False
        start, end = tokens.hard_start(at), tokens.hard_end(at)
        if any(self.owners[i] or tokens.kinds[i] == NUM for i in range(start, end)):
            return False
        if end == self.city[0] and not tokens.parens[start]:
            return tokens.phrase(start, end) == tokens.phrase(*self.city)
        first = tokens.keys[start]
        if end - start == 1 and len(first) == 1:
            return False
        return (
            first not in towns.ALL_CODES
            and first not in lx.STREET_TYPES
            and first not in lx.DISTRICT_WORDS
            and first not in lx.BUILDING_WORDS
        )
