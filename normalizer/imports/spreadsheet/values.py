"""One cell as text: numbers as typed, dates in the Brazilian form."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

from normalizer.imports.spreadsheet.table import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

# Above this a float no longer tells neighbouring integers apart (IEEE 754 double).
_EXACT: Final = 2**53


def text_of(cell: object) -> str:
    """Return the cell as text, stripped; empty for nothing.

    A whole float loses its `.0` (`11144477735.0` → `11144477735`) when no digit is lost with it. A larger one keeps
    Python's scientific notation, which the document rules refuse: its digits are gone already.
    """
    if isinstance(cell, str):
        return cell.strip()
    writer = _WRITERS.get(type(cell))
    return "" if cell is None else str(cell).strip() if writer is None else writer(cell)


def _float_text(cell: float) -> str:
    return str(int(cell)) if cell.is_integer() and abs(cell) < _EXACT else repr(cell)


_WRITERS: Final[dict[type, Callable[[Any], str]]] = {
    Unreadable: lambda _: "",
    bool: lambda cell: "Sim" if cell else "Não",
    float: _float_text,
    dt.datetime: lambda cell: f"{cell:%d/%m/%Y %H:%M:%S}",
    dt.date: lambda cell: f"{cell:%d/%m/%Y}",
    dt.time: lambda cell: f"{cell:%H:%M:%S}",
}
