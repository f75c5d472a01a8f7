"""Is every value of an address carried by the text it was read from, and of its field's kind?

The same check stands behind rules, model answers and cache. A value is carried when its words stand in the text in
order and side by side, each as typed or as one of its closed expansions, digit runs whole; no token carries two fields;
text that gives orders, phones, notes and references carry nothing. What the address leaves unexplained is a violation too,
so a dropped complement or a second number is caught.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address.cells import alternatives
from normalizer.domain.address.evidence import Evidence
from normalizer.domain.address.marks import DROPPED, FREE, LABEL, NUMBER, POSTCODE, UNIT
from normalizer.domain.address.places import cities_ending, states
from normalizer.domain.address.tokens import GLUED, HARD, HYPHEN, MAX_CHARS, NUM, SLASH, WORD, Tokens, word_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from normalizer.domain.address.places import State
    from normalizer.domain.address.value import Address

_VALUE_WORD: Final = re.compile(r"[^\W\d_]+|\d+")
_SEARCH_LIMIT: Final = 400
_CONNECTIVES: Final = frozenset({"n", "no", "num", "numero", "nr", "nro", "e", "de", "da", "do", "em", "na", "cep", "bairro",
                                 "cidade", "municipio", "estado", "brasil", "br", "o", "a", "na"})  # fmt: skip
# A field that one of the first kinds of word opens is another field.
_STREET_HEADS: Final = (
    frozenset(word_key(kind) for kind in lx.STREET_TYPES.values()) - {"vila", "quadra"} - lx.RURAL_TYPES
)
_SPELLED_TYPES: Final = frozenset(word_key(kind) for kind in lx.STREET_TYPES.values())
_UNIT_HEADS: Final = frozenset(word_key(kind).split()[0] for kind in lx.UNIT_WORDS.values())
_SIDES: Final = frozenset({"norte", "sul", "leste", "oeste"})
_ALONE_HEADS: Final = frozenset(word_key(kind) for kind in lx.ALONE_UNITS)
_BUILDING_HEADS: Final = frozenset(word_key(kind).split()[0] for kind in lx.BUILDING_WORDS.values()) - {"centro"}
_ESTATE_HEADS: Final = frozenset({word_key(lx.DISTRICT_WORDS.get(word, word)) for word in lx.ESTATE_WORDS} | {"parque"})


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


Span: TypeAlias = tuple[int, int]
Table: TypeAlias = dict[str, tuple[tuple[str, ...], ...]]  # short word → what it may stand for, in words


def violations(text: str, address: Address) -> tuple[Violation, ...]:
    """Return what keeps `address` from being stored for `text`; empty when every value is carried. Total."""
    best: tuple[Violation, ...] | None = None
    for part in alternatives(text):
        if len(part) > MAX_CHARS:
            continue
        found = check(Evidence(Tokens(part)), address)
        if not found:
            return ()
        best = found if best is None or len(found) < len(best) else best
    return best if best is not None else (Violation("rua", Problem.INVENTED),)


def check(evidence: Evidence, address: Address) -> tuple[Violation, ...]:
    """Return the violations of `address` against the evidence of one text."""
    return tuple(_Check(evidence, address).run())


def _expansions(*tables: dict[str, str]) -> Table:
    merged: dict[str, set[tuple[str, ...]]] = {}
    for table in tables:
        for short, long in table.items():
            merged.setdefault(short, set()).add(tuple(word_key(long).split()))
    for short, longs in (
        ("s", "sao santo santa senhora"),
        ("d", "dom dona"),
        ("n", "nossa"),
        ("nsa", "nossa"),
        ("v", "vila"),
    ):
        merged.setdefault(short, set()).update((long,) for long in longs.split())
    for short in ("qd", "qda"):
        merged.setdefault(short, set()).add(("quadra",))
    for short in ("ns", "nsa", "nsra"):
        merged.setdefault(short, set()).add(("nossa", "senhora"))
    return {short: tuple(sorted(longs)) for short, longs in merged.items()}


_NAMES: Final = _expansions(lx.STREET_TYPES, lx.TITLES, lx.DISTRICT_WORDS)
_PARTS: Final = _expansions(lx.UNIT_WORDS, lx.BUILDING_WORDS, lx.DISTRICT_WORDS, lx.TITLES)


def value_words(value: str) -> list[str]:
    """Return the folded words and digit runs of a stored value."""
    return _VALUE_WORD.findall(word_key(value))


class _Check:
    def __init__(self, evidence: Evidence, address: Address) -> None:
        self.evidence, self.address = evidence, address
        self.tokens = evidence.tokens
        self.marks = evidence.marks
        self.chosen: list[tuple[str, Span]] = []

    def run(self) -> Iterator[Violation]:
        found = [*self._place(), *self._postcode()]
        wanted = self._wanted()
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
        named = {state.uf for state in self._states()}
        if address.estado in named:
            return True
        ufs = {gazetteer.uf_of_cep(cep) for cep in self.evidence.ceps}
        if ufs:
            return address.estado in ufs
        # Neither sigla nor CEP: only a city that exists once, a capital, or a nickname tells its state.
        return len(by_uf) == 1 or gazetteer.CAPITALS[address.estado] == address.cidade

    def _states(self) -> list[State]:
        return states(self.evidence)

    def _postcode(self) -> Iterator[Violation]:
        ceps = self.evidence.ceps
        cep = self.address.cep
        if cep is None:
            if ceps:
                yield Violation("cep", Problem.OMITTED)
        elif cep.replace("-", "") not in ceps:
            yield Violation("cep", Problem.INVENTED)
        if any(gazetteer.uf_of_cep(digits) != self.address.estado for digits in ceps[:1]):
            yield Violation("cep", Problem.CONFLICT)

    # -- where the text carries each value -----------------------------------------------------------------------

    def _wanted(self) -> list[tuple[str, list[Span]]]:
        """Return each value to place with every span of tokens that carries it."""
        address = self.address
        wanted = [("rua", self._street_spans()), ("cidade", self._city_spans())]
        if address.numero is not None:
            wanted.append(("numero", self._number_spans(address.numero)))
        if address.bairro is not None:
            wanted.append(("bairro", list(self._spans(value_words(address.bairro), _NAMES))))
        if address.complemento is not None:
            wanted.extend(("complemento", self._part_spans(part)) for part in address.complemento.split(", "))
        return wanted

    def _spans(self, words: list[str], table: Table) -> Iterator[Span]:
        """Yield the spans whose tokens, side by side, spell `words`."""
        if not words:
            return
        keys, first = self.tokens.keys, words[0]
        for start in range(self.tokens.size):
            if keys[start] == first or keys[start] in table:
                end = self._spelled_until(start, words, table)
                if end:
                    yield start, end

    def _spelled_until(self, start: int, words: list[str], table: Table) -> int:
        """Return where the tokens from `start` on have spelled all of `words`; 0 when they do not."""
        tokens, marks = self.tokens, self.marks
        at, done, wanted = start, 0, len(words)
        while done < wanted:
            if at >= tokens.size or marks[at] not in (FREE, UNIT):
                return 0
            if at > start and tokens.gaps[at] == HARD and not tokens.colons[at - 1]:
                return 0
            if tokens.keys[at] == words[done]:
                done += 1
            else:
                for long in table.get(tokens.keys[at], ()):
                    if tuple(words[done : done + len(long)]) == long:
                        done += len(long)
                        break
                else:
                    return 0
            at += 1
        return at

    def _street_spans(self) -> list[Span]:
        words = value_words(self.address.rua)
        spans = [(self._doubled(start, words[0]), end) for start, end in self._spans(words, _NAMES)]
        if spans or len(words) < 2 or words[0] not in {"rua", "rodovia"}:
            return spans
        return [span for span in self._spans(words[1:], _NAMES) if self._needs_no_type(*span, words[0])]

    def _doubled(self, start: int, kind: str) -> int:
        """Return where "RUA R. X" begins when "R. X" begins at `start`."""
        types, keys = lx.STREET_TYPES, self.tokens.keys
        while start > 0 and self.marks[start - 1] == FREE and word_key(types.get(keys[start - 1], "")) == kind:
            start -= 1
        return start

    def _needs_no_type(self, start: int, end: int, kind: str) -> bool:
        tokens = self.tokens
        if tokens.keys[start] in lx.STREET_TYPES and tokens.keys[start] not in lx.TITLES:
            return False
        if kind == "rodovia":
            return tokens.keys[start] == "br" or tokens.keys[start].upper() in gazetteer.UF_NAMES
        if start and self.marks[start - 1] == FREE and tokens.gaps[start] != HARD:
            return False
        if end >= tokens.size or tokens.keys[start] in lx.STRONG_STARTERS:
            return False
        numbered = tokens.kinds[end] == NUM or self.marks[end] == NUMBER or tokens.keys[end] in _CONNECTIVES
        return numbered or self.evidence.labelled.get(start) == "rua" or self.marks[end] == LABEL

    def _city_spans(self) -> list[Span]:
        address = self.address
        last_words = {gazetteer.name_key(address.cidade).split()[-1]} if address.cidade else set()
        ends = [at + 1 for at, key in enumerate(self.tokens.keys) if key in last_words]
        spans = self._cities(ends)
        return spans or self._cities(range(1, self.tokens.size + 1))

    def _cities(self, ends: Iterable[int]) -> list[Span]:
        return [
            (start, end)
            for end in ends
            for start, name, _ in cities_ending(self.evidence, end, self.address.estado)
            if name == self.address.cidade
        ]

    def _number_spans(self, number: str) -> list[Span]:
        tokens = self.tokens
        return [
            (at, at + 1)
            for at in range(tokens.size)
            if tokens.kinds[at] == NUM and self.marks[at] == FREE and tokens.keys[at].lstrip("0") == number
        ]

    def _part_spans(self, part: str) -> list[Span]:
        words = value_words(part)
        spans = list(self._spans(words, _PARTS))
        if words and words[-1] in {"andar", "piso"}:
            spans.extend(self._spans([words[-1], *words[:-1]], _PARTS))
        if len(words) == 2:  # "Casa nº 2"
            spans.extend(
                (start, start + 3)
                for start, end in self._spans(words[:1], _PARTS)
                if end - start == 1 and self.tokens.keys[end : end + 2] in (["n", words[1]], ["numero", words[1]])
            )
        return [span for span in spans if self._may_be_part(words, span)]

    def _may_be_part(self, words: list[str], span: Span) -> bool:
        """Is it a part of the complement: a unit with its value, a building, an estate, or bound to the house number."""
        start = span[0]
        first, rest = words[0], words[1:]
        if (
            first in _BUILDING_HEADS
            or words[-1] in {"andar", "piso"}
            or self.evidence.labelled.get(start) == "complemento"
        ):
            return True
        if first in _ESTATE_HEADS and rest and self.address.bairro is not None:
            return True
        if first in _UNIT_HEADS:
            valued = any(word.isdigit() or len(word) == 1 or word in lx.ROMAN or word in _SIDES for word in rest)
            return valued or (not rest and first in _ALONE_HEADS)
        if rest or not start:
            return False
        bound = self.tokens.gaps[start] in (GLUED, HYPHEN, SLASH) and self.tokens.kinds[start - 1] == NUM
        return bound or (len(first) == 1 and self.tokens.kinds[start] == WORD)

    # -- one token, one field ------------------------------------------------------------------------------------

    def _assign(self, wanted: list[tuple[str, list[Span]]]) -> bool:
        """Choose one span for each value so that no token is claimed twice; the fewest choices first."""
        order = sorted(wanted, key=lambda item: len(item[1]))
        claimed = bytearray(self.tokens.size)
        steps = [0]

        def choose(index: int) -> bool:
            if index == len(order):
                return True
            name, spans = order[index]
            for start, end in sorted(spans, key=lambda span: self._preference(name, span)):
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
            beside = any(state.start == span[1] for state in self._states() if state.uf == self.address.estado)
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
        if words[0] in lx.STRONG_STARTERS - {"vila", "setor", "parque"} or words[-1] in lx.PREPOSITIONS - {
            "a",
            "e",
            "para",
        }:
            yield Violation("rua", Problem.WRONG_KIND)
        if words[0] not in _SPELLED_TYPES and not any(word.isdigit() for word in words):
            yield Violation("rua", Problem.WRONG_KIND)
        if "numero" in spans and self.evidence.labelled.get(spans["numero"][0], "numero") != "numero":
            yield Violation("numero", Problem.WRONG_KIND)
        if address.bairro is not None and self._is_no_quarter(address.bairro, spans["bairro"], spans["cidade"]):
            yield Violation("bairro", Problem.WRONG_KIND)
        for state in self._unclaimed_states():
            if state.start == spans["cidade"][1] and state.uf != address.estado:
                yield Violation("estado", Problem.CONFLICT)

    def _unclaimed_states(self) -> list[State]:
        """Return the states named by tokens that carry no field."""
        chosen = [span for _, span in self.chosen]
        return [
            state for state in self._states() if all(state.end <= start or end <= state.start for start, end in chosen)
        ]

    def _is_no_quarter(self, quarter: str, span: Span, city: Span) -> bool:
        words = value_words(quarter)
        if words[0] in _STREET_HEADS and self.evidence.labelled.get(span[0]) != "bairro" and len(words) > 1:
            return True
        if not any(word.isalpha() and len(word) > 2 for word in words):
            return True
        if any(self.marks[at] == UNIT for at in range(*span)) or words[-1] in lx.PREPOSITIONS - {"a", "e"}:
            return True
        if len(words) == 1 and words[0] in lx.GENERIC_QUARTERS:
            return True
        # Shifted fields: the quarter is the municipality that stands before the state, and the city does not.
        name = gazetteer.municipalities(gazetteer.name_key(quarter)).get(self.address.estado)
        beside = {state.start for state in self._unclaimed_states() if state.uf == self.address.estado}
        return name is not None and span[1] in beside and city[1] not in beside

    def _coverage(self) -> Iterator[Violation]:
        covered = bytearray(self.tokens.size)
        for _, (start, end) in self.chosen:
            covered[start:end] = b"\1" * (end - start)
        for state in self._unclaimed_states():
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
        return key not in _CONNECTIVES and not (key == "b" and tokens.dots[at])

    def _aside(self, at: int, covered: bytearray) -> bool:
        """Is the token in a field of its own that may be left out: words only (a name, a remark) beside a known quarter."""
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


__all__ = ["DROPPED", "POSTCODE", "Problem", "Violation", "check", "value_words", "violations"]
