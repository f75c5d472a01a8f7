"""Candidate readings of a text: a place, a street and what they leave, every token accounted for, with a score."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address import standard
from normalizer.domain.address.marks import CITY, DISTRICT, DROPPED, FREE, LABEL, NUMBER, STATE, STREET, UNIT
from normalizer.domain.address.quarters import chunks, closed_by_centre, may_be_quarter
from normalizer.domain.address.streets import (
    NUMBER_WORDS,
    Start,
    StreetName,
    date_follows,
    is_code,
    is_palmas,
    is_road,
    sector_end,
)
from normalizer.domain.address.tokens import BLANK, GLUED, HARD, HYPHEN, NUM, SLASH, WORD
from normalizer.domain.address.value import Address
from normalizer.domain.decision import Reason

if TYPE_CHECKING:
    from normalizer.domain.address.evidence import Evidence
    from normalizer.domain.address.places import Place

_GOOD: Final = frozenset({"bom", "boa", "bela", "belo"})
_BY_NAME: Final = frozenset({"dona", "seu"})  # "Dona Fulana - Rua das Flores": whoever lives there
# What counts parts of an estate: the number behind it is no house number.
_COUNTED: Final = frozenset({"etapa", "fase", "setor", "zona", "gleba", "bloco", "lote", "quadra", "casa", "modulo"})


@dataclass(slots=True)
class Reading:
    """One way to read the text. `address` is None when it fails, and `reason` says why."""

    score: float
    address: Address | None = None
    reason: Reason = Reason.ADDRESS_AMBIGUOUS
    understood: dict[str, str] = field(default_factory=dict)


def read(evidence: Evidence, place: Place, start: Start) -> Reading:
    """Return the reading of the text in which the street begins at `start` and the city is `place`."""
    return _Reader(evidence, place, start).read()


class _Reader:
    """Works one candidate out, marking on a copy of the evidence's marks."""

    def __init__(self, evidence: Evidence, place: Place, start: Start) -> None:
        self.evidence, self.place, self.start = evidence, place, start
        self.tokens = evidence.tokens
        self.marks = bytearray(evidence.marks)
        self.score = place.score + start.score
        self.number: str | None = None
        units = evidence.units
        self.sector_end = 0
        if not start.kind:  # a sector may hold a quadra, which then is no part of the complement
            self.sector_end = sector_end(self.tokens, start.at, units)
            self.marks[start.at : self.sector_end] = bytes(self.sector_end - start.at)
            units = [unit for unit in units if not start.at <= unit.start < self.sector_end]
        self.parts: list[tuple[int, str]] = [(unit.start, standard.unit(unit.keyword, unit.value)) for unit in units]
        self.district: str | None = None
        self.street = ""

    def read(self) -> Reading:
        if not self._place() or not self._street():
            return self._failed(Reason.STREET_UNKNOWN)
        reason = self._number() or self._rest() or self._open_ended() or self._city_or_quarter()
        if reason is not None:
            return self._failed(reason)
        ceps = self.evidence.ceps
        if len(ceps) > 1:
            return self._failed(Reason.ADDRESS_AMBIGUOUS)
        if ceps and self.evidence.cep_ufs[0] != self.place.uf:
            return self._failed(Reason.CEP_STATE_CONFLICT)
        self.parts.sort()
        address = Address(
            rua=self.street,
            numero=self.number,
            complemento=standard.joined(part for _, part in self.parts),
            bairro=self.district,
            cidade=self.place.name,
            estado=self.place.uf,
            cep=standard.cep(ceps[0]) if ceps else None,
        )
        return Reading(self.score, address)

    def _open_ended(self) -> Reason | None:
        """Refuse a name of several words that runs into the city: it may hold a quarter's."""
        end = self._street_end()
        if self.number is not None or self.district is not None or self.parts or self.evidence.no_number >= 0:
            return None
        runs_on = self.start.kind not in {"", "Rodovia"} and end == self.place.start and self.tokens.gaps[end] != HARD
        words = [key for key in self.tokens.keys[self.start.name : end] if key not in lx.PREPOSITIONS]
        return Reason.DISTRICT_AMBIGUOUS if runs_on and len(words) > 1 else None

    def _city_or_quarter(self) -> Reason | None:
        """Refuse "Rua Bahia 12 Paraíso São Paulo": a town of that state, or a quarter of the city of its name."""
        place = self.place
        if place.uf not in {"SP", "RJ"} or self.evidence.ceps or place.start in self.evidence.labelled:
            return None
        if place.state is None:
            town = self.district is not None and gazetteer.municipalities(gazetteer.name_key(self.district))
            return Reason.DISTRICT_AMBIGUOUS if town and place.uf in town else None
        return Reason.DISTRICT_AMBIGUOUS if place.state.spelled and self.district is None else None

    def _failed(self, reason: Reason) -> Reading:
        understood = {"rua": self.street, "numero": self.number, "bairro": self.district}
        understood |= {"cidade": self.place.name, "estado": self.place.uf}
        return Reading(self.score, None, reason, {name: value for name, value in understood.items() if value})

    def _mark(self, start: int, end: int, kind: int) -> bool:
        """Claim the tokens for a field; False when another one has any of them."""
        if any(self.marks[start:end]):
            return False
        self.marks[start:end] = bytes([kind]) * (end - start)
        return True

    # -- city and state ------------------------------------------------------------------------------------------

    def _place(self) -> bool:
        place = self.place
        if not self._mark(place.start, place.end, CITY):
            return False
        if place.state is not None and not self._mark(place.state.start, place.state.end, STATE):
            return False
        self._repeated_state()
        self._bare_label()
        return True

    def _bare_label(self) -> None:
        """Explain "em" before the city, and "cidade" where the text has other labels."""
        before = self.place.start - 1
        if self._free(before) and self.tokens.keys[before] == "em":
            self._mark(before, before + 1, LABEL)
            return
        if self._free(before) and self.tokens.keys[before] in {"de", "do"} and before:
            if self.marks[before - 1] == LABEL:
                self._mark(before, before + 1, LABEL)
            elif self.tokens.keys[before - 1] in {"cidade", "municipio"}:
                first = before - 2 if before > 1 and self.tokens.keys[before - 2] in {"na", "no"} else before - 1
                self._mark(first, before + 1, LABEL)
            return
        if self.evidence.labelled and self._free(before) and self.tokens.keys[before] in {"cidade", "municipio", "cid"}:
            self._mark(before, before + 1, LABEL)

    def _repeated_state(self) -> None:
        """Explain the state said again: "Natal RN, Rio Grande do Norte"."""
        tokens, uf = self.tokens, self.place.uf
        name = gazetteer.name_key(gazetteer.UF_NAMES[uf])
        after = max(self.place.end, self.place.state.end if self.place.state else 0)
        at = after
        while at < tokens.size:
            end = tokens.hard_end(at)
            if self.marks[at] == FREE and tokens.phrase(at, end) in {name, uf.lower(), "estado de " + name}:
                self._mark(at, end, STATE)
            at = end
        if self._free(tokens.size - 1) and tokens.size > after and tokens.keys[-1] == uf.lower():
            self._mark(tokens.size - 1, tokens.size, STATE)  # "Lages SC 88501-020 SC"

    # -- street --------------------------------------------------------------------------------------------------

    def _street(self) -> bool:
        start = self.start
        if not self._free(start.at):
            return False
        if not start.kind:
            self.street = standard.sector(self.tokens, start.at, self.sector_end)
            return self.sector_end > start.at and self._mark(start.at, self.sector_end, STREET)
        end = StreetName(self.tokens, self.marks, start).end()
        if end == start.name or not self._whole(end) or (start.bare and not self._named_like_a_street(end)):
            return False
        if is_road(self.tokens, start.kind, start.name):
            self.street = f"{start.kind} {standard.road(self.tokens, start.name, end)}"
        else:
            self.street = standard.street(self.tokens, start.kind, start.name, end)
        return self._mark(start.at, end, STREET)

    def _whole(self, end: int) -> bool:
        """Does the name not break off, as "Rua Conde de" does?"""
        last = self.tokens.keys[end - 1]
        return end - self.start.name == 1 or last not in lx.PREPOSITIONS or len(last) == 1 or last == "para"

    def _named_like_a_street(self, end: int) -> bool:
        """A name without a type is a street only when a house number comes right after it."""
        if end >= self.tokens.size or self.tokens.keys[end - 1] in _COUNTED:
            return False
        numbered = self.tokens.kinds[end] == NUM or self.marks[end] == NUMBER or self.tokens.keys[end] in NUMBER_WORDS
        return numbered and end - self.start.name <= 7

    def _free(self, at: int) -> bool:
        return 0 <= at < len(self.marks) and self.marks[at] == FREE

    # -- number --------------------------------------------------------------------------------------------------

    def _number(self) -> Reason | None:
        tokens = self.tokens
        at = self._street_end()
        if at < tokens.size and tokens.keys[at] in NUMBER_WORDS and self._free(at) and self._digits(at + 1):
            self._mark(at, at + 1, LABEL)
            at += 1
            self.score += 0.5
        if not self.start.kind:
            return None
        if at < tokens.size and self.marks[at] == LABEL and self.evidence.labelled.get(at + 1) == "numero":
            at += 1
        if at < tokens.size and self.marks[at] == NUMBER:
            self.score += 2.0
            return None
        if self._digits(at):
            return Reason.NUMBER_AMBIGUOUS if self._may_be_code(at) else self._take_number(at)
        return self._later_number()

    def _may_be_code(self, at: int) -> bool:
        """May the number be the name's ("Rua C 152" in Goiás, "Rua Projetada 3") or a quarter's ("Zona 7")?"""
        lettered = at - self.start.name == 1 and is_code(self.tokens.keys[at - 1]) and at == self._street_end()
        if self.tokens.gaps[at] != BLANK:
            return False
        before = self.tokens.keys[at - 1]
        named = before in _COUNTED or (before in lx.NUMBERED_STREET_WORDS and before not in {"norte", "sul"})
        return named or (lettered and self.place.uf in {"GO", "DF", "TO"})

    def _digits(self, at: int) -> bool:
        return self._free(at) and self.tokens.kinds[at] == NUM

    def _street_end(self) -> int:
        at = self.start.at
        while at < len(self.marks) and self.marks[at] == STREET:
            at += 1
        return at

    def _later_number(self) -> Reason | None:
        """Look for a number that a label announces, or that is a field of its own behind units."""
        tokens = self.tokens
        if self.evidence.no_number >= 0:
            self.score += 1.5
            return None
        for at in range(tokens.size):
            if not self._digits(at):
                continue
            if self.evidence.labelled.get(at) == "numero":
                return self._take_number(at)
            if at and tokens.keys[at - 1] in NUMBER_WORDS and self._free(at - 1):
                self._mark(at - 1, at, LABEL)
                return self._take_number(at)
            alone = tokens.gaps[at] == HARD and tokens.hard_end(at) == at + 1
            if alone and self._only_number(at):
                return self._take_number(at)
        if self.evidence.units:
            self.score += 1.0
        return None

    def _only_number(self, at: int) -> bool:
        return not any(self._digits(other) for other in range(self.tokens.size) if other != at)

    def _take_number(self, at: int) -> Reason | None:
        tokens = self.tokens
        digits = tokens.keys[at]
        if len(digits) > 6 or tokens.words[at][-1] in "ºª°":
            return Reason.NUMBER_AMBIGUOUS
        self.number = standard.number(digits)
        self._mark(at, at + 1, NUMBER)
        self.score += 2.0
        after = at + 1
        if not self._free(after):
            return None
        gap = tokens.gaps[after]
        if tokens.kinds[after] == NUM:
            if gap == SLASH and self.number is not None:
                self.parts.append((after, standard.unit(tokens.keys[after], "")))
                self._mark(after, after + 1, UNIT)
                return None
            return Reason.NUMBER_AMBIGUOUS if gap != HARD or tokens.hard_end(after) == after + 1 else None
        return self._letter(after)

    def _letter(self, at: int) -> Reason | None:
        """Read the letter of "83-B" as complement."""
        tokens = self.tokens
        if len(tokens.keys[at]) != 1 or not tokens.keys[at].isalpha() or tokens.dots[at]:
            return None
        closed = at + 1 == tokens.size or tokens.gaps[at + 1] == HARD or self.marks[at + 1] != FREE
        if tokens.gaps[at] in (GLUED, HYPHEN) or (closed and tokens.keys[at] not in {"n", "s"}):
            self.parts.append((at, tokens.words[at].upper()))
            self._mark(at, at + 1, UNIT)
            return None
        return (
            Reason.NUMBER_AMBIGUOUS if tokens.words[at].isupper() and tokens.keys[at] not in {"e", "o", "a"} else None
        )

    # -- what is left: quarter and named parts of the complement ---------------------------------------------------

    def _rest(self) -> Reason | None:
        quarters: list[tuple[int, int]] = []
        estates: list[tuple[int, int]] = []
        asides: list[tuple[int, int]] = []
        for start, end in chunks(self.tokens, self.marks):
            reason = self._sort_chunk(start, end, quarters, estates, asides)
            if reason is not None:
                return reason
        if not quarters and len(estates) == 1 and not asides:
            if estates[0][0] < self.start.at and self.place.start > self.start.at:
                return Reason.DISTRICT_AMBIGUOUS
            quarters, estates = estates, []
        if not quarters and len(asides) == 1:
            quarters, asides = asides, []
        if estates and any(self.tokens.keys[start] == "casa" for start, _ in quarters):
            return Reason.DISTRICT_AMBIGUOUS  # the estate may be the quarter, and "casa amarela" a remark
        for start, end in estates:
            self._named(start, end)
        for start, end in asides:
            self._mark(start, end, DROPPED)
        if len(quarters) > 1:  # "Centro, Lajeado, Lajeado RS" says the city twice
            city = self.tokens.phrase(self.place.start, self.place.end)
            again = [chunk for chunk in quarters if self.tokens.phrase(*chunk) == city]
            quarters = [chunk for chunk in quarters if chunk not in again]
            for start, end in again:
                self._mark(start, end, DROPPED)
        if len(quarters) > 1:
            return Reason.DISTRICT_AMBIGUOUS
        return self._quarter(*quarters[0]) if quarters else None

    def _sort_chunk(
        self,
        start: int,
        end: int,
        quarters: list[tuple[int, int]],
        estates: list[tuple[int, int]],
        asides: list[tuple[int, int]],
    ) -> Reason | None:
        tokens = self.tokens
        key = tokens.keys[start]
        label = self.evidence.labelled.get(start)
        closed = end == tokens.size or tokens.gaps[end] == HARD
        if label == "bairro":
            self.score += 1.0
            quarters.append((start, end))
        elif label == "complemento" or key in lx.BUILDING_WORDS:
            if label is None and closed_by_centre(tokens.keys, start, end):
                end, closed = end - 1, True  # "ED BIANCO CENTRO"
                quarters.append((end, end + 1))
            if not closed and self.marks[end] not in (UNIT, LABEL):
                return Reason.DISTRICT_AMBIGUOUS
            self._named(start, end)
        elif self._inside_quadra(start, end):
            self.parts.append((start, standard.street(tokens, lx.STREET_TYPES[key], start + 1, end)))
            self._mark(start, end, UNIT)
        elif end - start == 1 and len(key) == 1 and tokens.kinds[start] == WORD and closed:
            self.parts.append((start, tokens.words[start].upper()))
            self._mark(start, end, UNIT)
        elif tokens.kinds[start] == NUM and tokens.words[start][-1] not in "ºª" and not self._dated(start, end):
            return Reason.NUMBER_AMBIGUOUS
        else:
            estate = key in lx.ESTATE_WORDS or tokens.phrase(start, start + 2) == "parque residencial"
            aside = tokens.parens[start] or (key in _BY_NAME and start < self.start.at)
            kind = asides if aside else estates if estate and end - start > 1 else quarters
            kind.append((start, end))
        return None

    def _inside_quadra(self, start: int, end: int) -> bool:
        """Is it a street inside a quadra of Palmas, which belongs to the complement: "Alameda 12", "Rua SE 7"."""
        typed = self.tokens.keys[start] in lx.STREET_TYPES and self.tokens.kinds[end - 1] == NUM
        return not self.start.kind and is_palmas(self.place) and typed and 2 <= end - start <= 3

    def _dated(self, start: int, end: int) -> bool:
        """Is a whole field the date of a quarter, "…, 2 de Julho, …", behind a house number."""
        settled = self.number is not None or self.evidence.no_number >= 0
        own = self.tokens.gaps[start] == HARD and (end == self.tokens.size or self.tokens.gaps[end] == HARD)
        return settled and own and end - start == 3 and date_follows(self.tokens, start)

    def _named(self, start: int, end: int) -> None:
        self.parts.append((start, standard.named_unit(self.tokens, start, end)))
        self._mark(start, end, UNIT)

    def _quarter(self, start: int, end: int) -> Reason | None:
        tokens = self.tokens
        if tokens.keys[start] == "b" and tokens.dots[start] and end - start > 1:
            if not self._short_label(start, end):
                return Reason.DISTRICT_AMBIGUOUS
            self._mark(start, start + 1, LABEL)
            start += 1
        if not may_be_quarter(tokens, start, end, sector=not self.start.kind):
            return Reason.TEXT_UNEXPLAINED
        key = tokens.keys[start]
        if end - start == 1 and key in {"novo", "alto", "velho"} and self._bare_quarter_label(start - 1):
            return Reason.DISTRICT_AMBIGUOUS  # "Bairro Novo" may be the whole name
        labelled = start in self.evidence.labelled
        before_street = start < self.start.at
        known = labelled or key in lx.DISTRICT_WORDS
        if before_street and not known and not (self.place.start < start or self.place.start == end):
            return Reason.TEXT_UNEXPLAINED
        district = standard.district(tokens, start, end)
        if not labelled and (
            self._unbounded(start)
            or self._misspelt_city(start, end)
            or self._capital_apart(district)
            or self._holds_city(start, end)
        ):
            return Reason.DISTRICT_AMBIGUOUS
        self.score += 1.0 + (0.5 if known else 0.0)
        self.district = district
        self._mark(start, end, DISTRICT)
        return None

    def _misspelt_city(self, start: int, end: int) -> bool:
        """Does what stands right before the state look like another city, so that "Barra, Salavdor, BA" is no Barra."""
        place = self.place
        if place.state is None or start < place.end or end != place.state.start:
            return False
        return gazetteer.resembles_one(self.tokens.phrase(start, end), place.uf)

    def _capital_apart(self, district: str) -> bool:
        """Is the quarter called like the state's capital, as where "Salvador, Barra, BA" names city before quarter."""
        return district == gazetteer.CAPITALS[self.place.uf] != self.place.name

    def _holds_city(self, start: int, end: int) -> bool:
        """Does it end in the city's name of several words: "Sion Belo Horizonte, Belo Horizonte" says it twice."""
        city = self.tokens.keys[self.place.start : self.place.end]
        return len(city) > 1 and end - start > len(city) and self.tokens.keys[end - len(city) : end] == city

    def _short_label(self, start: int, end: int) -> bool:
        """Is "B." short for "Bairro", not for the Bom, Boa, Bela of the quarter's own name."""
        following = self.tokens.keys[start + 1]
        if following in lx.DISTRICT_WORDS or following in lx.AFTER_SHORT_LABEL or following in _GOOD:
            return True
        return end - start > 2 and following not in lx.AFTER_GOOD

    def _bare_quarter_label(self, at: int) -> bool:
        return at >= 0 and self.tokens.keys[at] == "bairro" and not self.tokens.colons[at]

    def _unbounded(self, start: int) -> bool:
        """Does the quarter touch the street's name with nothing between that shows where one ends."""
        touches = start > 0 and self.marks[start - 1] == STREET and self.tokens.gaps[start] != HARD
        return touches and self.tokens.keys[start] not in lx.STRONG_STARTERS and self.tokens.kinds[start - 1] != NUM
