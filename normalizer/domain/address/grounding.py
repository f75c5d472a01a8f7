"""Grounding of an address: every value is carried by the text it was read from, and is of its field's kind.

The same check stands behind rules, model answers and cache. A value is carried when its words stand in the text in
order and side by side, each as typed or as one of its closed expansions, digit runs whole; no token carries two fields;
text that gives orders, phones, notes and references carry nothing. What the address leaves unexplained is a violation
too, so a dropped complement or a second number is caught.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address.carried import STREET_HEADS, Carrier, Omitted
from normalizer.domain.address.passes import gather
from normalizer.domain.address.places import states
from normalizer.domain.address.tokens import (
    FREE,
    GLUED,
    HARD,
    HYPHEN,
    MAX_CHARS,
    NUM,
    UNIT,
    Evidence,
    alternatives,
)
from normalizer.domain.address.words import ALL_CODES
from normalizer.domain.text import clean, word_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normalizer.domain.address.carried import Span
    from normalizer.domain.address.places import State
    from normalizer.domain.address.standard import Address

_SEARCH_LIMIT: Final = 400
_FEW_LETTERS: Final = 3
_HOUSE_DIGITS: Final = 4  # no street is called by so long a number
# A field that one of these opens is no district, and one that opens with the others no street.
_NO_DISTRICTS: Final = STREET_HEADS - lx.DISTRICT_WORDS.keys() - lx.RURAL_TYPES - lx.COUNTED
_STREET_BREAKS_OFF: Final = {word for word in lx.BREAKS_OFF - lx.STATE_STREETS.keys() if len(word) > 1}  # "Quadra 12 D"
_PLACES: Final = {**lx.LOCALITIES, **lx.SETTLEMENTS}  # types where they open the address
_PLACE_TYPES: Final = frozenset(map(word_key, _PLACES.values()))
_NO_STREETS: Final = lx.STRONG_STARTERS - STREET_HEADS - lx.SECTORS - _PLACES.keys()
_SPELLED_TYPES: Final = frozenset(
    map(word_key, (*lx.STREET_TYPES.values(), *lx.OPENING_TYPES.values(), *_PLACES.values()))
)
_AREAS: Final = {word_key(kind) for kind in lx.AREAS} | lx.BESIDE  # parts that may be the street itself
_CODED_TYPES: Final = {word_key(lx.ROAD), word_key(lx.AREA_STREET)}
_HALF_DISTRICTS: Final = lx.GENERIC_DISTRICTS | lx.DISTRICT_QUALIFIERS | lx.TOWN_DISTRICTS
_AFTER_ORDINALS: Final = lx.BARE_OF | (lx.COUNTED - lx.UNIT_WORDS.keys() - lx.DISTRICT_WORDS.keys())
_SHORTEST: Final = {word_key(name) for name in lx.SHORTEST_DISTRICTS}
# Words before a number that is the street's own; a side stands at the end of any name.
_NUMBERED: Final = (lx.NUMBERED_STREET_WORDS | STREET_HEADS | lx.COUNTED) - lx.SIDES


class ViolationKind(StrEnum):
    """What is wrong with a field that is not grounded."""

    INVENTED = "invented"  # the text does not carry it
    WRONG_KIND = "wrong kind"  # carried, but by what is another field
    CONFLICT = "conflict"  # contradicts the state, the city or the CEP
    CLAIMED_TWICE = "claimed twice"  # only carried by what carries another field
    OMITTED = "omitted"  # the text says more than the address


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of an address that may not be stored for its text. Holds no value: it may be logged."""

    field: str
    problem: ViolationKind


def violations(text: str, address: Address) -> tuple[Violation, ...]:
    """Return what keeps `address` from being stored for `text`; empty when every value is carried. Total."""
    best: tuple[Violation, ...] | None = None
    for part in alternatives(text):
        if len(part) > MAX_CHARS:
            continue
        found = check(gather(Evidence(part)), address)
        if not found:
            return ()
        best = found if best is None or len(found) < len(best) else best
    return best if best is not None else (Violation("rua", ViolationKind.INVENTED),)


def check(evidence: Evidence, address: Address) -> tuple[Violation, ...]:
    """Return the violations of `address` against the evidence of one text."""
    return tuple(_Check(evidence, address).run())


class _Check:
    def __init__(self, evidence: Evidence, address: Address) -> None:
        self.tokens, self.marks, self.address = evidence, evidence.marks, address
        self.carrier = Carrier(evidence, address)
        self.chosen: list[tuple[str, Span]] = []
        self.spans: dict[str, Span] = {}  # of these, the last of each field
        self.unclaimed: list[State] = []  # states named by tokens that carry no field

    def run(self) -> Iterator[Violation]:
        found = [*self._place(), *self._postcode()]
        wanted = self.carrier.wanted()
        missing = [name for name, spans in wanted if not spans]
        found.extend(Violation(name, ViolationKind.INVENTED) for name in dict.fromkeys(missing))
        if not missing:
            if self._assign(wanted):
                found.extend(self._kinds())
                found.extend(self._omitted())
            else:
                placed = {"rua", *(name for name, _ in self.chosen)}
                contested = next((name for name, _ in wanted if name not in placed), "bairro")
                found.append(Violation(contested, ViolationKind.CLAIMED_TWICE))
        yield from found

    # -- city, state and CEP -------------------------------------------------------------------------------------

    def _place(self) -> Iterator[Violation]:
        address = self.address
        by_uf = gazetteer.municipalities(gazetteer.name_key(address.cidade))
        if not by_uf:
            yield Violation("cidade", ViolationKind.WRONG_KIND)
        elif by_uf.get(address.estado) != address.cidade:
            yield Violation("estado", ViolationKind.CONFLICT)
        elif not self._carries_state(by_uf):
            yield Violation("estado", ViolationKind.INVENTED)

    def _carries_state(self, by_uf: dict[str, str]) -> bool:
        address = self.address
        named = {state.uf for state in states(self.tokens)}
        if address.estado in named:
            return True
        ufs = self.tokens.cep_ufs
        if ufs:
            return address.estado in ufs
        # Neither sigla nor CEP: only a city that exists once, a capital, or a nickname tells its state.
        return len(by_uf) == 1 or gazetteer.CAPITALS[address.estado] == address.cidade

    def _postcode(self) -> Iterator[Violation]:
        ceps = self.tokens.ceps
        cep = self.address.cep
        if cep is None:
            if ceps:
                yield Violation("cep", ViolationKind.OMITTED)
        elif cep.replace("-", "") not in ceps:
            yield Violation("cep", ViolationKind.INVENTED)
        if any(uf != self.address.estado for uf in self.tokens.cep_ufs):
            yield Violation("cep", ViolationKind.CONFLICT)

    # -- one token, one field ------------------------------------------------------------------------------------

    def _assign(self, wanted: list[tuple[str, list[Span]]]) -> bool:
        """Choose one span for each value so that no token is claimed twice; the fewest choices first."""
        if not self._assign_only(wanted) and not self._assign_best(wanted):
            return False
        chosen = [span for _, span in self.chosen]
        self.spans = dict(self.chosen)
        self.unclaimed = [
            state
            for state in states(self.tokens)
            if all(state.end <= start or end <= state.start for start, end in chosen)
        ]
        return True

    def _assign_only(self, wanted: list[tuple[str, list[Span]]]) -> bool:
        """Take the only span of every value, when there is just one of each and they do not meet."""
        if any(len(spans) > 1 for _, spans in wanted):
            return False
        chosen = [(name, spans[0]) for name, spans in wanted]
        ordered = sorted(span for _, span in chosen)
        if any(before[1] > after[0] for before, after in pairwise(ordered)):
            return False
        self.chosen = chosen
        return True

    def _assign_best(self, wanted: list[tuple[str, list[Span]]]) -> bool:
        order = sorted(wanted, key=lambda item: len(item[1]))
        claimed = bytearray(self.tokens.size)
        steps = [0]

        def choose(index: int) -> bool:
            if index == len(order):
                return True
            name, spans = order[index]
            if len(spans) > 1:
                spans = sorted(spans, key=lambda span: self._preference(name, span))
            for start, end in spans:
                steps[0] += 1
                if steps[0] > _SEARCH_LIMIT:
                    return False
                if any(claimed[start:end]):
                    continue
                claimed[start:end] = b"\1" * (end - start)
                self.chosen.append((name, (start, end)))
                if choose(index + 1):
                    return True
                self.chosen.pop()
                claimed[start:end] = bytes(end - start)
            return False

        return choose(0)

    def _preference(self, name: str, span: Span) -> tuple[int, int]:
        if name == "cidade":  # the city is what stands beside its state, else what comes last
            beside = any(state.start == span[1] for state in states(self.tokens) if state.uf == self.address.estado)
            return (not beside, -span[1] * 1_000 + span[0])
        if name == "rua":
            return (-(span[1] - span[0]), span[0])
        return (self.tokens.labelled.get(span[0], name) != name, span[0])

    # -- kinds and what is left over: words of a street are no unit, of a district no number ---------------------

    def _kinds(self) -> Iterator[Violation]:
        for name in self._wrong():
            yield Violation(name, ViolationKind.WRONG_KIND)
        # The state behind the city is its own; what is named like a state, and has a state behind it, is the city.
        city = self.spans["cidade"]
        behind = [state for state in self.unclaimed if state.start >= city[1]]
        if behind and behind[0].start == city[1] and behind[0].uf != self.address.estado:
            yield Violation("estado", ViolationKind.CONFLICT)
        if len(behind) > 1 and behind[0].spelled and behind[1].start == behind[0].end:
            yield Violation("cidade", ViolationKind.WRONG_KIND)

    def _omitted(self) -> Iterator[Violation]:
        left = Omitted(self.tokens, self.address, self.chosen)
        if left.units():
            yield Violation("complemento", ViolationKind.OMITTED)
        if left.words():
            yield Violation("texto", ViolationKind.OMITTED)

    def _wrong(self) -> Iterator[str]:
        """Yield the fields that are carried by what is another field."""
        if not self._is_street(self.carrier.street, self.spans["rua"]):
            yield "rua"
        if "numero" in self.spans and self.tokens.labelled.get(self.spans["numero"][0], "numero") != "numero":
            yield "numero"
        if "bairro" in self.spans and self._is_no_district(self.carrier.district, self.spans["bairro"]):
            yield "bairro"
        parts = [span for name, span in self.chosen if name == "complemento"]
        if any(self._runs_on(span) or self._stands_for_district(span) for span in parts):
            yield "complemento"

    # -- streets -------------------------------------------------------------------------------------------------

    def _is_street(self, words: list[str], span: Span) -> bool:
        headed = words[0] in _SPELLED_TYPES or words[0] in ALL_CODES
        typed = headed or any(word.isdigit() for word in words)
        whole = words[0] not in _NO_STREETS and words[-1] not in _STREET_BREAKS_OFF
        # A district's or settlement's noun whose type is not typed is no street.
        settled = len(words) == 2 and words[1] in lx.NO_STREETS and self.tokens.keys[span[0]] == words[1]
        # Nor is a locality, which is a type only where it opens the address, behind the district.
        behind = words[0] in _PLACE_TYPES and "bairro" in self.spans and self.spans["bairro"][0] < span[0]
        # "Rua Tal n" ends in the label of the number behind it.
        takes_label = self.tokens.keys[span[1] - 1] in lx.NUMBER_WORDS and self.tokens.is_number(span[1])
        return (
            typed
            and whole
            and not settled
            and not behind
            and not self._holds_two(words)
            and not self._is_cut_short(words, span)
            and not takes_label
            and not self._holds_unit(words, span)
            and not self._holds_house_number(words, span)
        )

    def _holds_two(self, words: list[str]) -> bool:
        return any(
            words[at] in lx.COMMON_TYPES and words[at - 1] not in lx.PREPOSITIONS for at in range(2, len(words) - 1)
        )

    def _is_cut_short(self, words: list[str], span: Span) -> bool:
        """Is an abbreviation in it that nobody wrote out."""
        keys, dots = self.tokens.keys, self.tokens.dots
        inner = [at for at in range(span[0], span[1] - 1) if dots[at] and keys[at] not in lx.STREET_TYPES]  # "Rua."
        return any(3 <= len(keys[at]) <= 4 and keys[at] in words for at in inner)

    def _holds_unit(self, words: list[str], span: Span) -> bool:
        """Is a part of the complement inside, other than the quadra that is the street itself."""
        start, end = span
        return any(
            start <= unit.start < end and (unit.end > end or word_key(unit.keyword) not in {*_AREAS, words[0]})
            for unit in self.tokens.units
        )

    def _holds_house_number(self, words: list[str], span: Span) -> bool:
        """Does the street end in the house's number, or is it no more than that: "Rua das Acácias 120"."""
        if self.address.numero is not None or not words[-1].isdigit() or self.tokens.no_number >= 0:
            return False
        start, end = span
        if len(words) == 2 and end - start == 1 and self.tokens.labelled.get(start) != "rua":
            return True  # the type is not typed
        coded = words[0] not in _SPELLED_TYPES or words[0] in _CODED_TYPES or self.tokens.gaps[end - 1] == GLUED
        if len(words) == 2 or coded:
            return False
        return len(words[-1]) >= _HOUSE_DIGITS or not self._is_numbered(words[-2], end - 1)

    def _is_numbered(self, before: str, at: int) -> bool:
        """Does the number at `at` belong to the word before it: "Projetada 12", "SB-15", in Goiás "T 37"."""
        if before in _NUMBERED:
            return True
        bound = self.carrier.town.lettered_streets or self.tokens.gaps[at] == HYPHEN
        return bound and before.isalpha() and len(before) <= _FEW_LETTERS

    # -- districts ------------------------------------------------------------------------------------------------

    def _is_no_district(self, words: list[str], span: Span) -> bool:
        start, end = span
        other = UNIT in self.marks[start:end] or self._takes_number(words, span) or self._is_the_place(span)
        if other or span == self.tokens.slot:  # where a register prints the district, whatever it is called
            return other
        street = words[0] in _NO_DISTRICTS and len(words) > 1 and self.tokens.labelled.get(start) != "bairro"
        return (
            street
            or words[-1] in lx.BREAKS_OFF
            or not lx.NOTE_WORDS.isdisjoint(words)  # "entregar na portaria"
            or not self._names_one(words)
        )

    def _names_one(self, words: list[str]) -> bool:
        if len(words) == 1 and words[0] in _HALF_DISTRICTS:
            return False
        return any(word.isalpha() and len(word) > 2 for word in words) or " ".join(words) in _SHORTEST

    def _takes_number(self, words: list[str], span: Span) -> bool:
        """Does it begin or end with a house number, or begin with the letter behind one: "120 Centro", "B Centro"."""
        tokens, (start, end) = self.tokens, span
        apart = tokens.gaps[start] == HARD
        counted = (len(words) > 1 and words[1] in _AFTER_ORDINALS) or tokens.words[start][-1:] in "ºª°"
        if tokens.kinds[start] == NUM and not counted:
            return not apart or self.address.numero is None
        if len(words[0]) == 1 and start and tokens.kinds[start - 1] == NUM and not apart:
            return True
        return tokens.kinds[end - 1] == NUM and self.address.numero is None and len(words[-1]) > 2

    def _is_the_place(self, span: Span) -> bool:
        """Shifted fields: does it hold the state, or is it the municipality before it where the city is not?"""
        own = [state for state in states(self.tokens) if state.uf == self.address.estado]
        if any(span[0] <= state.start < span[1] and not state.spelled for state in own):
            return True
        name = gazetteer.name_key(str(self.address.bairro))
        if self.address.estado not in gazetteer.municipalities(name):
            return False
        claimed = {at for _, claim in self.chosen for at in range(*claim)}
        beside = {state.start for state in own} - claimed
        return span[1] in beside and self.spans["cidade"][1] not in beside

    # -- complements ---------------------------------------------------------------------------------------------

    def _runs_on(self, span: Span) -> bool:
        """Does a building's name run on into a district's: "Edifício Bianco Centro"."""
        keys, gaps, (start, end) = self.tokens.keys, self.tokens.gaps, span
        open_end = end < self.tokens.size and gaps[end] != HARD
        last = end if "bairro" not in self.spans or open_end else start + 1
        return any(
            keys[at] in lx.STRONG_STARTERS
            and keys[at - 1] not in lx.PREPOSITIONS
            and keys[at - 1] not in lx.DISTRICT_WORDS
            and keys[at - 1] not in lx.BUILDING_WORDS
            for at in range(start + 1, last)
        )

    def _stands_for_district(self, span: Span) -> bool:
        """Does a name that could be the district itself stand between what is called the district and the city."""
        if "bairro" not in self.spans:
            return False
        at = span[0]
        between = self.spans["bairro"][1] <= at < self.spans["cidade"][0]
        return between and self.marks[at] == FREE and self.tokens.keys[at] not in lx.BUILDING_WORDS


# -- what the text does not say, though it implies it; stored marked, as `deduzido` -----------------------------------

TYPE: Final = "tipo"  # no type is typed: it is "Rua" because the name stands in a street's place
DEDUCED_STATE: Final = "estado"  # no state is typed: it is that of the CEP, or of the only city of that name

_TYPES: Final = {**lx.STREET_TYPES, **lx.OPENING_TYPES, **lx.LOCALITIES, **lx.SETTLEMENTS}


def deduced(text: str, address: Address) -> tuple[str, ...]:
    """Return which of TYPE and STATE the text does not say, of an address that is grounded in it. Total."""
    tokens = gather(Evidence(clean(text)[:MAX_CHARS]))
    first = address.rua.split(maxsplit=1)[0]
    typed = word_key(first) in tokens.vocabulary or any(_TYPES.get(key) == first for key in tokens.vocabulary)
    found = [] if typed else [TYPE]
    if not any(state.uf == address.estado for state in states(tokens)):
        found.append(DEDUCED_STATE)
    return tuple(found)
