"""Brazilian addresses: the value, the rules that read one from a text, and the check of a model's reading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from normalizer.domain.address.rules import parse_address
from normalizer.domain.address.value import FIELDS, Address
from normalizer.domain.decision import Reason, Settled, Undecided

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FIELDS", "RULES_VERSION", "Address", "parse_address", "standardize"]

RULES_VERSION: Final = 1


def standardize(segments: Mapping[str, str | None], text: str) -> Settled[Address] | Undecided:
    """Turn a model's segmentation of `text` into an address, or say why it may not be stored."""
    return Undecided(Reason.NOT_GROUNDED)
