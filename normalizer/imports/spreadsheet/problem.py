"""Problem of one row of a sheet, told so that an operator can mend it without seeing anyone's data."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Final

from normalizer.observability.masking import mask

# Few figures with date marks between them: a CPF has eleven, and an RG is written with points alone.
_DATE: Final = r"[0-9]{1,4}[/-][0-9]{1,2}(?:[/-][0-9]{1,4})?"
_TIME: Final = r"[0-9]{1,2}[:h][0-9]{0,2}(?::[0-9]{2})?"
_FULL_DATE: Final = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})(?![0-9])")
_WHEN: Final = re.compile(rf"{_DATE}(?:[ T]+{_TIME})?|{_TIME}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that cannot be used, as a value: its neighbours go on. `found` is masked.

    `beside` others: the row means something else when it is read without them, as one that a later row replaced.
    """

    sheet: str
    row: int | None
    column: str | None
    expected: str
    found: str
    fix: str
    beside: bool = False

    def as_dict(self) -> dict[str, str | int | None]:
        """The fields by name, for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "beside"}

    def __str__(self) -> str:
        where = [f"planilha “{self.sheet}”"]
        if self.row is not None:
            where.append(f"linha {self.row}")
        if self.column is not None:
            where.append(f"coluna “{self.column}”")
        return f"{', '.join(where)}: esperado {self.expected}; encontrado {self.found}. {self.fix}"


@dataclass(frozen=True, slots=True)
class ProblemGroup:
    """Equal problems of one column; `rows` are where they are, none for a problem of the sheet itself."""

    problem: Problem
    rows: tuple[int, ...]

    @property
    def said(self) -> str:
        """What is wrong, in few words: `31/02/2026 não existe`."""
        one = self.problem
        if _is_no_day(date := one.found.strip("“”")):
            return f"{date} não existe"
        return f"esperado {one.expected}; encontrado {one.found}"


def _is_no_day(text: str) -> bool:
    if (found := _FULL_DATE.match(text)) is None:
        return False
    try:
        dt.date(int(found[3]), int(found[2]), int(found[1]))
    except ValueError:
        return True
    return False


def grouped(problems: Iterable[Problem]) -> list[ProblemGroup]:
    """Problems of one kind together, the most frequent first."""
    kinds: dict[Problem, list[int]] = {}
    for one in problems:
        rows = kinds.setdefault(replace(one, row=None), [])
        if one.row is not None:
            rows.append(one.row)
    return sorted((ProblemGroup(one, tuple(rows)) for one, rows in kinds.items()), key=lambda group: -len(group.rows))


def shown(value: object) -> str:
    """A cell as it was typed where it can be no patient's: figures as dates and times have them; else its shape."""
    text = "" if value is None else str(value).strip()
    return f"“{text}”" if _WHEN.fullmatch(text) else mask(value)
