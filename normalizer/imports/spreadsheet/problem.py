"""Problem of one row of a sheet, told so that an operator can mend it without seeing anyone's data."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Final

_SHOWN_CHARS: Final = 24
# Few figures with date marks between them: a CPF has eleven, and an RG is written with points alone.
_DATE: Final = r"[0-9]{1,4}[/-][0-9]{1,2}(?:[/-][0-9]{1,4})?"
_TIME: Final = r"[0-9]{1,2}[:h][0-9]{0,2}(?::[0-9]{2})?"
_WHEN: Final = re.compile(rf"{_DATE}(?:[ T]+{_TIME})?|{_TIME}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that cannot be used, as a value: its neighbours go on. `found` is masked."""

    sheet: str
    row: int | None
    column: str | None
    expected: str
    found: str
    mend: str

    def as_dict(self) -> dict[str, str | int | None]:
        """The fields by name, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        where = [f"planilha “{self.sheet}”"]
        if self.row is not None:
            where.append(f"linha {self.row}")
        if self.column is not None:
            where.append(f"coluna “{self.column}”")
        return f"{', '.join(where)}: esperado {self.expected}; encontrado {self.found}. {self.mend}"


def shown(value: object) -> str:
    """A cell as it was typed where it can be no patient's: figures as dates and times have them; else its shape."""
    text = "" if value is None else str(value).strip()
    return f"“{text}”" if _WHEN.fullmatch(text) else mask(value)


def mask(value: object) -> str:
    """Show a cell's shape without its content: letters become x, digits 0, at most 24 characters."""
    text = "" if value is None else str(value)
    if not text.strip():
        return "célula vazia"
    shape = "".join(_shape(char) for char in text[:_SHOWN_CHARS])
    return f"“{shape}…”" if len(text) > _SHOWN_CHARS else f"“{shape}”"


def _shape(char: str) -> str:
    if char.isdigit():
        return "0"
    return "x" if char.isalpha() else char if char.isprintable() else " "
