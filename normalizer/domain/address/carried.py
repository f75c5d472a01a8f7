"""Spans of a text that carry the values of an address, and what of the text no value takes.

A value is spelled by tokens side by side and in order, each as it is or as one of its closed expansions; digit runs are
compared whole.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address.places import cities_ending, states
from normalizer.domain.address.tokens import DROPPED, FREE, GLUED, HARD, HYPHEN, LABEL, NUM, NUMBER, SLASH, UNIT, WORD
from normalizer.domain.address.words import ALL_CODES, ways_of
from normalizer.domain.text import word_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from normalizer.domain.address.places import State
    from normalizer.domain.address.standard import Address
    from normalizer.domain.address.tokens import Evidence


Span: TypeAlias = tuple[int, int]


class Table(NamedTuple):
    """`longs`: short word → what it may stand for, in words. `openers`: a word → what may be typed where it begins."""

    longs: dict[str, tuple[tuple[str, ...], ...]]
    openers: dict[str, frozenset[str]]


_VALUE_WORD: Final = re.compile(r"[^\W\d_]+|\d+(?:,\d)?")
_THOUSANDS: Final = re.compile(r"(?<!\d)(\d{1,3})\.(\d{3})(?!\d)")  # "Rua 1.025" is spelled by one token
_UNIT_HEADS: Final = frozenset(word_key(kind).split()[0] for kind in lx.UNIT_WORDS.values())
_ALONE_HEADS: Final = frozenset(word_key(kind) for kind in lx.ALONE_UNITS)
_BUILDING_HEADS: Final = frozenset(word_key(kind).split()[0] for kind in lx.BUILDING_WORDS.values()) - lx.CENTRE
_ESTATE_HEADS: Final = frozenset(
    {word_key(lx.DISTRICT_WORDS.get(word, word)) for word in lx.ESTATE_WORDS}
    | {phrase.split()[0] for phrase in lx.ESTATE_PHRASES}
)
STREET_HEADS: Final = frozenset(word_key(kind) for kind in lx.STREET_TYPES.values())
_ONLY_STREET_HEADS: Final = STREET_HEADS - _UNIT_HEADS - _ESTATE_HEADS
_LONGEST_BOUND: Final = 2  # "83-B", "120 fd"
_DEFAULT: Final = word_key(lx.DEFAULT_TYPE)
_ROAD: Final = word_key(lx.ROAD)
_FLOORS: Final = frozenset(map(word_key, lx.FLOOR_UNITS))


def _expansions(*tables: dict[str, str]) -> Table:
    merged: dict[str, set[tuple[str, ...]]] = {}
    for table in tables:
        for short, long in table.items():
            merged.setdefault(short, set()).add(tuple(word_key(long).split()))
    for short, longs in lx.INITIALS.items():
        merged.setdefault(short, set()).update(tuple(long.split()) for long in longs)
    openers: dict[str, set[str]] = {}
    for short, spelled in merged.items():
        for words in spelled:
            openers.setdefault(words[0], {words[0]}).add(short)
    return Table(
        {short: tuple(sorted(spelled)) for short, spelled in merged.items()},
        {word: frozenset(shorts) for word, shorts in openers.items()},
    )


_NAMES: Final = _expansions(lx.STREET_TYPES, lx.LOCALITIES, lx.SETTLEMENTS, lx.TITLES, lx.DISTRICT_WORDS)
_PARTS: Final = _expansions(lx.BEHIND_FLATS, lx.UNIT_WORDS, lx.BUILDING_WORDS, lx.DISTRICT_WORDS, lx.TITLES)


def value_words(value: str) -> list[str]:
    """Return the folded words and digit runs of a stored value."""
    if "ª" in value or "º" in value:
        value = " ".join(word_key(word) for word in value.split())
    if "." in value:
        value = _THOUSANDS.sub(r"\1\2", value)
    folded = word_key(value)
    return folded.split() if folded.replace(" ", "").isalpha() else _VALUE_WORD.findall(folded)


class Carrier:
    """Searches the tokens of one text for the values of one address."""

    def __init__(self, evidence: Evidence, address: Address) -> None:
        self.tokens, self.marks, self.address = evidence, evidence.marks, address
        self.street, self.district = value_words(address.rua), value_words(address.bairro or "")
        self.town = ways_of(address.estado, address.cidade)
        self.district_spans = list(self._spans(self.district, _NAMES))

    def wanted(self) -> list[tuple[str, list[Span]]]:
        """Return each value to place with every span of tokens that carries it."""
        address = self.address
        wanted = [("rua", self._street_spans()), ("cidade", self._city_spans())]
        if address.numero is not None:
            wanted.append(("numero", self._number_spans(address.numero)))
        if address.bairro is not None:
            wanted.append(("bairro", self.district_spans))
        if address.complemento is not None:
            wanted.extend(("complemento", self._part_spans(part)) for part in address.complemento.split(", "))
        return wanted

    def _spans(self, words: list[str], table: Table) -> Iterator[Span]:
        """Yield the spans whose tokens, side by side, spell `words`."""
        if not words:
            return
        openers = table.openers.get(words[0], words[:1])
        for start in [at for at, key in enumerate(self.tokens.keys) if key in openers]:
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
            if at > start and tokens.gaps[at] == HARD and not self._bridges(at):
                return 0
            if words[done][0].isdigit() and tokens.keys[at] in lx.NUMBER_WORDS and tokens.is_number(at + 1):
                at += 1  # "Casa nº 2", "Área Reservada n. 01"
            spelled = self._spelled_at(at, words, done, table)
            if not spelled:
                return 0
            at, done = at + 1, done + spelled
        return at

    def _spelled_at(self, at: int, words: list[str], done: int, table: Table) -> int:
        """Return how many of the words from `done` on the token at `at` spells."""
        key, word = self.tokens.keys[at], words[done]
        if key == word or (self.tokens.kinds[at] == NUM and key.lstrip("0") == word.lstrip("0") != ""):
            return 1  # "Loja 01" and "Loja 1"
        if (longs := table.longs.get(key)) is None:
            return 0
        return next((len(long) for long in longs if tuple(words[done : done + len(long)]) == long), 0)

    def _bridges(self, at: int) -> bool:
        """Does a value go on behind a comma: "Sala, 02", "SBS, QD. 9"."""
        inside = any(unit.start < at < unit.end for unit in self.tokens.units)
        coded = self.marks[at] == UNIT and self.tokens.keys[at - 1] in ALL_CODES
        return inside or coded or self.tokens.colons[at - 1]

    def _street_spans(self) -> list[Span]:
        words = self.street
        spans = [(self._doubled(start, words[0]), end) for start, end in self._spans(words, _NAMES)]
        behind = word_key(self.tokens.trailing_type or "")  # "FULANO DE TAL, 121 AVENIDA."
        if spans or len(words) < 2 or words[0] not in (_DEFAULT, _ROAD, behind):
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
        if kind == _ROAD and self.tokens.trailing_type != lx.ROAD:
            return tokens.keys[start] in lx.ROAD_CODES or tokens.keys[start].upper() in gazetteer.UF_NAMES
        if start and self.marks[start - 1] == FREE and tokens.gaps[start] != HARD:
            return False
        if end >= tokens.size or tokens.keys[start] in lx.NO_BARE_NAMES:
            return False
        numbered = tokens.kinds[end] == NUM or self.marks[end] == NUMBER or tokens.keys[end] in lx.NUMBER_WORDS
        return numbered or self.tokens.labelled.get(start) == "rua" or self.marks[end] == LABEL

    def _city_spans(self) -> list[Span]:
        address = self.address
        last_word = gazetteer.name_key(address.cidade).rpartition(" ")[2]
        ends = {at + 1 for at, key in enumerate(self.tokens.keys) if key == last_word}
        ends |= {self.tokens.city[1]} - {0}  # an older name ends in another word
        spans = self._cities(sorted(ends))
        return spans or self._cities(range(1, self.tokens.size + 1))

    def _cities(self, ends: Iterable[int]) -> list[Span]:
        return [
            (start, end)
            for end in ends
            for start, name, _ in cities_ending(self.tokens, end, self.address.estado)
            if name == self.address.cidade
        ]

    def _number_spans(self, number: str) -> list[Span]:
        block, _, house = number.partition("-")
        keys = self.tokens.keys
        found = [at for at, key in enumerate(keys) if key.lstrip("0") == block and self.tokens.numeric(at)]
        if not house:
            return [(at, at + 1) for at in found if not self._is_block(at)]
        return [(at, at + 2) for at in found if self._is_block(at) and self.tokens.key(at + 1) == house]

    def _is_block(self, at: int) -> bool:
        """Is it the block of "9-55", where block and house are one number."""
        bound = self.tokens.is_number(at + 1) and self.tokens.gaps[at + 1] == HYPHEN
        return bound and self.town.block_numbers

    def _part_spans(self, part: str) -> list[Span]:
        words = value_words(part)
        if not words or not lx.NOTE_WORDS.isdisjoint(words):
            return []  # "Condomínio Portal do Sol entregar na portaria" is more than a building
        inner_street = words[0] in _ONLY_STREET_HEADS
        spans = list(self._spans(words, _NAMES if inner_street else _PARTS))
        spans.extend(self._second_numbers(words))
        if words[-1] in _FLOORS:
            spans.extend(self._spans([words[-1], *words[:-1]], _PARTS))
        return [span for span in spans if self._may_be_part(words, span)]

    def _second_numbers(self, words: list[str]) -> Iterator[Span]:
        """Yield where the numbers stand behind another and rules leave them out: "620 636"."""
        tokens, count = self.tokens, len(words)
        for at in range(1, tokens.size - count + 1):
            said = self.marks[at] == DROPPED and tokens.keys[at : at + count] == words
            if said and all(kind == NUM for kind in tokens.kinds[at - 1 : at + count]):
                yield at, at + count

    def _is_place(self, span: Span) -> bool:
        """Does a place stand before the district: "88 SETOR LESTE - CENTRO"."""
        start, end = span
        key, gaps = self.tokens.keys[start], self.tokens.gaps
        if self.address.bairro is None or end > self.tokens.slot[0] or gaps[end] != HARD:
            return False
        return key in lx.DISTRICT_WORDS or key in lx.PLACES

    def _is_unit(self, first: str, rest: list[str], span: Span) -> bool:
        if first in lx.NAMED_HEADS and len(rest) == 1 and UNIT in self.marks[span[0] : span[1]]:
            return True  # "Bloco Jangada"
        if first in lx.HOUSES and len(rest) == 2 and rest[1] in lx.BEHIND:
            return True  # "Casa dos Fundos"
        valued = any(word[0].isdigit() or len(word) == 1 or word in lx.ROMAN or word in lx.SIDES for word in rest)
        return valued or (not rest and first in _ALONE_HEADS and self.marks[span[0]] == UNIT)

    def _may_be_part(self, words: list[str], span: Span) -> bool:
        """Is it a unit with its value, a building, an estate, or bound to the house number?"""
        first, rest = words[0], words[1:]
        found = any((unit.start, unit.end) == span for unit in self.tokens.units)
        if found or self.tokens.labelled.get(span[0]) == "complemento":
            return True
        inner = bool(rest) and rest[-1].isdigit() and first in STREET_HEADS
        inner = inner and (self.town.inner_streets or self.town.opening_quadra)
        estate = first in _ESTATE_HEADS and bool(rest) and self.address.bairro is not None
        building = first in _BUILDING_HEADS or " ".join(words[:2]) in lx.BUILDING_PHRASES or words[-1] in _FLOORS
        if inner or estate or building or self._is_place(span):
            return True
        if first in _UNIT_HEADS:
            return self._is_unit(first, rest, span) or self._is_aside(span)
        return span[0] > 0 and (self._is_behind_number(words, span[0]) or self._is_aside(span))

    def _is_aside(self, span: Span) -> bool:
        """Is it a field of its own between house and district: what may be left out may be kept as well."""
        (start, end), tokens = span, self.tokens
        if tokens.hard_start(start) != start or tokens.hard_end(start) != end or WORD not in tokens.kinds[start:end]:
            return False
        behind = NUM in tokens.kinds[:start] or (start > 0 and tokens.keys[start] in lx.UNIT_WORDS)
        before = behind and any(district >= end for district, _ in self.district_spans)
        return before and all(state.start != start for state in states(self.tokens))

    def _is_behind_number(self, words: list[str], start: int) -> bool:
        """Is it a second number, "620 636", or what is bound to the first: "83-B", "67/203"."""
        tokens = self.tokens
        behind = tokens.kinds[start - 1] == NUM
        if all(word.isdigit() for word in words):
            blocks = tokens.gaps[start] == HYPHEN and self.town.block_numbers
            return behind and self.address.numero is not None and not blocks
        if len(words) > 1 or len(words[0]) > _LONGEST_BOUND:
            return False
        ends = not tokens.dots[start] or tokens.hard_end(start) == start + 1
        ends = ends or any(district == start + 1 for district, _ in self.district_spans)
        letter = len(words[0]) == 1 and tokens.kinds[start] == WORD and ends
        return letter or (behind and tokens.gaps[start] in (GLUED, HYPHEN, SLASH))


# -- omissions: what may be left are labels, connectives and remarks --------------------------------------------------

# What may be left over between two fields: "no Centro", "na cidade de Itu", "Itu - estado de SP".
_LOCATIVES: Final = lx.IN_THE | lx.IN_TOWN
_OF_PLACES: Final = lx.OF | lx.AND | lx.TOWN_NAMES | lx.STATE_WORDS
# What opens a field that may not be left over.
_OPENING_FIELDS: Final = ALL_CODES.union(lx.STREET_TYPES, lx.DISTRICT_WORDS, lx.BUILDING_WORDS)


class Omitted:
    """The tokens of a text that no field of an address claims."""

    def __init__(self, evidence: Evidence, address: Address, claims: Sequence[tuple[str, Span]]) -> None:
        self.tokens, self.marks, self.address = evidence, evidence.marks, address
        self.owners: list[str] = [""] * self.tokens.size
        for name, (start, end) in claims:
            self.owners[start:end] = [name] * (end - start)
        spans, size = dict(claims), self.tokens.size
        self.city, (first, last) = spans["cidade"], spans.get("bairro", (size, size))
        # Where more follows the district, what stands before it is no aside: of several quarters, the first is meant.
        self.asides_from = first if first == size or HARD in self.tokens.gaps[last : self.city[0]] else 0
        for state in states(evidence):
            if state.uf == address.estado and self._is_state(state):
                self.owners[state.start : state.end] = ["estado"] * (state.end - state.start)

    def units(self) -> bool:
        """Is a part of the complement left over."""
        return UNIT in self.marks and any(
            mark == UNIT and not owner for mark, owner in zip(self.marks, self.owners, strict=True)
        )

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
        return apart and (end != self.city[0] or all(state.start != self.city[1] for state in states(self.tokens)))

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
        numbered = self.tokens.is_number(following) or NUMBER in self.marks[following : at + 2]
        if key in lx.NUMBER_WORDS and (owner == "numero" or numbered):
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

    def _is_aside(self, at: int) -> bool:
        """Is the token in a field that may be left out: words only (a name, a remark), the district known.

        What stands right before the city is never aside: it is where the district stands.
        """
        tokens = self.tokens
        if at < self.asides_from:
            return False
        start, end = tokens.hard_start(at), tokens.hard_end(at)
        if any(self.owners[i] or tokens.kinds[i] == NUM for i in range(start, end)):
            return False
        if end == self.city[0] and not tokens.parens[start]:
            return tokens.phrase(start, end) == tokens.phrase(*self.city)
        first = tokens.keys[start]
        return first not in _OPENING_FIELDS and (end - start > 1 or len(first) > 1)
