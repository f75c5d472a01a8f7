"""The words synthetic sheets are made of, as `places.toml` lists them."""

from __future__ import annotations

import tomllib
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
