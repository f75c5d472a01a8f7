"""Where a street may begin and where its name ends: types, bare names, numbered roads, sectors, quadras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address.marks import DROPPED, FREE, LABEL, NUMBER, UNIT
from normalizer.domain.address.tokens import BLANK, GLUED, HARD, HYPHEN, NUM, SLASH, WORD

if TYPE_CHECKING:
    from normalizer.domain.address.evidence import Evidence
    from normalizer.domain.address.places import Place
    from normalizer.domain.address.tokens import Tokens
    from normalizer.domain.address.units import Unit

NUMBER_WORDS: Final = frozenset({"n", "no", "num", "numero", "nr", "nro"})
_OPENING: Final = frozenset(lx.OPENING_TYPES.values())
_QUADRA_UNITS: Final = frozenset({"Quadra", "Trecho"})
_BEFORE_NAMES: Final = lx.PREPOSITIONS | {"silva"}  # "Silva Jardim" was a person
LOTS: Final = frozenset({"Quadra", "Lote"})
_QUADRA_SIDES: Final = (["norte"], ["sul"])
_SIDES: Final = frozenset({"norte", "sul", "leste", "oeste"})


class Start(NamedTuple):
    """A street that may begin at token `at`: its type ("" for a sector or quadra) and its name's first token."""

    at: int
    kind: str
    name: int
    score: float

    @property
    def bare(self) -> bool:
        """A name without any type, taken for a "Rua", or with one that is rarely one: only its number shows it."""
        return (self.kind == "Rua" and self.at == self.name) or self.kind in _OPENING


def date_follows(tokens: Tokens, at: int) -> bool:
    """Does a day of a month stand at `at`: "31 de Março"."""
    keys = tokens.keys
    return keys[at + 1 : at + 2] == ["de"] and at + 2 < tokens.size and keys[at + 2] in lx.MONTHS


def at_street(tokens: Tokens, at: int, *, opens: bool = False) -> bool:
    """Does a street begin at `at`: a type that stands where one can stand, with a name after it.

    `opens`: what stands before it is known to be no part of the address.
    """
    if at < 0 or at + 1 >= tokens.size:
        return False
    key = tokens.keys[at]
    if key not in lx.STREET_TYPES or key in lx.LAST_RESORT_TYPES:
        return False
    if tokens.gaps[at + 1] == HARD and not tokens.colons[at]:
        return False
    if key == "ramal" and at and tokens.kinds[at - 1] != WORD:
        return False  # the extension of a phone
    if key in lx.WEAK_TYPES:
        return (opens or tokens.gaps[at] == HARD) and (
            tokens.kinds[at + 1] == WORD or key == "r" or date_follows(tokens, at + 1)
        )
    return True


def starts(evidence: Evidence, place: Place) -> list[Start]:
    """Return where the street may begin if the city is `place`, likeliest first."""
    tokens, marks = evidence.tokens, evidence.marks
    found = _quadra(evidence, place)
    bare = place.uf != "DF"  # there a name without a type is a sector or an estate
    for at, key in enumerate(tokens.keys):
        if marks[at] != FREE:
            continue
        opens = tokens.gaps[at] == HARD or marks[at - 1] in (LABEL, DROPPED)
        if key in lx.STREET_TYPES and at_street(tokens, at, opens=at > 0 and marks[at - 1] == LABEL):
            found.append(_typed(evidence, at, opens=opens))
        elif opens and (start := _code(evidence, at, place)) is not None:
            found.append(start)
    if not found:
        found.extend(_behind_place(evidence, place))
        found.extend(start for start in _last_resort(evidence) if bare or not start.bare)
    if found and (place.uf, place.name) in lx.TOWN_CODES and not (first := min(found)).kind:
        found = [first]  # "ARSE 51, Alameda 3": the street is inside
    found.sort(key=lambda start: -start.score)
    return found[:3]


def _quadra(evidence: Evidence, place: Place) -> list[Start]:
    """Return the quadra that opens an address of the Distrito Federal or of Palmas: there it is the street."""
    if not evidence.units or not (place.uf == "DF" or is_palmas(place)):
        return []
    first = evidence.units[0]
    behind = {place.end, place.state.end if place.state else place.end}  # "sobradinho df qd 8 …"
    opens = first.keyword == "Quadra" and (evidence.tokens.gaps[first.start] == HARD or first.start in behind)
    return [Start(first.start, "", first.start, 4.0)] if opens else []


def is_palmas(place: Place) -> bool:
    """Is it the capital of Tocantins, laid out in quadras, and not the town of that name in Paraná."""
    return (place.uf, place.name) == ("TO", "Palmas")


def _typed(evidence: Evidence, at: int, *, opens: bool) -> Start:
    tokens = evidence.tokens
    kind = lx.STREET_TYPES[tokens.keys[at]]
    name = at + 1
    while _repeats_type(evidence, name, kind):
        name += 1  # "RUA R. X"
    score = 4.0 if len(tokens.keys[at]) > 3 else 3.7
    return Start(at, kind, name, score + (1.0 if opens else -0.5) - 0.01 * at)


def _repeats_type(evidence: Evidence, at: int, kind: str) -> bool:
    """Is the street type said again at `at`, as in "RUA R. X", and not the name of "Rua R-12"."""
    tokens = evidence.tokens
    if at + 1 >= tokens.size or lx.STREET_TYPES.get(tokens.keys[at]) != kind or not evidence.free(at + 1):
        return False
    return tokens.gaps[at + 1] == BLANK and (tokens.kinds[at + 1] == WORD or tokens.dots[at])


def _code(evidence: Evidence, at: int, place: Place) -> Start | None:
    """Return the start of a street that needs no type: a sector or quadra of a planned town, a numbered road."""
    tokens = evidence.tokens
    following = at + 1
    if is_road(tokens, "Rodovia", at) and 2 <= len(tokens.keys[following]) <= 3:
        return Start(at, "Rodovia", at, 4.5)
    codes = lx.DF_CODES if place.uf == "DF" else lx.TOWN_CODES.get((place.uf, place.name), ())
    coded = following < tokens.size and tokens.keys[at] in codes
    sided = is_palmas(place) and tokens.kinds[at] == NUM and tokens.keys[following : following + 1] in _QUADRA_SIDES
    return Start(at, "", at, 4.5) if coded or sided else None


def _behind_place(evidence: Evidence, place: Place) -> list[Start]:
    """Return the "r" of "lages sc coral r sete 40": a street where city and quarter come first."""
    tokens = evidence.tokens
    return [
        Start(at, "Rua", at + 1, 3.2)
        for at in range(place.end, tokens.size - 1)
        if tokens.keys[at] == "r" and evidence.free(at) and tokens.kinds[at + 1] == WORD and not tokens.dots[at]
    ]


def _last_resort(evidence: Evidence) -> list[Start]:
    """Return starts that only stand when no street type does: rural types, and a bare name before a number."""
    tokens, marks = evidence.tokens, evidence.marks
    found: list[Start] = []
    first = next((at for at in range(tokens.size) if marks[at] == FREE), None)
    if first is None:
        return found
    for at in range(tokens.size - 1):
        key = tokens.keys[at]
        if marks[at] == FREE and key in lx.RURAL_TYPES and tokens.gaps[at] == HARD and tokens.gaps[at + 1] != HARD:
            found.append(Start(at, lx.STREET_TYPES[key], at + 1, 4.0))
    if tokens.keys[first : first + 2] == ["caixa", "postal"]:
        return found
    if tokens.kinds[first] == WORD and tokens.gaps[first] == HARD and tokens.keys[first] not in lx.STRONG_STARTERS:
        kind = lx.OPENING_TYPES.get(tokens.keys[first])
        typed = kind is not None and tokens.keys[first + 1 : first + 2] in (["de"], ["da"], ["do"], ["das"], ["dos"])
        found.append(Start(first, kind, first + 1, 2.5) if kind and typed else Start(first, "Rua", first, 2.5))
    return found


def is_road(tokens: Tokens, kind: str, name: int) -> bool:
    """Does a numbered road's code stand at `name`: "BR 277"."""
    if kind not in {"Rodovia", "Estrada"} or name + 1 >= tokens.size:
        return False
    key = tokens.keys[name]
    numbered = tokens.kinds[name + 1] == NUM and tokens.gaps[name + 1] < HARD
    return numbered and (key == "br" or key.upper() in gazetteer.UF_NAMES)


def is_code(key: str) -> bool:
    """Is the word short enough for a street's code, and no word that can be spoken: "T", "WE", "CSG" but not "Ipu"."""
    return len(key) <= 2 or (len(key) == 3 and not set(key) & set("aeiou"))


class StreetName:
    """Finds where the name of one start ends, on the marks of one reading."""

    def __init__(self, tokens: Tokens, marks: bytearray, start: Start) -> None:
        self.tokens, self.marks = tokens, marks
        self.kind, self.name = start.kind, start.name

    def _free(self, at: int) -> bool:
        return at < len(self.marks) and self.marks[at] == FREE

    def end(self) -> int:
        """Return the index after the name's last token; the name's own index when there is no name."""
        tokens, name = self.tokens, self.name
        at = name
        while self._free(at) and (at == name or tokens.gaps[at] != HARD):
            if tokens.kinds[at] == NUM:
                if not (len(tokens.keys[at]) < 5 if at == name else self._number_belongs(at)):
                    break
            elif at > name and self._word_ends(at):
                break
            at += 1
        return at

    def _number_belongs(self, at: int) -> bool:
        """Is the number at `at` part of the name: a date, an ordinal, a code, or followed by the house number."""
        tokens = self.tokens
        before = tokens.keys[at - 1]
        if date_follows(tokens, at) or tokens.words[at][-1] in "ºª°" or before == "km":
            return True
        second = at - 1 == self.name
        if tokens.gaps[at] == HYPHEN and len(before) == 3 and self._coded(at - 1):
            return True  # "Estrada Municipal IBT-020"
        if second and is_road(tokens, self.kind, self.name):
            return True
        code = second and tokens.kinds[at - 1] == WORD and before not in lx.TITLES and is_code(before)
        if code and tokens.gaps[at] in (GLUED, HYPHEN):
            return True
        return (code or before in lx.NUMBERED_STREET_WORDS) and self._house_number_follows(at)

    def _house_number_follows(self, at: int) -> bool:
        tokens = self.tokens
        after = at + 1
        while self._free(after) and tokens.gaps[after] in (HYPHEN, GLUED) and len(tokens.keys[after]) == 1:
            after += 1
        if after >= tokens.size:
            return False
        sided = tokens.keys[at - 1] in _SIDES
        if sided and (tokens.keys[at - 2] == "do" or any(tokens.kinds[i] == NUM for i in range(self.name, at))):
            return False  # "Rio Grande do Sul 90", "Rua 12 Norte 360"
        if self.marks[after] == NUMBER:
            return True
        if self.marks[after] == UNIT:
            return self._unit_for_number(at, after)
        if tokens.keys[after] in NUMBER_WORDS:
            return after + 1 < tokens.size and tokens.kinds[after + 1] == NUM
        return self._free(after) and tokens.kinds[after] == NUM and tokens.gaps[after] in (HARD, BLANK)

    def _coded(self, at: int) -> bool:
        """Is the word in capitals where others are not."""
        return self.tokens.words[at].isupper() and not self.tokens.text.isupper()

    def _unit_for_number(self, at: int, unit: int) -> bool:
        """Does the unit behind the number show that it is the name's: "T 37 Qd 2", "Projetada 4 casa 2"."""
        tokens = self.tokens
        if any(tokens.kinds[i] == NUM for i in range(self.name, at)) or tokens.keys[at - 1] in _SIDES:
            return False  # "12 Norte 360 loja 2", "Rio Grande do Sul 90 apto 3"
        numbered = tokens.keys[at - 1] in lx.NUMBERED_STREET_WORDS and len(tokens.keys[at]) < 3
        return numbered or lx.UNIT_WORDS.get(tokens.keys[unit]) in LOTS

    def _word_ends(self, at: int) -> bool:
        """Does the word at `at`, not the first, stand outside the name."""
        tokens, name = self.tokens, self.name
        key = tokens.keys[at]
        following = at + 1
        closes = following >= tokens.size or tokens.gaps[following] == HARD
        if key in NUMBER_WORDS and ((not closes and tokens.kinds[following] == NUM) or (closes and key in {"n", "no"})):
            return True
        if tokens.gaps[at] in (GLUED, HYPHEN):
            return False
        if at == name + 2 and is_road(tokens, self.kind, name):
            return key not in _SIDES
        if tokens.gaps[at] == SLASH:
            return True
        if key in lx.STRONG_STARTERS and tokens.keys[at - 1] not in _BEFORE_NAMES:
            return self._after_number(at) or not self._number_ahead(at)
        return self._after_number(at) and not self._number_ahead(at) and key not in _SIDES

    def _after_number(self, at: int) -> bool:
        """Does the word follow a name that is a number, "Rua 8 …" (no date, no "3ª Radial")."""
        tokens, name = self.tokens, self.name
        if at - 1 != name or tokens.kinds[name] != NUM or tokens.words[name][-1] in "ºª°":
            return False
        return tokens.keys[at] not in lx.PREPOSITIONS and len(tokens.keys[at]) > 1

    def _number_ahead(self, at: int) -> bool:
        tokens = self.tokens
        end = tokens.hard_end(at)
        if end < tokens.size and tokens.kinds[end] == NUM and self._free(end):
            return True
        return any(tokens.kinds[i] == NUM and self._free(i) for i in range(at, end))


def sector_end(tokens: Tokens, start: int, units: list[Unit]) -> int:
    """Return where a sector or quadra that begins at `start` ends ("SHIS QI 11", "EQNP 8/12", "Quadra 1106 Sul").

    A Quadra or Trecho right behind the sector's code belongs to it ("SMPW Quadra 17"); any other unit ends it. Returns
    `start` when there is no number, and so no sector.
    """
    keys = tokens.keys
    quadra = {unit.start: unit.end for unit in units if unit.keyword in _QUADRA_UNITS}
    others = {unit.start for unit in units} - quadra.keys()
    at, numbered = start, False
    while at < tokens.size and (at == start or tokens.gaps[at] != HARD) and at not in others:
        if at in quadra and not numbered:
            at, numbered = quadra[at], True
            continue
        if tokens.kinds[at] == NUM:
            if numbered and tokens.gaps[at] not in (SLASH, HYPHEN):
                break
            numbered = True
        elif numbered:
            bound = len(keys[at]) == 1 and tokens.gaps[at] in (GLUED, HYPHEN)
            side = [keys[at]] in _QUADRA_SIDES and (start in quadra or tokens.kinds[start] == NUM)
            inner = keys[at] == "qi" and keys[start] in lx.ALL_TOWN_CODES and tokens.kinds[at + 1 : at + 2] == [NUM]
            if not (bound or side or inner):
                break
            numbered = not inner  # "ARSE 72 QI 5"
        elif tokens.kinds[at] != WORD or not (
            keys[at] in lx.DF_CODES or keys[at] in lx.ALL_TOWN_CODES or keys[start] == "setor"
        ):
            break
        at += 1
    return at if numbered else start
