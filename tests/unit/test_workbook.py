"""Workbooks as Excel and other programs leave them: merged, with errors, moved, damaged, hungry; and who reads them."""

from __future__ import annotations

import asyncio
import io
import re
import struct
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import pytest
import xlsxwriter
import xlwt
from hypothesis import given, settings
from hypothesis import strategies as st

from normalizer.errors import InvalidInput
from normalizer.imports.importing import import_sheet
from normalizer.imports.spreadsheet import Limits, Row, Spreadsheet, Vocabulary, archive, process, read, workbook
from normalizer.imports.spreadsheet.records import Ole
from normalizer.imports.spreadsheet.table import Unreadable

Reading: TypeAlias = Callable[[bytes], list[tuple[int, list[object]]]]

HEADER = ["Nome", "Endereço", "CPF", "Data"]
ANA = ["Ana Teste", "Rua das Flores, 10", "111.444.777-35", "01/12/2026"]
BIA = ["Bia Teste", "Av. Brasil, 102", "529.982.247-25", "02/12/2026"]
FIELDS = ("nome_paciente", "endereco_completo", "cpf", "data_agendamento")
SHEET = "xl/worksheets/sheet1.xml"


def xlsx(rows: list[list[Any]], *, merged: tuple[tuple[int, int, int, int, str], ...] = ()) -> bytes:
    buffer = io.BytesIO()
    book = xlsxwriter.Workbook(buffer)
    sheet = book.add_worksheet("Agenda")
    for number, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            if cell != "":
                sheet.write(number, column, cell)
    for one in merged:
        sheet.merge_range(*one)
    book.close()
    return buffer.getvalue()


def xls(rows: list[list[Any]]) -> bytes:
    book, buffer = xlwt.Workbook(), io.BytesIO()
    sheet = book.add_sheet("Agenda")
    for number, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            if cell != "":
                sheet.write(number, column, cell)
    book.save(buffer)
    return buffer.getvalue()


def ods(rows: list[list[str]]) -> bytes:
    cell = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    lines = ("<table:table-row>" + "".join(map(cell.format, cells)) + "</table:table-row>" for cells in rows)
    urn = "urn:oasis:names:tc:opendocument:xmlns"
    names = " ".join(f'xmlns:{name}="{urn}:{name}:1.0"' for name in ("office", "table", "text"))
    content = (
        f"<office:document-content {names}><office:body><office:spreadsheet><table:table table:name='Agenda'>"
        f"{''.join(lines)}</table:table></office:spreadsheet></office:body></office:document-content>"
    )
    return zipped({"content.xml": content.encode(), "META-INF/manifest.xml": b"<manifest/>"})


def parts_of(workbook: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(workbook)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(parts: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def changed(old: bytes, new: bytes, rows: list[list[Any]] | None = None) -> bytes:
    """A workbook with something else in its worksheet."""
    parts = parts_of(xlsx(rows or [HEADER, ANA, BIA]))
    assert old in parts[SHEET]
    return zipped({**parts, SHEET: parts[SHEET].replace(old, new)})


def values(content: bytes) -> dict[int, list[str]]:
    return {row.number: [row.values.get(name, "") for name in FIELDS] for row in read(content).rows()}


class TestMerged:
    def test_downwards_it_holds_for_each_row_that_has_anything(self) -> None:
        content = xlsx(
            [HEADER, ANA, ["", "", "529.982.247-25", ""], BIA, ["", "", "", ""]],
            merged=((1, 0, 2, 0, "Ana Teste"), (1, 1, 2, 1, "Rua das Flores, 10"), (3, 0, 4, 0, "Bia Teste")),
        )
        assert values(content) == {2: ANA, 3: [*ANA[:2], "529.982.247-25", ""], 4: BIA}

    def test_across_it_stands_in_the_first_column(self) -> None:
        content = xlsx(
            [["Nome", "Endereço", "", "CPF", "Data"], [ANA[0], ANA[1], "fundos", *ANA[2:]], [BIA[0], "", "", *BIA[2:]]],
            merged=((0, 1, 0, 2, "Endereço"), (2, 1, 2, 2, "Av. Brasil, 102")),
        )
        assert values(content) == {2: ANA, 3: BIA}

    def test_in_an_xls_and_beside_empty_columns(self) -> None:
        book = xlwt.Workbook()
        sheet = book.add_sheet("Agenda")
        for number, cells in enumerate([HEADER, ANA, BIA]):
            for column, cell in enumerate(cells):
                if (number, column) not in {(1, 1), (2, 1)}:
                    sheet.write(number + 3, column + 2, cell)
        sheet.write_merge(4, 5, 3, 3, "Rua das Flores, 10")
        buffer = io.BytesIO()
        book.save(buffer)
        assert values(buffer.getvalue()) == {5: ANA, 6: [BIA[0], ANA[1], *BIA[2:]]}


class TestCellsThatHoldNoValue:
    CELL = b'<c r="B2" t="s"><v>5</v></c>'

    @pytest.mark.parametrize(
        ("cell", "found"),
        [
            (b'<c r="B2" t="e"><v>#N/A</v></c>', "o erro #N/A"),
            (b'<c r="B2" t="e"><f>X</f><v>#SPILL!</v></c>', "o erro #SPILL!"),
            (b'<c r="B2" t="e"><v>#N\xc3\x83O.DISP</v></c>', "o erro #NÃO.DISP"),
            (b'<c r="B2"><f>A1&amp;C1</f></c>', "uma fórmula sem resultado calculado"),
            (b'<c r="B2"><f>A1</f><v/></c>', "uma fórmula sem resultado calculado"),
            (b'<c r="B2"><f>A1</f><v></v></c>', "uma fórmula sem resultado calculado"),
        ],
    )
    def test_are_reported_and_their_neighbours_read(self, cell: bytes, found: str) -> None:
        sheet = read(changed(self.CELL, cell))
        assert [row.values.get("endereco_completo") for row in sheet.rows()] == [None, BIA[1]]
        assert [(one.row, one.column, one.found) for one in sheet.problems] == [(2, "Endereço", found)]

    def test_an_empty_text_is_a_result(self) -> None:
        sheet = read(changed(self.CELL, b'<c r="B2" t="str"><f>IF(1,"")</f><v></v></c>'))
        assert len(list(sheet.rows())) == 2
        assert not sheet.problems

    def test_a_number_shown_as_an_impossible_time(self) -> None:
        buffer = io.BytesIO()
        book = xlsxwriter.Workbook(buffer)
        sheet = book.add_worksheet()
        for number, cells in enumerate([HEADER, ANA]):
            sheet.write_row(number, 0, cells)
        sheet.write_number(1, 2, 11144477735, book.add_format({"num_format": "[h]:mm"}))
        book.close()
        assert values(buffer.getvalue()) == {2: [*ANA[:2], "11144477735", ANA[3]]}

    def test_a_cell_longer_than_excel_allows(self) -> None:
        parts = parts_of(xlsx([HEADER, ANA, BIA]))
        strings = parts["xl/sharedStrings.xml"].replace(b"Rua das Flores, 10", b"a" * 40_000)
        sheet = read(zipped({**parts, "xl/sharedStrings.xml": strings}))
        assert [row.values.get("endereco_completo") for row in sheet.rows()] == [None, BIA[1]]
        assert [(one.row, one.found) for one in sheet.problems] == [(2, "40000 caracteres")]


class TestOtherWriters:
    def test_moved_parts(self) -> None:
        parts = parts_of(xlsx([HEADER, ANA, BIA]))
        parts["xl/workbook2.xml"] = parts.pop("xl/workbook.xml")
        parts["xl/_rels/workbook2.xml.rels"] = parts.pop("xl/_rels/workbook.xml.rels")
        parts["_rels/.rels"] = parts["_rels/.rels"].replace(b"xl/workbook.xml", b"xl/workbook2.xml")
        assert values(zipped(parts)) == {2: ANA, 3: BIA}

    def test_another_folder(self) -> None:
        parts = {name.replace("xl/", "livro/"): content for name, content in parts_of(xlsx([HEADER, ANA, BIA])).items()}
        parts["_rels/.rels"] = parts["_rels/.rels"].replace(b"xl/", b"livro/")
        assert values(zipped(parts)) == {2: ANA, 3: BIA}

    def test_parts_in_capitals(self) -> None:
        parts = parts_of(xlsx([HEADER, ANA]))
        assert values(zipped({name.upper(): content for name, content in parts.items()})) == {2: ANA}

    def test_backslashes_and_other_letters(self) -> None:
        parts = parts_of(xlsx([HEADER, ANA, BIA]))
        assert values(zipped({name.replace("/", "\\"): content for name, content in parts.items()})) == {2: ANA, 3: BIA}

    def test_streams_in_capitals_and_a_password_in_an_xls(self) -> None:
        book = xlwt.Workbook()
        for number, cells in enumerate([HEADER, ANA]):
            for column, text in enumerate(cells):
                (book.add_sheet("Agenda") if not number and not column else book.get_sheet(0)).write(
                    number, column, text
                )
        buffer = io.BytesIO()
        book.save(buffer)
        content = buffer.getvalue()
        name = "Workbook".encode("utf-16-le")
        assert values(content.replace(name, name.upper())) == {2: ANA}
        after_bof = content.index(b"\x09\x08\x10\x00") + 20
        protected = content[:after_bof] + b"\x2f\x00\x36\x00" + b"\1" * 0x36 + content[after_bof + 58 :]
        with pytest.raises(InvalidInput, match="protegido por senha"):
            read(protected)

    def test_a_damaged_part_is_not_read(self) -> None:
        content = bytearray(zipped(parts_of(xlsx([HEADER, ANA, BIA]))))
        with zipfile.ZipFile(io.BytesIO(bytes(content))) as archive:
            at = archive.getinfo("xl/sharedStrings.xml").header_offset
        content[at + 14] ^= 1  # its checksum
        central = content.index(b"xl/sharedStrings.xml", content.index(b"PK\1\2")) - 46
        content[central + 16] ^= 1
        with pytest.raises(InvalidInput, match="danificado"):
            values(bytes(content))


def record(kind: int, body: bytes = b"") -> bytes:
    head = bytes([kind]) if kind < 128 else bytes([kind & 0x7F | 0x80, kind >> 7])
    return head + bytes([len(body) & 0x7F | 0x80, len(body) >> 7]) + body


def xlsb(rows: list[list[str]], *, short: bool = False, more: bytes = b"", end: bytes = b"") -> bytes:
    """A minimal [MS-XLSB] workbook; with `short`, cells behind the first name no column, as SheetJS writes them."""

    def wide(text: str) -> bytes:
        return struct.pack("<I", len(text)) + text.encode("utf-16-le")

    bundle = record(156, struct.pack("<II", 0, 1) + wide("rId1") + wide("Agenda"))
    sheet = record(129) + record(148, struct.pack("<IIII", 0, len(rows) - 1, 0, len(rows[0]) - 1)) + record(145)
    for number, cells in enumerate(rows):
        sheet += record(0, struct.pack("<IIHBBBI", number, 0, 300, 0, 0, 0, 0))
        for column, text in enumerate(cells):
            brief = short and column > 0
            place = struct.pack("<I", 0) if brief else struct.pack("<II", column, 0)
            sheet += record(17 if brief else 6, place + wide(text))
    sheet += more
    kinds = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    relation = f'<Relationships><Relationship Id="rId1" Type="{kinds}/%s" Target="%s"/></Relationships>'
    return zipped(
        {
            "_rels/.rels": (relation % ("officeDocument", "xl/workbook.bin")).encode(),
            "xl/workbook.bin": record(131) + record(143) + bundle + record(144) + record(132),
            "xl/_rels/workbook.bin.rels": (relation % ("worksheet", "worksheets/sheet1.bin")).encode(),
            "xl/worksheets/sheet1.bin": sheet + record(146) + end + record(130),
        }
    )


def xlsb_row(number: int, cells: dict[int, bytes]) -> bytes:
    """A row of records that hold something after their column and style."""
    row = record(0, struct.pack("<IIHBBBI", number, 0, 300, 0, 0, 0, 0))
    for column, held in cells.items():
        row += record(held[0], struct.pack("<II", column, 0) + held[1:])
    return row


def told(content: bytes) -> list[tuple[int | None, str | None, str]]:
    sheet = read(content)
    list(sheet.rows())
    return [(one.row, one.column, one.found) for one in sheet.problems]


class TestBinary:
    """What the native reader leaves out of xls and xlsb is looked up in their records."""

    def test_errors_in_xlsb_are_reported(self) -> None:
        cells = {0: b"\x06" + struct.pack("<I", 3) + "Eva".encode("utf-16-le"), 1: b"\x03\x2a", 2: b"\x0b\x17\0\0"}
        content = xlsb([HEADER, ANA], more=xlsb_row(2, cells))
        assert values(content) == {2: ANA, 3: ["Eva", "", "", ""]}
        assert told(content) == [(3, "Endereço", "o erro #N/A"), (3, "CPF", "o erro #REF!")]

    def test_merged_cells_in_xlsb_hold_for_each_row(self) -> None:
        bia = ["", "", "529.982.247-25", "02/12/2026"]
        merged = b"".join(record(176, struct.pack("<4I", 1, 2, column, column)) for column in (0, 1))
        assert values(xlsb([HEADER, ANA, bia], end=merged)) == {2: ANA, 3: [*ANA[:2], *bia[2:]]}

    def test_errors_in_xls_are_reported(self) -> None:
        buffer = io.BytesIO()
        book = xlwt.Workbook()
        for name in ("Outra", "Agenda"):
            sheet = book.add_sheet(name)
            for number, cells in enumerate([HEADER, ANA, BIA] if name == "Agenda" else []):
                for column, cell in enumerate(cells):
                    if (number, column) != (2, 1):
                        sheet.write(number, column, cell)
        sheet.row(2).set_cell_error(1, 0x0F)
        book.save(buffer)
        assert values(buffer.getvalue()) == {2: ANA, 3: [BIA[0], "", *BIA[2:]]}
        assert told(buffer.getvalue()) == [(3, "Endereço", "o erro #VALUE!")]

    def test_an_error_in_xls_that_a_formula_gives(self) -> None:
        buffer = io.BytesIO()
        book = xlwt.Workbook()
        sheet = book.add_sheet("Agenda")
        for number, cells in enumerate([HEADER, ANA]):
            for column, cell in enumerate(cells):
                sheet.write(number, column, xlwt.Formula("1/7") if (number, column) == (1, 1) else cell)
        book.save(buffer)
        result = re.compile(rb"(\x06\0.\0\x01\0\x01\0..).{8}", re.DOTALL)
        assert len(result.findall(buffer.getvalue())) == 1
        error = b"\x02\0\x07\0\0\0\xff\xff"
        content = result.sub(lambda found: found[1] + error, buffer.getvalue())
        assert told(content) == [(2, "Endereço", "o erro #DIV/0!")]

    def test_a_small_stream_among_others(self) -> None:
        """Below 4,096 bytes a stream lies in the sectors of another one."""
        header = bytearray(512)
        header[30:34] = struct.pack("<HH", 9, 6)
        header[48:52], header[56:64] = struct.pack("<I", 1), struct.pack("<II", 4096, 2)
        header[68:76], header[76:80] = struct.pack("<II", 0xFFFFFFFE, 0), struct.pack("<I", 0)
        header[80:512] = b"\xff" * 432
        fat = struct.pack("<5I", 0xFFFFFFFD, *[0xFFFFFFFE] * 3, 0).ljust(512, b"\xff")

        def entry(name: str, start: int, size: int) -> bytes:
            text = name.encode("utf-16-le") + b"\0\0"
            return (
                text.ljust(64, b"\0") + struct.pack("<H", len(text)) + bytes(50) + struct.pack("<III", start, size, 0)
            )

        directory = entry("Root Entry", 3, 512) + entry("Workbook", 2, 100) + bytes(256)
        small = struct.pack("<4I", 0xFFFFFFFF, 0xFFFFFFFF, 5, 0xFFFFFFFF).ljust(20, b"\xff") + b"\xfe\xff\xff\xff"
        data = bytes(range(256)) * 2
        stream = Ole(bytes(header) + fat + directory + small.ljust(512, b"\xff") + data).stream("workbook")
        assert stream.content == data[128:192] + data[320:356]
        assert [stream.place(at) for at in (0, 63, 64)] == [2048 + 128, 2048 + 191, 2048 + 320]


class TestWindows:
    """A large worksheet is laid out in parts of its rows."""

    ROWS: ClassVar = [
        [f"Paciente {chr(97 + n % 26) * (1 + n // 26)}", f"Rua {n}", "111.444.777-35", ""] for n in range(200)
    ]

    @pytest.fixture
    def read_in_windows(self, monkeypatch: pytest.MonkeyPatch) -> Reading:
        monkeypatch.setattr(workbook, "allow_memory", lambda _: None)

        def read_in_windows(content: bytes) -> list[tuple[int, list[object]]]:
            found = []
            for size in (3_000, 1 << 30):
                monkeypatch.setattr(archive, "_WINDOW_BYTES", size)
                with tempfile.TemporaryFile() as file:
                    file.write(content)
                    (sheet,) = workbook.open_zip(file, Limits()).tables
                    list(islice(sheet.rows(), 3))
                    found.append([(number, list(cells)) for number, cells in sheet.rows()])
            assert found[0] == found[1]
            return found[0]

        return read_in_windows

    def test_give_the_same_rows(self, read_in_windows: Reading) -> None:
        gap = [["", "", "", ""]] * 60
        content = xlsx([HEADER, *self.ROWS[:90], *gap, *self.ROWS[90:]], merged=((40, 3, 120, 3, "01/12/2026"),))
        rows = dict(read_in_windows(content))
        assert len(rows) == 202
        assert rows[2] == self.ROWS[0][:3]
        assert rows[81][3] == "01/12/2026"
        assert rows[261] == self.ROWS[-1][:3]

    def test_begin_at_the_first_column(self, read_in_windows: Reading) -> None:
        rows = [[*row[:3], "", "fim"] if at < 150 else ["", *row[1:3]] for at, row in enumerate(self.ROWS)]
        assert [cells for _, cells in read_in_windows(xlsx([HEADER, *rows]))][1:] == rows

    def test_go_on_from_a_mended_copy(self, read_in_windows: Reading) -> None:
        parts = parts_of(xlsx([HEADER, *self.ROWS]))
        name = "xl/worksheets/sheet1.xml"
        parts[name] = re.sub(rb'<c r="B150"[^>]*><v>\d+</v>', b'<c r="B150" t="e"><v>#SPILL!</v>', parts[name])
        rows = dict(read_in_windows(zipped(parts)))
        assert rows[150] == [self.ROWS[148][0], Unreadable("um valor", "o erro #SPILL!"), self.ROWS[148][2]]
        assert rows[151] == self.ROWS[149][:3]


class TestFarCells:
    """A few cells so far from the table that all of it could not be laid out: left out, and said so."""

    FAR = (None, None, "células soltas muito longe dela, que não foram lidas")

    @pytest.mark.parametrize("place", ["XFD1048576", "C16777217", "AMJ9"])
    def test_in_xlsx(self, place: str) -> None:
        row = re.sub("[A-Z]", "", place)
        cell = f'<row r="{row}"><c r="{place}"><v>1</v></c></row></sheetData>'.encode()
        content = changed(b"</sheetData>", cell)
        assert values(content) == {2: ANA, 3: BIA}
        assert told(content) == ([] if place == "AMJ9" else [self.FAR])

    def test_in_xls(self) -> None:
        buffer = io.BytesIO()
        book = xlwt.Workbook()
        sheet = book.add_sheet("Agenda")
        for number, cells in enumerate([HEADER, ANA, BIA]):
            for column, cell in enumerate(cells):
                sheet.write(number, column, cell)
        sheet.write(65_535, 255, xlwt.Formula('"x"'))
        book.save(buffer)
        assert values(buffer.getvalue()) == {2: ANA, 3: BIA}
        assert told(buffer.getvalue()) == [self.FAR]

    def test_in_xlsb(self) -> None:
        number = b"\x05" + struct.pack("<d", 1.0)
        content = xlsb([HEADER, ANA, BIA], more=xlsb_row(1_048_575, {3: number, 16_383: number}))
        assert values(content) == {2: ANA, 3: BIA}
        assert told(content) == [self.FAR]


def test_binary_workbooks_are_read_whole_or_refused() -> None:
    assert values(xlsb([HEADER, ANA, BIA])) == {2: ANA, 3: BIA}
    with pytest.raises(InvalidInput, match="células abreviadas"):
        read(xlsb([HEADER, ANA, BIA], short=True))


class TestTheReadingProcess:
    @pytest.fixture
    def started(self, monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
        started: list[subprocess.Popen[bytes]] = []

        class Noted(subprocess.Popen[bytes]):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                started.append(self)

        monkeypatch.setattr(subprocess, "Popen", Noted)
        return started

    @pytest.mark.parametrize(
        "content", [xlsx([HEADER, ANA]), b"<html><table><tr><td>Nome<td>CPF</tr></table></html>", b"Nome;CPF\nAna;1\n"]
    )
    def test_has_no_environment_and_few_descriptors(
        self, started: list[subprocess.Popen[bytes]], content: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CACHE_SECRET", "segredo")
        sheet = read(content)
        proc = Path(f"/proc/{started[0].pid}")
        given = [one for one in (proc / "environ").read_bytes().split(b"\0") if one]
        assert [one for one in given if not one.startswith(b"SUBPROCESS_")] == []  # Sentry's own marks, where it is on
        assert re.search(r"Max open files +0 +0 ", (proc / "limits").read_text())
        assert re.search(r"Max file size +0 +0 ", (proc / "limits").read_text())
        space = re.search(r"Max address space +(\d+) ", (proc / "limits").read_text())
        assert space is not None and int(space[1]) < 200 * 2**20  # noqa: PT018 — one question
        assert list(sheet.rows()) is not None

    def test_can_reach_no_network_and_no_file(self) -> None:
        script = (
            "import socket\nfrom normalizer.imports.spreadsheet.limits import allow_no_descriptor\n"
            "allow_no_descriptor()\n"
            "for use in (socket.socket, lambda: open('/etc/passwd')):\n"
            "    try:\n        use()\n    except OSError as error:\n        print(error.errno)\n"
        )
        ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert ran.stdout.split() == ["24", "24"]

    def test_a_csv_is_read_there_by_what_was_said_of_its_titles(self) -> None:
        content = b'Quem;Onde\nAna Teste;Rua A, 1\nEva;"Rua B\n'
        sheet = read(content, vocabulary=Vocabulary.of(["Quem=nome_paciente", "Onde=endereco_completo"]))
        assert [list(row.values.values()) for row in sheet.rows()] == [["Ana Teste", "Rua A, 1"]]
        assert [(one.row, one.found) for one in sheet.problems][-1] == (
            3,
            "uma célula com aspas sem par",
        )
        with pytest.raises(InvalidInput, match=r"^arquivo enviado, linha 2: .* por linha"):
            list(read(b"Nome;CPF\n" + b"a" * 1_100_000).rows())

    def test_a_string_that_is_used_a_thousand_times_is_not_held_a_thousand_times(self) -> None:
        parts = parts_of(xlsx([HEADER, ANA, BIA]))
        strings = parts["xl/sharedStrings.xml"].replace(b"Rua das Flores, 10", b"a" * 900_000)
        cells = [
            b"".join(b'<c r="%c%d" t="s"><v>5</v></c>' % (65 + column, row) for column in range(25))
            for row in range(4, 16)
        ]
        far = b"".join(b'<row r="%d">%s</row>' % (row, line) for row, line in enumerate(cells, start=4))
        bomb = {SHEET: parts[SHEET].replace(b"</sheetData>", far + b"</sheetData>")}
        with pytest.raises(InvalidInput, match="de memória"):
            values(zipped({**parts, "xl/sharedStrings.xml": strings, **bomb}))

    def test_a_small_file_is_allowed_little(self) -> None:
        limits = Limits()
        assert limits.memory_for(9_000) < 80 * 2**20
        assert limits.memory_for(2**40) == limits.reader_bytes

    def test_one_that_does_not_end_is_ended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(process, "_START", "import time; time.sleep(600)")
        monkeypatch.setattr(process, "_PATIENCE", 0.01)
        with pytest.raises(InvalidInput, match="não acaba de ser lida"):
            read(xlsx([HEADER, ANA]))

    def test_reading_is_broken_off(self, started: list[subprocess.Popen[bytes]]) -> None:
        sheet = read(xlsx([HEADER, *[ANA] * 2_000]))
        rows = sheet.rows()
        assert len(list(islice(rows, 3))) == 3
        sheet.close()
        with pytest.raises(InvalidInput):
            list(rows)
        assert started[0].wait() != 0

    def test_what_is_unreadable_crosses_the_pipe(self) -> None:
        sheet = read(changed(b'<c r="B2" t="s"><v>5</v></c>', b'<c r="B2" t="e"><v>#REF!</v></c>'))
        ((_, _, cells),) = sheet.cells_of({("Agenda", 2)})
        assert cells[1] == Unreadable("um valor", "o erro #REF!")


# -- accidents --------------------------------------------------------------------------------------------------------

_OWNER = re.compile(r"([a-h])\1\1+|(\d)\2\2")
_ROWS = [
    [f"Zé {a * 5}", f"Rua {a * 5}, 1", f"{n}{n}{n}.{n}{n}{n}.{n}{n}{n}-{n}{n}", ""] for n, a in enumerate("abcdefgh")
]
_WHOLE = {
    "xlsx": xlsx([HEADER, *_ROWS]),
    "xls": xls([HEADER, *_ROWS]),
    "xlsb": xlsb([HEADER, *_ROWS]),
    "ods": ods([HEADER, *_ROWS]),
}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from(["xls", "xls", *_WHOLE]),  # of the four, only an xls bears no sum of what it holds
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(["cut", "flip", "drop", "double"]),
    st.integers(1, 255),
)
def test_no_accident_mixes_two_patients(form: str, place: float, kind: str, mask: int) -> None:
    """Each row is one patient's and there, or the file is refused or said to be damaged."""
    whole = _WHOLE[form]
    at = int(place * len(whole))
    byte = bytes([whole[at] ^ mask])
    rest = {"cut": b"", "flip": byte + whole[at + 1 :], "drop": whole[at + 1 :], "double": byte + whole[at:]}[kind]
    try:
        sheet = read(whole[:at] + rest)
        rows = {row.number: row.values.values() for row in sheet.rows()}
    except InvalidInput:
        return
    told = {problem.row for problem in sheet.problems}
    if None in told:
        return
    for cells in rows.values():
        assert len({a or "abcdefgh"[int(n)] for text in cells for a, n in _OWNER.findall(text)}) <= 1, cells
    assert {*rows, *told} >= set(range(2, 2 + len(_ROWS)))


def test_an_xls_that_lost_a_record_is_said_to_be_damaged() -> None:
    whole = _WHOLE["xls"]
    cell = struct.pack("<HHHH", 0xFD, 10, 2, 0)  # of the patient in the third row
    assert whole.count(cell) == 1
    lost = whole.replace(cell, struct.pack("<HHHH", 0x1FD, 10, 2, 0))
    moved = whole.replace(cell, struct.pack("<HHHH", 0xFD, 10, 5, 0))
    for content in (lost, moved):
        assert told(content) == [(None, None, "um arquivo que pode estar danificado")]
    assert told(whole) == []


async def test_an_import_that_is_given_up_lets_go_of_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, stopped = threading.Event(), threading.Event()
    real = Spreadsheet.rows

    def noted(sheet: Spreadsheet) -> Iterator[Row]:
        opened.set()
        try:
            while True:
                yield from real(sheet)
        finally:
            stopped.set()

    monkeypatch.setattr(Spreadsheet, "rows", noted)
    for content in (xlsx([HEADER, *[ANA] * 2_000]), ";".join(HEADER).encode() + b"\n" + ";".join(ANA).encode()):
        opened.clear()
        stopped.clear()
        work = asyncio.create_task(import_sheet(content, store=None, enqueue=None, dry_run=True))  # type: ignore[arg-type]
        await asyncio.to_thread(opened.wait)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert await asyncio.to_thread(stopped.wait, 60)
