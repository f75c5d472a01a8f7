"""Deduced fields of an address: its text does not say them, though it implies them; stored marked, as `deduzido`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from normalizer.domain.address import lexicon as lx
from normalizer.domain.address.keys import word_key
from normalizer.domain.address.passes import gather
from normalizer.domain.address.places import states
from normalizer.domain.address.tokens import MAX_CHARS, Tokens
from normalizer.domain.text import clean

if TYPE_CHECKING:
    from normalizer.domain.address.value import Address

TYPE: Final = "tipo"  # no type is typed: it is "Rua" because the name stands in a street's place
STATE: Final = "estado"  # no state is typed: it is that of the CEP, or of the only city of that name

_TYPES: Final = {**lx.STREET_TYPES, **lx.OPENING_TYPES, **lx.LOCALITIES, **lx.SETTLEMENTS}


def deduced(text: str, address: Address) -> tuple[str, ...]:
    """Return which of TYPE and STATE the text does not say, of an address that is grounded in it. Total."""
    tokens = Tokens(clean(text)[:MAX_CHARS])
    found = [] if _says_type(tokens, address.rua) else [TYPE]
    if not any(state.uf == address.estado for state in states(gather(tokens))):
        found.append(STATE)
    return tuple(found)


def _says_type(tokens: Tokens, street: str) -> bool:
    first = street.split(maxsplit=1)[0]
    return word_key(first) in tokens.vocabulary or any(_TYPES.get(key) == first for key in tokens.vocabulary)
