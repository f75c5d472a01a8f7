"""Brazilian addresses: the value, the rules that read one from a text, and the check of a model's reading."""

from __future__ import annotations

import os
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from normalizer.domain.address.answers import standardize
from normalizer.domain.address.grounding import TYPE, deduced
from normalizer.domain.address.lexicon import DEFAULT_TYPE
from normalizer.domain.address.rules import parse_address
from normalizer.domain.address.standard import FIELDS, Address

__all__ = [
    "DEFAULT_TYPE",
    "FIELDS",
    "RULES_VERSION",
    "TYPE",
    "Address",
    "deduced",
    "grounding_version",
    "parse_address",
    "standardize",
]

_DOMAIN: Final = Path(__file__).parents[1]
_DECIDING: Final = ("*.py", "address/**/*.py", "address/**/*.toml", "data/*.txt")


def _digest() -> bytes:
    """Return a digest that every change of a rule, a word or a place changes: no one has to remember to raise it."""
    digest = sha256()
    for file in sorted(file for pattern in _DECIDING for file in _DOMAIN.glob(pattern)):
        digest.update(f"{file.relative_to(_DOMAIN)}\0".encode())
        digest.update(sha256(file.read_bytes()).digest())
    return digest.digest()


@cache
def grounding_version() -> bytes:
    """Return 8 bytes that change whenever anything that decides what a text carries may have: code, word lists, places.

    Where the sources are not at hand it is another one in every process, and whatever compares it checks again.
    """
    return _digest()[:8] if any(_DOMAIN.glob("address/*.py")) else os.urandom(8)


# Part of the cache key, and stored beside every result as `versao`.
RULES_VERSION: Final = int.from_bytes(_digest()[:4])
