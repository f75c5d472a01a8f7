"""Residue of the rules: invented addresses that they refuse and a careful reader understands, labelled.

Twenty-five rows in each of eight kinds, put together by chance from a seed: what registers and clinics print that the
rules leave open. Each row is one the rules refuse at present, and one whose label grounding accepts: what a model is
asked, and could answer. A kind that no longer has such rows is an error, not an empty measurement.
"""

from __future__ import annotations

import random
import unicodedata
from typing import TYPE_CHECKING, Any, Final

from normalizer.domain.address import parse_address, standardize
from normalizer.domain.decision import Settled
from normalizer.simulation.texts import CITIES, LANDMARKS, STREET_NAMES, STREET_TYPES, City

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Label = dict[str, str | None]
Made = tuple[str, Label, Label | None]

ROWS_PER_KIND: Final = 25
_TRIES: Final = 2_000
_QUARTERS: Final = (
    *("Espinheiro", "Alto da Colina", "Santa Mônica", "Boa Esperança", "Pedra Branca", "Morada do Sol", "Três Marias"),
    *("São Cristóvão", "Bom Pastor", "Campo Belo", "Lagoa Seca", "Água Fresca", "Monte Verde", "Pedra Grande"),
)
_HEADED: Final = ("Jardim América", "Vila Operária", "Parque das Árvores", "Jardim Primavera", "Vila São João")
_COURTS: Final = ("º Distrito Judiciário", "º Subdistrito", "ª Zona", "º Ofício", "ª Circunscrição")
_ESTATES: Final = ("Conjunto Habitacional", "Conjunto", "Residencial", "Condomínio", "Loteamento")
_STREET_KINDS: Final = tuple(kind for kind, *_ in STREET_TYPES)
_SETTLEMENTS: Final = ("Povoado", "Vila", "Distrito", "Comunidade", "Localidade")
_NATURE: Final = (
    "Curral Velho",
    "Lagoa do Meio",
    "Baixa Funda",
    "Pau Ferro",
    "Olho d'Água",
    "Barra do Cedro",
    "Capim Grosso",
)
_GIVEN: Final = ("Joana", "Heitor", "Marta Regina", "Olga", "Tadeu", "Inês", "Nilo Augusto", "Vera", "Elisa", "Davi")
_SURNAMES: Final = ("Pereira Machado", "Sampaio", "de Andrade Moura", "Furtado", "Nogueira", "dos Reis Lemos", "Bittar")
_WAYS_IN: Final = (
    "entrada pela",
    "sobrado amarelo na",
    "casa de esquina na",
    "descendo a ladeira,",
    "segunda casa depois da ponte,",
    "portão azul na esquina,",
    "chegando na pracinha,",
)
_NOTES: Final = (
    "recebe só de manhã",
    "avisar antes da visita",
    "casa da dona {given}",
    "vizinho do seu {given}",
    "mãe {name}",
    "portão de ferro verde",
)
_CAREERS: Final = (
    "cadeirante",
    "acamado",
    "cuidadora {given}",
    "mora com a filha {given}",
    "2 cachorros bravos",
    "interfone quebrado",
)


class _Parts:
    """The parts of one address, by chance, and its label."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.kind = rng.choices([kind for kind, *_ in STREET_TYPES], weights=[weight for *_, weight in STREET_TYPES])[0]
        self.bare = rng.choice(STREET_NAMES)[0]
        self.number = str(rng.randint(2, 2_999))
        self.city: City = rng.choice(CITIES)
        self.cep = f"{rng.randint(self.city.cep_from, self.city.cep_to):05}-{rng.randrange(1000):03}"
        self.quarter, self.other = rng.sample(_QUARTERS, 2)
        self.headed = rng.choice(_HEADED)
        self.nature = rng.choice(_NATURE)
        self.given = rng.choice(_GIVEN)
        self.name = f"{self.given} {rng.choice(_SURNAMES)}"

    @property
    def street(self) -> str:
        return f"{self.kind} {self.bare}"

    @property
    def town(self) -> str:
        return f"{self.city.name} - {self.city.uf}"

    def said(self, remarks: tuple[str, ...]) -> str:
        return self.rng.choice(remarks).format(given=self.given, name=self.name)

    def label(self, **other: str | None) -> Label:
        found: Label = {
            "rua": self.street,
            "numero": self.number,
            "complemento": None,
            "bairro": self.quarter,
            "cidade": self.city.name,
            "estado": self.city.uf,
            "cep": None,
        }
        return found | other


def _two_quarters(parts: _Parts) -> Made:
    court = f"{parts.rng.randint(2, 9)}{parts.rng.choice(_COURTS)}"
    head = f"{parts.street}, nº {parts.number}\n\n{parts.quarter} - {parts.other} - {court}"
    return f"{head}\n{parts.town}\nCEP: {parts.cep}", parts.label(cep=parts.cep), None


def _estate(parts: _Parts) -> Made:
    other = f"{parts.rng.choice(_STREET_KINDS)} {parts.rng.choice(STREET_NAMES)[0]}"
    estate = f"{parts.rng.choice(_ESTATES)} {parts.nature} {other}"
    text = f"{parts.bare}, {parts.number} {estate}. {parts.cep} {parts.town}."
    label = parts.label(rua=f"Rua {parts.bare}", bairro=estate, cep=parts.cep)
    return text, label, label | {"complemento": estate, "bairro": None}


def _settlement(parts: _Parts) -> Made:
    place = f"{parts.rng.choice(_SETTLEMENTS)} {parts.nature}"
    rural = parts.rng.choice((None, "Zona Rural"))
    text = ", ".join(filter(None, (place, rural, parts.town, parts.rng.choice(("", parts.cep)))))
    cep = parts.cep if parts.cep in text else None
    return text, parts.label(rua=place, numero=None, bairro=rural, cep=cep), None


def _no_state(parts: _Parts) -> Made:
    quarter = parts.rng.choice((parts.headed, parts.quarter))
    joint = parts.rng.choice((" ", ", ", " - "))
    text = f"{parts.street} {parts.number}{joint}{quarter}{joint}{parts.city.name}"
    return text, parts.label(bairro=quarter), None


def _name_first(parts: _Parts) -> Made:
    joint = parts.rng.choice((", ", " - ", ": "))
    text = f"{parts.name}{joint}{parts.street}, {parts.number}, {parts.headed}, {parts.town}"
    return text, parts.label(bairro=parts.headed), None


def _described(parts: _Parts) -> Made:
    text = f"{parts.rng.choice(_WAYS_IN)} {parts.street}, {parts.number}, {parts.headed}, {parts.town}, {parts.cep}"
    return text, parts.label(bairro=parts.headed, cep=parts.cep), None


def _ringed(parts: _Parts) -> Made:
    remark = parts.rng.choice((parts.rng.choice(LANDMARKS), parts.said(_NOTES), parts.said(_CAREERS)))
    before, after = parts.rng.choice((("(", ")"), ('"', '"'), ("//", "//"), ("[", "]")))
    text = f"{parts.street}, {parts.number} {before}{remark}{after} {parts.headed} - {parts.town}"
    label = parts.label(bairro=parts.headed)
    return text, label, label | {"complemento": remark}


def _between(parts: _Parts) -> Made:
    remark = parts.rng.choice((parts.rng.choice(LANDMARKS), parts.said(_NOTES), parts.said(_CAREERS)))
    text = f"{parts.street}, {parts.number}, {remark}, {parts.headed}, {parts.town}, {parts.cep}"
    label = parts.label(bairro=parts.headed, cep=parts.cep)
    return text, label, label | {"complemento": remark}


KINDS: Final[tuple[Callable[[_Parts], Made], ...]] = (
    _two_quarters,
    _estate,
    _settlement,
    _no_state,
    _name_first,
    _described,
    _ringed,
    _between,
)


def residue(rows_per_kind: int = ROWS_PER_KIND) -> list[dict[str, Any]]:
    """Return labelled rows, kind after kind in turns, the same ones each time the rules are the same.

    Raises AssertionError where the rules leave too few rows of a kind.
    """
    columns = [list(_rows(kind, rows_per_kind)) for kind in KINDS]
    return [row for rows in zip(*columns, strict=True) for row in rows]


def _rows(kind: Callable[[_Parts], Made], wanted: int) -> Iterator[dict[str, Any]]:
    name = kind.__name__.strip("_")
    rng, found = random.Random(name), 0
    for _ in range(_TRIES):
        text, label, also = kind(_Parts(rng))
        text = rng.choice((text, text, _capitals(text)))
        if not isinstance(parse_address(text), Settled) and isinstance(standardize(label, text), Settled):
            accept = [] if also is None else [also]
            yield {
                "id": f"{name}-{found}",
                "text": text,
                "expected": label,
                "accept": accept,
                "tags": [f"class:{name}"],
            }
            found += 1
        if found == wanted:
            return
    raise AssertionError(f"the rules leave {found} rows of {wanted} in {name}")


def _capitals(text: str) -> str:
    text = text.replace("º", "o").replace("ª", "a")
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char)).upper()
