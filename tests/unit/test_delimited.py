"""csv as other programs spell it, and as accidents leave it: every row is right or reported, no two patients mix."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normalizer.errors import InvalidInput
from normalizer.imports.spreadsheet import read

pytestmark = pytest.mark.usefixtures("read_here")

HEADER = "Nome;Endereço;CPF\n"
ANA = {"nome_paciente": "Ana Teste", "endereco_completo": "Rua das Flores, 10", "cpf": "111.444.777-35"}
BIA = {"nome_paciente": "Bia Teste", "endereco_completo": "Av. Brasil, 102", "cpf": "529.982.247-25"}
ANA_LINE = "Ana Teste;Rua das Flores, 10;111.444.777-35\n"
BIA_LINE = "Bia Teste;Av. Brasil, 102;529.982.247-25\n"


def outcome(content: str | bytes) -> tuple[dict[int, dict[str, str]], dict[int | None, str]]:
    """Rows and problems by their number."""
    sheet = read(content.encode() if isinstance(content, str) else content)
    rows = {row.number: row.values for row in sheet.rows()}
    return rows, {problem.row: problem.found for problem in sheet.problems}


def named(whole: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in whole.items() if name != "cpf"}


class TestQuotes:
    def test_one_that_stays_open_costs_its_row_only(self) -> None:
        rows, problems = outcome(HEADER + ANA_LINE + 'Caio;"Rua Aberta, 1;390.533.447-05\n' + BIA_LINE + ANA_LINE)
        assert rows == {2: ANA, 4: BIA, 5: ANA}
        assert problems == {3: "uma célula com aspas sem par"}

    def test_two_that_stay_open_do_not_close_each_other(self) -> None:
        odd = 'Caio;"Rua Aberta, 1;390.533.447-05\n'
        rows, problems = outcome(HEADER + ANA_LINE + odd + BIA_LINE + odd + ANA_LINE)
        assert rows == {2: ANA, 4: BIA, 6: ANA}
        assert sorted(filter(None, problems)) == [3, 5]

    def test_an_inch_mark_below_does_not_close_a_cell_above(self) -> None:
        inch = 'Davi;Rua 5";111.444.777-35\n'
        rows, problems = outcome(HEADER + ANA_LINE + 'Caio;"Rua Aberta, 1;390.533.447-05\n' + inch + BIA_LINE)
        assert rows == {2: ANA, 4: ANA | {"nome_paciente": "Davi", "endereco_completo": 'Rua 5"'}, 5: BIA}
        assert list(problems) == [3]

    def test_the_last_line_may_be_the_odd_one(self) -> None:
        rows, problems = outcome(
            'Nome,CPF,Endereço\n"Ana","111.444.777-35","Rua A, 1"\n"Bia","529.982.247-25","Rua B\n'
        )
        assert list(rows) == [2]
        assert list(problems) == [3]

    def test_quotes_inside_a_cell_are_text(self) -> None:
        rows, problems = outcome(HEADER + 'Ana;Rua "A", 1;111.444.777-35\n"Bia "B" Teste";"Rua B";"529.982.247-25"\n')
        assert (rows[2]["endereco_completo"], rows[3]["nome_paciente"]) == ('Rua "A", 1', 'Bia "B" Teste')
        assert not problems

    def test_cells_of_several_lines_are_one_row(self) -> None:
        rows, problems = outcome(HEADER + 'Ana Teste;"Rua A, 1\nFundos; casa 2\nCampinas";111.444.777-35\n' + BIA_LINE)
        assert rows == {2: ANA | {"endereco_completo": "Rua A, 1\nFundos; casa 2\nCampinas"}, 3: BIA}
        assert not problems

    @pytest.mark.parametrize(
        ("line", "address"),
        [
            ('"Ana Teste"; "Rua A; casa 2" ; "111.444.777-35"\n', "Rua A; casa 2"),
            (r'"Ana Teste";"Rua \"A\"; 10";"111.444.777-35"' + "\n", 'Rua "A"; 10'),
            ('Ana Teste;"\tRua A; 1"\t;111.444.777-35\n', "Rua A; 1"),
            ('Ana Teste;Rua A, 1;="111.444.777-35"\n', "Rua A, 1"),
            ("Ana Teste;Rua A, 1;'111.444.777-35\n", "Rua A, 1"),
            ("Ana Teste;Rua A, 1;111.444.777-35;;;\n", "Rua A, 1"),
            ("Ana Teste;Rua A, 1; Centro; Campinas;111.444.777-35\n", "Rua A, 1; Centro; Campinas"),
            ('Ana Teste,"Rua A, 1",111.444.777-35\n', "Rua A, 1"),
        ],
    )
    def test_what_another_program_would_have_written(self, line: str, address: str) -> None:
        rows, problems = outcome(HEADER + BIA_LINE + line + BIA_LINE)
        assert rows == {2: BIA, 3: ANA | {"endereco_completo": address}, 4: BIA}
        assert not problems


class TestWidth:
    @pytest.mark.parametrize(
        ("line", "found"),
        [
            ("Ana Teste;Rua A;1;111.444.777-35\n", "4 células"),
            ("Ana Teste;Rua A, 1 111.444.777-35\n", "2 células"),
            ("SEGUNDA-FEIRA\n", "uma célula só"),
        ],
    )
    def test_a_row_of_another_width_is_reported(self, line: str, found: str) -> None:
        rows, problems = outcome(HEADER + BIA_LINE + line + BIA_LINE)
        assert rows == {2: BIA, 4: BIA}
        assert problems == {3: found}

    def test_a_line_end_inside_a_cell_is_two_halves(self) -> None:
        rows, problems = outcome(HEADER + BIA_LINE + "Ana Teste;Rua das\nFlores, 10;111.444.777-35\n" + BIA_LINE)
        assert rows == {2: BIA, 5: BIA}
        assert list(problems) == [3, 4]

    def test_a_file_that_leaves_out_empty_cells_is_read(self) -> None:
        rows, problems = outcome(HEADER + "Ana Teste;Rua das Flores, 10\n" + "Bia Teste;Av. Brasil, 102\n" + BIA_LINE)
        assert rows == {2: named(ANA), 3: named(BIA), 4: BIA}
        assert not problems

    def test_cut_at_the_end(self) -> None:
        rows, problems = outcome(HEADER + ANA_LINE + "Bia Teste;Av. Bra")
        assert rows == {2: ANA}
        assert list(problems) == [3]


class TestDialects:
    @pytest.mark.parametrize("delimiter", list(";,\t|^"))
    def test_delimiters(self, delimiter: str) -> None:
        out = io.StringIO()
        csv.writer(out, delimiter=delimiter).writerows([["Nome", "Endereço", "CPF"], list(ANA.values())])
        assert outcome(out.getvalue())[0] == {2: ANA}

    @pytest.mark.parametrize(
        "content",
        [
            '"Nome;Endereço;CPF"\n"Ana Teste;Rua das Flores, 10;111.444.777-35"\n',
            '"Nome,""Endereço"",CPF"\n"Ana Teste,""Rua das Flores, 10"",111.444.777-35"\n',
            "'Nome';'Endereço';'CPF'\n'Ana Teste';'Rua das Flores, 10';'111.444.777-35'\n",
            'Nome, Endereço, CPF\nAna Teste, "Rua das Flores, 10", 111.444.777-35\n',
            "Nome;Endereço;CPF\rAna Teste;Rua das Flores, 10;111.444.777-35\r",
            "Nome;Endereço;CPF\nAna Te\0ste;Rua das Flores, 10;111.444.777-35\n\x1a",
        ],
    )
    def test_spellings_of_a_whole_file(self, content: str) -> None:
        assert outcome(content) == ({2: ANA}, {})

    def test_a_line_that_names_the_delimiter(self) -> None:
        content = "sep=,\nNome,Endereço,CPF\nAna Teste,Rua das Flores; 10,111.444.777-35\n"
        assert outcome(content)[0] == {3: ANA | {"endereco_completo": "Rua das Flores; 10"}}


TEXT = "Nome;Endereço;CPF;Observações\nJoão Conceição;Rua São João, 10;111.444.777-35;não\n"
JOAO = {
    "nome_paciente": "João Conceição",
    "endereco_completo": "Rua São João, 10",
    "cpf": "111.444.777-35",
    "observacoes": "não",
}


class TestEncodings:
    @pytest.mark.parametrize(
        "codec",
        ["utf-8", "utf-8-sig", "cp1252", "cp850", "mac_roman", "utf-16", "utf-16-le", "utf-16-be", "utf-32"],
    )
    def test_what_makes_portuguese_is_taken(self, codec: str) -> None:
        assert outcome(TEXT.encode(codec)) == ({2: JOAO}, {})

    def test_a_header_without_accents_is_no_hint(self) -> None:
        for codec in ("cp850", "mac_roman"):
            content = "Nome;CEP;CPF\nJoão Conceição;13010-000;111.444.777-35\n".encode(codec)
            assert outcome(content)[0][2]["nome_paciente"] == "João Conceição"

    def test_one_byte_of_another_encoding(self) -> None:
        rows, problems = outcome(TEXT.encode() + b"Bia;Rua B;529.982.247-25;" + "não\n".encode("cp1252"))
        assert (rows[2], rows[3]["observacoes"]) == (JOAO, "não")
        assert list(problems) == [None]

    def test_written_twice(self) -> None:
        assert outcome(TEXT.encode().decode("cp1252").encode()) == ({2: JOAO}, {})

    def test_lines_of_both(self) -> None:
        other = "João Conceição;Rua São João, 10;111.444.777-35;não\n"
        rows, problems = outcome(TEXT.encode("cp1252") + other.encode("cp1252") * 3 + other.encode())
        assert rows == dict.fromkeys(range(2, 7), JOAO)
        assert list(problems) == [None]

    def test_a_title_without_its_letters_costs_its_column_only(self) -> None:
        rows, problems = outcome("Nome;Endere?o;CPF\nJo?o;Rua S?o Jo?o, 1;111.444.777-35\n")
        assert rows == {2: {"cpf": "111.444.777-35"}}
        assert None in problems

    @pytest.mark.parametrize(
        "content",
        [
            b"Nome;CEP;CPF\nJo?o Concei??o;13010-000;111.444.777-35\n",
            "Nome;CEP;CPF\nJo\ufffdo;13010-000;111.444.777-35\n".encode(),
            "Nome;CEP;CPF\nConceição;13010-000;111.444.777-35\nJoã".encode()[:-1] + b";13010-000;111.444.777-35\n",
        ],
    )
    def test_lost_letters_are_reported_never_stored(self, content: bytes) -> None:
        rows, problems = outcome(content)
        assert "nome_paciente" not in rows[max(rows)]
        assert any(row is not None and "letras perdidas" in found for row, found in problems.items())


# -- accidents --------------------------------------------------------------------------------------------------------

_OWNER = re.compile(r"([a-j])\1\1+|(\d)\2\2")


@dataclass(frozen=True)
class Sheet:
    """A valid csv in which every value names its patient by repetition (`ddddd`), so that a mixed row shows."""

    delimiter: str
    quoting: Literal[0, 1]
    patients: int
    codec: str

    def lines(self) -> list[str]:
        out = io.StringIO()
        writer = csv.writer(out, delimiter=self.delimiter, quoting=self.quoting, lineterminator="\n")
        writer.writerow(["Nome", "Endereço", "CPF", "Observações"])
        for n in range(self.patients):
            tag, cpf = "abcdefghij"[n] * 5, "###.###.###-##".replace("#", str(n))
            writer.writerow([f"Zé {tag}", f"Rua São {tag}, 1", cpf, f"obs {tag}"])
        return out.getvalue().splitlines(keepends=True)


def owners(values: dict[str, str]) -> set[int]:
    return {
        int(digit) if digit else "abcdefghij".index(letter)
        for value in values.values()
        for letter, digit in _OWNER.findall(value)
    }


sheets = st.builds(
    Sheet,
    st.sampled_from(";,\t|"),
    st.sampled_from([0, 1]),
    st.integers(4, 10),
    st.sampled_from(["utf-8", "cp1252", "cp850", "mac_roman", "utf-16"]),
)


@settings(max_examples=300, deadline=None)
@given(sheets, st.data())
def test_no_accident_mixes_two_patients(sheet: Sheet, data: st.DataObject) -> None:
    """Cut, a character dropped or put in, cells shifted: a row is one patient's, or reported, or all is refused."""
    lines = sheet.lines()
    at = data.draw(st.integers(1, len(lines) - 1), "line")
    place = data.draw(st.integers(0, len(lines[at]) - 1), "place")
    kind = data.draw(st.sampled_from(["cut", "drop", "insert", "shift"]), "kind")
    line = lines[at]
    if kind == "cut":
        lines[at:] = [line[:place]]
    elif kind == "drop":
        lines[at] = line[:place] + line[place + 1 :]
    elif kind == "shift":
        lines[at] = sheet.delimiter + line
    else:
        lines[at] = (
            line[:place] + data.draw(st.sampled_from(['"', sheet.delimiter, "\n", "\\", " ", "'"])) + line[place:]
        )
    try:
        rows, problems = outcome("".join(lines).encode(sheet.codec))
    except InvalidInput:
        return
    whole = [found for values in rows.values() if (found := owners(values)) and len(values) == 4]
    assert all(len(owners(values)) <= 1 for values in rows.values()), problems
    far = {n for n in range(sheet.patients) if n + 2 < at or (n > at and kind != "cut")}
    assert far <= set().union(*whole), problems


def test_the_days_of_an_agenda_and_its_free_slots() -> None:
    rows, problems = outcome(
        "Hora;Paciente;CPF;Endereço\nAgenda do dia 01/12/2026\n08:00;Ana;111.444.777-35;Rua A, 1\n09:00;-;;\n10:00;;;\n"
        "quarta, 02/12/2026\n08:00;Bia;529.982.247-25;Rua B, 2\nde manhã;;;\n"
    )
    assert [(n, one["data_agendamento"]) for n, one in rows.items()] == [(3, "01/12/2026"), (7, "02/12/2026")]
    assert list(problems) == [8]


@pytest.mark.parametrize(
    ("title", "day"),
    [
        ("Agenda de 12/03/2026", "12/03/2026"),
        ("AGENDAMENTOS DO DIA: quinta-feira, 12 de março de 2026", "12/03/2026"),
        ("Data: 12/03/2026", "12/03/2026"),
        ("Emitido em 12/03/2026", None),
        ("12/03/2026", None),
        ("Agenda de 01/03/2026 a 31/03/2026", None),
    ],
)
def test_the_day_in_the_title_of_an_agenda_is_that_of_its_times(title: str, day: str | None) -> None:
    rows, problems = outcome(f"{title}\nHora;Paciente;CPF;Endereço\n08:00;Ana;111.444.777-35;Rua A, 1\n")
    assert rows[3].get("data_agendamento") == day
    assert problems == ({2: f"a data só no título; valeu {day}"} if day else {3: "só a hora"})
    rows, problems = outcome(f"{title}\nData;Hora;Paciente;CPF;Endereço\n;08:00;Ana;111.444.777-35;Rua A, 1\n")
    assert ("data_agendamento" in rows[3], problems) == (False, {3: "só a hora"})


def test_single_quotes_around_cells_are_none_of_the_value() -> None:
    rows, problems = outcome("Nome;Endereço;CPF\n'Ana Teste';'Rua das Flores, 10';'111.444.777-35'\n" + BIA_LINE)
    assert (rows, problems) == ({2: ANA, 3: BIA}, {})


@pytest.mark.parametrize("name", ["Ana / Bia", "Ana e Bia", "Ana, Bia"])
def test_two_patients_in_a_row_are_not_one(name: str) -> None:
    rows, problems = outcome(HEADER + f"{name};Rua A, 1;111.444.777-35 e 529.982.247-25\n" + BIA_LINE)
    assert (list(rows), list(problems)) == ([3], [2])


@pytest.mark.parametrize("codec", ["cp1252", "cp850", "mac_roman"])
@pytest.mark.parametrize("foreign", [(1,), (2,), (1, 3), (0, 1, 2), (0, 2, 3)])
def test_lines_of_two_encodings_in_one_file_are_each_read_in_their_own(codec: str, foreign: tuple[int, ...]) -> None:
    names = ["João Conceição", "Íris Gonçalves", "CONCEIÇÃO ANDRÉ"]
    lines = ["Paciente;Endereço;CPF\n", *(f"{name};Praça São José, 10, Macapá - AP;\n" for name in names)]
    content = b"".join(line.encode(codec if at in foreign else "utf-8") for at, line in enumerate(lines))
    sheet = read(content)
    for row in sheet.rows():
        assert row.values.get("nome_paciente", names[row.number - 2]) == names[row.number - 2]
        assert row.values.get("endereco_completo") in {"Praça São José, 10, Macapá - AP", None}
        assert row.unread or len(row.values) == 2
    assert sheet.problems


def test_one_column_keeps_its_commas() -> None:
    rows, _ = outcome("Endereço\nRua das Flores, 10, Centro, Campinas - SP\nAv. Brasil, 102, Cascavel - PR\n")
    assert [one["endereco_completo"] for one in rows.values()] == [
        "Rua das Flores, 10, Centro, Campinas - SP",
        "Av. Brasil, 102, Cascavel - PR",
    ]
