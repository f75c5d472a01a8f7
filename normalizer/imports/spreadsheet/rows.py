"""The rows below one header, as appointments: values by stored field, and problems with what cannot be used."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Final

from normalizer.domain.stored_form import parse_moment
from normalizer.imports.spreadsheet.columns import Header, header_within
from normalizer.imports.spreadsheet.joining import (
    PARTS,
    are_several,
    is_note,
    is_vacant,
    join_parts,
    titles_of_another_table,
    valid_cpfs,
)
from normalizer.imports.spreadsheet.table import Unreadable, text_of
from normalizer.imports.spreadsheet.titles import (
    ADDRESS_FIELDS,
    ADDRESS_PARTS,
    DOCUMENT_FIELDS,
    JOINED_FIELDS,
    KEY_FIELD,
    MOMENTS,
)
from normalizer.observability.masking import mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from normalizer.imports.spreadsheet.table import Cells

# Few figures with date marks between them: a CPF has eleven, and an RG is written with points alone.
_DATE: Final = r"[0-9]{1,4}[/-][0-9]{1,2}(?:[/-][0-9]{1,4})?"
_TIME: Final = r"[0-9]{1,2}[:h][0-9]{0,2}(?::[0-9]{2})?"
_FULL_DATE: Final = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})(?![0-9])")
_DATE_OR_TIME: Final = re.compile(rf"{_DATE}(?:[ T]+{_TIME})?|{_TIME}")


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
    return f"“{text}”" if _DATE_OR_TIME.fullmatch(text) else mask(value)


_WHEN: Final = {
    (False, False): "data (dd/mm/aaaa)",
    (False, True): "data e hora (dd/mm/aaaa hh:mm)",
    (True, False): "hora (hh:mm)",
}
_MIDNIGHT: Final = "00:00"
# What stands where nothing does: dashes, dots, a lone zero as an id.
_MARKS: Final = "-–—_.*=/|"
# And error values, as they stand in a text.
_NO_VALUE: Final = re.compile(
    rf"[\s{re.escape(_MARKS)}]+|Err:[0-9]{{3}}|#(?:N/[AD]|(?:DIV/0|REF|VALUE|VALOR|NAME|NOME|N[UÚ]M|NULL|NULO|SPILL"
    r"|DESPEJAR|CALC|CÁLC|ERROR|ERRO|CONNECT|FIELD|BLOCKED|BUSY|UNKNOWN|GETTING_DATA)[!?]?)"
)
_SUSPECT: Final = frozenset(f"{_MARKS}#E")
_NO_ID: Final = re.compile(r"[0-]+|n/?[ad]|nan|null|none|nenhum|sem|sem id|#.*", re.IGNORECASE)
# A number that lost digits on its way through a floating point is nobody's id any more.
_ROUNDED: Final = re.compile(r"[0-9][.,][0-9]+e\+?[0-9]+", re.IGNORECASE)
_DIGIT: Final = re.compile("[0-9]")
_LETTER: Final = re.compile(r"[^\W\d_]")
_TIMES: Final = ("hora_agendamento", "inicio_agendamento")
_LINES: Final = re.compile(r"\s*[\r\n]+\s*")
_NAMING: Final = frozenset({KEY_FIELD, "nome_paciente"}) | ADDRESS_FIELDS | DOCUMENT_FIELDS
# All that an agenda's free slot holds.
_SLOT: Final = frozenset(chain.from_iterable(((whole, *parts) for whole, parts in MOMENTS.items())))
_WEEKDAYS: Final = "segunda|ter[çc]a|quarta|quinta|sexta|s[áa]bado|domingo"
_OF_A_DAY: Final = re.compile(
    rf"^\W*(?:(?:agenda(?:mentos?)?|pacientes|dia|data|d[aeo]|{_WEEKDAYS})\b(?:-feira)?\W*)+", re.IGNORECASE
)
_PART_OF_A_DATE: Final = re.compile(
    rf"\W*(?:dia\W+)?(?:[0-9]{{1,2}}(?: ?[/.-] ?[0-9]{{1,2}})?|(?:{_WEEKDAYS})\b.*)\W*", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Row:
    """One usable row: where it stands (1-based, as Excel shows it) and its non-empty values by stored field name.

    `unread` names the fields whose cell holds something that could not be read: not in `values`, and yet not empty.
    `written` has dates and times that mean nothing, by field, as they were typed.
    """

    sheet: str
    number: int
    values: dict[str, str]
    unread: frozenset[str] = frozenset()
    written: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str | None:
        """The clinic system's own id of the appointment, when the sheet carries one."""
        return self.values.get(KEY_FIELD)


class RowReader:
    """Reads the rows below `header`; what is wrong with one is appended to `problems`.

    `names` of the sheet and its file may tell the day of rows that tell their times alone.
    """

    def __init__(self, sheet: str, header: Header, problems: list[Problem], names: Sequence[str] = ()) -> None:
        self._sheet, self.header, self._problems, self._names = sheet, header, problems, names
        sources = header.sources()
        self._single = [(columns[0][0], name) for name, columns in sources.items() if columns == [columns[0][:1]]]
        self._several = [(name, columns) for name, columns in sources.items() if columns != [columns[0][:1]]]
        self._general, self._address_field = header.general_address is not None, header.address_field
        self._in_parts = not header.fields.isdisjoint(PARTS | {"cep"})
        self._telling = [index for index, name in header.columns.items() if name in ADDRESS_FIELDS | DOCUMENT_FIELDS]
        self._moments = [
            (date_field, whole, time_field)
            for whole, (date_field, time_field) in MOMENTS.items()
            if not header.fields.isdisjoint({date_field, whole, time_field})
        ]
        self._has_dates = not header.fields.isdisjoint({"data_agendamento", "inicio_agendamento"})
        # of the separator above, in a sheet without a column for it; empty: not to be read
        self._day: str | None = None
        self._another: list[str] = []  # titles of a table below that is none of appointments

    def second_header(self, number: int, cells: Cells, above: Cells) -> Header | None:
        """The header of another table, where this row is one."""
        for index in self._telling:
            if index < len(cells) and isinstance(cell := cells[index], str) and _DIGIT.search(cell):
                return None
        if not (titles := titles_of_another_table(cells)):
            return None
        if (header := header_within(number, cells, above)) is None:
            self._another = titles
        return header

    def repeated(self) -> None:
        """The header stands there once more: what follows is its own."""
        self._another = []

    def read(self, number: int, cells: Cells) -> Row | None:
        """The appointment of a row; None for an empty one, a separator, a vacant slot, and for one that is reported."""
        unread: set[str] = set()
        values = self._values(number, cells, unread)
        if len(values) <= 1 and self._is_separator(cells):
            return None
        if not values or is_vacant(values):
            return None
        if (wrong := self._wrong_with(values)) is not None:
            self._tell(number, *wrong)
            return None
        if values.keys().isdisjoint(_NAMING):
            return None
        if "nome_paciente" in values:
            values["nome_paciente"] = _LINES.sub(" ", values["nome_paciente"])
        written = self._settle_moments(number, values)
        return Row(self._sheet, number, values, frozenset(unread), written)

    def _wrong_with(self, values: Mapping[str, str]) -> tuple[str | None, str, str, str] | None:
        """Of a row that is not one patient's: the column, what was expected and found there, how to mend it."""
        if self._another and not valid_cpfs(values):
            said = ", ".join(f"“{title.strip()}”" for title in self._another[:3])
            fix = "Se são agendamentos, dê a essa tabela os títulos conhecidos; as linhas dela não foram usadas."
            return None, "agendamentos sob os títulos do cabeçalho", f"outra tabela, de {said}", fix
        is_slot = values.keys() <= _SLOT and all(_spelled(text)[2] for text in values.values())
        if (values.keys().isdisjoint(_NAMING) and not is_slot) or is_note(values):
            fix = "Complete a linha, ou apague-a se for um total ou uma anotação."
            return None, "ao menos o id, o paciente, o endereço ou o documento", "nenhum deles", fix
        name = values.get("nome_paciente", "a")
        if not _LETTER.search(name):
            fix = "Confira se as células da linha não estão deslocadas; ela não foi usada."
            return self.header.title_of("nome_paciente"), "o nome do paciente", mask(name), fix
        if are_several(values):
            found, fix = "vários pacientes na mesma linha", "Ponha cada paciente em uma linha, com o documento dele."
            return self.header.title_of("nome_paciente"), "um paciente por linha", found, fix
        return None

    def note_title(self, cells: Cells) -> None:
        """A row above the header: an agenda's title tells the day of rows that tell their times alone."""
        if self._has_dates or "hora_agendamento" not in self.header.fields:
            return
        if day := _day_of(" ".join(filter(None, map(text_of, cells)))):
            self._take_day(day, "no título")

    def _is_separator(self, cells: Cells) -> bool:
        """Whether the row holds a day and nothing else, as agendas made by hand part their days."""
        filled = [cell for cell in cells if cell is not None and cell != ""]
        if len(filled) != 1:
            return False
        moment = parse_moment(_OF_A_DAY.sub("", text_of(filled[0])))
        if moment.date is None or not moment.whole:
            if _PART_OF_A_DATE.fullmatch(text_of(filled[0])):
                self._day = ""  # of the rows below, that of the one before no more
            return False
        self._day = None if self._has_dates else f"{moment.date:%d/%m/%Y}"
        return True

    def _values(self, number: int, cells: Cells, unread: set[str]) -> dict[str, str]:
        values: dict[str, str] = {}
        width = len(cells)
        for index, name in self._single:
            cell = cells[index] if index < width else None
            if text := cell.strip() if isinstance(cell, str) else self._text(number, name, (index,), cells, unread):
                values[name] = text
        for name, columns in self._several:
            texts = [self._text(number, name, same, cells, unread) for same in columns]
            if text := _SEPARATORS.get(name, ", ").join(filter(None, texts)):
                values[name] = text
        for name in [name for name, text in values.items() if text[0] in _SUSPECT and _NO_VALUE.fullmatch(text)]:
            text = values.pop(name)
            if text[0] not in _MARKS:
                unread.add(name)
                self._report(number, name, "um valor", f"o erro {text}")
        if KEY_FIELD in values:
            self._settle_key(number, values)
        if self._in_parts:
            join_parts(values, self._address_field)
        if self._general and "endereco_coleta" in values:
            values.pop("endereco_completo", None)
        if unread and not unread.isdisjoint(ADDRESS_PARTS):
            unread.add(self._address_field)
        for name in unread & values.keys():  # of an address in parts, some could be read
            del values[name]
        return values

    def _text(self, number: int, name: str, same: Sequence[int], cells: Cells, unread: set[str]) -> str:
        """What stands in the columns of one title: the filled one counts, two that differ are reported."""
        found = ""
        for index in same:
            cell = cells[index] if index < len(cells) else None
            text = text_of(cell)
            if not text and isinstance(cell, Unreadable):
                unread.add(name)
                self._report(number, name, cell.expected, cell.found)
            elif found and text and text != found:
                self._report(number, name, "o mesmo valor nas colunas de mesmo título", "valores diferentes")
            found = found or text
        return found

    def _settle_key(self, number: int, values: dict[str, str]) -> None:
        """An id that names nothing is none."""
        key = values[KEY_FIELD]
        if _ROUNDED.fullmatch(key):
            self._report(number, KEY_FIELD, "um id com todos os dígitos (formate a coluna como texto)", mask(key))
        if _ROUNDED.fullmatch(key) or _NO_ID.fullmatch(key):
            del values[KEY_FIELD]

    def _settle_moments(self, number: int, values: dict[str, str]) -> dict[str, str]:
        """Dates as `dd/mm/aaaa` and times as `hh:mm`, from whichever column holds them; what is unclear is reported.

        Returns what could not be read and stands in no other column either, as it was typed.
        """
        written: dict[str, str] = {}
        for names in self._moments:
            date_field, whole, time_field = names
            dates, times = [], []
            for name in names:
                if (text := values.pop(name, None)) is None:
                    continue
                date, time, understood = _spelled(text)
                if not understood or not (time if name == time_field else date):
                    self._report(number, name, _WHEN[name == time_field, name == whole], shown(text))
                    written.setdefault(time_field if name == time_field else date_field, text)
                dates.append(date)
                # a workbook's date is midnight without anybody having said so
                times.append("" if name == date_field and time == _MIDNIGHT else time)
            if date := next(filter(None, dates), ""):
                values[date_field] = date
            if time := next(filter(None, reversed(times)), ""):
                values[time_field] = time
        if "hora_agendamento" in values and "data_agendamento" not in values | written:
            self._date(number, values)
        elif self._day:
            values.setdefault("data_agendamento", self._day)
        return {name: text for name, text in written.items() if name not in values} if written else written

    def _date(self, number: int, values: dict[str, str]) -> None:
        """The day of a row that tells its time alone: of the title above it, of the sheet's or the file's name."""
        if self._day is None and not self._has_dates:
            told = next((day for name in self._names if (day := _day_of(name, alone=True))), "")
            self._take_day(told, "no nome da planilha")
        if self._day:
            values["data_agendamento"] = self._day
        else:
            column = next((title for one in _TIMES if (title := self.header.title_of(one))), None)
            fix = "Acrescente a data (numa coluna, ou acima da tabela); sem ela o agendamento fica sem dia."
            self._tell(number, column, "uma data com a hora", "só a hora", fix)

    def _take_day(self, day: str, place: str) -> None:
        """The day of the rows below, of which the operator is told."""
        self._day = day
        if day:
            fix = "Se não é a data de todas as linhas, acrescente uma coluna com a de cada uma."
            self._tell(self.header.row, None, "uma coluna com a data", f"a data só {place}; valeu {day}", fix)

    def _report(self, number: int, name: str, expected: str, found: str) -> None:
        """What is wrong with one cell."""
        fix = "Corrija a célula; o resto da linha foi aproveitado."
        self._tell(number, self.header.title_of(name), expected, found, fix)

    def _tell(self, number: int, column: str | None, expected: str, found: str, fix: str) -> None:
        self._problems.append(Problem(self._sheet, number, column, expected, found, fix))


_SEPARATORS: Final = dict.fromkeys(JOINED_FIELDS, " / ")


@lru_cache(maxsize=8192)
def _spelled(text: str) -> tuple[str, str, bool]:
    """Its date as `dd/mm/aaaa` and its time as `hh:mm`, empty where there is none; whether all was understood."""
    moment = parse_moment(text)
    date = f"{moment.date:%d/%m/%Y}" if moment.date else ""
    return date, f"{moment.time:%H:%M}" if moment.time else "", moment.whole


def _day_of(text: str, *, alone: bool = False) -> str:
    """The day that a title or a name says that a table is of; a name may be the day `alone`."""
    named = _OF_A_DAY.match(text := text.replace("_", " "))
    told = text if named is None else text[named.end() :]
    moment = parse_moment(told) if named is not None or alone else None
    return f"{moment.date:%d/%m/%Y}" if moment is not None and moment.date is not None and moment.whole else ""
