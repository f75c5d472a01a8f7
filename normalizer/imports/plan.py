"""Plan of an import: the whole sheet read once, which of its rows counts for each appointment, and every problem.

Rows are known by `Id do agendamento`, else by a key made of what names an appointment.
"""

from __future__ import annotations

import hashlib
import marshal
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, TypeAlias

from normalizer.domain.stored_form import status_of, stored_form
from normalizer.domain.text import fold
from normalizer.errors import InvalidInput
from normalizer.imports.spreadsheet import (
    ADDRESS_FIELDS,
    DOCUMENT_FIELDS,
    KEY_FIELD,
    ColumnSeen,
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
_PACKED_TOGETHER: Final = 500
_COMPARED: Final = 50  # patients of one key
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


def read_whole(
    source: str | Path | bytes,
    name: str | None = None,
    limits: Limits | None = None,
    vocabulary: Vocabulary | None = None,
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


class _KeptRows:
    """The rows of a sheet by their position, with their keys: none is read twice.

    Where each stands, whose it is and a hash of all it holds can be asked for, without an object of its own a row. The
    rows themselves are packed (140 bytes each, where a table has 1,000).
    """

    def __init__(self) -> None:
        self._sheets: list[str] = []
        self._numbers = array("q")
        self.patients: list[str] = []
        self.contents = array("q")
        self._packed: list[bytes] = []
        self._open: list[tuple[object, ...]] = []

    def add(self, key: str, row: Row) -> int:
        self._sheets.append(row.sheet)
        self._numbers.append(row.number)
        self.patients.append(_patient_of(row))
        self.contents.append(hash(frozenset(row.values.items())))
        self._open.append((key, row.sheet, row.number, row.values, row.unread, row.written))
        if len(self._open) == _PACKED_TOGETHER:
            self._packed.append(zlib.compress(marshal.dumps(self._open), 1))
            self._open = []
        return len(self._sheets) - 1

    def place(self, at: int) -> tuple[str, int]:
        return self._sheets[at], self._numbers[at]

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        for rows in chain(map(_unpacked, self._packed), [self._open]):
            for key, *row in rows:
                yield key, Row(*row)


def _unpacked(packed: bytes) -> list[Any]:
    rows: list[Any] = marshal.loads(zlib.decompress(packed))  # noqa: S302 — packed by us, and never elsewhere
    return rows


class Plan:
    """What the sheet holds: which row counts for each appointment, and every problem.

    Rows of one key that are two patients' are two appointments: each has its patient in its key.
    """

    def __init__(self, sheet: Spreadsheet) -> None:
        self._sheet = sheet
        self._rows = _KeptRows()
        self._last: dict[str, int] = {}  # the position of a key's last row
        self._shared: dict[str, dict[str, int]] = {}  # by patient
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
        key = key_of(row)
        at, last = self._rows.add(key, row), self._last.get(key)
        if last is None:
            self._last[key] = at
        else:
            self._note_again(key, row, at, self._shared.get(key) or {self._rows.patients[last]: last})
        if (status := row.values.get("status")) is not None and status_of(status) is None:
            self.unknown_statuses[status] += 1

    def _note_again(self, key: str, row: Row, at: int, earlier: dict[str, int]) -> None:
        """A key that was seen before: the row replaces the one of its patient, or is another's."""
        seen = self._rows
        if (same := _same_patient(row, seen.patients[at], earlier)) is not None:
            replaced = earlier.pop(same)
            equal = seen.contents[replaced] == seen.contents[at]
            self.problems.append(_repeated(self._sheet, row, seen.place(replaced), equal=equal))
            self._last[key] = at
        else:
            if row.key is not None:
                self.problems.append(_not_unique(self._sheet, row, seen.place(next(reversed(earlier.values())))))
            self._shared[key] = earlier
        earlier[seen.patients[at]] = at

    def refuse(self, found: Mapping[str, str]) -> list[Problem]:
        """The problems of rows that the store refused, by the key they are stored under."""
        places = {key: at for key, at in self._last.items() if key in found}
        places |= {_own(key, patient): at for key, rows in self._shared.items() for patient, at in rows.items()}
        refused = [_not_taken(*self._rows.place(places[key]), what) for key, what in found.items()]
        self.problems += refused
        return refused

    def chosen_rows(self, *, emptying: bool = False) -> Iterator[ImportRow]:
        """The rows to be stored, each appointment once; with `emptying` an empty cell empties what is stored."""
        # A text whose column the sheet does not have is left as it is stored; one whose cell is empty, unless said.
        empty = {info.name: dict.fromkeys(sorted(info.header.fields & _TEXTS)) for info in self._sheet.sheets}
        for at, (known, row) in enumerate(self._rows):
            if (key := self._key_under(known, at)) is not None:
                values = {name: value for name, value in row.values.items() if name != KEY_FIELD}
                fields = {name: None for name in empty[row.sheet] if name not in row.unread} | stored_form(values)
                fields |= {f"{name}_informado": text for name, text in row.written.items()}
                kept = row.unread if emptying else row.unread | (empty[row.sheet].keys() - values.keys())
                yield ImportRow(key, fields, kept)

    def keys_of(self, problems: Iterable[Problem]) -> dict[tuple[str, int], str]:
        """The natural keys of rows with problems, by (sheet, row); not of those that share one."""
        places = {(problem.sheet, problem.row) for problem in problems}
        named = ((self._rows.place(at), key) for key, at in self._last.items() if key not in self._shared)
        return {place: key for place, key in named if place in places} if places else {}

    def _key_under(self, known: str, at: int) -> str | None:
        """The key under which a row is stored; None where a later one took its place."""
        if (shared := self._shared.get(known)) is None:
            return known if self._last[known] == at else None
        patient = self._rows.patients[at]
        return _own(known, patient) if shared.get(patient) == at else None


def _same_patient(row: Row, patient: str, earlier: Mapping[str, int]) -> str | None:
    """The one of `earlier` that a row may belong to; of a key of very many patients, only the very same."""
    if patient in earlier:
        return patient
    return next((one for one in islice(earlier, _COMPARED) if _is_same(row, one, patient)), None)


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


def _own(key: str, patient: str) -> str:
    """The key of a row that shares one with another patient's."""
    return f"{key}:{_digest([patient])}"


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


def _repeated(sheet: Spreadsheet, row: Row, earlier: tuple[str, int], *, equal: bool) -> Problem:
    telling = "dê a cada um o seu id" if row.key is not None else "preencha o id, a data, a hora ou o CPF"
    fix = f"Valeu a última linha; {'apague a repetida' if equal else f'se são agendamentos diferentes, {telling}'}."
    found = f"o mesmo agendamento na linha {row.number}" + _of_sheet(row.sheet, earlier[0])
    return Problem(*earlier, _key_title(sheet, row), "cada agendamento uma só vez", found, fix, beside=True)


def _not_unique(sheet: Spreadsheet, row: Row, earlier: tuple[str, int]) -> Problem:
    found = f"o id de outro paciente, da linha {earlier[1]}" + _of_sheet(earlier[0], row.sheet)
    fix = "Entraram como agendamentos diferentes; dê a cada um o seu id, para que outra importação os reconheça."
    column = _key_title(sheet, row)
    return Problem(row.sheet, row.number, column, "um id para cada agendamento", found, fix, beside=True)


def _not_taken(sheet: str, number: int, found: str) -> Problem:
    fix = "A linha não foi gravada; as outras foram. Corrija-a, ou a regra da coleção, e importe de novo."
    return Problem(sheet, number, None, "um registro que o MongoDB aceite", found, fix)


def _of_sheet(name: str, here: str) -> str:
    return "" if name == here else f" de “{name}”"


def _key_title(sheet: Spreadsheet, row: Row) -> str | None:
    return next(info.header for info in sheet.sheets if info.name == row.sheet).title_of(KEY_FIELD)
