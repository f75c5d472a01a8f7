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
from normalizer.domain.address.carried import Carrier
from normalizer.domain.address.cells import alternatives
from normalizer.domain.address.kinds import Kinds
from normalizer.domain.address.omitted import Omitted
from normalizer.domain.address.passes import gather
from normalizer.domain.address.places import states
from normalizer.domain.address.tokens import MAX_CHARS, Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normalizer.domain.address.carried import Span
    from normalizer.domain.address.evidence import Evidence
    from normalizer.domain.address.places import State
    from normalizer.domain.address.value import Address

_SEARCH_LIMIT: Final = 400


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
        found = check(gather(Tokens(part)), address)
        if not found:
            return ()
        best = found if best is None or len(found) < len(best) else best
    return best if best is not None else (Violation("rua", ViolationKind.INVENTED),)


def check(evidence: Evidence, address: Address) -> tuple[Violation, ...]:
    """Return the violations of `address` against the evidence of one text."""
    return tuple(_Check(evidence, address).run())


class _Check:
    def __init__(self, evidence: Evidence, address: Address) -> None:
        self.evidence, self.address = evidence, address
        self.tokens = evidence.tokens
        self.marks = evidence.marks
        self.carrier = Carrier(evidence, address)
        self.chosen: list[tuple[str, Span]] = []
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
                found.append(Violation(self._contested(wanted), ViolationKind.CLAIMED_TWICE))
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
        named = {state.uf for state in states(self.evidence)}
        if address.estado in named:
            return True
        ufs = self.evidence.cep_ufs
        if ufs:
            return address.estado in ufs
        # Neither sigla nor CEP: only a city that exists once, a capital, or a nickname tells its state.
        return len(by_uf) == 1 or gazetteer.CAPITALS[address.estado] == address.cidade

    def _postcode(self) -> Iterator[Violation]:
        ceps = self.evidence.ceps
        cep = self.address.cep
        if cep is None:
            if ceps:
                yield Violation("cep", ViolationKind.OMITTED)
        elif cep.replace("-", "") not in ceps:
            yield Violation("cep", ViolationKind.INVENTED)
        if any(uf != self.address.estado for uf in self.evidence.cep_ufs):
            yield Violation("cep", ViolationKind.CONFLICT)

    # -- one token, one field ------------------------------------------------------------------------------------

    def _assign(self, wanted: list[tuple[str, list[Span]]]) -> bool:
        """Choose one span for each value so that no token is claimed twice; the fewest choices first."""
        if not self._assign_only(wanted) and not self._assign_best(wanted):
            return False
        chosen = [span for _, span in self.chosen]
        self.unclaimed = [
            state
            for state in states(self.evidence)
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
            beside = any(state.start == span[1] for state in states(self.evidence) if state.uf == self.address.estado)
            return (not beside, -span[1] * 1_000 + span[0])
        if name == "rua":
            return (-(span[1] - span[0]), span[0])
        return (self.evidence.labelled.get(span[0], name) != name, span[0])

    def _contested(self, wanted: list[tuple[str, list[Span]]]) -> str:
        placed = [name for name, _ in self.chosen]
        return next((name for name, _ in wanted if name not in placed and name != "rua"), "bairro")

    # -- kinds and what is left over -----------------------------------------------------------------------------

    def _kinds(self) -> Iterator[Violation]:
        for name in Kinds(self.carrier, self.chosen).wrong():
            yield Violation(name, ViolationKind.WRONG_KIND)
        yield from self._beside_city(dict(self.chosen)["cidade"])

    def _beside_city(self, city: Span) -> Iterator[Violation]:
        """The state behind the city is its own; what is named like a state, and has a state behind it, is the city."""
        behind = [state for state in self.unclaimed if state.start >= city[1]]
        if behind and behind[0].start == city[1] and behind[0].uf != self.address.estado:
            yield Violation("estado", ViolationKind.CONFLICT)
        if len(behind) > 1 and behind[0].spelled and behind[1].start == behind[0].end:
            yield Violation("cidade", ViolationKind.WRONG_KIND)

    def _omitted(self) -> Iterator[Violation]:
        left = Omitted(self.evidence, self.address, self.chosen)
        if left.units():
            yield Violation("complemento", ViolationKind.OMITTED)
        if left.words():
            yield Violation("texto", ViolationKind.OMITTED)


__all__ = ["Violation", "ViolationKind", "check", "violations"]
