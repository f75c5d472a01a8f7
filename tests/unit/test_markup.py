"""Tables in markup: columns where they are drawn, values by their type, what is cut or wrong said so."""

from __future__ import annotations

import io
import re
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normalizer.errors import InvalidInput
from normalizer.imports.spreadsheet import Spreadsheet, read

pytestmark = pytest.mark.usefixtures("read_here")

ANA = {"nome_paciente": "Ana Teste", "endereco_completo": "Rua das Flores, 10", "cpf": "111.444.777-35"}
BIA = {"nome_paciente": "Bia Teste", "endereco_completo": "Av. Brasil, 102", "cpf": "529.982.247-25"}
HEADER = "<tr><th>Nome</th><th>Endereço</th><th>CPF</th></tr>"
ANA_ROW = "<tr><td>Ana Teste</td><td>Rua das Flores, 10</td><td>111.444.777-35</td></tr>"
BIA_ROW = "<tr><td>Bia Teste</td><td>Av. Brasil, 102</td><td>529.982.247-25</td></tr>"


def rows_of(content: str | bytes) -> tuple[Spreadsheet, dict[int, dict[str, str]]]:
    sheet = read(content.encode() if isinstance(content, str) else content)
    return sheet, {row.number: row.values for row in sheet.rows()}


class TestHtml:
    def test_a_value_that_spans_rows_holds_for_each(self) -> None:
        _, rows = rows_of(
            "<table><tr><th>Data</th><th>Nome</th><th>Endereço</th><th>CPF</th></tr>"
            "<tr><td rowspan=2>01/12/2026</td><td>Ana Teste</td><td>Rua das Flores, 10</td><td>111.444.777-35</td></tr>"
            "<tr><td>Bia Teste</td><td>Av. Brasil, 102</td><td>529.982.247-25</td></tr>"
            f"<tr><td></td>{ANA_ROW[4:]}</table>"
        )
        assert rows == {
            2: ANA | {"data_agendamento": "01/12/2026"},
            3: BIA | {"data_agendamento": "01/12/2026"},
            4: ANA,
        }

    def test_what_spans_columns_stands_in_the_first(self) -> None:
        _, rows = rows_of(
            "<table><tr><th>Nome<th colspan=2>Endereço<th>CPF</tr>"
            "<tr><td>Ana Teste<td>Rua das Flores, 10<td>fundos<td>111.444.777-35</tr>"
            '<tr><td>Bia Teste<td colspan="2">Av. Brasil, 102<td>529.982.247-25</tr></table>'
        )
        assert rows == {2: ANA, 3: BIA}

    def test_rows_that_are_merged_as_a_whole_are_one(self) -> None:
        two = ANA_ROW.replace("<td>", "<td rowspan=2>")
        _, rows = rows_of(f"<table>{HEADER}{two}<tr></tr>{BIA_ROW}</table>")
        assert list(rows.values()) == [ANA, BIA]

    def test_a_span_of_no_rows_is_one_of_all_that_are_left(self) -> None:
        _, rows = rows_of(
            "<table><tr><th>Data</th><th>Nome</th><th>Endereço</th><th>CPF</th></tr>"
            f"<tr><td rowspan=0>01/12/2026</td>{ANA_ROW[4:]}{BIA_ROW}</table>"
            f"<table>{ANA_ROW.replace('<tr>', '<tr><td>')}</table>"
        )
        day = {"data_agendamento": "01/12/2026"}
        assert list(rows.values()) == [ANA | day, BIA | day, ANA]

    def test_no_span_reaches_into_another_table(self) -> None:
        one = ANA_ROW.replace("<td>Ana", "<td rowspan=9>Ana")
        _, rows = rows_of(f"<table>{HEADER}{one}</table><table>{BIA_ROW}</table>")
        assert list(rows.values()) == [ANA, BIA]

    @pytest.mark.parametrize(
        "page",
        [
            f"<html><head><meta charset=utf-8><title>x</title><body><table>{HEADER}{ANA_ROW}</table>",
            f"<table><tr><td><table>{HEADER}{ANA_ROW}</table></td></tr></table>",
            "<table>" + HEADER + ANA_ROW.replace("Teste", "Teste<span style='display: none'>0001</span>") + "</table>",
            "<table>" + HEADER + ANA_ROW.replace("Ana ", "Ana\n      ") + "<script>x='<tr><td>1'</script></table>",
            f"<TABLE>{HEADER}{ANA_ROW.replace('td>', 'TD>')}</TABLE>",
            f"<table>{HEADER.replace('ç', '&ccedil;')}{ANA_ROW}</table>",
        ],
    )
    def test_pages_as_programs_write_them(self, page: str) -> None:
        sheet, rows = rows_of(page)
        assert list(rows.values()) == [ANA]
        assert not sheet.problems

    def test_breaks_in_a_cell_are_lines(self) -> None:
        _, rows = rows_of(f"<table>{HEADER}{ANA_ROW.replace(', ', '<br>')}</table>")
        assert rows[2]["endereco_completo"] == "Rua das Flores\n10"

    @pytest.mark.parametrize(
        "tail", ["<tr><td>Bia Tes", "<tr><td>Bia Teste</td><td>Av. Brasil, 102</td><td>529.982", ""]
    )
    def test_a_page_that_ends_in_the_middle(self, tail: str) -> None:
        sheet, rows = rows_of(f"<html><table>{HEADER}{ANA_ROW}{tail}")
        assert list(rows.values()) == [ANA]
        assert "termina no meio" in sheet.problems[-1].found

    def test_a_page_saved_as_one_file(self) -> None:
        page = f"<html><table>{HEADER}{ANA_ROW}</table></html>".replace("ç", "=C3=A7")
        _, rows = rows_of(
            'MIME-Version: 1.0\nContent-Type: multipart/related; boundary="b"\n\n--b\n'
            'Content-Type: text/html; charset="utf-8"\nContent-Transfer-Encoding: quoted-printable\n\n'
            f"{page}\n--b\nContent-Type: text/css\n\ntd {{}}\n--b--\n"
        )
        assert list(rows.values()) == [ANA]

    @pytest.mark.parametrize("junk", ["<!--", "<", "<td ", "&a", "<b>", "<p></x>", "<div><p>", "<![CDATA[", '<a b="'])
    def test_hostile_pages_take_time_linear_in_length(self, junk: str) -> None:
        try:
            sheet, _ = rows_of(f"<html><table>{HEADER}{ANA_ROW}<tr><td>" + junk * (900_000 // len(junk)))
        except InvalidInput:
            return
        assert "termina no meio" in sheet.problems[-1].found


def workbook_2003(rows: str, name: str = "Agenda", more: str = "") -> str:
    return (
        '<?xml version="1.0"?><?mso-application progid="Excel.Sheet"?>'
        '<Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet" '
        'xmlns:ss="urn:schemas-microsoft-com:office:spreadsheet"><Styles><Style ss:ID="Default"/></Styles>'
        f'<Worksheet ss:Name="{name}"><Table>{rows}</Table></Worksheet>{more}</Workbook>'
    )


def row_2003(*cells: str) -> str:
    return f"<Row>{''.join(cells)}</Row>"


def cell(text: str, kind: str = "String", about: str = "") -> str:
    return f'<Cell {about}><Data ss:Type="{kind}">{text}</Data></Cell>'


TITLES = row_2003(*map(cell, ("Nome", "Endereço", "CPF", "Data", "Hora")))


class TestExcel2003:
    def test_merged_cells(self) -> None:
        _, rows = rows_of(
            workbook_2003(
                row_2003(cell("Nome"), cell("Endereço", about='ss:MergeAcross="1"'), cell("CPF"))
                + row_2003(*map(cell, ("Ana Teste", "Rua das Flores, 10", "fundos", "111.444.777-35")))
                + row_2003(
                    cell("Bia Teste", about='ss:MergeDown="1"'),
                    cell("Av. Brasil, 102", about='ss:MergeAcross="1"'),
                    cell("529.982.247-25"),
                )
                + row_2003(cell("Rua B, 2", about='ss:Index="2"'))
            )
        )
        assert rows == {2: ANA, 3: BIA, 4: {"nome_paciente": "Bia Teste", "endereco_completo": "Rua B, 2"}}

    def test_values_by_their_type(self) -> None:
        sheet, rows = rows_of(
            workbook_2003(
                TITLES
                + row_2003(
                    cell("Ana &amp; &#193;gua &nbsp;&e; &"),
                    cell("#REF!", "Error"),
                    cell("1.1144477735E10", "Number"),
                    cell("2026-12-01T00:00:00.000", "DateTime"),
                    cell("1899-12-31T08:00:00.000", "DateTime"),
                )
                + row_2003(cell("Bia"), '<Cell ss:Formula="=A1"></Cell>', cell("529.982.247-25"))
            )
        )
        assert rows[2] == {
            "nome_paciente": "Ana & Água \xa0&e; &",
            "cpf": "11144477735",
            "data_agendamento": "01/12/2026",
            "hora_agendamento": "08:00",
        }
        assert [(one.row, one.column, one.found) for one in sheet.problems] == [
            (2, "Endereço", "o erro #REF!"),
            (3, "Endereço", "uma fórmula sem resultado calculado"),
        ]

    def test_rows_and_sheets_that_are_left_out_keep_their_numbers_and_names(self) -> None:
        second = f'<Row ss:Index="9">{cell("Bia Teste")}{cell("Av. Brasil, 102")}{cell("529.982.247-25")}</Row>'
        hidden = (
            f'<Worksheet ss:Name="Velha"><Table>{TITLES}{second}</Table><WorksheetOptions '
            'xmlns="urn:schemas-microsoft-com:office:excel"><Visible>SheetHidden</Visible></WorksheetOptions></Worksheet>'
        )
        sheet, rows = rows_of(workbook_2003(TITLES + second, more=hidden))
        assert rows == {9: BIA}
        assert (sheet.format, [info.name for info in sheet.sheets], sheet.hidden_sheets) == (
            "xml",
            ["Agenda"],
            ("Velha",),
        )

    @pytest.mark.parametrize("cut", ["</Row></Table>", "</Data></Cell></Row></Table>", "</Worksheet>"])
    def test_a_file_that_ends_in_the_middle(self, cut: str) -> None:
        ana = row_2003(*map(cell, ANA.values()))
        whole = workbook_2003(TITLES + ana + row_2003(*map(cell, BIA.values())))
        sheet, rows = rows_of(whole[: whole.rindex(cut) - (0 if cut == "</Worksheet>" else 4)])
        assert rows[2] == ANA
        assert all(values in (ANA, BIA) for values in rows.values())
        assert "termina no meio" in sheet.problems[-1].found


def ods(tables: str, **parts: str) -> bytes:
    content = (
        '<?xml version="1.0" encoding="UTF-8"?><office:document-content '
        'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
        'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
        'xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0" '
        'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"><office:automatic-styles>'
        '<style:style style:name="ta2"><style:table-properties table:display="false"/></style:style>'
        f"</office:automatic-styles><office:body><office:spreadsheet>{tables}</office:spreadsheet></office:body>"
        "</office:document-content>"
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", content)
        for name, text in parts.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def ods_row(*cells: str, about: str = "") -> str:
    return f"<table:table-row {about}>{''.join(cells)}</table:table-row>"


def ods_cell(text: str, about: str = 'office:value-type="string"') -> str:
    return f"<table:table-cell {about}><text:p>{text}</text:p></table:table-cell>"


EMPTY = '<table:table-cell table:number-columns-repeated="1000"/>'
ODS_TITLES = ods_row(*map(ods_cell, ("Nome", "Endereço", "CPF", "Data", "Hora")), EMPTY)


class TestOpenDocument:
    def test_values_spans_and_repeats(self) -> None:
        sheet, rows = rows_of(
            ods(
                '<table:table table:name="Agenda">'
                + ODS_TITLES
                + ods_row(EMPTY, about='table:number-rows-repeated="3"')
                + ods_row(
                    ods_cell("Ana Teste", 'office:value-type="string" table:number-rows-spanned="2"'),
                    ods_cell("Rua das Flores, 10"),
                    ods_cell("111.444.777-35", 'office:value-type="float" office:value="11144477735"'),
                    ods_cell("1/12/26", 'office:value-type="date" office:date-value="2026-12-01"'),
                    ods_cell("8:30", 'office:value-type="time" office:time-value="PT08H30M00S"'),
                )
                + ods_row(
                    "<table:covered-table-cell/>", ods_cell("Av. Brasil,<text:s/>102"), ods_cell("529.982.247-25")
                )
                + ods_row(
                    ods_cell("Caio"),
                    ods_cell("#N/A", 'table:formula="of:=X" office:value-type="string"'),
                    '<table:table-cell table:formula="of:=Y"/>',
                )
                + ods_row(EMPTY, about='table:number-rows-repeated="1048000"')
                + '</table:table><table:table table:name="Velha" table:style-name="ta2">'
                + ODS_TITLES
                + "</table:table>"
            )
        )
        assert rows == {
            5: ANA | {"cpf": "11144477735", "data_agendamento": "01/12/2026", "hora_agendamento": "08:30"},
            6: BIA | {"nome_paciente": "Ana Teste"},
            7: {"nome_paciente": "Caio"},
        }
        assert (sheet.format, sheet.hidden_sheets) == ("ods", ("Velha",))
        assert [(one.row, one.column) for one in sheet.problems] == [(7, "Endereço"), (7, "CPF")]

    def test_with_a_password(self) -> None:
        with pytest.raises(InvalidInput, match="protegido por senha"):
            read(ods("", **{"META-INF/manifest.xml": "<manifest:encryption-data/>"}))


# -- accidents --------------------------------------------------------------------------------------------------------

_OWNER = re.compile(r"([a-h])\1\1+|(\d)\2\2")
_TAGS = [(letter * 5, f"{n}{n}{n}.{n}{n}{n}.{n}{n}{n}-{n}{n}") for n, letter in enumerate("abcdefgh")]
_PAGES = (
    f"<table>{HEADER}"
    + "".join(f"<tr><td>Zé {tag}</td><td>Rua {tag}, 1</td><td>{cpf}</td></tr>" for tag, cpf in _TAGS)
    + "</table>",
    workbook_2003(TITLES + "".join(row_2003(*map(cell, (f"Zé {tag}", f"Rua {tag}, 1", cpf))) for tag, cpf in _TAGS)),
)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(_PAGES), st.floats(0, 1, exclude_max=True), st.sampled_from(["cut", "drop", "<", ">", '"', "&"]))
def test_no_accident_mixes_two_patients(page: str, place: float, kind: str) -> None:
    at = int(place * len(page))
    broken = page[:at] + {"cut": "", "drop": page[at + 1 :]}.get(kind, kind + page[at:])
    try:
        sheet, rows = rows_of(broken)
    except InvalidInput:
        return
    for values in rows.values():
        owners = {
            letter or "abcdefgh"[int(digit)] for text in values.values() for letter, digit in _OWNER.findall(text)
        }
        assert len(owners) <= 1, (values, sheet.problems)
