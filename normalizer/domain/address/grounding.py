"""Is every value of an address carried by the text it was read from, and of its field's kind?

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
from normalizer.domain.address.carried import CONNECTIVES, STREET_HEADS, Carrier, value_words
from normalizer.domain.address.cells import alternatives
from normalizer.domain.address.keys import word_key
from normalizer.domain.address.marks import FREE, UNIT
from normalizer.domain.address.passes import gather
from normalizer.domain.address.places import states
from normalizer.domain.address.tokens import GLUED, HARD, HYPHEN, MAX_CHARS, NUM, Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normalizer.domain.address.carried import Span
    from normalizer.domain.address.evidence import Evidence
    from normalizer.domain.address.places import State
    from normalizer.domain.address.value import Address

_SEARCH_LIMIT: Final = 400
# A field that one of the first kinds of word opens is another field.
_STREET_HEADS: Final = STREET_HEADS - {"vila", "quadra"} - lx.RURAL_TYPES
_NO_STREETS: Final = lx.STRONG_STARTERS - {"vila", "setor", "parque"}
# The last word of a name that breaks off.
_STREET_BREAKS_OFF: Final = lx.PREPOSITIONS - {"a", "e", "para"}
_QUARTER_BREAKS_OFF: Final = lx.PREPOSITIONS - {"a", "e"}
_STREETS: Final = frozenset({"rua", "avenida", "av", "travessa", "alameda"})
# With a number and no street type they are no street but a part of a settlement: "Agrovila 5", "Etapa 3".
_NUMBERED_NOUNS: Final = frozenset(
    {"agrovila", "etapa", "fase", "travessao", "colonia", "folha", "modulo", "nucleo", "setor", "comunidade"}
    | {"assentamento", "povoado", "distrito", "granja", "polo", "superquadra", "gleba", "lote", "parcela", "bloco"}
    | {"condominio", "residencial", "loteamento", "conjunto", "aldeia", "estancia", "zona"}
)
_SPELLED_TYPES: Final = frozenset(word_key(kind) for kind in (*lx.STREET_TYPES.values(), *lx.OPENING_TYPES.values()))


class Problem(StrEnum):
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
    problem: Problem


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
    return best if best is not None else (Violation("rua", Problem.INVENTED),)


def check(evidence: Evidence, address: Address) -> tuple[Violation, ...]:
    """Return the violations of `address` against the evidence of one text."""
    return tuple(_Check(evidence, address).run())


class _Check:
    def __init__(self, evidence: Evidence, address: Address) -> None:
        self.evidence, self.address = evidence, address
        self.tokens = evidence.tokens
        self.marks = evidence.marks
        self.chosen: list[tuple[str, Span]] = []
        self.unclaimed: list[State] = []  # states named by tokens that carry no field

    def run(self) -> Iterator[Violation]:
        found = [*self._place(), *self._postcode()]
        wanted = Carrier(self.evidence, self.address).wanted()
        missing = [name for name, spans in wanted if not spans]
        found.extend(Violation(name, Problem.INVENTED) for name in dict.fromkeys(missing))
        if not missing:
            if self._assign(wanted):
                found.extend(self._kinds())
                found.extend(self._coverage())
            else:
                found.append(Violation(self._contested(wanted), Problem.CLAIMED_TWICE))
        yield from found

    # -- city, state and CEP -------------------------------------------------------------------------------------

    def _place(self) -> Iterator[Violation]:
        address = self.address
        by_uf = gazetteer.municipalities(gazetteer.name_key(address.cidade))
        if not by_uf:
            yield Violation("cidade", Problem.WRONG_KIND)
        elif by_uf.get(address.estado) != address.cidade:
            yield Violation("estado", Problem.CONFLICT)
        elif not self._carries_state(by_uf):
            yield Violation("estado", Problem.INVENTED)

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
                yield Violation("cep", Problem.OMITTED)
        elif cep.replace("-", "") not in ceps:
            yield Violation("cep", Problem.INVENTED)
        if any(uf != self.address.estado for uf in self.evidence.cep_ufs):
            yield Violation("cep", Problem.CONFLICT)

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

    # -- kinds and coverage --------------------------------------------------------------------------------------

    def _kinds(self) -> Iterator[Violation]:
        address = self.address
        spans = dict(self.chosen)
        words = value_words(address.rua)
        if words[0] in _NO_STREETS or words[-1] in _STREET_BREAKS_OFF:
            yield Violation("rua", Problem.WRONG_KIND)
        if self._is_no_street(words, spans["rua"]):
            yield Violation("rua", Problem.WRONG_KIND)
        if words[0] not in _SPELLED_TYPES and not any(word.isdigit() for word in words):
            yield Violation("rua", Problem.WRONG_KIND)
        if "numero" in spans and self.evidence.labelled.get(spans["numero"][0], "numero") != "numero":
            yield Violation("numero", Problem.WRONG_KIND)
        if address.bairro is not None and self._is_no_quarter(address.bairro, spans["bairro"], spans["cidade"]):
            yield Violation("bairro", Problem.WRONG_KIND)
        for state in self.unclaimed:
            if state.start == spans["cidade"][1] and state.uf != address.estado:
                yield Violation("estado", Problem.CONFLICT)

    def _is_no_street(self, words: list[str], span: Span) -> bool:
        """Is it two streets in one, a quarter's or settlement's noun without a type, or a name cut short?"""
        inner = range(2, len(words) - 1)
        if any(words[at] in _STREETS and words[at - 1] not in lx.PREPOSITIONS for at in inner):
            return True
        start, end = span
        tokens = self.tokens
        if len(words) == 2 and words[1] in _NUMBERED_NOUNS and tokens.keys[start] == words[1]:
            return True
        return any(
            tokens.dots[at] and 3 <= len(tokens.keys[at]) <= 4 and tokens.keys[at] in words
            for at in range(start, end - 1)
        )

    def _is_no_quarter(self, quarter: str, span: Span, city: Span) -> bool:
        words = value_words(quarter)
        if words[0] in _STREET_HEADS and self.evidence.labelled.get(span[0]) != "bairro" and len(words) > 1:
            return True
        if not any(word.isalpha() and len(word) > 2 for word in words) and quarter != "Sé":
            return True
        if UNIT in self.marks[span[0] : span[1]] or words[-1] in _QUARTER_BREAKS_OFF:
            return True
        if not lx.NOTE_WORDS.isdisjoint(words):
            return True  # "entregar na portaria"
        if len(words) == 1 and words[0] in lx.GENERIC_QUARTERS:
            return True
        # Shifted fields: the quarter is the municipality that stands before the state, and the city does not.
        name = gazetteer.municipalities(gazetteer.name_key(quarter)).get(self.address.estado)
        beside = {state.start for state in self.unclaimed if state.uf == self.address.estado}
        return name is not None and span[1] in beside and city[1] not in beside

    def _coverage(self) -> Iterator[Violation]:
        covered = bytearray(self.tokens.size)
        for _, (start, end) in self.chosen:
            covered[start:end] = b"\1" * (end - start)
        for state in self.unclaimed:
            if state.uf == self.address.estado:
                covered[state.start : state.end] = b"\1" * (state.end - state.start)
        left = [at for at, mark in enumerate(self.marks) if not covered[at] and mark in (FREE, UNIT)]
        if any(self.marks[at] == UNIT for at in left):
            yield Violation("complemento", Problem.OMITTED)
        if any(self.marks[at] == FREE and self._matters(at) and not self._aside(at, covered) for at in left):
            yield Violation("texto", Problem.OMITTED)

    def _matters(self, at: int) -> bool:
        tokens = self.tokens
        if tokens.kinds[at] == NUM:
            return self.address.numero is not None or tokens.keys[at].strip("0") != ""
        key = tokens.keys[at]
        if len(key) == 1 and at and tokens.kinds[at - 1] == NUM and tokens.gaps[at] in (GLUED, HYPHEN):
            return True  # the letter of "83-A"
        if len(key) == 1 and tokens.gaps[at] == HARD and tokens.hard_end(at) == at + 1:
            return True
        return key not in CONNECTIVES and not (key == "b" and tokens.dots[at])

    def _aside(self, at: int, covered: bytearray) -> bool:
        """Is the token in a field that may be left out: words only (a name, a remark), the quarter known."""
        tokens = self.tokens
        if self.address.bairro is None:
            return False
        start, end = tokens.hard_start(at), tokens.hard_end(at)
        if any(covered[i] or tokens.kinds[i] == NUM for i in range(start, end)):
            return False
        first = tokens.keys[start]
        if end - start == 1 and len(first) == 1:
            return False
        return first not in lx.STREET_TYPES and first not in lx.DISTRICT_WORDS and first not in lx.BUILDING_WORDS


__all__ = ["Problem", "Violation", "check", "violations"]
