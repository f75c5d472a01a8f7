"""A postal base as the rules know it: evidence for a second look at a refused text, and for a verdict on each field.

The domain knows this interface alone; `normalizer.postal` opens a base where the operator has one. A base lists what is
there, never what is not: silence about a name proves nothing, and of a city whose streets it does not know it says
nothing at all. No word of a reading ever comes from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address import standard
from normalizer.domain.address.grounding import TYPE
from normalizer.domain.address.passes import gather
from normalizer.domain.address.places import places
from normalizer.domain.address.standard import FIELDS
from normalizer.domain.address.streets import starts
from normalizer.domain.address.tokens import DROPPED, HARD, NUM, WORD, Evidence
from normalizer.domain.address.words import ways_of
from normalizer.domain.text import word_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from normalizer.domain.address.places import Place
    from normalizer.domain.address.standard import Address
    from normalizer.domain.address.streets import Start
    from normalizer.domain.gazetteer import Municipality


# What names are compared by: short and long form are one word, "Sete de Setembro" and "7 de Setembro" one name.
_SHORT: Final = {
    short: word_key(long).rpartition(" ")[2]
    for table in (lx.TITLES, lx.DISTRICT_WORDS, lx.STREET_TYPES)
    for short, long in table.items()
}
# Words that many names share: they tell none from another.
GENERIC: Final = frozenset(_SHORT.values())
_ASIDE: Final = re.compile(r"[,(].*", re.DOTALL)
_EDGE: Final = re.compile(r"(?<=\d)(?=[a-z])|(?<=[a-z])(?=\d)")  # "T37", "3C"
_PLAIN: Final = str.maketrans("áàâãäéèêëíìîïóòôõöúùûüçñ-./", "aaaaaeeeeiiiiooooouuuucn   ", "'’´`ºª°")
_TYPES: Final = frozenset(map(word_key, lx.STREET_TYPES.values())) | lx.STREET_TYPES.keys()

# What an index of such keys depends on: another word list, another index.
KEYS_VERSION: Final = sha256(
    repr([sorted(_SHORT.items()), sorted(lx.NUMERALS.items()), sorted(lx.PREPOSITIONS)]).encode()
).hexdigest()[:8]


class Row(NamedTuple):
    """One CEP as a base lists it; street and district are empty where the CEP is a whole town's."""

    cep: str
    street: str
    district: str
    city: str
    uf: str

    def __str__(self) -> str:
        """Return the row as a person reads it."""
        said = filter(None, (self.street, self.district, f"{self.city} - {self.uf}"))
        return f"{self.cep[:5]}-{self.cep[5:]}: {', '.join(said)}"


class Names(Protocol):
    """The streets, or the districts, that a base lists for one city."""

    def __len__(self) -> int:
        """Return how many it lists; 0 of a city that it does not know."""

    def rows(self, key: str) -> Sequence[Row]:
        """Return the rows of a name, by its key; none where the city has no such name."""


class PostalBase(Protocol):
    """What the rules and the verdicts may ask."""

    @property
    def version(self) -> str:
        """Return what its answers depend on; part of the cache key."""

    def streets_of(self, city: Municipality | None) -> Names:
        """Return the streets of a city, by `street_key`; of the whole country for None."""

    def districts_of(self, city: Municipality | None) -> Names:
        """Return the districts of a city, by `district_key`; of the whole country for None."""

    def cep(self, number: str) -> Row | None:
        """Return the row of a CEP (eight digits), or None."""


def key_of(words: Sequence[str]) -> str:
    """Return what a name of these folded words is compared by."""
    last = len(words) - 1
    named = (_SHORT.get(word, word) for at, word in enumerate(words) if at == last or word not in lx.PREPOSITIONS)
    return " ".join(lx.NUMERALS.get(word, word.lstrip("0") or "0") for word in named)


def street_words_key(words: Sequence[str]) -> str:
    """Return the key of a street of these folded words, the type left out: "2ª Travessa do Sol" is "2 sol"."""
    at = 1 if words[:1] and words[0].isdecimal() and len(words) > 2 else 0
    if len(words) > at + 1 and words[at] in _TYPES:
        words = [*words[:at], *words[at + 1 :]]
    return key_of(words)


@lru_cache(maxsize=8_192)
def district_key(name: str) -> str:
    """Return what a district is compared by."""
    return key_of(_words(name))


@lru_cache(maxsize=8_192)
def street_key(name: str) -> str:
    """Return what a street is compared by: its name, whose type people mix up."""
    return street_words_key(_words(name))


def _words(name: str) -> list[str]:
    """Return the folded words of a name, what stands behind a comma or in brackets left out."""
    key = _ASIDE.sub("", name, count=1).lower().translate(_PLAIN)
    return (key if key.isalpha() else _EDGE.sub(" ", key)).split()


# -- a second look: where do street and district begin and end --------------------------------------------------------

_PLACES_TRIED: Final = 3
_LONGEST: Final = 8  # words of a name


class Sight(NamedTuple):
    """Where a street and a district of one row of the base stand: tokens [start, street_end), [district, end)."""

    street_end: int
    district: int
    end: int
    row: Row

    def holds(self, address: Address) -> bool:
        """Is this what the rules have read, too."""
        row = self.row
        return (
            (address.cidade, address.estado) == (row.city, row.uf)
            and street_key(address.rua) == street_key(row.street)
            and address.bairro is not None
            and district_key(address.bairro) == district_key(row.district)
        )


def second_look(evidence: Evidence, base: PostalBase) -> Iterator[tuple[Sight, Evidence]]:
    """Yield each way in which rows of the base stand in the text, with the evidence that shows it to the rules."""
    for place in places(evidence)[:_PLACES_TRIED]:
        for sight in _sights(evidence, place, base):
            shown = _shown(evidence, sight)
            if shown is not None:
                shown.mark(sight.end, place.start, DROPPED)  # a second district, a subdistrict
                yield sight, shown


def _sights(evidence: Evidence, place: Place, base: PostalBase) -> Iterator[Sight]:
    streets = base.streets_of(gazetteer.Municipality(place.name, place.uf))
    for start in starts(evidence, place) if len(streets) else ():
        end, rows = _longest_street(evidence, place, start, streets)
        yield from _with_district(evidence, place, end, rows)


def _longest_street(evidence: Evidence, place: Place, start: Start, streets: Names) -> tuple[int, Sequence[Row]]:
    """Return where the longest street of the city that begins at `start` ends, and its rows."""
    first = start.name
    counted = evidence.keys[start.at : start.at + 1] if evidence.kinds[start.at] == NUM and start.at < first else []
    for end in range(min(_run_end(evidence, place, first), first + _LONGEST), first, -1):
        rows = streets.rows(key_of([*counted, *evidence.keys[first:end]]))
        if rows:
            return end, rows
    return first, ()


def _run_end(evidence: Evidence, place: Place, at: int) -> int:
    """Return where the words and numbers from `at` on end: at a separator, at what is explained, at the city."""
    end = at
    while evidence.free(end) and evidence.kinds[end] in (WORD, NUM) and end != place.start:
        if end > at and evidence.gaps[end] == HARD:
            break
        end += 1
    return end


def _with_district(evidence: Evidence, place: Place, street_end: int, rows: Sequence[Row]) -> Iterator[Sight]:
    """Yield each place behind the street where a district stands that the street is in."""
    wanted = {district_key(row.district): row for row in rows if row.district}
    for at in range(street_end, evidence.size) if wanted else ():
        if evidence.keys[at] in lx.PREPOSITIONS or place.start <= at < place.end:
            continue
        end = _run_end(evidence, place, at)  # to the end of the run: what follows may belong to the name, "Caxias I"
        row = wanted.get(key_of(evidence.keys[at:end])) if 0 < end - at <= _LONGEST else None
        if row is not None:
            yield Sight(street_end, at, end, row)


def _shown(evidence: Evidence, sight: Sight) -> Evidence | None:
    """Return the evidence of the text with the separators of the sight; None where they make it another text."""
    text = evidence.text
    for cut in sorted({sight.street_end, sight.district, sight.end} - {evidence.size}, reverse=True):
        if evidence.gaps[cut] != HARD:
            text = f"{text[: evidence.starts[cut]]}, {text[evidence.starts[cut] :]}"
    again = Evidence(text)
    shown = gather(again) if again.keys == evidence.keys else None
    if shown is None or any(shown.marks[sight.district : sight.end]):
        return None
    shown.labelled[sight.district] = "bairro"
    return shown


# -- verdicts ---------------------------------------------------------------------------------------------------------

_KNOWN_STREETS: Final = 30  # a town of one CEP has a handful of rows, those of its large receivers
_FEW_DISTRICTS: Final = 2  # a street of many may well pass through one that the base does not list
_ALIKE: Final = 0.75  # of the letters, in order: "Kubistchek" and "Kubitschek"
_DEDUCED: Final = {TYPE: "rua"}  # the others are called by their field


class Verdict(StrEnum):
    """What is known of one field; the value is what is stored."""

    READ = "lido"
    DEDUCED = "deduzido"
    CONFIRMED = "confirmado"
    CONFLICT = "conflito"
    ABSENT = "ausente"


class Action(StrEnum):
    """The one thing to do next with an appointment."""

    NOTHING = "nada"
    LOOK = "conferir"
    CORRECT = "corrigir"


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict on one field, and the row of the base that it stands on."""

    verdict: Verdict
    row: Row | None = None


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The findings on all fields of one address, by field name."""

    fields: Mapping[str, Finding]
    suggestions: Mapping[str, str] = field(default_factory=dict)
    """What the base has and the text does not say, by field: for a person to choose, never stored as the address."""

    def having(self, verdict: Verdict) -> list[str]:
        """Return the fields with that verdict."""
        return [name for name, finding in self.fields.items() if finding.verdict is verdict]

    @property
    def action(self) -> Action:
        """Another town is to be put right before anybody drives there; another street or district is worth a look."""
        against = self.having(Verdict.CONFLICT)
        if "cidade" in against:
            return Action.CORRECT
        return Action.LOOK if against else Action.NOTHING

    @property
    def summary(self) -> Verdict:
        """Return CONFLICT where there is one, CONFIRMED where street and city are, READ where the base is silent."""
        if self.having(Verdict.CONFLICT):
            return Verdict.CONFLICT
        return Verdict.CONFIRMED if {"rua", "cidade"} <= set(self.having(Verdict.CONFIRMED)) else Verdict.READ


def verdicts(address: Address, base: PostalBase, inferred: Sequence[str] = ()) -> Verdicts:
    """Return what `base` says of each field of `address`; `inferred` as `Settled.inferred`."""
    stored = address.as_dict()
    witness = _Witness(address, base)
    found = {name: Finding(Verdict.READ if stored[name] else Verdict.ABSENT) for name in FIELDS}
    found |= {_DEDUCED.get(name, name): Finding(Verdict.DEDUCED) for name in inferred}
    if ways_of(address.estado, address.cidade).untyped_streets:  # not a sector, quadra and conjunto, cut in many ways
        found |= dict(witness.findings())
    return Verdicts(found, dict(witness.suggested))


class _Witness:
    """The rows of a base that one address meets."""

    def __init__(self, address: Address, base: PostalBase) -> None:
        self.base = base
        self.city = gazetteer.Municipality(address.cidade, address.estado)
        self.rua, self.bairro = address.rua, address.bairro
        self.cep = base.cep(address.cep.replace("-", "")) if address.cep else None
        self.streets = base.streets_of(self.city)
        self.suggested: dict[str, str] = {}

    @property
    def street(self) -> str:
        """The street's key; not asked for where the row has the very same words."""
        return street_key(self.rua)

    @property
    def district(self) -> str:
        """The district's key; empty where there is none."""
        return district_key(self.bairro) if self.bairro else ""

    def findings(self) -> Iterator[tuple[str, Finding]]:
        """Yield what is confirmed and what is in conflict."""
        if len(self.streets) < _KNOWN_STREETS:
            return
        row = self.cep
        if row is not None and (row.city, row.uf) != self.city:
            self.suggested |= {"cidade": row.city}
            yield from _all(Verdict.CONFLICT, row, "cidade", "cep")
        elif row is not None and (row.street == self.rua or alike(self.street, street_key(row.street))):
            yield from _all(Verdict.CONFIRMED, row, "rua", "cidade", "estado", "cep")
            yield from self._district([row])
        else:
            yield from self._without_cep(self.streets.rows(self.street))

    def _without_cep(self, rows: Sequence[Row]) -> Iterator[tuple[str, Finding]]:
        """Yield the findings where no CEP's row has the street: by the street's own rows, if the city has it."""
        row = self.cep
        if rows:
            near = next((each for each in rows if self._is_in(each)), rows[0])
            yield from _all(Verdict.CONFIRMED, near, "rua", "cidade", "estado")
            yield from self._district(rows)
            self._suggest_cep([each for each in rows if self._is_in(each)] or rows)
        elif self.district and not (listed := self._listed()):
            yield from self._elsewhere()
        elif self.district:
            yield "bairro", Finding(Verdict.CONFIRMED, listed[0])
        if row is not None and row.street and not self._is_in(row) and (rows or self._listed()):
            self.suggested["rua"] = row.street
            yield "cep", Finding(Verdict.CONFLICT, row)

    def _suggest_cep(self, rows: Sequence[Row]) -> None:
        """Suggest the street's CEP where it has one only."""
        if len({row.cep for row in rows}) == 1 and (self.cep is None or self.cep.street):
            self.suggested["cep"] = str(standard.cep(rows[0].cep))

    def _is_in(self, row: Row) -> bool:
        """Is the row in the district that is typed."""
        return row.district == self.bairro or alike(self.district, district_key(row.district))

    def _listed(self) -> Sequence[Row]:
        return self.base.districts_of(self.city).rows(self.district)

    def _district(self, rows: Sequence[Row]) -> Iterator[tuple[str, Finding]]:
        """Yield the finding on the district of a street with these rows."""
        if not self.bairro:
            return
        own = next(filter(self._is_in, rows), None)
        if own is not None:
            yield "bairro", Finding(Verdict.CONFIRMED, own)
        elif len({row.district for row in rows}) <= _FEW_DISTRICTS and self._is_of_another_city():
            self.suggested["bairro"] = rows[0].district
            yield "bairro", Finding(Verdict.CONFLICT, rows[0])

    def _is_of_another_city(self) -> bool:
        """Is the district none of this city's and listed in others; every town has a centre, listed or not."""
        if not lx.CENTRE.isdisjoint(self.district.split()) or self._listed():
            return False
        return bool(self.base.districts_of(None).rows(self.district))

    def _elsewhere(self) -> Iterator[tuple[str, Finding]]:
        """Yield a conflict where another city of the state has street and district, and this one has neither."""
        rows = self.base.streets_of(None).rows(self.street) if self.street != self.district else ()
        homes = {row.city: row for row in rows if row.uf == self.city.uf}
        for city, row in homes.items():
            if self.base.districts_of(gazetteer.Municipality(city, row.uf)).rows(self.district):
                self.suggested["cidade"] = row.city
                yield "cidade", Finding(Verdict.CONFLICT, row)
                return


def _all(verdict: Verdict, row: Row, *names: str) -> Iterator[tuple[str, Finding]]:
    finding = Finding(verdict, row)
    return ((name, finding) for name in names)


@lru_cache(maxsize=8_192)
def alike(one: str, other: str) -> bool:
    """May two keys be ways to write one name: one word of its own in common, or nearly the same letters."""
    if not (one and other):
        return False
    mine, theirs = _own_words(one), _own_words(other)
    if one == other or any(len(word) > 3 for word in set(mine) & set(theirs)):
        return True
    return SequenceMatcher(None, "".join(mine), "".join(theirs), autojunk=False).ratio() >= _ALIKE


def _own_words(key: str) -> list[str]:
    words = key.split()
    return [word for word in words if word not in GENERIC] or words
