"""A cell of a sheet may hold more than an address: formulas, an old address, a second one. Split it before reading."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from normalizer.domain.address import lexicon as lx
from normalizer.domain.text import clean


def _any(words: frozenset[str]) -> str:
    """Return the pattern of any of the words, the longest first; blanks of a phrase may be many."""
    longest_first = sorted(words, key=lambda word: (-len(word), word))
    return "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in longest_first)


# Where one address ends and the next begins. Alternatives are read apart; the first counts.
_SPLIT: Final = re.compile(
    rf"//|\b{lx.OR}\b(?=\s+(?:{_any(lx.AFTER_OR)})\b)"
    rf"|\b(?:(?:{_any(lx.ADDRESS_LABELS)})\.?\s{{1,3}})?(?:{_any(lx.ADDRESS_KINDS)})\s{{0,3}}:",
    re.IGNORECASE,
)
_MARKER: Final = re.compile(rf"\A(?:{_SPLIT.pattern})", re.IGNORECASE)
_OR: Final = f" {lx.OR} "
_OLD: Final = re.compile(rf"\b(?:{_any(lx.OLD_ADDRESS)})\b", re.IGNORECASE)
_FORMULA: Final = re.compile(r"=\s*(?:CONCATENAR|CONCATENATE|CONCAT)\s*\(", re.IGNORECASE)


def alternatives(text: str) -> list[str]:
    """Return the cleaned addresses a cell offers, the one to use first; those said to be old are left out."""
    cleaned = clean(text)
    if cleaned.startswith("="):
        cleaned = _FORMULA.sub("", cleaned, count=1)
    if ":" not in cleaned and "//" not in cleaned and _OR not in cleaned.lower():
        return [cleaned]  # nothing that could part it
    edges = [0, *(cut.start() for cut in _SPLIT.finditer(cleaned)), len(cleaned)]
    parts = [cleaned[start:end].strip() for start, end in pairwise(edges)]
    kept = [_MARKER.sub("", part).strip() for part in parts if not _OLD.search(part)]
    return list(filter(None, kept)) or [cleaned]
