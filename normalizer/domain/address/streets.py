"""Street candidates, their begin and the end of their name: types, bare names, numbered roads, sectors and quadras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address import weights
from normalizer.domain.address.tokens import (
    BLANK,
    DROPPED,
    FREE,
    GLUED,
    HARD,
    HYPHEN,
    LABEL,
    NUM,
    NUMBER,
    SLASH,
    UNIT,
    WORD,
)
from normalizer.domain.address.words import ALL_CODES, CONTINUED, INNER, Town, ways_of

if TYPE_CHECKING:
    from normalizer.domain.address.places import Place
    from normalizer.domain.address.tokens import Evidence, Tokens
    from normalizer.domain.address.units import Unit

_ORDINALS: Final = "ºª°"
_OPEN_TYPES: Final = lx.STREET_TYPES.keys() - lx.LAST_RESORT_TYPES
_OPENING: Final = frozenset(lx.OPENING_TYPES.values())
_VOWELS: Final = frozenset("aeiou")
_NUMBERS: Final = (FREE, NUMBER)
_FEW_DIGITS: Final = 3


class Start(NamedTuple):
    """A street that may begin at token `at`: its type ("" for a sector or quadra) and its name's first token."""

    at: int
    kind: str
    name: int
    score: float
    untyped: bool = False  # a name without any type, taken for a "Rua"

    @property
    def bare(self) -> bool:
        """A name without any type, or with one that is rarely one: only its number shows that it is a street."""
        return self.untyped or self.kind in _OPENING


def date_follows(tokens: Tokens, at: int) -> bool:
    """Does a day of a month stand at `at`: "31 de Março"."""
    return tokens.key(at + 1) in lx.BARE_OF and tokens.key(at + 2) in lx.MONTHS


def at_street(tokens: Tokens, at: int, *, opens: bool = False) -> bool:
    """Does a street begin at `at`: a type that stands where one can stand, with a name after it.

    `opens`: what stands before it is known to be no part of the address.
    """
    if not 0 <= at < tokens.size - 1 or tokens.keys[at] not in _OPEN_TYPES:
        return False
    if tokens.gaps[at + 1] == HARD and not tokens.colons[at]:
        return False
    key = tokens.keys[at]
    if key in lx.WEAK_TYPES:
        if not opens and tokens.gaps[at] != HARD:
            return False  # what follows a short type has to look like a name
        return tokens.kinds[at + 1] == WORD or key in lx.INITIAL_TYPES or date_follows(tokens, at + 1)
    return key not in lx.EXTENSIONS or at == 0 or tokens.kinds[at - 1] == WORD  # the extension of a phone


def typed_starts(evidence: Evidence) -> list[Start]:
    """Return the streets that a type shows, and the numbered roads that need none."""
    marks = evidence.marks
    found: list[Start] = []
    if evidence.trailing_type is not None:
        found.append(Start(0, evidence.trailing_type, 0, weights.LONG_TYPE + weights.TYPE_OPENS_FIELD))
    for at in range(evidence.size):
        if marks[at] == FREE and not evidence.in_city(at) and not (found and at == evidence.slot[0]):
            start = _start_at(evidence, at)
            if start is not None:
                found.append(start)
    return found


def _start_at(evidence: Evidence, at: int) -> Start | None:
    marks, key = evidence.marks, evidence.keys[at]
    opens = evidence.gaps[at] == HARD or marks[at - 1] in (LABEL, DROPPED)
    if opens and is_counted(evidence, at):
        kind = f"{evidence.words[at].capitalize()} {lx.STREET_TYPES[evidence.keys[at + 1]]}"
        return Start(at, kind, at + 2, weights.COUNTED_TYPE)
    if key in lx.STREET_TYPES and at_street(evidence, at, opens=at > 0 and marks[at - 1] == LABEL):
        return _typed(evidence, at, opens=opens)
    if opens and is_road(evidence, lx.ROAD, at) and 2 <= len(evidence.keys[at + 1]) <= 3:
        return Start(at, lx.ROAD, at, weights.CODED_STREET)
    return None


def is_counted(tokens: Tokens, at: int) -> bool:
    """Does a type with its ordinal stand at `at`: "1ª Avenida", "2 TRAVESSA X", "Segunda Travessa X"."""
    kind = tokens.key(at + 1)
    if kind not in lx.STREET_TYPES or kind in lx.LAST_RESORT_TYPES or tokens.gaps[at + 1] == HARD:
        return False
    if tokens.keys[at] in lx.ORDINALS or tokens.words[at][-1] in _ORDINALS:
        return True
    return tokens.kinds[at] == NUM and kind in lx.COUNTED_TYPES and len(tokens.keys[at]) < _FEW_DIGITS


def _typed(evidence: Evidence, at: int, *, opens: bool) -> Start:
    kind = lx.STREET_TYPES[evidence.keys[at]]
    name = at + 1
    while _repeats_type(evidence, name, kind):
        name += 1  # "RUA R. X"
    score = weights.LONG_TYPE if len(evidence.keys[at]) > 3 else weights.SHORT_TYPE
    score += weights.TYPE_OPENS_FIELD if opens else weights.TYPE_INSIDE_FIELD
    return Start(at, kind, name, score + weights.PER_TOKEN_BEFORE * at)


def _repeats_type(evidence: Evidence, at: int, kind: str) -> bool:
    """Is the street type said again at `at`, as in "RUA R. X", and not the name of "Rua R-12"."""
    if at + 1 >= evidence.size or lx.STREET_TYPES.get(evidence.keys[at]) != kind or not evidence.free(at + 1):
        return False
    return evidence.gaps[at + 1] == BLANK and (evidence.kinds[at + 1] == WORD or evidence.dots[at])


def starts_behind(evidence: Evidence, place: Place) -> list[Start]:
    """Return the "r" of "lages sc coral r sete 40": a street where city and district come first."""
    return [
        Start(at, lx.STREET_TYPES[evidence.keys[at]], at + 1, weights.TYPE_BEHIND_PLACE)
        for at in range(place.end, evidence.size - 1)
        if evidence.keys[at] in lx.INITIAL_TYPES
        and evidence.free(at)
        and evidence.kinds[at + 1] == WORD
        and not evidence.dots[at]
    ]


def last_resorts(evidence: Evidence) -> list[Start]:
    """Return starts that only stand when no street type does: rural types, and a bare name before a number."""
    first = evidence.marks.find(FREE)
    if first < 0:
        return []
    rural = [at for at in range(evidence.size - 1) if evidence.keys[at] in lx.RURAL_TYPES and _opens_name(evidence, at)]
    found = [Start(at, lx.STREET_TYPES[evidence.keys[at]], at + 1, weights.RURAL_TYPE) for at in rural]
    kind = _locality(evidence, first)
    if kind is None:
        found.extend([_bare(evidence, first)] if _may_be_bare(evidence, first) else ())
    elif first not in rural:
        found.append(Start(first, kind, first + 1, weights.LOCALITY))
    return found


def _locality(evidence: Evidence, first: int) -> str | None:
    """Return the type that a locality's word is where it opens the address: "POV LAGOA AZUL, S/N, …"."""
    key = evidence.keys[first]
    if not _has_name(evidence, first):
        return None  # "Agrovila 5" is a part of a settlement
    numbered = evidence.no_number >= 0 or evidence.is_number(evidence.hard_end(first))
    if key in lx.SETTLEMENTS:
        return lx.SETTLEMENTS[key] if numbered and evidence.slot[0] > evidence.hard_end(first) else None
    if key in lx.STRONG_STARTERS and not numbered and evidence.slot[0] == 0:
        return None  # "Vila Madalena, São Paulo, SP" names no street
    return lx.LOCALITIES.get(key)


def _opens_name(evidence: Evidence, at: int) -> bool:
    """Does the free word at `at` open a field that says more, and is not the city."""
    gaps = evidence.gaps
    return gaps[at] == HARD and gaps[at + 1] != HARD and evidence.free(at) and not evidence.in_city(at)


def _has_name(tokens: Tokens, at: int) -> bool:
    """Does the word open its field, with a word behind it."""
    following = at + 1
    if tokens.gaps[at] != HARD or following >= tokens.size:
        return False
    return tokens.gaps[following] != HARD and tokens.kinds[following] == WORD


def _may_be_bare(evidence: Evidence, first: int) -> bool:
    """May a name without a type be a street: it opens the text, and is no building, institution or place outside."""
    key = evidence.keys[first]
    if key in lx.NO_BARE_NAMES or evidence.kinds[first] != WORD or evidence.gaps[first] != HARD:
        return False
    fields = (evidence.phrase(*field) for field in evidence.fields())
    return evidence.phrase(first, first + 2) not in lx.POST_BOXES and lx.RURAL_PLACES.isdisjoint(fields)


def _bare(tokens: Tokens, first: int) -> Start:
    kind = lx.OPENING_TYPES.get(tokens.keys[first])
    if kind and tokens.key(first + 1) in lx.OF:  # "Praia de Botafogo, 300"
        return Start(first, kind, first + 1, weights.BARE_NAME)
    return Start(first, lx.DEFAULT_TYPE, first, weights.BARE_NAME, untyped=True)


def is_road(tokens: Tokens, kind: str, name: int) -> bool:
    """Does a numbered road's code stand at `name`: "BR 277"."""
    if kind not in lx.ROAD_TYPES or name + 1 >= tokens.size:
        return False
    key = tokens.keys[name]
    numbered = tokens.kinds[name + 1] == NUM and tokens.gaps[name + 1] < HARD
    return numbered and (key in lx.ROAD_CODES or key.upper() in gazetteer.UF_NAMES)


def is_code(key: str) -> bool:
    """Is the word short enough for a street's code, and no word that can be spoken: "T", "WE", "CSG" but not "Ipu"."""
    return len(key) <= 2 or (len(key) == 3 and _VOWELS.isdisjoint(key))


# -- where the name ends -----------------------------------------------------------------------------------------


class StreetName:
    """Finds where the name of one start ends, on the marks of one reading."""

    def __init__(self, tokens: Tokens, marks: bytearray, start: Start) -> None:
        self.tokens, self.marks = tokens, marks
        self.kind, self.at, self.name = start.kind, start.at, start.name

    def _free(self, at: int) -> bool:
        return at < len(self.marks) and self.marks[at] == FREE

    def end(self) -> int:
        """Return the index after the name's last token; the name's own index when there is no name."""
        at = self.name
        while self._free(at) and not self._ends(at):
            at += 1
        return at

    def _ends(self, at: int) -> bool:
        tokens = self.tokens
        if at == self.name:
            counted = self.name - self.at > 1 and tokens.gaps[at] == HARD  # "1ª Avenida" needs no name
            return counted or (tokens.kinds[at] == NUM and len(tokens.keys[at]) > 4)
        if tokens.gaps[at] == HARD:
            return True
        return not self._number_belongs(at) if tokens.kinds[at] == NUM else self._word_ends(at)

    def _number_belongs(self, at: int) -> bool:
        """Is the number at `at` part of the name: a date, an ordinal, a code, or followed by the house number."""
        tokens = self.tokens
        before = tokens.keys[at - 1]
        if date_follows(tokens, at) or tokens.words[at][-1] in _ORDINALS or before in lx.KM:
            return True
        if is_road(tokens, self.kind, at - 1) or self._is_municipal_code(at):  # "Rodovia Fulano BR-101"
            return True
        code = at - 1 == self.name and tokens.kinds[at - 1] == WORD and before not in lx.TITLES and is_code(before)
        if code and tokens.gaps[at] in (GLUED, HYPHEN):
            return True
        return (code or before in lx.NUMBERED_STREET_WORDS) and self._house_number_follows(at)

    def _house_number_follows(self, at: int) -> bool:
        tokens, after = self.tokens, at + 1
        while self._free(after) and tokens.gaps[after] in (HYPHEN, GLUED) and len(tokens.keys[after]) == 1:
            after += 1  # what is bound to the number: the B of "5-B"
        if after >= tokens.size or self._sided(at):
            return False
        if self.marks[after] == NUMBER:
            return True
        if self.marks[after] == UNIT:
            return self._unit_for_number(at, after)
        if tokens.keys[after] in lx.NUMBER_WORDS:
            return tokens.is_number(after + 1)
        return self._free(after) and tokens.kinds[after] == NUM and tokens.gaps[after] in (HARD, BLANK)

    def _sided(self, at: int) -> bool:
        """Does a side end the name before the number: "Rio Grande do Sul 90", "Rua 12 Norte 360"."""
        tokens = self.tokens
        if tokens.keys[at - 1] not in lx.SIDES:
            return False
        return tokens.keys[at - 2] in lx.OF or any(tokens.kinds[i] == NUM for i in range(self.name, at))

    def _is_municipal_code(self, at: int) -> bool:
        """Is the number bound to three capitals where other words have none: "Estrada Municipal IBT-020"."""
        tokens, before = self.tokens, self.tokens.words[at - 1]
        bound = tokens.gaps[at] == HYPHEN and len(before) == 3
        return bound and before.isupper() and not tokens.text.isupper()

    def _unit_for_number(self, at: int, unit: int) -> bool:
        """Does the unit behind the number show that it is the name's: "T 37 Qd 2", "Projetada 4 casa 2"."""
        tokens = self.tokens
        if any(tokens.kinds[i] == NUM for i in range(self.name, at)) or tokens.keys[at - 1] in lx.SIDES:
            return False  # "12 Norte 360 loja 2", "Rio Grande do Sul 90 apto 3"
        numbered = tokens.keys[at - 1] in lx.NUMBERED_STREET_WORDS and len(tokens.keys[at]) < 3
        return numbered or lx.UNIT_WORDS.get(tokens.keys[unit]) in lx.PLOTS

    def _word_ends(self, at: int) -> bool:
        """Does the word at `at`, not the first, stand outside the name."""
        tokens, name = self.tokens, self.name
        key = tokens.keys[at]
        if self._announces_number(at) or tokens.gaps[at] in (GLUED, HYPHEN):
            return self._announces_number(at)
        if at == name + 2 and is_road(tokens, self.kind, name):
            return key not in lx.SIDES
        return tokens.gaps[at] == SLASH or self._leaves_name(at)

    def _leaves_name(self, at: int) -> bool:
        """Does a district's first word, or any word behind a number that is the name, begin something else."""
        tokens, key = self.tokens, self.tokens.keys[at]
        behind_number = self._after_number(at)
        if key in lx.STRONG_STARTERS and tokens.keys[at - 1] not in lx.BEFORE_NAMES:
            return behind_number or not self._number_ahead(at)
        return behind_number and key not in lx.SIDES and not self._number_ahead(at)

    def _announces_number(self, at: int) -> bool:
        tokens = self.tokens
        key, following = tokens.keys[at], at + 1
        if key not in lx.NUMBER_WORDS:
            return False
        if following >= tokens.size or tokens.gaps[following] == HARD:
            return len(key) < 3
        return tokens.kinds[following] == NUM

    def _after_number(self, at: int) -> bool:
        """Does the word follow a name that is a number, "Rua 8 …" (no date, no "3ª Radial")."""
        tokens, name = self.tokens, self.name
        if at - 1 != name or tokens.kinds[name] != NUM or tokens.words[name][-1] in _ORDINALS:
            return False
        return tokens.keys[at] not in lx.PREPOSITIONS and len(tokens.keys[at]) > 1

    def _number_ahead(self, at: int) -> bool:
        tokens = self.tokens
        end = tokens.hard_end(at)
        if end < tokens.size and (self.marks[end] == NUMBER or tokens.is_number(end)) and self.marks[end] in _NUMBERS:
            return True
        if tokens.key(end) in lx.NUMBER_WORDS and tokens.is_number(end + 1):
            return True
        return any(tokens.kinds[i] == NUM and self._free(i) for i in range(at, end))


# -- streets that need no type: sectors and quadras ("SQN 210", "Quadra 38", "ARSE 51", "Folha 27") -------------------

_TRIED: Final = 3
_NAMED_LETTERS: Final = 3  # of a code that needs no number
_QUADRA_DIGITS: Final = 3


def starts(evidence: Evidence, place: Place) -> list[Start]:
    """Return where the street may begin if the city is `place`, likeliest first."""
    town = ways_of(place.uf, place.name)
    found = _quadras(evidence, place, town) + _coded(evidence, town) + typed_starts(evidence)
    if not found:
        found = starts_behind(evidence, place)
        found += [start for start in last_resorts(evidence) if town.untyped_streets or not start.bare]
    first = min(found, default=None)
    if first is not None and not first.kind and town.inner:
        found = [first]  # "ARSE 51, Alameda 3": the street is inside
    found.sort(key=lambda start: -start.score)
    return found[:_TRIED]


def _quadras(evidence: Evidence, place: Place, town: Town) -> list[Start]:
    """Return the quadra that opens an address where it is the street."""
    if not evidence.units or not town.opening_quadra:
        return []
    first = evidence.units[0]
    behind = {place.end, place.state.end if place.state else place.end}  # "sobradinho df qd 8 …"
    opens = evidence.gaps[first.start] == HARD or first.start in behind
    return [Start(first.start, "", first.start, weights.QUADRA)] if opens and first.keyword == lx.AREA_STREET else []


def _coded(evidence: Evidence, town: Town) -> list[Start]:
    """Return the starts that a code of the town shows, or the side of a quadra ("1106 Sul")."""
    if not town.codes and not town.sided_quadra:
        return []
    found: list[Start] = []
    for at in range(evidence.size - 1):
        sided = town.sided_quadra and evidence.kinds[at] == NUM and evidence.keys[at + 1] in lx.QUADRA_SIDES
        if evidence.free(at) and (sided or evidence.keys[at] in town.codes):
            opens = evidence.gaps[at] == HARD or evidence.marks[at - 1] in (LABEL, DROPPED)
            found.extend([Start(at, "", at, weights.CODED_STREET)] if opens else ())
    return found


def sector_end(tokens: Tokens, start: int, units: list[Unit]) -> int:
    """Return where a sector or quadra that begins at `start` ends ("SHIS QI 11", "EQNP 8/12", "Quadra 1106 Sul").

    A Quadra or Trecho behind the sector's code belongs to it ("SMPW Quadra 17", "SBS, QD. 9"); any other unit ends
    it. Returns `start` when there is neither a number nor a name, and so no sector.
    """
    ends = {unit.start: unit.end for unit in units if unit.keyword in lx.AREAS}
    others = {unit.start for unit in units} - ends.keys()
    at, numbered, area = start, False, start in ends
    while at not in others:
        if at in ends and not numbered:
            at, numbered = ends[at], True
        elif _continues(tokens, start, at, numbered=numbered, area=area):
            # The second code of "ARSE 72 QI 5" asks for another number.
            numbered = tokens.kinds[at] == NUM or (numbered and not _continued(tokens, start, at))
            at += 1
        else:
            break
    # Or named without a number, a field of its own before the units: "SDN - CONJUNTO A", "SETOR D SUL".
    named = tokens.keys[start] in lx.SECTORS or (len(tokens.keys[start]) >= _NAMED_LETTERS and at - start == 1)
    named = named and at in others and tokens.gaps[at] == HARD and tokens.hard_end(start) == at
    return at if numbered or named else start


def _continues(tokens: Tokens, start: int, at: int, *, numbered: bool, area: bool) -> bool:
    """Does the token belong to the sector. `numbered`: its number was read. `area`: a quadra opens it."""
    if at >= tokens.size or (at > start and tokens.gaps[at] == HARD):
        return False
    if tokens.kinds[at] == NUM:
        return not numbered or tokens.gaps[at] in (SLASH, HYPHEN) or _is_between(tokens, at)
    if numbered:
        return _closes(tokens, start, at, area=area) or _continued(tokens, start, at)
    return tokens.kinds[at] == WORD and (tokens.keys[at] in ALL_CODES or tokens.keys[start] in lx.SECTORS)


def _closes(tokens: Tokens, start: int, at: int, *, area: bool) -> bool:
    """Is it the letter of "QNN 10-B" or the side of "Quadra 1106 Sul"."""
    if len(tokens.keys[at]) == 1:
        return tokens.gaps[at] in (GLUED, HYPHEN)
    return tokens.keys[at] in lx.QUADRA_SIDES and (area or tokens.kinds[start] == NUM)


def _is_between(tokens: Tokens, at: int) -> bool:
    """Is it the second number of a quadra between two: "EQN 114 115"."""
    first, second = tokens.keys[at - 1], tokens.keys[at]
    both = tokens.kinds[at - 1] == NUM and tokens.gaps[at] == BLANK and len(first) == len(second) == _QUADRA_DIGITS
    return both and first < second


def mark_prefixes(evidence: Evidence) -> None:
    """Explain what says again that a sector follows: "ST SAUN", "Q SHIS QI 11"."""
    if lx.SECTOR_PREFIXES.isdisjoint(evidence.vocabulary):
        return
    for at in range(evidence.size - 1):
        coded = evidence.keys[at + 1] in ALL_CODES and len(evidence.keys[at + 1]) >= _NAMED_LETTERS
        if evidence.keys[at] in lx.SECTOR_PREFIXES and evidence.gaps[at] == HARD and coded:
            evidence.mark(at, at + 1, LABEL)


def _continued(tokens: Tokens, start: int, at: int) -> bool:
    """Is it the second code of "ARSE 72 QI 5"."""
    return tokens.keys[at] in INNER and tokens.keys[start] in CONTINUED and tokens.is_number(at + 1)
