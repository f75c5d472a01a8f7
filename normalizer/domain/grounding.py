"""Grounding, and its version: a digest of all that decides what a text carries. The check lies beside the rules."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Final

from normalizer.domain.address.grounding import Violation, ViolationKind, violations

__all__ = ["Violation", "ViolationKind", "grounding_version", "violations"]

_HERE: Final = Path(__file__).parent
_BYTES: Final = 8


@cache
def grounding_version() -> bytes:
    """Return 8 bytes that change whenever anything that decides what a text carries may have: code, word lists, places.

    A digest of this package's files, so that nobody has to remember to count it up. Where the sources are not at hand
    it is another one in every process, and whatever compares it checks again.
    """
    sources = sorted(_HERE.rglob("*.py"))
    if not sources:
        return os.urandom(_BYTES)
    digest = hashlib.sha256()
    for path in [*sources, *sorted(_HERE.rglob("*.txt"))]:
        digest.update(f"{path.relative_to(_HERE)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()[:_BYTES]
