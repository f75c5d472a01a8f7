"""Marks of tokens. One mark a token: no part of a text is claimed by two fields."""

from __future__ import annotations

from typing import Final

FREE: Final = 0  # not explained yet
LABEL: Final = 1  # announces a field
DROPPED: Final = 2  # explained, but no part of the address
POSTCODE: Final = 3
STATE: Final = 4
CITY: Final = 5
STREET: Final = 6
NUMBER: Final = 7
UNIT: Final = 8  # a part of the complement
DISTRICT: Final = 9
