"""Towns and states whose addresses have ways of their own, as `words/towns.toml` describes them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from normalizer.domain import gazetteer
from normalizer.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

TOWNS_FILE: Final = Path(__file__).parent / "words" / "towns.toml"
_FIX: Final = "Veja docs/regras-de-endereco.md, «Uma cidade com jeito próprio»."
_LISTS: Final = ("capitals", "capital_ceps")


@dataclass(frozen=True, slots=True)
class Town:
    """How addresses are written there; the defaults are how they are written elsewhere."""

    codes: frozenset[str] = frozenset()
    inner: frozenset[str] = frozenset()
    opening_quadra: bool = False
    sided_quadra: bool = False
    inner_streets: bool = False
    untyped_streets: bool = True
    lettered_streets: bool = False
    block_numbers: bool = False


_FORMS: Final = {field.name: type(field.default) for field in fields(Town)}


def load(file: Path = TOWNS_FILE, *, check_cities: bool = True) -> dict[str, Any]:
    """Read and check a file of towns: {"UF" or "UF/City": Town}, and its two lists as they stand.

    `check_cities` reads the whole gazetteer, which the import of this module does not wait for. Raises Misconfigured,
    which names file and line and says what is wrong.
    """
    text = file.read_text("utf-8")
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(f"{file.name}: {error}.", fix=_FIX) from error
    found: dict[str, Any] = {name: tables.pop(name, {}) for name in _LISTS}
    for place, ways in tables.items():
        line = _line(text, place)
        where = f"{file.name}, linha {line}"
        _insist_on_state(place, where)
        if check_cities:
            _insist_on_city(place, where)
        found[place] = Town(**_ways({**tables.get(place[:2], {}), **ways}, where))
    return found


def _line(text: str, place: str) -> int:
    heads = (f"[{place}]", f'["{place}"]')
    return next((number for number, line in enumerate(text.splitlines(), start=1) if line.strip() in heads), 0)


def _insist_on_state(place: str, where: str) -> None:
    uf = place.partition("/")[0]
    if uf not in gazetteer.UF_NAMES:
        raise Misconfigured(f"{where}: «{uf}» não é uma UF.", fix=_FIX)


def _insist_on_city(place: str, where: str) -> None:
    uf, _, city = place.partition("/")
    if city and gazetteer.municipalities(gazetteer.name_key(city)).get(uf) != city:
        raise Misconfigured(f"{where}: «{city}» não é um município de {uf}, ou não se escreve assim.", fix=_FIX)


def _ways(ways: Mapping[str, Any], where: str) -> dict[str, Any]:
    for name, value in ways.items():
        if name not in _FORMS:
            raise Misconfigured(f"{where}: «{name}» é desconhecido.", fix=_FIX)
        if not isinstance(value, bool if _FORMS[name] is bool else str):
            raise Misconfigured(f"{where}: «{name}» deve ser {_expected(name)}.", fix=_FIX)
    return {name: value if isinstance(value, bool) else frozenset(value.split()) for name, value in ways.items()}


def _expected(name: str) -> str:
    return "«true» ou «false»" if _FORMS[name] is bool else "um texto: «palavra palavra»"


_ALL: Final = load(check_cities=False)
_TOWNS: Final = {place: town for place, town in _ALL.items() if isinstance(town, Town)}
_ELSEWHERE: Final = Town()
ALL_CODES: Final = frozenset[str]().union(*(town.codes for town in _TOWNS.values()))
# Codes that are continued by others, "ARSE 72 QI 5", and what continues them.
CONTINUED: Final = frozenset[str]().union(*(town.codes for town in _TOWNS.values() if town.inner))
INNER: Final = frozenset[str]().union(*(town.inner for town in _TOWNS.values()))

# Capitals that are the city where a text ends with their name, by its key; nicknames that are nothing else.
PLAIN_CAPITALS: Final = {
    gazetteer.name_key(gazetteer.CAPITALS[uf]): uf for uf in _ALL["capitals"].get("plain", "").split()
}
PLAIN_NICKNAMES: Final = frozenset(_ALL["capitals"].get("nicknames", ()))
# First three digits of CEPs that belong to a capital alone, by UF.
_CAPITAL_CEPS: Final = {
    uf: [tuple(map(int, span.split("-"))) for span in spans.split()] for uf, spans in _ALL["capital_ceps"].items()
}
# States whose capital has their name: "…, São Paulo" may be either.
NAMESAKES: Final = frozenset(uf for uf, name in gazetteer.UF_NAMES.items() if gazetteer.CAPITALS[uf] == name)


@lru_cache(maxsize=8_192)
def town(uf: str, city: str) -> Town:
    """Return the ways of a city, those of its state where it has none of its own."""
    return _TOWNS.get(f"{uf}/{city}") or _TOWNS.get(uf, _ELSEWHERE)


def in_capital(uf: str, cep: str | None) -> bool | None:
    """Say whether a CEP lies in the capital of `uf`; None where there is none or the ranges do not tell."""
    spans = _CAPITAL_CEPS.get(uf)
    if spans is None or not cep:
        return None
    prefix = int(cep[:3])
    return any(first <= prefix <= last for first, last in spans)


def coded_capital(key: str, first: str) -> str | None:
    """Return the state whose capital is written `key` and whose codes, of three letters or more, open the text."""
    for place, ways in _TOWNS.items():
        capital = gazetteer.name_key(gazetteer.CAPITALS[place[:2]])
        if key == capital and len(first) > 2 and first in ways.codes:
            return place[:2]
    return None
