"""Brazilian addresses: the value, the rules that read one from a text, and the check of a model's reading."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Final

from normalizer.domain import gazetteer
from normalizer.domain.address.answers import standardize
from normalizer.domain.address.deduced import TYPE, deduced
from normalizer.domain.address.lexicon import DEFAULT_TYPE
from normalizer.domain.address.rules import parse_address
from normalizer.domain.address.value import FIELDS, Address

__all__ = ["DEFAULT_TYPE", "FIELDS", "RULES_VERSION", "TYPE", "Address", "deduced", "parse_address", "standardize"]

_SOURCES: Final = (Path(__file__).parent.rglob("*.*"), Path(gazetteer.__file__).parent.glob("*.py"))
_DATA: Final = Path(gazetteer.__file__).parent.glob("data/*.txt")


def _version() -> int:
    """Return a number that every change of a rule, a word or a place changes: no one has to remember to raise it."""
    files = {file for group in (*_SOURCES, _DATA) for file in group if file.suffix in {".py", ".toml", ".txt"}}
    digest = sha256()
    for file in sorted(files, key=lambda file: (file.parent.name, file.name)):  # two are called `__init__.py`
        digest.update(file.read_bytes())
    return int(digest.hexdigest()[:8], 16)


# Part of the cache key, and stored beside every result as `versao`.
RULES_VERSION: Final = _version()
