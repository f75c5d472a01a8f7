"""What a postal base says of each field of an address: confirmed by a row, in conflict with one, or nothing.

A base lists what is there, never what is not: silence about a name proves nothing, and of a city whose streets it does
not know it says nothing at all. A conflict takes two facts that agree against the text: a CEP's row that shares neither
street nor district with it, a district that the street is not in and that is another city's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import SequenceMatcher
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address import standard
from normalizer.domain.address.deduced import TYPE
from normalizer.domain.address.postal import GENERIC, district_key, street_key
from normalizer.domain.address.value import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from normalizer.domain.address.postal import PostalBase, Row
    from normalizer.domain.address.value import Address

_KNOWN_STREETS: Final = 30  # a town of one CEP has a handful of rows, those of its large receivers
_FEW_DISTRICTS: Final = 2  # a street of many may well pass through one that the base does not list
_ALIKE: Final = 0.75  # of the letters, in order: "Kubistchek" and "Kubitschek"
_NO_STREET_NAMES: Final = frozenset({"DF"})  # where a street is a sector, quadra and conjunto, cut in many ways
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
    if address.estado not in _NO_STREET_NAMES:
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
