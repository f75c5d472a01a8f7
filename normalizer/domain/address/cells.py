"""A cell of a sheet may hold more than an address: formulas, an old address, a second one. Split it before reading."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from normalizer.domain.text import clean

# Where one address ends and the next begins. Alternatives are read apart; the first counts.
_SPLIT: Final = re.compile(
    r"//|\bou\b(?=\s+(?:na|no|em|a|r\b|rua|av))"
    r"|\b(?:end(?:ere[çc]o)?\.?\s{1,3})?(?:trabalho|servi[çc]o|comercial|residencial|resid[êe]ncia|casa|nov[oa]|atual"
    r"|correto|certo|usar|antig[oa]|velh[oa])\s{0,3}:",
    re.IGNORECASE,
)
_OLD: Final = re.compile(
    r"\b(?:antig[oa]|velh[oa]|n[ãa]o\s+usar|desconsiderar|mudou|anterior|cancelad[oa])\b", re.IGNORECASE
)
_FORMULA: Final = re.compile(r"=\s*(?:CONCATENAR|CONCATENATE|CONCAT)\s*\(", re.IGNORECASE)


def alternatives(text: str) -> list[str]:
    """Return the cleaned addresses a cell offers, the one to use first; those said to be old are left out."""
    cleaned = clean(text)
    if cleaned.startswith("="):
        cleaned = _FORMULA.sub("", cleaned, count=1)
    if not (":" in cleaned or "//" in cleaned or " ou " in cleaned.lower()):
        return [cleaned]
    cuts = list(_SPLIT.finditer(cleaned))
    if not cuts:
        return [cleaned]
    edges = [0, *(cut.start() for cut in cuts), len(cleaned)]
    parts: list[str] = []
    for start, end in pairwise(edges):
        part = cleaned[start:end].strip()
        marker = _SPLIT.match(part)
        if not _OLD.search(part) and (body := part[marker.end() :].strip() if marker else part):
            parts.append(body)
    return parts or [cleaned]
