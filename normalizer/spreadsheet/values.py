"""One cell as the text that is stored: numbers as typed, dates in the Brazilian form, statuses by their one name."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

from normalizer.domain.text import fold

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
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "Sim" if cell else "Não"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < _EXACT else repr(cell)
    if isinstance(cell, dt.datetime):
        return cell.strftime("%d/%m/%Y %H:%M:%S")
    if isinstance(cell, dt.date):
        return cell.strftime("%d/%m/%Y")
    if isinstance(cell, dt.time):
        return cell.strftime("%H:%M:%S")
    return str(cell).strip()


def status_of(text: str) -> str:
    """The stored name of a status; one that is not known stays as written."""
    return STATUS_NAMES.get(fold(text), text)


def split_moment(text: str) -> tuple[str, str] | None:
    """`05/01/2026 08:30:00` → `("05/01/2026", "08:30:00")`; the time is empty when absent; None when there is no date."""
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
