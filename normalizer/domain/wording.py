"""Numbers, money and times as Brazilians write them: for the page, the command line and the doctor."""

from __future__ import annotations

_SWAPPED = str.maketrans(",.", ".,")


def number(value: float, digits: int = 0) -> str:
    """`12345.67` → `12.346`; with digits behind the comma: `12.345,7`."""
    return f"{value:,.{digits}f}".translate(_SWAPPED)


def money(value: float) -> str:
    """`0.1234` → `US$ 0,1234`; cents alone from a dollar on."""
    return f"US$ {number(value, 2 if value >= 1 else 4)}"


def many(count: float, one: str, more: str = "") -> str:
    """`1 chamada`, `1.200 chamadas`; `more` where an s is not enough."""
    return f"{number(count)} {one if count == 1 else more or one + 's'}"


def duration(seconds: float | None) -> str:
    """`75` → `1 min 15 s`."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min" + (f" {rest} s" if rest and minutes < 10 else "")
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} dias"
