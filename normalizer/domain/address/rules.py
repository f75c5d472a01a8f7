"""Reading an address by rules alone: right or silent.

Evidence marks single tokens, `places` and `streets.starts` name the candidates, every pair of them is read, every token
accounted for, and scored; the best reading is taken only when it is good enough, and clearly better than any that says
something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address import standard, weights
from normalizer.domain.address.grounding import DEDUCED_STATE, TYPE, check
from normalizer.domain.address.leftovers import read_rest
from normalizer.domain.address.passes import gather
from normalizer.domain.address.places import places, states
from normalizer.domain.address.postal import second_look
from normalizer.domain.address.standard import Address
from normalizer.domain.address.streets import Start, StreetName, at_street, is_code, is_road, sector_end, starts
from normalizer.domain.address.tokens import (
    BLANK,
    CITY,
    FREE,
    GLUED,
    HARD,
    HYPHEN,
    LABEL,
    MAX_CHARS,
    NUM,
    NUMBER,
    SLASH,
    STATE,
    STREET,
    UNIT,
    WORD,
    Evidence,
    Tokens,
    alternatives,
)
from normalizer.domain.address.words import NAMESAKES, ways_of
from normalizer.domain.decision import Reason, Settled, Undecided

if TYPE_CHECKING:
    from normalizer.domain.address.places import Place
    from normalizer.domain.address.postal import PostalBase

_ORDINALS: Final = "ºª°"
_LONGEST_BARE: Final = 7  # words of a name without a type
_LONGEST_NUMBER: Final = 6
_LETTER_WORDS: Final = frozenset("eoa")
_LABEL_LETTERS: Final = frozenset({"n", "s"})


@dataclass(slots=True)
class Reading:
    """One way to read the text, worked out step by step. `address` is None when it fails, and `reason` says why."""

    tokens: Evidence
    place: Place
    start: Start
    marks: bytearray  # a copy of the evidence's, as far as this reading came
    score: float
    parts: list[tuple[int, str]]  # of the complement, with where they stand
    sector_end: int = 0
    street: str = ""
    number: str | None = None
    district: str | None = None
    reason: Reason | None = None
    address: Address | None = None

    @classmethod
    def of(cls, evidence: Evidence, place: Place, start: Start) -> Reading:
        """Begin the reading in which the street begins at `start` and the city is `place`."""
        marks, units, end = bytearray(evidence.marks), evidence.units, 0
        if not start.kind:  # a sector may hold a quadra, which then is no part of the complement
            end = sector_end(evidence, start.at, units)
            marks[start.at : end] = bytes(end - start.at)
            units = [unit for unit in units if not start.at <= unit.start < end]
        parts = [(unit.start, standard.unit(unit.keyword, unit.value)) for unit in units]
        return cls(evidence, place, start, marks, place.score + start.score, parts, end)

    def free(self, at: int) -> bool:
        """Is the token there and still unexplained."""
        return 0 <= at < len(self.marks) and self.marks[at] == FREE

    def numeric(self, at: int) -> bool:
        """Is a free number there."""
        return self.free(at) and self.tokens.kinds[at] == NUM

    def claim(self, start: int, end: int, kind: int) -> bool:
        """Claim the tokens for a field; False when another one has any of them."""
        if any(self.marks[start:end]):
            return False
        self.marks[start:end] = bytes([kind]) * (end - start)
        return True

    def add_part(self, start: int, end: int, written: str) -> None:
        """Claim the tokens for a part of the complement."""
        self.parts.append((start, written))
        self.claim(start, end, UNIT)

    def street_end(self) -> int:
        """Return the index after the street's last token."""
        at = self.start.at
        while at < len(self.marks) and self.marks[at] == STREET:
            at += 1
        return at

    @property
    def numbered(self) -> bool:
        """Has it a house number, or is it said that there is none."""
        return self.number is not None or self.tokens.no_number >= 0

    @property
    def complement(self) -> str | None:
        """The parts of the complement in the order of the text."""
        return standard.joined(part for _, part in sorted(self.parts))

    @property
    def understood(self) -> dict[str, str]:
        """What was read of a reading that fails, by stored field."""
        values = {"rua": self.street, "numero": self.number, "bairro": self.district}
        values |= {"cidade": self.place.name, "estado": self.place.uf}
        return {name: value for name, value in values.items() if value}


def read(evidence: Evidence, place: Place, start: Start) -> Reading:
    """Return the reading of the text in which the street begins at `start` and the city is `place`."""
    draft = Reading.of(evidence, place, start)
    draft.reason = None if _read_place(draft) and _read_street(draft) else Reason.STREET_UNKNOWN
    for step in _STEPS:
        draft.reason = draft.reason or step(draft)
    if draft.reason is None:
        draft.address = Address(
            rua=draft.street,
            numero=draft.number,
            complemento=draft.complement,
            bairro=draft.district,
            cidade=place.name,
            estado=place.uf,
            cep=standard.cep(evidence.ceps[0]) if evidence.ceps else None,
        )
    return draft


# -- city and state ----------------------------------------------------------------------------------------------


def _read_place(draft: Reading) -> bool:
    place = draft.place
    if not draft.claim(place.start, place.end, CITY):
        return False
    if place.state is not None and not draft.claim(place.state.start, place.state.end, STATE):
        return False
    _mark_repeated_state(draft)
    _mark_bare_label(draft)
    return True


def _mark_bare_label(draft: Reading) -> None:
    """Explain "em" before the city, "na cidade de", and "cidade" where the text has other labels."""
    before = draft.place.start - 1
    if not draft.free(before):
        return
    key = draft.tokens.keys[before]
    if key in lx.IN_TOWN or (draft.tokens.labelled and key in lx.TOWN_LABELS):
        draft.claim(before, before + 1, LABEL)
    elif key in lx.OF_TOWN:
        first = _town_label(draft, before)
        draft.claim(first, before + 1 if first <= before else first, LABEL)


def _town_label(draft: Reading, of: int) -> int:
    """Return where the label begins that the "de" at `of` ends; behind it where it ends none."""
    keys = draft.tokens.keys
    if of and draft.marks[of - 1] == LABEL:
        return of
    if not of or keys[of - 1] not in lx.TOWN_NAMES:
        return of + 1
    return of - 2 if of > 1 and keys[of - 2] in lx.IN_THE else of - 1


def _mark_repeated_state(draft: Reading) -> None:
    """Explain the state said again: "Natal RN, Rio Grande do Norte"."""
    tokens, place = draft.tokens, draft.place
    name, sigla = gazetteer.name_key(gazetteer.UF_NAMES[place.uf]), place.uf.lower()
    after = at = max(place.end, place.state.end if place.state else 0)
    while at < tokens.size:
        end = tokens.hard_end(at)
        said = tokens.phrase(at + 2 if tokens.keys[at] in lx.STATE_WORDS else at, end)
        if draft.marks[at] == FREE and said in (name, sigla):
            draft.claim(at, end, STATE)
        at = end
    if tokens.size > after and draft.free(tokens.size - 1) and tokens.keys[-1] == sigla:
        draft.claim(tokens.size - 1, tokens.size, STATE)  # "Lages SC 88501-020 SC"


# -- street ------------------------------------------------------------------------------------------------------


def _read_street(draft: Reading) -> bool:
    start, tokens = draft.start, draft.tokens
    if not draft.free(start.at):
        return False
    if not start.kind:
        draft.street = standard.sector(tokens, start.at, draft.sector_end)
        return draft.sector_end > start.at and draft.claim(start.at, draft.sector_end, STREET)
    end = StreetName(tokens, draft.marks, start).end()
    if not _is_whole(draft, end) or (start.bare and not _is_named_like_a_street(draft, end)):
        return False
    coded = is_road(tokens, start.kind, start.name)
    written = f"{start.kind} {standard.road(tokens, start.name, end)}" if coded else ""
    draft.street = written or standard.street(tokens, start.kind, start.name, end)
    return draft.claim(start.at, end, STREET)


def _is_whole(draft: Reading, end: int) -> bool:
    """Is there a name that does not break off, as "Rua Conde de" does?"""
    last = draft.tokens.keys[end - 1]
    if end == draft.start.name:
        return draft.start.name - draft.start.at > 1 and draft.tokens.kinds[draft.start.at] == NUM  # "1ª Avenida"
    if end - draft.start.name == 1 or last not in lx.PREPOSITIONS:
        return True
    return len(last) == 1 or last in lx.STATE_STREETS


def _is_named_like_a_street(draft: Reading, end: int) -> bool:
    """A name without a type is a street only when a house number comes right after it."""
    tokens = draft.tokens
    last = tokens.key(end - 1)
    if end >= tokens.size or last in lx.COUNTED or last in lx.ROAD_CODES or last.upper() in gazetteer.UF_NAMES:
        return False  # "EXEMPLANDIA BR 316" is a road
    numbered = tokens.kinds[end] == NUM or draft.marks[end] == NUMBER or tokens.keys[end] in lx.NUMBER_WORDS
    return numbered and end - draft.start.name <= _LONGEST_BARE


# -- number ------------------------------------------------------------------------------------------------------


def _read_number(draft: Reading) -> Reason | None:
    at = _behind_number_word(draft, draft.street_end())
    if not draft.start.kind:
        return _read_lone_number(draft)
    if at < draft.tokens.size and draft.marks[at] == NUMBER:
        draft.score += weights.NO_NUMBER
        return None
    if draft.numeric(at):
        return Reason.NUMBER_AMBIGUOUS if _may_be_code(draft, at) else _take_number(draft, at)
    return _read_later_number(draft)


def _read_lone_number(draft: Reading) -> Reason | None:
    """Read the number that is a field of its own behind a sector and its units: "QR 210 CONJUNTO 22, 1, SAMAMBAIA"."""
    numbers = [at for at in range(draft.street_end(), draft.place.start) if draft.numeric(at)]
    if len(numbers) != 1 or not _is_whole_field(draft.tokens, numbers[0]):
        return None
    return _take_number(draft, numbers[0]) if draft.tokens.slot[0] == numbers[0] + 1 else None


def _behind_number_word(draft: Reading, at: int) -> int:
    """Return where the number stands behind the street: behind its "nº" or its label."""
    tokens = draft.tokens
    if tokens.key(at) in lx.NUMBER_WORDS and draft.free(at) and draft.numeric(at + 1):
        draft.claim(at, at + 1, LABEL)
        draft.score += weights.NUMBER_ANNOUNCED
        at += 1
    labelled = at < tokens.size and draft.marks[at] == LABEL and tokens.labelled.get(at + 1) == "numero"
    return at + 1 if labelled and draft.start.kind else at


def _may_be_code(draft: Reading, at: int) -> bool:
    """May the number be the name's ("Rua C 152" in Goiás, "Rua Projetada 3") or a district's ("Zona 7")?"""
    tokens = draft.tokens
    before = tokens.keys[at - 1]
    if tokens.gaps[at] != BLANK:
        return False
    if before in lx.COUNTED or (before in lx.NUMBERED_STREET_WORDS and before not in lx.SIDES):
        return True
    lettered = at - draft.start.name == 1 and is_code(before) and at == draft.street_end()
    return lettered and ways_of(draft.place.uf, draft.place.name).lettered_streets


def _read_later_number(draft: Reading) -> Reason | None:
    """Look for a number that a label announces, or that is a field of its own behind units."""
    if draft.tokens.no_number >= 0:
        draft.score += weights.NO_NUMBER_APART
        return None
    numbers = [at for at in range(draft.tokens.size) if draft.numeric(at)]
    for at in numbers:
        if _is_announced(draft, at) or (len(numbers) == 1 and _is_whole_field(draft.tokens, at)):
            return _take_number(draft, at)
    if draft.tokens.units:
        draft.score += weights.UNITS_FOR_NUMBER
    return None


def _is_announced(draft: Reading, at: int) -> bool:
    """Does a label or "nº" stand before the number; explains the latter."""
    if draft.tokens.labelled.get(at) == "numero":
        return True
    worded = at > 0 and draft.tokens.keys[at - 1] in lx.NUMBER_WORDS and draft.free(at - 1)
    return worded and draft.claim(at - 1, at, LABEL)


def _is_whole_field(tokens: Tokens, at: int) -> bool:
    return tokens.gaps[at] == HARD and tokens.hard_end(at) == at + 1


def _take_number(draft: Reading, at: int) -> Reason | None:
    tokens = draft.tokens
    digits, after = tokens.keys[at], at + 1
    if len(digits) > _LONGEST_NUMBER or tokens.words[at][-1] in _ORDINALS:
        return Reason.NUMBER_AMBIGUOUS
    draft.score += weights.NUMBER
    blocks = ways_of(draft.place.uf, draft.place.name).block_numbers
    if blocks and draft.numeric(after) and tokens.gaps[after] == HYPHEN:  # "9-55", block and house
        draft.number = f"{standard.number(digits)}-{tokens.keys[after]}"
        draft.claim(at, after + 1, NUMBER)
        return None
    draft.number = standard.number(digits)
    draft.claim(at, after, NUMBER)
    if not draft.free(after):
        return None
    return _second_number(draft, after) if tokens.kinds[after] == NUM else _letter(draft, after)


def _second_number(draft: Reading, at: int) -> Reason | None:
    """Read the second number of "67/203" as complement."""
    tokens = draft.tokens
    gap = tokens.gaps[at]
    if gap == SLASH and draft.number is not None:
        draft.add_part(at, at + 1, standard.unit(tokens.keys[at], ""))
        return None
    return Reason.NUMBER_AMBIGUOUS if gap != HARD or tokens.hard_end(at) == at + 1 else None


def _letter(draft: Reading, at: int) -> Reason | None:
    """Read the letter of "83-B" as complement."""
    tokens = draft.tokens
    key, word, gap = tokens.keys[at], tokens.words[at], tokens.gaps[at]
    ends = tokens.hard_end(at) == at + 1
    if len(key) != 1 or tokens.dots[at] or (gap == HARD and not ends):
        return None  # "…, 100, M VENTO, …"
    # A letter closes what is said of the house: "120 B, …", "250 S - …", not the S of "S/N".
    loose = (ends and word.isupper()) if key in _LABEL_LETTERS else (ends or draft.marks[at + 1] != FREE)
    if loose or gap in (GLUED, HYPHEN):
        draft.add_part(at, at + 1, word.upper())
        return None
    return Reason.NUMBER_AMBIGUOUS if word.isupper() and key not in _LETTER_WORDS else None


# -- whether it may stand ----------------------------------------------------------------------------------------


def _open_ended(draft: Reading) -> Reason | None:
    """Refuse a name of several words that runs into the city: it may hold a district's."""
    start, tokens = draft.start, draft.tokens
    if draft.numbered or draft.district is not None or draft.parts or start.kind in ("", lx.ROAD):
        return None
    end = draft.street_end()
    runs_on = end == draft.place.start and tokens.gaps[end] != HARD
    words = [key for key in tokens.keys[start.name : end] if key not in lx.PREPOSITIONS]
    return Reason.DISTRICT_AMBIGUOUS if runs_on and len(words) > 1 else None


def _city_or_district(draft: Reading) -> Reason | None:
    """Refuse "Rua Bahia 12 Paraíso São Paulo": a town of that state, or a district of the city of its name."""
    place, evidence = draft.place, draft.tokens
    if place.uf not in NAMESAKES or evidence.ceps or place.start in evidence.labelled:
        return None
    if place.state is None:
        town = draft.district is not None and gazetteer.municipalities(gazetteer.name_key(draft.district))
        return Reason.DISTRICT_AMBIGUOUS if town and place.uf in town else None
    return Reason.DISTRICT_AMBIGUOUS if place.state.spelled and draft.district is None else None


def _postcode(draft: Reading) -> Reason | None:
    evidence = draft.tokens
    if len(evidence.ceps) > 1:
        return Reason.ADDRESS_AMBIGUOUS
    return Reason.CEP_STATE_CONFLICT if evidence.ceps and evidence.cep_ufs[0] != draft.place.uf else None


# In this order: the number takes what the rest must not, and the last ones judge what was read.
_STEPS: Final = (_read_number, read_rest, _open_ended, _city_or_district, _postcode)


# -- the decision -----------------------------------------------------------------------------------------------------

_PLACES_TRIED: Final = 4
# What a base may decide: which words are street, district and city. It knows nothing of numbers.
_PLACED: Final = frozenset(
    {
        Reason.DISTRICT_AMBIGUOUS,
        Reason.ADDRESS_AMBIGUOUS,
        Reason.TEXT_UNEXPLAINED,
        Reason.STREET_UNKNOWN,
        Reason.NOT_GROUNDED,
    }
)


def parse_address(text: str, base: PostalBase | None = None) -> Settled[Address] | Undecided:
    """Read the address in `text` by rules alone. Total: never raises, whatever the text.

    `base` decides what the rules leave open, and nothing else (`second_look`).
    """
    parts = alternatives(text)
    for part in parts[:-1]:
        decision = _parse(part, base)
        tokens = Tokens(part)
        if isinstance(decision, Settled) or any(at_street(tokens, at) for at in range(tokens.size)):
            return decision  # the first address counts, even when it cannot be settled
    return _parse(parts[-1], base)


def _parse(text: str, base: PostalBase | None) -> Settled[Address] | Undecided:
    if not text:
        return Undecided(Reason.ADDRESS_MISSING)
    if len(text) > MAX_CHARS:
        return Undecided(Reason.TEXT_TOO_LONG)
    evidence = Evidence(text)
    refused = _refused_outright(evidence)
    if refused is not None:
        return Undecided(refused)
    decision = _read(gather(evidence))
    if base is None or isinstance(decision, Settled):
        return decision
    return decision if decision.reason not in _PLACED else _confirmed(evidence, base) or decision


def _read(evidence: Evidence) -> Settled[Address] | Undecided:
    found = readings(evidence)
    if found is None:
        return Undecided(_why_no_place(evidence))
    decision = _decide(found)
    if isinstance(decision, Settled) and check(evidence, decision.value):
        return Undecided(Reason.NOT_GROUNDED, _values(decision.value))
    return decision


def _confirmed(evidence: Evidence, base: PostalBase) -> Settled[Address] | None:
    """Return the one reading in which street and district are those of a row of the base; None if there is none."""
    seen = ((sight, _read(shown)) for sight, shown in second_look(evidence, base))
    held = [each for sight, each in seen if isinstance(each, Settled) and sight.holds(each.value)]
    return held[0] if held and all(each.value == held[0].value for each in held) else None


def _refused_outright(tokens: Tokens) -> Reason | None:
    size = tokens.size
    whole = tokens.phrase(0, size)
    if size == 0 or whole in lx.NULL_SLOTS:
        return Reason.ADDRESS_MISSING
    if not whole.isascii() or size < 4:
        return Reason.ADDRESS_JUNK
    last = tokens.phrase(tokens.hard_start(size - 1), size)
    is_foreign = last in lx.COUNTRIES or not lx.FOREIGN_WORDS.isdisjoint(tokens.vocabulary)
    return Reason.ADDRESS_FOREIGN if is_foreign else None


def _why_no_place(evidence: Evidence) -> Reason:
    if evidence.ordered or not any(at_street(evidence, at) or evidence.kinds[at] == NUM for at in range(evidence.size)):
        return Reason.ADDRESS_JUNK
    if not any(mark == FREE and kind == WORD for mark, kind in zip(evidence.marks, evidence.kinds, strict=True)):
        return Reason.ADDRESS_JUNK
    return Reason.CITY_STATE_CONFLICT if _city_of_another_state(evidence) else Reason.CITY_UNKNOWN


def _city_of_another_state(evidence: Evidence) -> bool:
    return any(
        gazetteer.municipalities(evidence.phrase(start, state.start))
        for state in states(evidence)
        for start in range(max(0, state.start - gazetteer.MAX_NAME_WORDS), state.start)
    )


def readings(evidence: Evidence) -> list[Reading] | None:
    """Return every reading that is tried, the best first; None when the text names no city."""
    candidates = places(evidence)[:_PLACES_TRIED]
    found = [read(evidence, place, start) for place in candidates for start in starts(evidence, place)]
    found.sort(key=lambda reading: (reading.address is None, -reading.score))
    return found if candidates else None


def _decide(tried: list[Reading]) -> Settled[Address] | Undecided:
    if not tried:
        return Undecided(Reason.STREET_UNKNOWN)
    best = tried[0]
    if best.address is None:
        return Undecided(best.reason or Reason.ADDRESS_AMBIGUOUS, best.understood)
    rivals = (other for other in tried[1:] if other.address is not None and other.address != best.address)
    if best.score < weights.ENOUGH or any(best.score - rival.score < weights.MARGIN for rival in rivals):
        return Undecided(Reason.ADDRESS_AMBIGUOUS, _values(best.address))
    kind = (TYPE,) if best.start.untyped else ()
    return Settled(best.address, inferred=kind if best.place.state is not None else (*kind, DEDUCED_STATE))


def _values(address: Address) -> dict[str, str]:
    return {name: value for name, value in address.as_dict().items() if value}
