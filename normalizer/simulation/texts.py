"""Synthetic texts, one address or document at a time, with what each should become, made of the words of `places.toml`.

Addresses are spelled in the ways clinics type them: the export's own comma form, dashes, labels, and the untidy rest.
Expected values are what the text was made from, never what some parser says.
"""

from __future__ import annotations

import random
import tomllib
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, NamedTuple


class City(NamedTuple):
    """A municipality, its UF, the first five digits of its CEPs (from, to), and how people abbreviate it."""

    name: str
    uf: str
    cep_from: int
    cep_to: int
    short: str | None = None


def _spellings(listed: list[Any]) -> tuple[tuple[str, str | None], ...]:
    return tuple((name, None) if isinstance(name, str) else (name[0], name[1]) for name in listed)


_TABLES: Final = tomllib.loads(files(__package__).joinpath("places.toml").read_text(encoding="utf-8"))

CITIES: Final = tuple(City(*row) for row in _TABLES["cities"])
STREET_TYPES: Final[list[tuple[str, list[str], int]]] = _TABLES["street_types"]
STREET_NAMES: Final = _spellings(_TABLES["street_names"])
DISTRICTS: Final = _spellings(_TABLES["districts"])
COMPLEMENTS: Final[list[tuple[str, list[str]]]] = _TABLES["complements"]
LANDMARKS: Final = [f"{kind} {name}" for kind in _TABLES["landmark_kinds"] for name in _TABLES["landmark_names"]]
NO_NUMBER: Final[list[str]] = _TABLES["no_number"]
REMARKS: Final[list[str]] = _TABLES["remarks"]
JUNK_ADDRESSES: Final[list[str]] = _TABLES["junk_addresses"]
JUNK_DOCUMENTS: Final[list[str]] = _TABLES["junk_documents"]
GIVEN_NAMES: Final[list[str]] = _TABLES["given_names"]
SURNAMES: Final[list[str]] = _TABLES["surnames"]
EXAMS: Final[list[tuple[str, str]]] = _TABLES["exams"]
INSURERS: Final[list[tuple[str, str]]] = _TABLES["insurers"]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text as it stands in the cell, and its expected value (None: nothing can be had from it)."""

    text: str
    expected: dict[str, str | None] | None


@dataclass(frozen=True, slots=True)
class _Place:
    """How each part of an address is typed, and what that should become."""

    expected: dict[str, str | None]
    street: str
    number: str
    complement: str
    district: str
    city: str
    uf: str
    cep: str


# ------------------------------------------------------------------ addresses
def address(rng: random.Random, *, untidy: bool, remarked: bool, lost: bool) -> Labelled | None:
    """One address text.

    Args:
        rng: the only source of chance.
        untidy: abbreviated, without commas, in capitals, swapped …
        remarked: with words around it that are no address; what makes rules hesitate and a reader not.
        lost: an empty cell (None), junk, or an address without its city.
    """
    if lost:
        return _lost_address(rng)
    place = _place(rng, untidy=untidy, whole=remarked)
    spell = rng.choice(_REMARKED if remarked else _UNTIDY if untidy else _TIDY)
    return Labelled(spell(rng, place), place.expected)


def _lost_address(rng: random.Random) -> Labelled | None:
    chance = rng.random()
    if chance < 0.45:
        return None
    if chance < 0.8:
        return Labelled(rng.choice(JUNK_ADDRESSES), None)
    place = _place(rng, untidy=False)
    return Labelled(f"{place.street}, {rng.randint(1, 999)} {rng.choice(('fundos', 'casa 2'))}", None)


def _place(rng: random.Random, *, untidy: bool, whole: bool = False) -> _Place:
    kind, kind_shorts, _ = rng.choices(STREET_TYPES, weights=[weight for *_, weight in STREET_TYPES])[0]
    name, name_short = rng.choice(STREET_NAMES)
    district, district_short = rng.choice(DISTRICTS)
    city = rng.choice(CITIES)
    number = str(rng.randint(1, 3_999)) if rng.random() > 0.06 else None
    complement, typed_complement = _complement(rng) if rng.random() < 0.35 else (None, "")
    cep = f"{rng.randint(city.cep_from, city.cep_to):05}-{rng.randrange(1000):03}" if rng.random() < 0.85 else None
    # Without its district, a remark could as well be one.
    has_district = rng.random() < 0.93 or whole
    typed_kind = rng.choice(kind_shorts) if untidy and rng.random() < 0.6 else kind
    typed_name = name_short if name_short and untidy and rng.random() < 0.5 else name
    return _Place(
        {
            "rua": f"{kind} {name}",
            "numero": number,
            "complemento": complement,
            "bairro": district if has_district else None,
            "cidade": city.name,
            "estado": city.uf,
            "cep": cep,
        },
        f"{typed_kind} {typed_name}",
        number=_typed_number(rng, number, untidy=untidy),
        complement=typed_complement,
        district=_typed_district(rng, district, district_short, untidy=untidy) if has_district else "",
        city=city.short if city.short and untidy and rng.random() < 0.5 else city.name,
        uf=city.uf,
        cep=_typed_cep(rng, cep, untidy=untidy),
    )


def _complement(rng: random.Random) -> tuple[str, str]:
    wanted, typed = rng.choice(COMPLEMENTS)
    number = rng.choice((11, 12, 21, 34, 52, 101, 204, 303, 1002))
    parts = {"n": number, "s": rng.randint(1, 9), "l": rng.choice("ABCD")}
    return wanted.format(**parts), rng.choice(typed).format(**parts)


def _typed_number(rng: random.Random, number: str | None, *, untidy: bool) -> str:
    if number is None:
        return rng.choice(NO_NUMBER)
    return f"nº {number}" if untidy and rng.random() < 0.2 else number


def _typed_district(rng: random.Random, district: str, short: str | None, *, untidy: bool) -> str:
    return short if short and untidy and rng.random() < 0.6 else district


def _typed_cep(rng: random.Random, cep: str | None, *, untidy: bool) -> str:
    if cep is None:
        return ""
    return rng.choice((cep, cep.replace("-", ""), f"{cep[:2]}.{cep[2:]}")) if untidy else cep


def _joined(separator: str, *parts: str) -> str:
    return separator.join(part for part in parts if part)


def _export(rng: random.Random, place: _Place) -> str:
    """`rua,numero,bairro,cidade,UF,cep,complemento`, as the deployed system writes it."""
    street = place.street.lower() if rng.random() < 0.5 else place.street
    rest = _joined(",", place.number, place.district, place.city)
    rest = rest.lower() if street.islower() else rest
    return _joined(",", street, rest, place.uf, place.cep, place.complement)


def _commas(_: random.Random, place: _Place) -> str:
    number = _joined(", ", place.number, place.complement)
    return _joined(", ", place.street, number, place.district, place.city, place.uf, place.cep)


def _dashes(_: random.Random, place: _Place) -> str:
    head = _joined(", ", place.street, place.number, place.complement)
    return _joined(" - ", head, place.district, f"{place.city}/{place.uf}", place.cep)


def _labels(_: random.Random, place: _Place) -> str:
    parts = {
        "Rua": place.street,
        "Nº": place.number,
        "Compl": place.complement,
        "Bairro": place.district,
        "Cidade": place.city,
        "UF": place.uf,
        "CEP": place.cep,
    }
    return "; ".join(f"{label}: {value}" for label, value in parts.items() if value)


def _capitals(rng: random.Random, place: _Place) -> str:
    return _without_accents(_commas(rng, place)).upper()


def _no_commas(_: random.Random, place: _Place) -> str:
    tail = _joined(" ", place.complement, place.district, place.city, place.uf, place.cep)
    return _without_accents(_joined(" ", place.street, place.number, tail)).lower()


def _swapped(_: random.Random, place: _Place) -> str:
    where = f"{place.city} {place.uf}"
    house = _joined(" ", place.street, place.number, place.complement)
    return _joined(", ", where, place.district, house, place.cep)


def _labelled_cep(rng: random.Random, place: _Place) -> str:
    cep = f"CEP {place.cep}" if place.cep else ""
    head = _joined(", ", place.street, place.number, place.complement, place.district)
    return _joined(" ", head, rng.choice(("-", "–")), f"{place.city}-{place.uf}", cep)


def _with_remark(rng: random.Random, place: _Place) -> str:
    head = _joined(", ", place.street, place.number, place.complement)
    tail = _joined(", ", place.district, f"{place.city} {place.uf}", place.cep)
    return f"{head}, {_remark(rng)}, {tail}"


def _remark_last(rng: random.Random, place: _Place) -> str:
    return f"{_commas(rng, place)}, {_remark(rng)}"


def _remark(rng: random.Random) -> str:
    return rng.choice(REMARKS) if rng.random() < 0.35 else rng.choice(LANDMARKS)


def _spoken(rng: random.Random, place: _Place) -> str:
    number = f"num {place.expected['numero']}" if place.expected["numero"] else "sem número"
    district = f"no bairro {place.district}" if place.district else ""
    where = f"em {place.city} {place.uf}"
    cep = f"cep {place.cep}" if place.cep else ""
    return _joined(" ", place.street, number, place.complement, district, where, cep).lower()


def _collect(rng: random.Random, place: _Place) -> str:
    house = _joined(" ", place.street, place.number, place.complement)
    district = f"({place.district})" if place.district else ""
    opening = rng.choice(("Coletar em", "Coleta em", "Entregar em"))
    return _joined(" ", f"{opening}: {house}", district, place.city, place.uf, place.cep)


_Speller = Callable[[random.Random, _Place], str]
_TIDY: Final[tuple[_Speller, ...]] = (_export, _export, _export, _commas, _commas, _dashes, _labels)
_REMARKED: Final[tuple[_Speller, ...]] = (_with_remark, _with_remark, _remark_last, _spoken, _collect)
_UNTIDY: Final[tuple[_Speller, ...]] = (_capitals, _no_commas, _no_commas, _swapped, _labelled_cep, _dashes, _commas)


def _without_accents(text: str) -> str:
    text = text.replace("º", "o").replace("ª", "a")
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))


# ------------------------------------------------------------------ documents
def document(rng: random.Random, *, lost: bool) -> Labelled | None:
    """One document text with synthetic numbers. `lost` gives an empty cell, junk, or an invalid CPF on its own."""
    if lost:
        chance = rng.random()
        if chance < 0.4:
            return None
        if chance < 0.7:
            return Labelled(rng.choice(JUNK_DOCUMENTS), None)
        return Labelled(f"CPF: {_invalid_cpf(rng)}", None)
    spellers, weights = zip(*_DOCUMENTS, strict=True)
    labelled: Labelled = rng.choices(spellers, weights=weights)[0](rng)
    return labelled


def synthetic_cpf(rng: random.Random, *, zeros: int = 0) -> str:
    """Eleven random digits whose check digits hold; the first `zeros` of them are zero, the next is not."""
    while True:
        body = "0" * zeros + str(rng.randint(1, 9)) + "".join(rng.choice("0123456789") for _ in range(8 - zeros))
        cpf = body + _check_digits(body)
        if cpf != cpf[0] * 11:
            return cpf


def _check_digits(body: str) -> str:
    for weight in (10, 11):
        total = sum(int(digit) * (weight - at) for at, digit in enumerate(body)) % 11
        body += "0" if total < 2 else str(11 - total)
    return body[-2:]


def _invalid_cpf(rng: random.Random) -> str:
    cpf = synthetic_cpf(rng)
    return _mask_cpf(cpf[:10] + str((int(cpf[10]) + rng.randint(1, 9)) % 10))


def _rg(rng: random.Random, length: int = 9) -> str:
    digits = str(rng.randint(1, 9)) + "".join(rng.choice("0123456789") for _ in range(length - 1))
    return digits if len(set(digits)) > 1 else _rg(rng, length)


def _mask_cpf(cpf: str) -> str:
    return f"{cpf[:3]}.{cpf[3:6]}.{cpf[6:9]}-{cpf[9:]}"


def _mask_rg(rg: str) -> str:
    return f"{rg[:2]}.{rg[2:5]}.{rg[5:8]}-{rg[8]}" if len(rg) == 9 else f"{rg[:-6]}.{rg[-6:-3]}.{rg[-3:]}"


def _expected(cpf: str | None, rg: str | None) -> dict[str, str | None]:
    formatted = rg
    if rg is not None and len(rg) == 8:
        formatted = f"{rg[:2]}.{rg[2:5]}.{rg[5:]}"
    elif rg is not None and len(rg) == 9:
        formatted = f"{rg[:3]}.{rg[3:6]}.{rg[6:]}"
    return {"cpf": cpf, "rg": rg, "cpf_formatted": cpf and _mask_cpf(cpf), "rg_formatted": formatted}


def _masked(rng: random.Random) -> Labelled:
    cpf, rg = synthetic_cpf(rng), _rg(rng, rng.choice((7, 8, 9, 9)))
    return Labelled(f"CPF: {_mask_cpf(cpf)}, RG: {_mask_rg(rg)}", _expected(cpf, rg))


def _plain(rng: random.Random) -> Labelled:
    cpf, rg = synthetic_cpf(rng), _rg(rng)
    return Labelled(f"CPF: {cpf}, RG: {rg}", _expected(cpf, rg))


def _rg_first(rng: random.Random) -> Labelled:
    cpf, rg = synthetic_cpf(rng), _rg(rng, 8)
    issuer = rng.choice(("", " SSP/SP", " DETRAN/RJ", " SSP"))
    return Labelled(f"RG: {_mask_rg(rg)}{issuer}, CPF: {_mask_cpf(cpf)}", _expected(cpf, rg))


def _several_rgs(rng: random.Random) -> Labelled:
    cpf, rgs = synthetic_cpf(rng), [_rg(rng) for _ in range(rng.choice((2, 3)))]
    return Labelled(f"CPF: {_mask_cpf(cpf)}, " + ", ".join(f"RG: {rg}" for rg in rgs), _expected(cpf, rgs[0]))


def _cpf_only(rng: random.Random) -> Labelled:
    cpf = synthetic_cpf(rng)
    return Labelled(rng.choice((f"CPF: {_mask_cpf(cpf)}", f"cpf {cpf}", _mask_cpf(cpf))), _expected(cpf, None))


def _rg_only(rng: random.Random) -> Labelled:
    rg = _rg(rng)
    return Labelled(rng.choice((f"RG: {_mask_rg(rg)}", f"Identidade {rg}")), _expected(None, rg))


def _with_x(rng: random.Random) -> Labelled:
    cpf, rg = synthetic_cpf(rng), _rg(rng, 8)
    return Labelled(f"CPF: {cpf}, RG: {_mask_rg(rg)}-X", _expected(cpf, f"{rg}X"))


def _excel_floats(rng: random.Random) -> Labelled:
    cpf, rg = synthetic_cpf(rng), _rg(rng)
    return Labelled(f"CPF: {cpf}.0, RG: {rg}.0", _expected(cpf, rg))


def _lost_zeros(rng: random.Random) -> Labelled:
    zeros = rng.choice((1, 1, 2))
    cpf, rg = synthetic_cpf(rng, zeros=zeros), _rg(rng)
    return Labelled(f"CPF: {cpf[zeros:]}, RG: {rg}", _expected(cpf, rg))


def _invalid_beside_rg(rng: random.Random) -> Labelled:
    rg = _rg(rng)
    return Labelled(f"CPF: {_invalid_cpf(rng)}, RG: {_mask_rg(rg)}", _expected(None, rg))


_DOCUMENTS: Final[tuple[tuple[Callable[[random.Random], Labelled], int], ...]] = (
    (_masked, 38),
    (_plain, 15),
    (_rg_first, 14),
    (_several_rgs, 5),
    (_cpf_only, 10),
    (_rg_only, 5),
    (_with_x, 3),
    (_excel_floats, 3),
    (_lost_zeros, 3),
    (_invalid_beside_rg, 4),
)
