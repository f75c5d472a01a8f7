"""Brazilian addresses: the value, the rules that read one from a text, and the check of a model's reading."""

from __future__ import annotations

from typing import Final

from normalizer.domain.address.answers import standardize
from normalizer.domain.address.rules import parse_address
from normalizer.domain.address.value import FIELDS, Address

__all__ = ["FIELDS", "RULES_VERSION", "Address", "parse_address", "standardize"]

# Part of the cache key: raise it whenever a rule, a table or a standardiser changes what is stored.
RULES_VERSION: Final = 2
