"""Sheets of every kind clinics send, and files that are none. All people and numbers are invented."""

from __future__ import annotations

import contextlib
import datetime as dt
import gc
import io
import struct
import subprocess
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter
import xlwt
from hypothesis import given, settings
from hypothesis import strategies as st

from normalizer.errors import InvalidInput
from normalizer.imports.spreadsheet import Limits, Problem, Row, Spreadsheet, read
from normalizer.imports.spreadsheet.columns import find_header
from normalizer.imports.spreadsheet.table import text_of
from normalizer.imports.spreadsheet.titles import normalize_title
from normalizer.observability.masking import mask

pytestmark = pytest.mark.usefixtures("read_here")

HEADER = ["Id do agendamento", "Nome do Paciente", "Endereço Coleta", "Documento(s) do Paciente"]
ROWS = [
    ["a-1", "Ana Exemplo", "rua das acácias,10,centro,bauru,SP,17010-000", "CPF: 111.444.777-35"],
    ["a-2", "Davi Amostra", "Av. Brasil, 20 - Centro - Bauru/SP", "RG: 24.832.640-8"],
]
EXPECTED = [
    {
        "id_agendamento": key,
        "nome_paciente": name,
        "endereco_coleta": address,
        "documento_completo": document,
    }
    for key, name, address, document in ROWS
]


def xlsx(
    rows: list[list[Any]], *, hidden: tuple[str, ...] = (), more: dict[str, list[list[Any]]] | None = None
) -> bytes:
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"in_memory": True, "default_date_format": "dd/mm/yyyy hh:mm"}) as book:
        for name, content in {"Agenda": rows, **(more or {})}.items():
            sheet = book.add_worksheet(name)
            for at, cells in enumerate(content):
                sheet.write_row(at, 0, cells)
        for name in hidden:
            book.add_worksheet(name).hide()
    return buffer.getvalue()


def xls(rows: list[list[Any]]) -> bytes:
    book = xlwt.Workbook()
    sheet = book.add_sheet("Agenda")
    for at, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            sheet.write(at, column, cell)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def html(rows: list[list[str]]) -> bytes:
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n" for cells in rows)
    return f"<html><body><table border=1>{body}</table></body></html>".encode()


def excel_2003_xml(rows: list[list[str]]) -> bytes:
    body = "".join(
        "<Row>" + "".join(f'<Cell><Data ss:Type="String">{cell}</Data></Cell>' for cell in cells) + "</Row>"
        for cells in rows
    )
    return (
        '<?xml version="1.0"?><Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet" '
        f'xmlns:ss="urn:schemas-microsoft-com:office:spreadsheet"><Worksheet ss:Name="Agenda"><Table>{body}'
        "</Table></Worksheet></Workbook>"
    ).encode()


def csv(rows: list[list[str]], delimiter: str = ";", encoding: str = "cp1252", quote: str = "") -> bytes:
    lines = (delimiter.join(f"{quote}{cell}{quote}" for cell in cells) for cells in rows)
    return ("\r\n".join(lines) + "\r\n").encode(encoding)


def values(source: bytes | Path | str) -> list[dict[str, str]]:
    return [row.values for row in read(source).rows()]


def refusal(source: bytes | Path, **limits: int) -> str:
    with pytest.raises(InvalidInput) as caught:
        list(read(source, limits=Limits(**limits)).rows())
    message = str(caught.value)
    assert message.count("\n") == 0
    assert "esperado" in message
    assert message.endswith(".")
    return message


WHOLE = (xlsx([HEADER, *ROWS]), xls([HEADER, *ROWS]), html([HEADER, *ROWS]))


class TestFormats:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("agenda.xlsx", xlsx([HEADER, *ROWS])),
            ("agenda.xls", xlsx([HEADER, *ROWS])),
            ("agenda.xls", xls([HEADER, *ROWS])),
            ("agenda.xlsx", xls([HEADER, *ROWS])),
            ("agenda.xls", html([HEADER, *ROWS])),
            ("agenda.xls", excel_2003_xml([HEADER, *ROWS])),
            ("agenda.csv", csv([HEADER, *ROWS])),
            ("agenda.csv", csv([HEADER, *ROWS], encoding="utf-8-sig")),
            ("agenda.csv", csv([HEADER, *ROWS], ",", "utf-8", '"')),
            ("agenda.csv", csv([HEADER, *ROWS], "\t", "utf-16")),
            ("agenda.xlsx", csv([HEADER, *ROWS], "\t", "utf-8")),
            ("agenda.csv", b"sep=;\r\n" + csv([HEADER, *ROWS])),
        ],
    )
    def test_bytes_decide_not_the_name(self, tmp_path: Path, name: str, content: bytes) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        assert values(path) == EXPECTED
        assert values(content) == EXPECTED

    def test_rows_start_afresh(self) -> None:
        sheet = read(xlsx([HEADER, *ROWS, ["", "", "", ""], [None, None, None, None]]))
        assert list(sheet.rows()) == list(sheet.rows())
        assert sheet.problems == []

    def test_cells_of_several_lines_count_as_one_row(self) -> None:
        content = csv([HEADER]) + b'a-1;Ana Exemplo;"rua x, 1\nBauru SP";"CPF 1"\r\na-2;Davi;rua y;RG 2\r\n'
        rows = list(read(content).rows())
        assert [(row.number, row.key) for row in rows] == [(2, "a-1"), (3, "a-2")]
        assert rows[0].values["endereco_coleta"] == "rua x, 1\nBauru SP"

    def test_html_entities_and_nested_markup(self) -> None:
        rows = [["CPF", "Endere&ccedil;o"], ["<b>111.444.777-35</b>", "Rua A &amp; B<br>Bauru"]]
        assert values(html(rows)) == [{"cpf": "111.444.777-35", "endereco_completo": "Rua A & B\nBauru"}]

    def test_excel_2003_xml_leaves_empty_cells_out(self) -> None:
        content = excel_2003_xml([HEADER, *ROWS]).replace(
            b'<Cell><Data ss:Type="String">Ana Exemplo</Data></Cell><Cell>', b'<Cell ss:Index="3">'
        )
        assert values(content)[0] == {name: value for name, value in EXPECTED[0].items() if name != "nome_paciente"}


class TestHeader:
    def test_found_below_titles_and_blank_rows(self) -> None:
        sheet = read(xlsx([["Relatório de agendamentos"], [], ["emitido em", "23/11/2026"], HEADER, *ROWS]))
        assert sheet.sheets[0].header.row == 4
        assert [row.number for row in sheet.rows()] == [5, 6]

    def test_known_by_many_names(self) -> None:
        named = {
            "PACIENTE": ("nome_paciente", "Ana"),
            "endereço completo": ("endereco_completo", "rua x"),
            "C.P.F.": ("cpf", "1"),
            "R.G": ("rg", "2"),
            "CEP": ("cep", "17010-000"),
            "Nr Carteira": ("carteira_convenio", "99"),
            "Numero Convenio": ("numero_convenio", "12"),
            "Observações": ("observacoes", "jejum"),
        }
        fields = dict(named.values())
        assert values(csv([list(named), list(fields.values())])) == [fields]

    def test_all_thirty_columns_of_the_export_are_known(self) -> None:
        from normalizer.simulation.sheets import COLUMNS

        header = find_header(iter([(1, COLUMNS)]))
        assert header is not None
        assert header.unknown == ()
        assert {"endereco_coleta", "documento_completo", "id_agendamento", "telefone"} <= header.fields

    def test_repeated_by_page_breaks(self) -> None:
        assert values(xlsx([HEADER, ROWS[0], HEADER, ROWS[1]])) == EXPECTED

    def test_first_of_two_columns_with_one_name(self) -> None:
        assert values(csv([["CPF", "Paciente", "cpf"], ["1", "Ana", "2"]])) == [{"cpf": "1", "nome_paciente": "Ana"}]

    @pytest.mark.parametrize(
        ("title", "name"),
        [
            ("Documento(s) do Paciente", "documento s do paciente"),
            ("  ENDEREÇO\nCOLETA ", "endereco coleta"),
            ("Nº Carteira", "no carteira"),
            (12.0, ""),
            ("x" * 300, ""),
        ],
    )
    def test_titles_are_compared_folded(self, title: object, name: str) -> None:
        assert normalize_title(title) == name


class TestSheets:
    def test_hidden_and_unrelated_sheets_are_named_not_read(self) -> None:
        more = {"Leia-me": [["Instruções"], ["não altere"]], "Fevereiro": [HEADER, ["b-1", "Olga", "rua z", "RG 1"]]}
        sheet = read(xlsx([HEADER, *ROWS], hidden=("Parâmetros",), more=more))
        assert [info.name for info in sheet.sheets] == ["Agenda", "Fevereiro"]
        assert sheet.hidden_sheets == ("Parâmetros",)
        assert sheet.ignored_sheets == ("Leia-me",)
        assert [(row.sheet, row.key) for row in sheet.rows()] == [
            ("Agenda", "a-1"),
            ("Agenda", "a-2"),
            ("Fevereiro", "b-1"),
        ]


class TestValues:
    def test_numbers_and_dates_of_a_workbook(self) -> None:
        header = ["Id do agendamento", "CPF", "RG", "Data/Hora Início Agendamento", "Status Agendamento", "Endereço"]
        row = [17.0, 11144477735.0, "1.11445E+10", dt.datetime(2026, 1, 5, 8, 30), "Realizado", "rua x"]
        assert values(xlsx([header, row])) == [
            {
                "id_agendamento": "17",
                "cpf": "11144477735",
                "rg": "1.11445E+10",
                "endereco_completo": "rua x",
                "status": "Realizado",
                "data_agendamento": "05/01/2026",
                "hora_agendamento": "08:30",
            }
        ]

    @pytest.mark.parametrize(
        ("cell", "text"),
        [
            (None, ""),
            ("  x ", "x"),
            (True, "Sim"),
            (False, "Não"),
            (7, "7"),
            (7.0, "7"),
            (7.5, "7.5"),
            (275618798134466.0, "275618798134466"),
            (1e22, "1e+22"),
            (float("nan"), "nan"),
            (dt.date(2026, 1, 5), "05/01/2026"),
            (dt.datetime(2026, 1, 5, 8, 30, 1), "05/01/2026 08:30:01"),
            (dt.time(8, 30), "08:30:00"),
            (dt.timedelta(hours=1), "1:00:00"),
        ],
    )
    def test_cells_as_text(self, cell: object, text: str) -> None:
        assert text_of(cell) == text

    @given(st.integers(-(2**53) + 1, 2**53 - 1))
    def test_no_digit_is_lost_with_the_point_zero(self, number: int) -> None:
        assert text_of(float(number)) == str(number)


class TestProblems:
    def test_a_bad_cell_costs_neither_its_row_nor_its_neighbours(self) -> None:
        header = [*HEADER, "Data/Hora Início Agendamento"]
        sheet = read(xlsx([header, [*ROWS[0], "99/99/2026 Ana"], [*ROWS[1], "05/01/2026"]]))
        rows = list(sheet.rows())
        assert rows[0].values == EXPECTED[0]
        assert rows[1].values == {**EXPECTED[1], "data_agendamento": "05/01/2026"}
        (problem,) = sheet.problems
        assert (problem.sheet, problem.row, problem.column) == ("Agenda", 2, "Data/Hora Início Agendamento")
        assert problem.found == "“00/00/0000 xxx”"
        assert "Ana" not in str(problem)

    def test_a_line_of_totals_is_reported_and_left_out(self) -> None:
        sheet = read(xlsx([[*HEADER, "Status"], [*ROWS[0], "Agendado"], ["", "", "", "", "Total: 1"]]))
        assert len(list(sheet.rows())) == 1
        (problem,) = sheet.problems
        assert problem.row == 3
        assert str(problem).startswith("planilha “Agenda”, linha 3: esperado")

    def test_a_missing_column_is_reported_and_the_rest_is_read(self) -> None:
        sheet = read(csv([["Paciente", "CPF"], ["Ana", "1"]]))
        assert [row.values for row in sheet.rows()] == [{"nome_paciente": "Ana", "cpf": "1"}]
        (problem,) = sheet.problems
        assert "coluna de endereço" in problem.expected
        assert problem.as_dict()["row"] == 1

    def test_short_rows_have_empty_cells(self) -> None:
        assert values(csv([HEADER, ["a-1", "Ana"]])) == [{"id_agendamento": "a-1", "nome_paciente": "Ana"}]

    @pytest.mark.parametrize(
        ("value", "shown"),
        [("", "célula vazia"), (None, "célula vazia"), ("Ana 12\n", "“xxx 00 ”"), ("a" * 30, f"“{'x' * 24}…”")],
    )
    def test_masking(self, value: object, shown: str) -> None:
        assert mask(value) == shown


class TestRefusals:
    @pytest.mark.parametrize("content", [b"", b"   \r\n", b"\xef\xbb\xbf", b";;;\n;;;\n"])
    def test_empty_files(self, content: bytes) -> None:
        assert "encontrado um arquivo" in refusal(content)

    @pytest.mark.parametrize(
        "content",
        [
            b"%PDF-1.7 ...",
            b"\x89PNG\r\n\x1a\n",
            b"\0\1\2\3" * 100,
            b"\x7fELF" + b"\0" * 64,
            b"Rar!\x1a\x07",
            b"\xff\xd8\xff\xe0",
        ],
    )
    def test_other_kinds_of_file(self, content: bytes) -> None:
        assert "que não é planilha" in (message := refusal(content)) or "outro tipo de arquivo" in message

    def test_text_without_a_header(self) -> None:
        assert "nenhum título conhecido" in refusal(b"era uma vez\numa carta\n")
        assert "nenhum título conhecido" in refusal(b"<html><body><table><tr><td>oi</td></tr></table></body></html>")
        assert "nenhuma linha" in refusal(b"<html><body><p>sem tabela</p></body></html>")

    def test_a_row_of_data_is_never_quoted(self) -> None:
        assert "111" not in refusal(csv([["Ana Exemplo", "rua das acácias 10", "111.444.777-35"]]))

    def test_headers_without_address_or_document(self) -> None:
        message = refusal(csv([["Nome do Paciente", "Status", "Unidade"], ["Ana", "x", "y"]]))
        assert "“Endereço Coleta”" in message
        assert "só as colunas “Nome do Paciente”, “Status”, “Unidade”" in message

    def test_empty_workbooks(self) -> None:
        assert "nenhuma linha" in refusal(xlsx([]))
        assert "1 ocultas" in refusal(xlsx([], hidden=("Agenda 2",)))

    def test_paths_that_cannot_be_read(self, tmp_path: Path) -> None:
        assert "nenhum arquivo nesse caminho" in refusal(tmp_path / "nada.xlsx")
        assert "uma pasta" in refusal(tmp_path)

    def test_password_protected_workbooks(self) -> None:
        ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 1024
        encrypted = ole + "EncryptionInfo".encode("utf-16-le") + b"\0" * 64 + "EncryptedPackage".encode("utf-16-le")
        assert "protegido por senha" in refusal(encrypted)

    def test_other_office_documents(self) -> None:
        ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 1024
        assert "outro documento do Office" in refusal(ole + "WordDocument".encode("utf-16-le"))
        assert "danificado" in refusal(ole + "Workbook".encode("utf-16-le"))

    @pytest.mark.parametrize(
        ("parts", "kind"),
        [
            ({"word/document.xml": b"<x/>"}, "arquivo compactado que não é planilha"),
            ({"content.xml": b"<x/>", "mimetype": b"application/vnd.oasis.opendocument.spreadsheet"}, "nenhuma linha"),
            ({"xl/workbook.bin": b"x"}, "cortado ou danificado"),
        ],
    )
    def test_other_zips(self, parts: dict[str, bytes], kind: str) -> None:
        assert kind in refusal(zipped(parts))


def zipped(parts: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def parts_of(workbook: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(workbook)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def declaring(archive: bytes, name: str, size: int) -> bytes:
    """The same zip with another uncompressed size in the headers of one part."""
    data = bytearray(archive)
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        info = opened.getinfo(name)
        struct.pack_into("<I", data, info.header_offset + 22, size)
    central = data.index(b"PK\x01\x02")
    while data[central + 46 : central + 46 + len(name)] != name.encode():
        central = data.index(b"PK\x01\x02", central + 4)
    struct.pack_into("<I", data, central + 24, size)
    return bytes(data)


@contextlib.contextmanager
def within(memory_bytes: int) -> Iterator[None]:
    """So much memory of Python's at most; whatever fails inside, the tests behind it are not traced."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < memory_bytes
    finally:
        tracemalloc.stop()


class TestHostileWorkbooks:
    SHEET = "xl/worksheets/sheet1.xml"

    def bomb(self, size: int) -> bytes:
        parts = parts_of(xlsx([HEADER, *ROWS]))
        return zipped({**parts, self.SHEET: parts[self.SHEET] + b" " * size})

    def test_a_bomb_is_refused_by_what_it_declares(self) -> None:
        bomb = self.bomb(200 * 2**20)
        assert len(bomb) < 2**20
        with within(20 * 2**20):
            assert "explode" in refusal(bomb)

    def test_a_bomb_that_lies_about_its_size_is_refused_by_what_it_holds(self) -> None:
        bomb = declaring(self.bomb(64 * 2**20), self.SHEET, 4_000)
        with within(20 * 2**20):
            assert "explode" in refusal(bomb)

    def test_the_sum_of_all_parts_is_bounded(self) -> None:
        parts = parts_of(xlsx([HEADER, *ROWS]))
        noise = {f"xl/media/{n}.bin": bytes(range(256)) * 4_000 for n in range(4)}
        message = refusal(zipped({**parts, **noise}, zipfile.ZIP_STORED), expanded_bytes=3 * 2**20)
        assert "4 MB ao abrir" in message

    def test_the_number_of_parts_is_bounded(self) -> None:
        parts = parts_of(xlsx([HEADER, *ROWS]))
        assert "arquivos internos" in refusal(zipped(parts | {f"a{n}": b"" for n in range(50)}), parts=40)

    def test_two_cells_at_opposite_corners(self) -> None:
        parts = parts_of(xlsx([HEADER, *ROWS]))
        far = b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'
        sheet = parts[self.SHEET].replace(b"</sheetData>", far)
        assert values(zipped({**parts, self.SHEET: sheet})) == EXPECTED

    def test_what_is_only_formatted_far_away_is_no_table(self) -> None:
        parts = parts_of(xlsx([HEADER, *ROWS]))
        far = b'<row r="1048576"><c r="XFD1048576" s="1"/></row></sheetData>'
        sheet = parts[self.SHEET].replace(b"</sheetData>", far)
        assert values(zipped({**parts, self.SHEET: sheet})) == EXPECTED

    def test_encrypted_parts(self) -> None:
        data = bytearray(zipped(parts_of(xlsx([HEADER, *ROWS]))))
        at = data.index(b"PK\x01\x02")
        data[at + 8] |= 1
        assert "protegido por senha" in refusal(bytes(data))

    def test_entities_of_its_own_are_not_resolved(self, tmp_path: Path) -> None:
        secret = tmp_path / "segredo.txt"
        secret.write_text("senha-do-servidor")
        doctype = f'<!DOCTYPE x [<!ENTITY e SYSTEM "{secret.as_uri()}">]>'
        content = excel_2003_xml([HEADER, ["a-1", "Ana &e;", "rua x", "RG 1"]]).decode()
        content = content.replace('<?xml version="1.0"?>', f'<?xml version="1.0"?>{doctype}')
        (row,) = values(content.encode())
        assert row["nome_paciente"] == "Ana &e;"
        parts = parts_of(xlsx([HEADER, *ROWS]))
        strings = parts["xl/sharedStrings.xml"].replace(b"<sst", doctype.encode() + b"<sst").replace(b"Ana", b"&e;")
        assert "senha-do-servidor" not in outcome(zipped({**parts, "xl/sharedStrings.xml": strings}))

    def test_formulas_are_text_or_their_last_value(self) -> None:
        assert values(csv([HEADER, ["a-1", "=HYPERLINK(1)", "@rua", "+RG 1"]]))[0]["nome_paciente"] == "=HYPERLINK(1)"

    def test_an_xls_that_claims_four_billion_rows_has_those_it_has(self) -> None:
        data = bytearray(xls([HEADER, *ROWS]))
        dimensions = data.index(b"\x00\x02\x0e\x00", 512)  # BIFF8 DIMENSIONS: first row, last row …
        struct.pack_into("<I", data, dimensions + 8, 0xFFFFFFCF)
        assert values(bytes(data)) == EXPECTED

    def test_the_reader_ends_with_the_sheet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        started: list[subprocess.Popen[bytes]] = []

        class Noted(subprocess.Popen[bytes]):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                started.append(self)

        monkeypatch.setattr(subprocess, "Popen", Noted)
        sheet = read(xlsx([HEADER, *ROWS]))
        (process,) = started
        assert process.poll() is None
        process.kill()
        process.wait()
        with pytest.raises(InvalidInput, match="danificado"):
            list(sheet.rows())
        other = read(xlsx([HEADER, *ROWS]))
        assert len(list(other.rows())) == 2
        del other
        gc.collect()
        assert started[1].poll() is not None

    def test_every_truncation_is_refused_or_read(self) -> None:
        for content in (xlsx([HEADER, *ROWS]), xls([HEADER, *ROWS])):
            for cut in range(0, len(content) - 1, 197):
                ends_well(content[:cut])

    @settings(max_examples=100, deadline=None)
    @given(
        st.sampled_from(range(3)),
        st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=20),
    )
    def test_every_damage_is_refused_or_read(self, which: int, damage: list[tuple[float, int]]) -> None:
        content = bytearray(WHOLE[which])
        for where, byte in damage:
            content[int(where * len(content))] = byte
        ends_well(bytes(content))

    @settings(deadline=None)
    @given(st.binary(max_size=300))
    def test_any_bytes_are_refused_or_read(self, content: bytes) -> None:
        ends_well(content)


def outcome(content: bytes) -> str:
    """Everything a reader of the file gets to see."""
    try:
        sheet = read(content)
        rows = list(sheet.rows())
    except InvalidInput as refused:
        return str(refused)
    assert isinstance(sheet, Spreadsheet)
    assert all(isinstance(row, Row) for row in rows)
    assert all(isinstance(problem, Problem) for problem in sheet.problems)
    return f"{sheet.where}: {[row.values for row in rows]} {[str(problem) for problem in sheet.problems]}"


def ends_well(content: bytes) -> None:
    assert outcome(content).startswith("arquivo enviado")


class TestHostileTexts:
    def test_one_endless_line(self, tmp_path: Path) -> None:
        path = tmp_path / "linha.csv"
        path.write_bytes(csv([HEADER]) + b"a" * (30 * 2**20))
        with within(20 * 2**20):
            assert "por linha" in refusal(path)

    def test_a_file_over_the_limit_is_not_read_at_all(self, tmp_path: Path) -> None:
        path = tmp_path / "enorme.csv"
        with path.open("wb") as stream:
            stream.truncate(2**30)
        message = refusal(path)
        assert "1024 MB" in message
        assert "no máximo 100 MB" in message

    def test_quotes_that_never_close(self) -> None:
        sheet = read(csv([HEADER, *ROWS]) + b'a-3;"aberta;rua;RG\r\n' + b"a-4;x;y;z\r\n" * 20_000)
        assert sum(row.key == "a-4" for row in sheet.rows()) == 20_000
        assert [(problem.row, problem.found) for problem in sheet.problems] == [(4, "uma célula com aspas sem par")]
        assert "linhas que não cabem no cabeçalho" in refusal(csv([HEADER, *ROWS]) + b'a-3;"aberta;rua;RG\r\n' * 20_000)

    def test_endless_cells_and_rows_in_markup(self) -> None:
        sheet = read(html([HEADER, ["a-1", "a" * 1_100_000, "rua x", "RG 1"]]))
        (row,) = sheet.rows()
        assert "nome_paciente" not in row.values
        assert [problem.found for problem in sheet.problems] == ["32768 caracteres"]
        assert "16384 colunas" in refusal(html([HEADER]) + b"<tr>" + b"<td>x" * 20_000)
        assert ends_well(b"<html><table><tr><td " + b"a" * 2_500_000) is None

    def test_bytes_windows_1252_does_not_know(self) -> None:
        sheet = read(csv([HEADER]) + b"a-1;Jo\x81o;rua;RG 1\n")
        (row,) = sheet.rows()
        assert "nome_paciente" not in row.values
        assert any(problem.row == 2 and "letras perdidas" in problem.found for problem in sheet.problems)
