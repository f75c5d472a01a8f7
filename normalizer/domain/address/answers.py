"""A model's segmentation of a text, written as the rules write their own and held to the same grounding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address import standard
from normalizer.domain.address.grounding import ViolationKind, deduced, violations
from normalizer.domain.address.passes import gather
from normalizer.domain.address.places import cities_ending, states
from normalizer.domain.address.standard import FIELDS, Address
from normalizer.domain.address.streets import is_counted
from normalizer.domain.address.tokens import FREE, HARD, HYPHEN, NUM, WORD, Evidence, Tokens
from normalizer.domain.address.words import ALL_CODES, ways_of
from normalizer.domain.decision import Reason, Settled, Undecided
from normalizer.domain.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


# The types that a street may begin with; settlements and localities are streets only where nothing else is.
_TYPES: Final = {**lx.SETTLEMENTS, **lx.LOCALITIES, **lx.STREET_TYPES}
_LONGEST_FIELD: Final = 200
_REASONS: Final = {
    ("cidade", ViolationKind.WRONG_KIND): Reason.CITY_UNKNOWN,
    ("estado", ViolationKind.CONFLICT): Reason.CITY_STATE_CONFLICT,
    ("estado", ViolationKind.INVENTED): Reason.STATE_UNKNOWN,
    ("cep", ViolationKind.CONFLICT): Reason.CEP_STATE_CONFLICT,
    ("complemento", ViolationKind.OMITTED): Reason.TEXT_UNEXPLAINED,
    ("texto", ViolationKind.OMITTED): Reason.TEXT_UNEXPLAINED,
    ("cep", ViolationKind.OMITTED): Reason.TEXT_UNEXPLAINED,
}


def standardize(segments: Mapping[str, str | None], text: str) -> Settled[Address] | Undecided:
    """Turn a model's segmentation of `text` into an address, or say why it may not be stored.

    `segments` holds the stored field names; missing, empty and unknown ones are as good as null. Every field goes
    through the rules' own standardisers, then the address through grounding against `text`. Total.
    """
    given = _settlement_as_street({name: _slot(segments.get(name)) for name in FIELDS})
    if not any(given.values()):
        return Undecided(Reason.MODEL_NO_ANSWER)
    cep = _cep(given["cep"]) or _cep(given["numero"])  # no house has eight digits
    place = _place(given["cidade"], given["estado"], cep)
    numero, bound = _number(given["numero"], place)
    kind_and_name = _street(given["rua"], given["numero"])
    understood = {name: value for name, value in given.items() if value}
    if kind_and_name is None:
        return Undecided(Reason.STREET_UNKNOWN, understood)
    if place is None:
        return Undecided(Reason.CITY_UNKNOWN, understood)
    address = Address(
        rua=kind_and_name,
        numero=numero,
        complemento=_complement(bound, given["complemento"]),
        bairro=_district(given["bairro"]),
        cidade=place.name,
        estado=place.uf,
        cep=cep,
    )
    found = violations(text, address)
    if not found:
        return Settled(address, inferred=deduced(text, address))
    reasons = [_REASONS.get((violation.field, violation.problem), Reason.NOT_GROUNDED) for violation in found]
    return Undecided(Reason.NOT_GROUNDED if Reason.NOT_GROUNDED in reasons else reasons[0], understood)


def _settlement_as_street(given: dict[str, str | None]) -> dict[str, str | None]:
    """Return the fields with a settlement as the street where there is none: "Povoado X" said as the district."""
    tokens = Tokens(given["bairro"] or "")
    settles = tokens.size > 1 and tokens.keys[0] in lx.SETTLEMENTS | lx.LOCALITIES
    return {**given, "rua": given["bairro"], "bairro": None} if settles and given["rua"] is None else given


def _slot(value: object) -> str | None:
    """Return a segment cleaned, or None when it is empty, says "null", or is too long to be a field."""
    if not isinstance(value, str) or len(value) > _LONGEST_FIELD:
        return None
    cleaned = clean(value).strip(" ,;-")
    tokens = Tokens(cleaned)
    return None if not tokens.size or tokens.phrase(0, tokens.size) in lx.NULL_SLOTS else cleaned


def _cep(value: str | None) -> str | None:
    digits = "".join(char for char in value or "" if char in "0123456789")
    return standard.cep(digits) if len(digits) == 8 else None


def _place(city: str | None, state: str | None, cep: str | None) -> gazetteer.Municipality | None:
    """Return the municipality meant by what stands in the city and state slots."""
    if city is None:
        return None
    evidence = gather(Evidence(f"{city}, {state}" if state else city))
    named = [found for found in states(evidence) if found.start > 0 and found.end == evidence.size]
    end = named[-1].start if named else evidence.size
    ufs = [found.uf for found in named]
    if not ufs:
        ufs = [uf] if cep and (uf := gazetteer.uf_of_cep(cep)) else []
    for uf in ufs:
        for start, name, _ in cities_ending(evidence, end, uf):
            if start == 0:
                return gazetteer.Municipality(name, uf)
    if state is None and not cep:
        key = evidence.phrase(0, evidence.size)
        by_uf = gazetteer.municipalities(key)
        capitals = [uf for uf in by_uf if gazetteer.CAPITALS[uf] == by_uf[uf]]
        for uf in capitals or (list(by_uf) if len(by_uf) == 1 else []):
            return gazetteer.Municipality(by_uf[uf], uf)
        return gazetteer.nickname(key)
    return None


def _number(value: str | None, place: gazetteer.Municipality | None) -> tuple[str | None, str | None]:
    """Return the house number and what is bound to it ("83-B", "67/203") as a part of the complement.

    Where block and house are one number, "9-55", nothing is bound to it.
    """
    tokens = Tokens(value or "")
    at = next((at for at, key in enumerate(tokens.keys) if key not in lx.NUMBER_WORDS), tokens.size)
    if not tokens.is_number(at):
        return None, None
    rest, number = at + 1, standard.number(tokens.keys[at])
    bound = tokens.words[rest].upper() if rest + 1 == tokens.size and len(tokens.keys[rest]) <= 5 else None
    if bound and tokens.gaps[rest] == HYPHEN and place is not None and ways_of(place.uf, place.name).block_numbers:
        return f"{number}-{bound}", None
    return number, bound


def _street(value: str | None, number: str | None) -> str | None:
    if value is None:
        return None
    tokens = Tokens(value)
    if tokens.keys[0] in ALL_CODES or (tokens.kinds[0] == NUM and tokens.key(1) in lx.QUADRA_SIDES):
        return standard.sector(tokens, 0, tokens.size)
    kind, name = _type(tokens)
    end = name
    while end < tokens.size and (end <= name or tokens.gaps[end] != HARD):
        if tokens.keys[end] in lx.SURE_NUMBER_WORDS and end > name:
            break
        end += 1
    if end < tokens.size and [key for key in tokens.keys[end:] if key not in lx.NUMBER_WORDS] != [number]:
        return None
    return _written_street(tokens, kind, name, end)


def _type(tokens: Tokens) -> tuple[str | None, int]:
    """Return the type that opens a street, written out, and where its name begins; None where it has no type."""
    if is_counted(tokens, 0):
        return f"{tokens.words[0].capitalize()} {lx.STREET_TYPES[tokens.keys[1]]}", 2
    kind = _TYPES.get(tokens.keys[0])
    if kind is None and tokens.key(1) in lx.PREPOSITIONS:
        kind = lx.OPENING_TYPES.get(tokens.keys[0])
    # The first word belongs to the next one: nothing, a colon or a full stop between them.
    bound = tokens.size > 1 and (tokens.gaps[1] != HARD or tokens.colons[0] or tokens.dots[0])
    if kind is None or not bound:
        return None, 0
    name = 1
    while name + 1 < tokens.size and _TYPES.get(tokens.keys[name]) == kind:
        name += 1  # "RUA R. X"
    return kind, name


def _written_street(tokens: Tokens, kind: str | None, name: int, end: int) -> str:
    if name == end:
        return str(kind)  # "1ª Avenida"
    first = tokens.keys[name]
    coded = first in lx.ROAD_CODES or first.upper() in gazetteer.UF_NAMES
    if coded and end - name == 2 and tokens.kinds[end - 1] == NUM and (kind is None or kind in lx.ROAD_TYPES):
        return f"{kind or lx.ROAD} {standard.road(tokens, name, end)}"
    return standard.street(tokens, kind or lx.DEFAULT_TYPE, name, end)


def _district(value: str | None) -> str | None:
    if value is None:
        return None
    tokens = Tokens(value)
    named = tokens.size == 2 and tokens.keys[1] in lx.DISTRICT_QUALIFIERS  # "Bairro Novo" is a name
    start = 1 if tokens.keys[0] in lx.DISTRICT_LABELS and tokens.size > 1 and not named else 0
    return standard.district(tokens, start, tokens.hard_end(start))  # of several districts, the first


def _complement(bound: str | None, value: str | None) -> str | None:
    """Return the parts of the complement in their order; references and notes are left out."""
    parts = [bound] if bound else []
    if value is not None:
        parts.extend(_parts(gather(Evidence(f"1, {value}"))))  # behind a house number, as in a text
    return standard.joined(dict.fromkeys(parts))


def _parts(evidence: Evidence) -> Iterator[str]:
    at = 1
    units = {unit.start: unit for unit in evidence.units}
    while at < evidence.size:
        if at in units:
            yield standard.unit(units[at].keyword, units[at].value)
            at = units[at].end
        elif evidence.marks[at] == FREE and evidence.keys[at] not in lx.NUMBER_WORDS:
            end = _name_end(evidence, at)
            if lx.NOTE_WORDS.isdisjoint(evidence.keys[at:end]):
                letter = end - at == 1 and evidence.kinds[at] == WORD and len(evidence.keys[at]) == 1
                yield evidence.words[at].upper() if letter else standard.named_unit(evidence, at, end)
            at = end
        else:
            at += 1


def _name_end(evidence: Evidence, at: int) -> int:
    end = at + 1
    while evidence.free(end) and evidence.gaps[end] != HARD:
        end += 1
    return end
