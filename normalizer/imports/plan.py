"""Plan of an import: the whole sheet read once, which of its rows counts for each appointment, and every problem.

Rows are known by `Id do agendamento`, else by a key made of what names an appointment.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from normalizer.domain.stored_form import status_of, stored_form
from normalizer.domain.text import fold
from normalizer.errors import InvalidInput
from normalizer.imports.spreadsheet import (
    ADDRESS_FIELDS,
    DOCUMENT_FIELDS,
    KEY_FIELD,
    ColumnSeen,
    Header,
    Limits,
    Problem,
    Proposal,
    Row,
    Spreadsheet,
    Vocabulary,
    read,
)
from normalizer.store import ImportRow

_TOLD_EVERY: Final = 5_000  # rows read
# What names an appointment where a sheet carries no id. The address and the documents are left out on purpose: a
# corrected one is the same appointment, to be normalized again.
_IDENTITY: Final = ("nome_paciente", "data_agendamento", "hora_agendamento", "nome_unidade", "tipo_consulta")
_TIMES: Final = ("hora_agendamento", "hora_confirmacao")
_TEXTS: Final = ADDRESS_FIELDS | DOCUMENT_FIELDS
_DOCUMENTS: Final = sorted(DOCUMENT_FIELDS)

#: Told (rows done, rows in all); while a file is read, (rows read, 0).
Progress: TypeAlias = Callable[[int, int], None]


def unwatched(_done: int, _rows: int) -> None:
    """The `Progress` that nobody looks at."""


def usable_rows(
    source: str | Path | bytes,
    *,
    name: str | None = None,
    limits: Limits | None = None,
    vocabulary: Vocabulary | None = None,
) -> tuple[Iterator[ImportRow], Sequence[Problem]]:
    """The rows an import of this file would store, each appointment once, and what it would complain of.

    Raises InvalidInput as `import_sheet` does.
    """
    sheet, plan = read_whole(source, name, limits, vocabulary)
    return chosen_rows(sheet, plan), plan.problems


def read_whole(
    source: str | Path | bytes,
    name: str | None,
    limits: Limits | None,
    vocabulary: Vocabulary | None,
    opened: Callable[[Spreadsheet], None] = lambda _: None,
    reading: Progress = unwatched,
) -> tuple[Spreadsheet, Plan]:
    """Read every row once, so that a file that breaks off halfway is refused before the first write."""
    sheet = read(source, name=name, limits=limits, vocabulary=vocabulary)
    opened(sheet)
    plan = Plan(sheet)
    for count, row in enumerate(sheet.rows(), 1):
        plan.note(row)
        if count % _TOLD_EVERY == 0:
            reading(count, 0)
    if not plan.rows:
        headers = {(info.name, info.header.row) for info in sheet.sheets}
        unusable = [problem for problem in sheet.problems if (problem.sheet, problem.row) not in headers]
        found = f"nenhuma que se aproveite ({'; '.join(map(str, unusable[:3]))})"
        raise InvalidInput(
            where=sheet.where,
            expected="ao menos uma linha de agendamento abaixo do cabeçalho",
            found=found if unusable else "só o cabeçalho",
            fix="Confira se a planilha foi exportada com os agendamentos.",
        )
    plan.problems[:0] = sheet.problems
    plan.proposals, plan.columns = sheet.proposals(), sheet.columns()
    return sheet, plan


def chosen_rows(sheet: Spreadsheet, plan: Plan, *, emptying: bool = False) -> Iterator[ImportRow]:
    """The rows to be stored, each appointment once; with `emptying` an empty cell empties what is stored."""
    # A text whose column the sheet does not have is left as it is stored; one whose cell is empty, unless it was said.
    empty = {info.name: dict.fromkeys(sorted(info.header.fields & _TEXTS)) for info in sheet.sheets}
    for row in sheet.rows():
        if (key := plan.key_of(row)) is not None:
            values = {name: value for name, value in row.values.items() if name != KEY_FIELD}
            fields = {name: None for name in empty[row.sheet] if name not in row.unread} | stored_form(values)
            fields |= {f"{name}_informado": text for name, text in row.written.items()}
            kept = row.unread if emptying else row.unread | (empty[row.sheet].keys() - values.keys())
            yield ImportRow(key, fields, kept)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A row of the first pass: where it stands, whose it is, and a hash of all it holds."""

    sheet: str
    number: int
    patient: str
    content: int

    @property
    def place(self) -> tuple[str, int]:
        return self.sheet, self.number


class Plan:
    """What the first pass found: which row counts for each appointment, and every problem.

    Rows of one key that are two patients' are two appointments: each has its patient in its key.
    """

    def __init__(self, sheet: Spreadsheet) -> None:
        self._sheet = sheet
        self._last: dict[str, _Seen] = {}
        self._shared: dict[str, list[_Seen]] = {}
        self.problems: list[Problem] = []
        self.proposals: tuple[Proposal, ...] = ()
        self.columns: tuple[ColumnSeen, ...] = ()
        self.unknown_statuses: Counter[str] = Counter()

    @property
    def rows(self) -> int:
        """Appointments that the sheet holds."""
        return len(self._last) - len(self._shared) + sum(map(len, self._shared.values()))

    def note(self, row: Row) -> None:
        """Take up the next row of the sheet."""
        key, seen = key_of(row), _Seen(row.sheet, row.number, _patient_of(row), hash(frozenset(row.values.items())))
        earlier = self._shared.get(key) or [self._last.get(key, seen)]
        same = next((at for at, one in enumerate(earlier) if _is_same(row, one.patient, seen.patient)), None)
        if earlier[0] is seen:
            self._last[key] = seen
        elif same is not None:
            self.problems.append(
                _repeated(self._sheet, row, earlier[same], equal=earlier[same].content == seen.content)
            )
            self._last[key] = earlier[same] = seen
        else:
            self._shared[key] = [*earlier, seen]
            if row.key is not None:
                self.problems.append(_not_unique(self._sheet, row, earlier[-1]))
        if (status := row.values.get("status")) is not None and status_of(status) is None:
            self.unknown_statuses[status] += 1

    def keys(self) -> dict[tuple[str, int], str]:
        """The natural key of each row that counts, by (sheet, row); not of those that share one."""
        return {seen.place: key for key, seen in self._last.items() if key not in self._shared}

    def refuse(self, found: Mapping[str, str]) -> list[Problem]:
        """The problems of rows that the store refused, by the key they are stored under."""
        places = {key: seen.place for key, seen in self._last.items() if key in found}
        places |= {_own(key, one): one.place for key, rows in self._shared.items() for one in rows}
        refused = [_not_taken(*places[key], what) for key, what in found.items()]
        self.problems += refused
        return refused

    def key_of(self, row: Row) -> str | None:
        """The key under which a row is stored; None where a later one took its place."""
        key = key_of(row)
        if key not in self._shared:
            return key if self._last[key].place == (row.sheet, row.number) else None
        mine = next((one for one in self._shared[key] if one.place == (row.sheet, row.number)), None)
        return None if mine is None else _own(key, mine)


def key_of(row: Row) -> str:
    """The natural key of a row, else one made of what names the appointment (patient, time, unit, exam).

    A row that names neither a patient nor a date is known by all it holds: changed, it is another row.
    """
    if row.key is not None:
        return row.key
    # Times count with their seconds, as the first versions stored them: a key never changes.
    values = {name: f"{text}:00" if name in _TIMES else text for name, text in row.values.items()}
    named = "nome_paciente" in values and "data_agendamento" in values
    parts = [values.get(name, "") for name in _IDENTITY] if named else [f"{k}={values[k]}" for k in sorted(values)]
    return f"linha:{_digest(parts)}"


def _own(key: str, seen: _Seen) -> str:
    """The key of a row that shares one with another patient's."""
    return f"{key}:{_digest([seen.patient])}"


def _digest(parts: Sequence[str]) -> str:
    return hashlib.blake2b("\0".join(parts).casefold().encode(), digest_size=16).hexdigest()


def _patient_of(row: Row) -> str:
    """Whose a row is, beyond what its key says: by name under an id, else by the digits of the documents."""
    if row.key is not None:
        return fold(row.values.get("nome_paciente", ""))
    return "".join(filter(str.isdigit, "".join(row.values.get(name, "") for name in _DOCUMENTS)))


def _is_same(row: Row, one: str, other: str) -> bool:
    """Whether two rows may be one patient's: nothing of either speaks against it."""
    if row.key is None:
        return one in other or other in one
    names, others = set(one.split()), set(other.split())
    return names <= others or others <= names


def _repeated(sheet: Spreadsheet, row: Row, earlier: _Seen, *, equal: bool) -> Problem:
    column = _header_of(sheet, row).title_of(KEY_FIELD)
    telling = "dê a cada um o seu id" if row.key is not None else "preencha o id, a data, a hora ou o CPF"
    return Problem(
        earlier.sheet,
        earlier.number,
        column,
        "cada agendamento uma só vez",
        f"o mesmo agendamento na linha {row.number}" + _of_sheet(row.sheet, earlier.sheet),
        f"Valeu a última linha; {'apague a repetida' if equal else f'se são agendamentos diferentes, {telling}'}.",
        beside=True,
    )


def _not_unique(sheet: Spreadsheet, row: Row, earlier: _Seen) -> Problem:
    return Problem(
        row.sheet,
        row.number,
        _header_of(sheet, row).title_of(KEY_FIELD),
        "um id para cada agendamento",
        f"o id de outro paciente, da linha {earlier.number}" + _of_sheet(earlier.sheet, row.sheet),
        "Entraram como agendamentos diferentes; dê a cada um o seu id, para que outra importação os reconheça.",
        beside=True,
    )


def _not_taken(sheet: str, number: int, found: str) -> Problem:
    return Problem(
        sheet,
        number,
        None,
        "um registro que o MongoDB aceite",
        found,
        "A linha não foi gravada; as outras foram. Corrija-a, ou a regra da coleção, e importe de novo.",
    )


def _of_sheet(name: str, here: str) -> str:
    return "" if name == here else f" de “{name}”"


def _header_of(sheet: Spreadsheet, row: Row) -> Header:
    return next(info.header for info in sheet.sheets if info.name == row.sheet)
