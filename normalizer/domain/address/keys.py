"""The folded form that words are compared in."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from normalizer.domain.text import fold

_FOLDED: Final = str.maketrans("áàâãäéèêëíìîïóòôõöúùûüçñýÿ", "aaaaaeeeeiiiiooooouuuucnyy", "'’´`ºª°")
_SIGNS: Final = ("º", "ª", "°")


@lru_cache(maxsize=32_768)
def word_key(word: str) -> str:
    """Return the folded form words are compared in; apostrophes and ordinal signs dropped."""
    if word[-1:] in _SIGNS and word[:-1].isalpha():
        return _signed_key(word.lower())
    key = word.lower().translate(_FOLDED)
    return key if key.isascii() else fold(key)


def _signed_key(word: str) -> str:
    """Return the key of an abbreviation that ends in a raised letter: "Profª", "Engº"."""
    key = word_key(word.rstrip("ºª°"))
    return key + "a" if word[-1] == "ª" and len(key) > 1 else key
