"""The parts of a complement that a keyword announces: "ap 52", "bl. 3", "Qd 19 Lt 32", "3º andar", "fundos"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from normalizer.domain.address import lexicon as lx
from normalizer.domain.address import standard
from normalizer.domain.address.marks import DROPPED, FREE, LABEL, NUMBER, UNIT
from normalizer.domain.address.streets import LOTS, at_street
from normalizer.domain.address.tokens import BLANK, GLUED, HARD, HYPHEN, NUM, SLASH, WORD

if TYPE_CHECKING:
    from normalizer.domain.address.tokens import Tokens

_ORDINAL_SIGNS: Final = "ºª°oOaA"  # "10o andar"
_NUMBER_LABELS: Final = frozenset({"n", "no", "num", "numero", "nr", "nro"})
_SIDES: Final = frozenset({"norte", "sul", "leste", "oeste"})
# "Casa" and one of these is a quarter, or says what the house looks like; it is no house of its own.
_QUARTERS_OF_HOUSES: Final = frozenset({"amarela", "verde", "branca", "forte", "caiada", "nova", "grande", "blanca"})


# Blocks and towers are given names; the other units are counted.
NAMED_UNITS: Final = frozenset({"bloco", "torre"})
# What tells a house from the other one on its plot: "casa dos fundos".
BEHIND: Final = frozenset({"fundos", "frente", "baixo", "cima"})
_NO_UNIT_NAMES: Final = frozenset(
    {*lx.UNIT_WORDS, *lx.DISTRICT_WORDS, *lx.STREET_TYPES, *lx.LABELS, *lx.REFERENCE_WORDS, *lx.NOTE_WORDS}
)


class Unit(NamedTuple):
    """One part of the complement: tokens [start, end), its keyword spelled out and its value."""

    start: int
    end: int
    keyword: str
    value: str


def find_units(tokens: Tokens, marks: bytearray) -> list[Unit]:
    """Return the units among the free tokens, in the order of the text, and mark them."""
    return _Finder(tokens, marks).find()


class _Finder:
    def __init__(self, tokens: Tokens, marks: bytearray) -> None:
        self.tokens, self.marks = tokens, marks

    def find(self) -> list[Unit]:
        tokens, marks = self.tokens, self.marks
        units: list[Unit] = []
        if lx.UNIT_WORDS.keys().isdisjoint(tokens.vocabulary):
            return units
        for at in range(tokens.size):
            if marks[at] != FREE or tokens.kinds[at] != WORD:
                continue
            keyword = lx.UNIT_WORDS.get(tokens.keys[at]) or self._initial(at)
            if keyword is not None and (unit := self._read(at, keyword)) is not None:
                again = any((unit.keyword, unit.value) == (other.keyword, other.value) for other in units)
                if not again:
                    units.append(unit)
                marks[unit.start : unit.end] = bytes([DROPPED if again else UNIT]) * (unit.end - unit.start)
        return units

    def _initial(self, at: int) -> str | None:
        """Return what the T or B of "ap 501 T2" is short for: right behind a flat, and bound to its number."""
        keyword = lx.BEHIND_FLATS.get(self.tokens.keys[at])
        if keyword is None or not at or self.marks[at - 1] != UNIT:
            return None
        return keyword if self._numeric(at + 1) and self.tokens.gaps[at + 1] == GLUED else None

    def _read(self, at: int, keyword: str) -> Unit | None:
        floor = self._floor(at, keyword) if keyword in {"Andar", "Piso"} else None
        return floor or self._unit(at, keyword)

    def _free(self, at: int) -> bool:
        return 0 <= at < len(self.marks) and self.marks[at] == FREE

    def _floor(self, at: int, keyword: str) -> Unit | None:
        """Read "3º andar", whose value comes first."""
        before = at - 1
        if not self._free(before) or self.tokens.kinds[before] != NUM or self.tokens.gaps[at] == HARD:
            return None
        word = self.tokens.words[before]
        ordinal = word[-1] in _ORDINAL_SIGNS
        if not ordinal and not (before and self.tokens.kinds[before - 1] == NUM) and self.tokens.gaps[before] != HARD:
            return None
        return Unit(before, at + 1, f"{self.tokens.keys[before]}º {keyword}", "")

    def _unit(self, at: int, keyword: str) -> Unit | None:
        tokens = self.tokens
        if at and tokens.gaps[at] != HARD and self._inside_name(at):
            return None
        if keyword in lx.VALUELESS_UNITS:
            if self._placed(at):
                self.marks[at - 1] = LABEL
            return Unit(at, at + 1, keyword, "") if self._stands_alone(at) else None
        value = at + 1
        if (
            value < tokens.size
            and tokens.keys[value] in _NUMBER_LABELS
            and self._binds(at, value)
            and self._numeric(value + 1)
        ):
            value += 1
        end = self._value_end(at, value)
        if end > value:
            return Unit(at, end, keyword, self._value(value, end))
        return self._without_number(at, keyword)

    def _without_number(self, at: int, keyword: str) -> Unit | None:
        words, value = self.tokens.words, at + 1
        if self._behind(at):
            return Unit(at, at + 3, f"{keyword} {words[value].lower()} {words[value + 1].capitalize()}", "")
        if keyword.lower() in NAMED_UNITS and self._named(value):
            return Unit(at, value + 1, keyword, standard.proper(words[value], first=True))
        if keyword in lx.ALONE_UNITS and self._stands_alone(at):
            return Unit(at, at + 1, keyword, "")
        return None

    def _placed(self, at: int) -> bool:
        """Is it said where, behind another unit or the number: "kitnet 7 nos fundos"."""
        tokens = self.tokens
        if at < 2 or tokens.keys[at - 1] not in {"nos", "na"} or not self._free(at - 1):
            return False
        return self.marks[at - 2] in (UNIT, NUMBER) or tokens.kinds[at - 2] == NUM

    def _behind(self, at: int) -> bool:
        """Does the unit say which of two it is: "casa dos fundos", "casa de baixo"."""
        tokens = self.tokens
        return (
            tokens.keys[at] in {"casa", "cs"}
            and tokens.keys[at + 1 : at + 2] in (["de"], ["da"], ["do"], ["dos"])
            and not BEHIND.isdisjoint(tokens.keys[at + 2 : at + 3])
            and all(self._free(i) and tokens.gaps[i] == BLANK for i in (at + 1, at + 2))
            and (at + 3 == tokens.size or tokens.gaps[at + 3] == HARD or not self._free(at + 3))
        )

    def _named(self, value: int) -> bool:
        """Is the value a name, and the whole rest of its field: "Bloco Jangada, Apto 702"."""
        tokens = self.tokens
        if not self._free(value) or tokens.kinds[value] != WORD or tokens.gaps[value] != BLANK:
            return False
        following = value + 1
        closed = following == tokens.size or tokens.gaps[following] == HARD or tokens.keys[following] in lx.UNIT_WORDS
        key = tokens.keys[value]
        return closed and len(key) > 2 and key not in _NO_UNIT_NAMES

    def _inside_name(self, at: int) -> bool:
        """Does the keyword stand in a street's name, as in "Rua da Casa Branca"."""
        before = self.tokens.keys[at - 1]
        if self.marks[at - 1] in (UNIT, NUMBER, LABEL):
            return False
        return before in {"da", "do", "de", "das", "dos", "e"} or (
            before in lx.STREET_TYPES and at_street(self.tokens, at - 1)
        )

    def _stands_alone(self, at: int) -> bool:
        tokens = self.tokens
        before = tokens.gaps[at] == HARD or self.marks[at - 1] in (UNIT, NUMBER, LABEL) or tokens.kinds[at - 1] == NUM
        after = tokens.keys[at + 1] if at + 1 < tokens.size and tokens.gaps[at + 1] != HARD else ""
        return (
            before
            and after not in {"de", "da", "do", "das", "dos", "nos", "na", "no"}
            and not (tokens.keys[at] in {"casa", "cs"} and (after in _QUARTERS_OF_HOUSES or after in lx.COLOURS))
            and not (tokens.gaps[at] == HARD and after and after not in lx.UNIT_WORDS and self._free(at + 1))
        )

    def _binds(self, at: int, following: int) -> bool:
        return self.tokens.gaps[following] != HARD or self.tokens.colons[at]

    def _numeric(self, at: int) -> bool:
        return self._free(at) and self.tokens.kinds[at] == NUM

    def _value_end(self, at: int, value: int) -> int:
        """Return where the value that begins at `value` ends, or `value` when there is none."""
        tokens = self.tokens
        if not self._free(value) or not self._binds(at, value):
            return value
        short = len(tokens.keys[at]) == 1
        if tokens.kinds[value] == NUM:
            if short and tokens.gaps[value] == HYPHEN:
                return value  # "Q-3" may be a street's code
            end = value + 1
            while self._continues(end):
                end += 1
            return end + 1 if self._lettered_plot(at, end) else end
        if tokens.kinds[value] != WORD:
            return value
        if self._coded(value):
            return value + 2
        return value + 1 if self._worded(at, value) or self._lettered(value, short=short) else value

    def _lettered_plot(self, at: int, end: int) -> bool:
        """Does a letter of its own belong to the plot's number: "QD 7 A LT 22"."""
        tokens = self.tokens
        if lx.UNIT_WORDS.get(tokens.keys[at]) not in LOTS or not self._free(end) or end + 1 >= tokens.size:
            return False
        letter = len(tokens.keys[end]) == 1 and tokens.words[end].isupper() and tokens.keys[end] not in {"e", "o", "q"}
        unit = lx.UNIT_WORDS.get(tokens.keys[end + 1]) is not None and self._numeric(end + 2)
        return letter and tokens.gaps[end] == BLANK and unit

    def _coded(self, value: int) -> bool:
        """Is the value letters bound to a number: "A2", "B-1"."""
        return (
            len(self.tokens.keys[value]) <= 2
            and self._numeric(value + 1)
            and self.tokens.gaps[value + 1] in (GLUED, HYPHEN)
        )

    def _worded(self, at: int, value: int) -> bool:
        """Is the value a Roman numeral, or the side of a tower."""
        key = self.tokens.keys[value]
        if key in lx.ROMAN and len(key) > 1 and self.tokens.words[value].isupper():
            return True
        return key in _SIDES and lx.UNIT_WORDS[self.tokens.keys[at]] in {"Torre", "Bloco"}

    def _lettered(self, value: int, *, short: bool) -> bool:
        """Is the value one letter. A letter that is a word counts in capitals or where nothing else can follow."""
        tokens = self.tokens
        key = tokens.keys[value]
        if len(key) != 1 or key in {"l", "q"}:
            return False
        following = value + 1
        if tokens.dots[value] and self._free(following) and tokens.gaps[following] == BLANK:
            return tokens.keys[following] in lx.UNIT_WORDS  # "Casa N. Sra. das Dores"
        closed = following == tokens.size or tokens.gaps[following] == HARD or not self._free(following)
        closed = closed or tokens.keys[following] in lx.UNIT_WORDS
        if key in {"a", "e", "o"} and not tokens.words[value].isupper():
            return closed
        return closed or not short

    def _continues(self, at: int) -> bool:
        """Does the token at `at` still belong to a unit's number: "101-B", "101/102", "3A"."""
        tokens = self.tokens
        if not self._free(at):
            return False
        gap = tokens.gaps[at]
        if tokens.kinds[at] == NUM:
            return gap in (SLASH, HYPHEN) and tokens.kinds[at - 1] == NUM
        return (
            len(tokens.keys[at]) == 1
            and tokens.kinds[at] == WORD
            and gap in (GLUED, HYPHEN)
            and not (at + 1 < tokens.size and tokens.gaps[at + 1] in (GLUED, BLANK) and tokens.kinds[at + 1] == NUM)
        )

    def _value(self, start: int, end: int) -> str:
        tokens = self.tokens
        written = ""
        for at in range(start, end):
            word = tokens.words[at].replace(".", "")
            if tokens.kinds[at] == WORD:
                long = len(word) > 3 or tokens.keys[at] == "sul"
                word = word.capitalize() if long and tokens.keys[at] not in lx.ROMAN else word.upper()
            if at > start and tokens.gaps[at] != GLUED:
                written += {HYPHEN: "-", SLASH: "/"}.get(tokens.gaps[at], " ")
            written += word
        return written
