"""Titles nobody knows: explained once by an operator, understood in the next sheet like it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from normalizer.errors import InvalidInput
from normalizer.imports.spreadsheet import LABELS, Limits, Row, Spreadsheet, UnknownColumns, Vocabulary, read
from normalizer.imports.spreadsheet.reading import header_at
from normalizer.imports.spreadsheet.titles import FIELD_OF_NAME, IGNORED, MOMENTS
from normalizer.imports.spreadsheet.vocabulary import brand_scope

pytestmark = pytest.mark.usefixtures("read_here")

ROW = "Clínica Um;Ana;rua x, 1;RG 1234567"
SHEET = f"Nome da Marca;Nome do Paciente;Residência do cliente;Papéis\n{ROW}\n".encode()
PAIRS = ("Residência do cliente=endereco_completo", "PAPEIS = Documento(s) do Paciente")


def opened(content: bytes, *pairs: str, remembered: Mapping[str, Any] | None = None) -> tuple[Spreadsheet, list[Row]]:
    sheet = read(content, vocabulary=Vocabulary.of(pairs, remembered))
    return sheet, list(sheet.rows())


def test_every_field_a_column_may_carry_has_a_label() -> None:
    assert set(LABELS) == set(FIELD_OF_NAME.values())
    assert set(MOMENTS) <= set(LABELS)


def test_what_is_said_of_a_title_is_read_however_it_is_written() -> None:
    sheet, (row,) = opened(SHEET, *PAIRS)

    assert row.values["endereco_completo"] == "rua x, 1"
    assert row.values["documento_completo"] == "RG 1234567"
    assert sheet.sheets[0].header.told == {"Residência do cliente": "endereco_completo", "Papéis": "documento_completo"}
    assert sheet.sheets[0].header.unknown == ()


def test_the_next_sheet_with_that_header_needs_no_word() -> None:
    learned = opened(SHEET, *PAIRS)[0].learned
    other_order = f"Papéis;Residência do cliente;Nome do Paciente;Nome da Marca\n{';'.join(reversed(ROW.split(';')))}\n"

    for content in (SHEET, other_order.replace("Clínica Um", "Outra").encode()):
        _, (row,) = opened(content, remembered=learned)
        assert row.values["endereco_completo"] == "rua x, 1"


def test_another_header_of_the_same_brand_is_understood_and_of_another_brand_is_not() -> None:
    learned = opened(SHEET, *PAIRS)[0].learned
    content = "Nome da Marca;Endereço Coleta;Papéis;Sala\nCLINICA UM;rua x, 1;RG 1234567;3\n"

    _, (row,) = opened(content.encode(), remembered=learned)
    stranger, (other,) = opened(content.replace("CLINICA UM", "Dois").encode(), remembered=learned)

    assert row.values["documento_completo"] == "RG 1234567"
    assert "documento_completo" not in other.values
    assert stranger.sheets[0].header.unknown == ("Papéis", "Sala")


def test_a_known_name_keeps_its_meaning_under_another_header_of_the_brand() -> None:
    first = "Nome da Marca;Endereço;Onde mora\nUm;rua da clínica, 1;rua x, 1\n".encode()
    learned = opened(first, "Endereço=ignorar", "Onde mora=endereco_completo")[0].learned

    again, (here,) = opened(first, remembered=learned)
    _, (elsewhere,) = opened("Nome da Marca;Endereço;CPF\nUm;rua y, 2;111\n".encode(), remembered=learned)

    assert here.values["endereco_completo"] == "rua x, 1"
    assert again.sheets[0].header.told["Endereço"] == IGNORED
    assert elsewhere.values["endereco_completo"] == "rua y, 2"


def test_what_is_said_wins_over_a_known_name_and_over_what_is_remembered() -> None:
    remembered = {brand_scope("Um"): {"papeis": "cpf"}}
    content = "Nome da Marca;Endereço;Moradia;Papéis\nUm;rua da clínica, 1;rua x, 1;RG 1234567\n".encode()

    _, (row,) = opened(content, "moradia=endereco_completo", "Papéis=rg", remembered=remembered)

    assert row.values["endereco_completo"] == "rua x, 1"
    assert (row.values["rg"], row.values.get("cpf")) == ("RG 1234567", None)


@pytest.mark.parametrize("delimiter", [";", ",", "\t"])
def test_a_header_of_which_nothing_is_known_is_found_by_what_is_said(delimiter: str) -> None:
    content = f"Relatório\nAddress{delimiter}Papers\nrua x{delimiter}RG 1234567\n".encode()

    with pytest.raises(UnknownColumns) as refused:
        read(content.removeprefix("Relatório\n".encode()))
    sheet, (row,) = opened(content, "address=endereco_completo")

    assert refused.value.titles == ("Address", "Papers")
    assert "--map" in str(refused.value)
    assert row.values == {"endereco_completo": "rua x"}
    assert sheet.sheets[0].header.row == 2


def test_a_sheet_without_a_useful_column_names_those_that_can_be_explained() -> None:
    with pytest.raises(UnknownColumns) as refused:
        read(SHEET)

    assert refused.value.titles == ("Residência do cliente", "Papéis")


def test_rows_are_not_taken_for_titles() -> None:
    with pytest.raises(UnknownColumns) as refused:
        read(b"Ana Exemplo;rua das flores 1023;11144477735\nOlga;rua b 2011;52998224725\n")

    assert refused.value.titles == ()


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (("Residência",), "título=campo"),
        (("=cep",), "título=campo"),
        (("Residência=",), "título=campo"),
        (("Residência=rua",), "endereco_completo"),
        (("a=cpf", "b=cpf"), "cpf"),
        (tuple(f"t{n}=ignorar" for n in range(101)), "até 100"),
        (("Residencia do paciente=endereco_completo",), "Residencia do paciente"),
    ],
)
def test_a_slip_is_told(pairs: tuple[str, ...], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read(SHEET, vocabulary=Vocabulary.of(pairs))


def test_a_title_may_hold_an_equals_sign() -> None:
    _, (row,) = opened("Endereço = rua;CPF\nrua x;111\n".encode(), "Endereço = rua=endereco_completo")
    assert row.values["endereco_completo"] == "rua x"


def test_what_is_remembered_holds_titles_and_fields_and_no_cell() -> None:
    learned = opened(SHEET, *PAIRS)[0].learned

    assert {scope.split(":")[0] for scope in learned} == {"titulos", "marca"}
    assert set(map(str, learned.values())) == {
        "{'residencia do cliente': 'endereco_completo', 'papeis': 'documento_completo'}"
    }
    assert "Ana" not in str(learned)


def test_limits_hold_with_a_vocabulary_too() -> None:
    with pytest.raises(InvalidInput, match="por linha"):
        read(b"Address;" + b"x" * 2_000, limits=Limits(line_chars=1_000), vocabulary=Vocabulary.of(["address=cep"]))


def test_a_header_read_again_stands_where_it_stood() -> None:
    header = header_at(7, ["", "CPF", None, 3], lambda _: {})
    assert (header.row, header.columns, header.unknown) == (7, {1: "cpf"}, ())
