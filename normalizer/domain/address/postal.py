"""A postal base: which streets and districts a city has, and whose a CEP is. Evidence for a reading, never its source.

The domain knows this interface alone; `normalizer.postal` opens a base where the operator has one. A base knows only
what it lists: that a name is absent says nothing of a city whose streets it does not know.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from normalizer.domain.address import lexicon as lx
from normalizer.domain.address.keys import word_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normalizer.domain.gazetteer import Municipality

# What names are compared by: short and long form are one word, "Sete de Setembro" and "7 de Setembro" one name.
_SHORT: Final = {
    short: word_key(long).rpartition(" ")[2]
    for table in (lx.TITLES, lx.DISTRICT_WORDS, lx.STREET_TYPES)
    for short, long in table.items()
}
# Words that many names share: they tell none from another.
GENERIC: Final = frozenset(_SHORT.values())
_ASIDE: Final = re.compile(r"[,(].*", re.DOTALL)
_EDGE: Final = re.compile(r"(?<=\d)(?=[a-z])|(?<=[a-z])(?=\d)")  # "T37", "3C"
_PLAIN: Final = str.maketrans("áàâãäéèêëíìîïóòôõöúùûüçñ-./", "aaaaaeeeeiiiiooooouuuucn   ", "'’´`ºª°")
_TYPES: Final = frozenset(map(word_key, lx.STREET_TYPES.values())) | lx.STREET_TYPES.keys()

# What an index of such keys depends on: another word list, another index.
KEYS_VERSION: Final = sha256(
    repr([sorted(_SHORT.items()), sorted(lx.NUMERALS.items()), sorted(lx.PREPOSITIONS)]).encode()
).hexdigest()[:8]


class Row(NamedTuple):
    """One CEP as a base lists it; street and district are empty where the CEP is a whole town's."""

    cep: str
    street: str
    district: str
    city: str
    uf: str

    def __str__(self) -> str:
        """Return the row as a person reads it."""
        said = filter(None, (self.street, self.district, f"{self.city} - {self.uf}"))
        return f"{self.cep[:5]}-{self.cep[5:]}: {', '.join(said)}"


class Names(Protocol):
    """The streets, or the districts, that a base lists for one city."""

    def __len__(self) -> int:
        """Return how many it lists; 0 of a city that it does not know."""
        ...

    def rows(self, key: str) -> Sequence[Row]:
        """Return the rows of a name, by its key; none where the city has no such name."""
        ...


class PostalBase(Protocol):
    """What the rules and the verdicts may ask."""

    @property
    def version(self) -> str:
        """Return what its answers depend on; part of the cache key."""
        ...

    def streets_of(self, city: Municipality | None) -> Names:
        """Return the streets of a city, by `street_key`; of the whole country for None."""
        ...

    def districts_of(self, city: Municipality | None) -> Names:
        """Return the districts of a city, by `district_key`; of the whole country for None."""
        ...

    def cep(self, number: str) -> Row | None:
        """Return the row of a CEP (eight digits), or None."""
        ...


def key_of(words: Sequence[str]) -> str:
    """Return what a name of these folded words is compared by."""
    last = len(words) - 1
    named = (_SHORT.get(word, word) for at, word in enumerate(words) if at == last or word not in lx.PREPOSITIONS)
    return " ".join(lx.NUMERALS.get(word, word.lstrip("0") or "0") for word in named)


def street_words_key(words: Sequence[str]) -> str:
    """Return the key of a street of these folded words, the type left out: "2ª Travessa do Sol" is "2 sol"."""
    at = 1 if words[:1] and words[0].isdecimal() and len(words) > 2 else 0
    if len(words) > at + 1 and words[at] in _TYPES:
        words = [*words[:at], *words[at + 1 :]]
    return key_of(words)


@lru_cache(maxsize=8_192)
def district_key(name: str) -> str:
    """Return what a district is compared by."""
    return key_of(_words(name))


@lru_cache(maxsize=8_192)
def street_key(name: str) -> str:
    """Return what a street is compared by: its name, whose type people mix up."""
    return street_words_key(_words(name))


def _words(name: str) -> list[str]:
    """Return the folded words of a name, what stands behind a comma or in brackets left out."""
    key = _ASIDE.sub("", name, count=1).lower().translate(_PLAIN)
    return (key if key.isalpha() else _EDGE.sub(" ", key)).split()
