"""One cell as the text that is stored: numbers as typed, dates in the Brazilian form, statuses by their one name."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any, Final

from normalizer.domain.text import fold
from normalizer.imports.spreadsheet.table import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

# Above this a float no longer tells neighbouring integers apart (IEEE 754 double).
_EXACT: Final = 2**53
STATUS_NAMES: Final = {
    "agendado": "Confirmado",
    "efetivado": "Confirmado",
    "realizado": "Concluído",
    "em atendimento": "Em Atendimento",
}
_DATE: Final = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-](\d{4}|\d{2})|(\d{4})-(\d{1,2})-(\d{1,2})", re.ASCII)
_TIME: Final = re.compile(r"(\d{1,2})[:hH](\d{2})(?::(\d{2}))?(?:\.\d+)?", re.ASCII)


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


def status_of(text: str) -> str:
    """The stored name of a status; one that is not known stays as written."""
    return STATUS_NAMES.get(fold(text), text)


def split_moment(text: str) -> tuple[str, str] | None:
    """`05/01/2026 08:30:00` → `("05/01/2026", "08:30:00")` (no time: empty), or None without a date."""
    first, _, rest = text.replace("T", " ", 1).partition(" ")
    date = date_of(first)
    if date is None:
        return None
    return date, time_of(rest.strip()) or ""


def date_of(text: str) -> str | None:
    """A date in any usual spelling as `dd/mm/aaaa`, or None."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return None
    day, month, year = (match[1], match[2], match[3]) if match[1] else (match[6], match[5], match[4])
    full_year = int(year) + (2000 if len(year) == 2 else 0)
    try:
        return dt.date(full_year, int(month), int(day)).strftime("%d/%m/%Y")
    except ValueError:
        return None


def time_of(text: str) -> str | None:
    """A time of day as `hh:mm:ss`, or None."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
    if hour > 23 or minute > 59 or second > 59:
        return None
    return f"{hour:02}:{minute:02}:{second:02}"
