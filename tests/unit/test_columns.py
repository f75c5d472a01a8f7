"""Sheets as clinics' systems lay them out: which column is what, and which rows are appointments."""

from __future__ import annotations

import pytest

from normalizer.domain.address import parse_address
from normalizer.domain.decision import Settled
from normalizer.imports.spreadsheet import Problem, Vocabulary, read
from normalizer.imports.spreadsheet.columns import find_header, header_at
from normalizer.imports.spreadsheet.joining import join_parts
from normalizer.imports.spreadsheet.titles import field_of

pytestmark = pytest.mark.usefixtures("read_here")

ADDRESS = "Rua das Flores, 10, Centro, Campinas - SP"


def opened(text: str, *pairs: str) -> tuple[list[dict[str, str]], list[Problem]]:
    sheet = read(text.encode(), vocabulary=Vocabulary.of(pairs))
    return [row.values for row in sheet.rows()], sheet.problems


def rows(text: str, *pairs: str) -> list[dict[str, str]]:
    return opened(text, *pairs)[0]


class TestTitles:
    @pytest.mark.parametrize(
        ("title", "field"),
        [
            ("CPF/CNPJ", "cpf"),
            ("N° CPF", "cpf"),
            ("NR_CPF", "cpf"),
            ("CPF do cliente", "cpf"),
            ("CPF (somente números)", "cpf"),
            ("R.G.", "rg"),
            ("Nº Documento", "documento_completo"),
            ("Logradouro", "logradouro"),
            ("Rua", "logradouro"),
            ("End.", "endereco_completo"),
            ("DS_ENDERECO", "endereco_completo"),
            ("Endereço (rua, nº, bairro)", "endereco_completo"),
            ("Nro", "numero"),
            ("NM_BAIRRO", "bairro"),
            ("Cidade/UF", "cidade"),
            ("SG_ESTADO", "estado"),
            ("CD_CEP", "cep"),
            ("Cliente", "nome_paciente"),
            ("NM_PACIENTE", "nome_paciente"),
            ("Data/Hora", "inicio_agendamento"),
            ("Hora início", "hora_agendamento"),
            ("Data do atendimento", "data_agendamento"),
            ("Fone", "telefone"),
            ("CPF do responsável", None),
            ("CPF (da mãe)", None),
            ("Endereço (unidade)", None),
            ("Data de nascimento", None),
            ("Nome do", None),  # its other half stands in the row below
            ("CPF nº", "cpf"),
            ("RG / Órgão Emissor", "rg"),
            ("Tipo RG", "tipo_documento"),
            ("end_bairro", "bairro"),
            ("enderecoCep", "cep"),
            ("Endereço Residencial - Logradouro", "logradouro"),
            ("Endereço (Número)", "numero"),
            ("Endereço Comercial - Bairro", None),
            ("Endereço completo do paciente (rua, nº)", "endereco_completo"),
            ("Nº do CPF do paciente", "cpf"),
            ("Início", "inicio_agendamento"),
            ("Hora inicial", "hora_agendamento"),
            ("Hora final", None),
            ("Localidade", "cidade"),
            ("Est.", "estado"),
        ],
    )
    def test_usual_names(self, title: str, field: str | None) -> None:
        assert field_of(title) == field

    def test_the_specific_title_wins_and_the_operator_is_told(self) -> None:
        text = f"Nome;Paciente;Endereço;Endereço do paciente;CPF\nDr. X;Ana;Av. da Clínica, 1;{ADDRESS};111.444.777-35"
        (values,), problems = opened(text)
        assert (values["nome_paciente"], values["endereco_completo"]) == ("Ana", ADDRESS)
        assert [(one.row, one.column) for one in problems] == [(1, "Nome"), (1, "Endereço")]
        assert "Valeu “Paciente”" in problems[0].fix

    def test_where_both_are_filled_the_address_of_collection_wins_over_a_plain_one(self) -> None:
        text = f"Nome;Endereço;Endereço Coleta;CPF\nAna;{ADDRESS};Rua B, 2;1\nBia;{ADDRESS};;2"
        (ana, bia), problems = opened(text)
        assert ("endereco_completo" in ana, ana["endereco_coleta"]) == (False, "Rua B, 2")
        assert bia["endereco_completo"] == ADDRESS
        assert [(one.column, one.found) for one in problems] == [("Endereço", "também “Endereço Coleta”")]

    def test_a_column_of_somebody_else_is_not_the_patients(self) -> None:
        text = f"Paciente;;Responsável;;Endereço\nNome;CPF;Nome;CPF;Endereço\nAna;;Mãe;111.444.777-35;{ADDRESS}"
        assert rows(text) == [{"nome_paciente": "Ana", "endereco_completo": ADDRESS}]

    def test_of_equal_titles_the_filled_one_counts_row_by_row(self) -> None:
        text = "Nome;CPF;CPF\nAna;;111.444.777-35\nBia;529.982.247-25;\nCaio;111.444.777-35;529.982.247-25"
        found, problems = opened(text)
        assert [values["cpf"] for values in found] == ["111.444.777-35", "529.982.247-25", "111.444.777-35"]
        assert [one.row for one in problems if one.column == "CPF"] == [4]

    def test_titles_over_two_rows(self) -> None:
        text = "Nome do;Documento;Endereço;Data da\nPaciente;(CPF);Completo;Consulta\n"
        (values,) = rows(f"{text}Ana;111.444.777-35;{ADDRESS};01/12/2026")
        assert values == {
            "nome_paciente": "Ana",
            "cpf": "111.444.777-35",
            "endereco_completo": ADDRESS,
            "data_agendamento": "01/12/2026",
        }

    def test_groups_above_titles(self) -> None:
        text = "Nome;CPF;Endereço;;\n;;Rua;Nº;Cidade\nAna;111.444.777-35;Rua das Flores;10;Campinas/SP"
        (values,) = rows(text)
        assert values["endereco_completo"] == "Rua das Flores, nº 10, cidade: Campinas, UF: SP"

    def test_parameters_above_are_no_header(self) -> None:
        text = "Unidade;Centro;Data;27/11/2026\n\nCliente;CPF;CEP;\nAna;111.444.777-35;13010-000;"
        assert rows(text) == [{"nome_paciente": "Ana", "cpf": "111.444.777-35", "cep": "13010-000"}]

    def test_a_single_column(self) -> None:
        assert rows("CPF\n111.444.777-35\n529.982.247-25\n") == [{"cpf": "111.444.777-35"}, {"cpf": "529.982.247-25"}]
        assert find_header(iter(enumerate([["Paciente"], ["CPF"], ["Ana"], ["111.444.777-35"]], 1))) is None


class TestAddressParts:
    @pytest.mark.parametrize(
        ("cells", "text", "read"),
        [
            (
                "Rua das Flores;10;Ap 2;Centro;Campinas;SP",
                "Rua das Flores, nº 10, complemento: Ap 2, bairro: Centro, cidade: Campinas, UF: SP",
                ("Rua das Flores", "10", "Apartamento 2", "Centro", "Campinas", "SP"),
            ),
            (
                "R PARANA;33;;SAO PAULO;Ribeirão Preto;São Paulo",
                "R PARANA, nº 33, bairro: SAO PAULO, cidade: Ribeirão Preto, UF: São Paulo",
                ("Rua Paraná", "33", None, "São Paulo", "Ribeirão Preto", "SP"),
            ),
            (
                "Rua das Flores, 10, Centro;10;;Centro;Campinas/SP;",
                "Rua das Flores, 10, Centro, cidade: Campinas, UF: SP",
                ("Rua das Flores", "10", None, "Centro", "Campinas", "SP"),
            ),
        ],
    )
    def test_joined_in_order_under_labels_the_rules_know(self, cells: str, text: str, read: tuple[object, ...]) -> None:
        (values,) = rows(f"Nome;Endereço;Número;Complemento;Bairro;Cidade;UF\nAna;{cells}")
        assert values["endereco_completo"] == text
        decision = parse_address(text)
        assert isinstance(decision, Settled)
        assert tuple(decision.value.as_dict().values())[:6] == read

    def test_a_state_that_is_none_is_left_out(self) -> None:
        (values,) = rows("Nome;Rua;Estado\nAna;Rua das Flores;Confirmado")
        assert values["endereco_completo"] == "Rua das Flores"

    def test_parts_without_a_street_are_no_address(self) -> None:
        sheet = read("Nome;CPF;Número;Bairro\nAna;111.444.777-35;3;Centro".encode())
        assert [row.values for row in sheet.rows()] == [{"nome_paciente": "Ana", "cpf": "111.444.777-35"}]
        assert sheet.sheets[0].header.unknown == ("Número", "Bairro")

    def test_many_columns_are_said_to_be_one_field(self) -> None:
        text = "Nome;Onde mora;Lugar;CPF\nAna;Rua das Flores, 10;Campinas - SP;111.444.777-35"
        (values,) = rows(text, "Onde mora=endereco_completo", "Lugar=endereco_completo")
        assert values["endereco_completo"] == "Rua das Flores, 10, Campinas - SP"
        (values,) = rows(text, "Onde mora=logradouro", "Lugar=cidade")
        assert values["endereco_completo"] == "Rua das Flores, 10, cidade: Campinas, UF: SP"

    @pytest.mark.parametrize(
        ("cep", "state", "stored"),
        [
            ("1310100", "", "01310-100"),
            ("1310100.0", "SP", "01310-100"),
            ("13010000", "", "13010-000"),
            ("3650000", "MG", "3650000"),
            ("99", "", "99"),
        ],
    )
    def test_a_cep_that_lost_its_zero(self, cep: str, state: str, stored: str) -> None:
        values = {"cep": cep, "estado": state}
        join_parts(values, "endereco_completo")
        assert values["cep"] == stored


class TestOtherParts:
    def test_name_and_surname(self) -> None:
        assert rows("Nome;Sobrenome;CPF\nMaria;Souza;1\nAna Lima;Lima;2") == [
            {"nome_paciente": "Maria Souza", "cpf": "1"},
            {"nome_paciente": "Ana Lima", "cpf": "2"},
        ]

    def test_check_digits_in_a_column_of_their_own(self) -> None:
        assert rows("Nome;CPF;DV\nAna;111444777;35\nBia;111444777;36") == [
            {"nome_paciente": "Ana", "cpf": "111.444.777-35"},
            {"nome_paciente": "Bia", "cpf": "111444777"},
        ]

    def test_a_document_under_its_type(self) -> None:
        found = rows("Nome;Tipo de documento;Documento\nAna;Passaporte;123456789\nBia;1;123456789")
        assert [values["documento_completo"] for values in found] == ["Passaporte: 123456789", "123456789"]

    def test_phones_of_several_columns(self) -> None:
        (values,) = rows("Nome;CPF;Telefone;Celular\nAna;1;3232-1010;(19) 90000-0001")
        assert values["telefone"] == "3232-1010 / (19) 90000-0001"


class TestRows:
    def test_a_second_table_is_read_under_its_own_titles(self) -> None:
        text = f"Nome;Endereço;CPF\nAna;{ADDRESS};111.444.777-35\n;;\nCPF;Nome;Endereço\n529.982.247-25;Bia;{ADDRESS}"
        assert rows(text)[1] == {"cpf": "529.982.247-25", "nome_paciente": "Bia", "endereco_completo": ADDRESS}

    def test_tables_side_by_side(self) -> None:
        assert rows("Nome;CPF;;Nome;CPF\nAna;111.444.777-35;;Bia;529.982.247-25") == [
            {"nome_paciente": "Ana", "cpf": "111.444.777-35"},
            {"nome_paciente": "Bia", "cpf": "529.982.247-25"},
        ]

    def test_rows_that_are_no_appointment(self) -> None:
        text = (
            "Horário;Nome;CPF\n01/12/2026;;\n08:00;Ana;111.444.777-35\n09:00;VAGO;\n10:00;ALMOÇO;\n---;---;---\n"
            "Quarta, 02/12/2026;;\n08:00;Ana;111.444.777-35\nTOTAL;2;\n;Total de pacientes: 2;\n"
        )
        found, problems = opened(text)
        days = [(values["data_agendamento"], values["hora_agendamento"]) for values in found]
        assert days == [("01/12/2026", "08:00"), ("02/12/2026", "08:00")]
        assert [one.row for one in problems] == [1]  # no column of addresses

    def test_several_patients_in_a_row_are_not_one(self) -> None:
        text = (
            'Nome;Documento\n"Ana\nBia";"111.444.777-35\n529.982.247-25"\nCaio;111.444.777-35\n"Ana\nLima";RG 1234567'
        )
        found, problems = opened(text)
        assert [values["nome_paciente"] for values in found] == ["Caio", "Ana Lima"]
        assert (problems[-1].row, problems[-1].expected) == (2, "um paciente por linha")

    @pytest.mark.parametrize("key", ["0", "-", "N/A", "null", "1.234567890123457e+16"])
    def test_an_id_that_names_nothing(self, key: str) -> None:
        (values,) = rows(f"Id do agendamento;Nome;CPF\n{key};Ana;111.444.777-35")
        assert values == {"nome_paciente": "Ana", "cpf": "111.444.777-35"}

    def test_a_time_range_counts_from_its_start(self) -> None:
        (values,) = rows("Nome;Data;Horário;CPF\nAna;01/12/2026;das 14:00 às 15:00;1")
        assert (values["data_agendamento"], values["hora_agendamento"]) == ("01/12/2026", "14:00")

    def test_a_date_keeps_its_time_and_a_time_its_date(self) -> None:
        assert rows("Nome;Data;CPF\nAna;01/12/2026 14:00;1")[0]["hora_agendamento"] == "14:00"
        (values,) = rows("Nome;HR_AGENDA;CPF\nAna;01/12/26 08:00;1")
        assert (values["data_agendamento"], values["hora_agendamento"]) == ("01/12/2026", "08:00")


class TestHoweverTitlesArePut:
    """Systems name their columns by prefix, in humps, with whose or which appointment's before or behind."""

    @pytest.mark.parametrize(
        ("title", "field"),
        [
            ("cpfPaciente", "cpf"),
            ("dataConsulta", "data_agendamento"),
            ("Agenda: Hora", "hora_agendamento"),
            ("Paciente - Endereço", "endereco_completo"),
            ("Cliente CPF", "cpf"),
            ("U.F.", "estado"),
            ("C.E.P.", "cep"),
            ("Horário p/ coleta", "hora_agendamento"),
            ("Endereço p/ coleta", "endereco_coleta"),
            ("Logradouro e número", "logradouro"),
            ("Endereço, nº", "endereco_completo"),
            ("Cidade/Município", "cidade"),
            ("Endere?o", "endereco_completo"),
            ("Munic\ufffdpio", "cidade"),
            ("Número do paciente", None),
            ("Código do paciente", None),
            ("Telefone/CPF", None),
            ("Endereço da mãe", None),
            ("CPF do paciente (mãe)", None),
            ("Data/Idade", None),
            ("C?", None),
        ],
    )
    def test_a_title_is_known_or_not(self, title: str, field: str | None) -> None:
        assert field_of(title) == field

    def test_a_prefix_on_all_is_none_of_the_name(self) -> None:
        titles = ["PAC_NOME", "PAC_CPF", "PAC_ENDERECO", "PAC_NUMERO", "PAC_UF", "DT_CONSULTA"]
        assert list(header_at(1, titles).columns.values()) == [
            "nome_paciente",
            "cpf",
            "endereco_completo",
            "numero",
            "estado",
            "data_agendamento",
        ]

    def test_some_titles_mean_what_their_neighbours_make_of_them(self) -> None:
        assert header_at(1, ["Tipo", "Logradouro", "CPF"]).columns[0] == "tipo_logradouro"
        assert 0 not in header_at(1, ["Tipo", "CPF", "Logradouro"]).columns
        assert header_at(1, ["CPF", "Tipo", "Documento"]).columns[1] == "tipo_documento"
        assert header_at(1, ["Convênio", "CPF"]).columns[0] == "nome_convenio"
        assert header_at(1, ["Convênio", "Nome do convênio", "CPF"]).columns[0] == "numero_convenio"


def test_a_table_below_with_more_titles_takes_no_row_from_the_one_above() -> None:
    below = [["Todos", "", ""], ["Paciente", "CPF", "Endereço", "Data"], ["Eva", "111.444.777-35", "Rua A, 1", ""]]
    rows = [["Paciente", "CPF"], *below]
    parameters = find_header(enumerate(rows, 1))
    assert parameters is not None
    assert parameters.row == 3
    data = find_header(enumerate([["Paciente", "CPF"], ["Ana", "529.982.247-25"], *below], 1))
    assert data is not None
    assert data.row == 1


CPFS = ("111.444.777-35", "529.982.247-25")


def told(text: str) -> tuple[list[dict[str, str]], dict[int | None, str]]:
    """The rows, and what was found wrong by its line."""
    found, problems = opened(text)
    return found, {one.row: one.found for one in problems}


class TestRowsOfNoAppointment:
    @pytest.mark.parametrize(
        "name",
        [
            "*** ALMOÇO ***",
            "Bloqueado - reunião",
            "Disponível p/ encaixe",
            "Sem agendamento",
            "(vazio)",
            "VAGO - confirmar",
            "Feriado nacional",
            "XXX",
            "0",
            "TOTAL GERAL: 3",
        ],
    )
    def test_free_slots_and_totals_are_none(self, name: str) -> None:
        assert told(f"Data;Hora;Paciente;CPF;Endereço\n01/12/2026;08:00;{name};;\n") == ([], {})

    @pytest.mark.parametrize("name", ["Reserva Alves", "Bia Livre", "Xavier"])
    def test_patients_are(self, name: str) -> None:
        assert rows(f"Data;Hora;Paciente;CPF;Endereço\n01/12/2026;08:00;{name};;\n")[0]["nome_paciente"] == name

    @pytest.mark.parametrize(
        "note",
        ["Emitido em 27/11/2026 por Maria", "Página 1 de 3", "Dr. João - Cardiologia", "Sala 3", "1 registro(s)"],
    )
    def test_notes_where_a_name_would_be_are_reported(self, note: str) -> None:
        found, problems = told(f"Paciente;CPF;Endereço\n{note};;\nAna;{CPFS[0]};{ADDRESS}\n")
        assert [one["nome_paciente"] for one in found] == ["Ana"]
        assert list(problems) == [2]

    @pytest.mark.parametrize("title", ["Médico;CRM;Telefone", "Prestador;CNPJ;Endereço", "Resumo;Quantidade;"])
    def test_a_table_of_something_else_is_reported_until_a_header_of_ours(self, title: str) -> None:
        text = f"Nome;CPF;Endereço\nAna;{CPFS[0]};{ADDRESS}\n;;\n{title}\nDr. X;12345;Av. B, 2\n"
        found, problems = told(text)
        assert [one["nome_paciente"] for one in found] == ["Ana"]
        assert list(problems) == [4, 5]
        assert "outra tabela" in problems[5]
        for below in (f"Bia;{CPFS[1]};{ADDRESS}\n", f"Nome;CPF;Endereço\nBia;1;{ADDRESS}\n"):
            assert [one["nome_paciente"] for one in rows(text + below)] == ["Ana", "Bia"]

    def test_a_row_whose_name_is_a_number_is_shifted(self) -> None:
        found, problems = told(f"Nome;Endereço;CPF\n{CPFS[0]};Ana;{ADDRESS}\nBia;{ADDRESS};{CPFS[1]}\n")
        assert [one["nome_paciente"] for one in found] == ["Bia"]
        assert problems == {2: "“000.000.000-00”"}


class TestWhoseColumns:
    def test_two_tables_beside_each_other_under_other_titles(self) -> None:
        text = f"Nome;CPF;Endereço;;Paciente;Documento;Endereço\nAna;{CPFS[0]};Rua A;;Bia;{CPFS[1]};Rua B\n"
        assert rows(text) == [
            {"nome_paciente": "Ana", "cpf": CPFS[0], "endereco_completo": "Rua A"},
            {"nome_paciente": "Bia", "documento_completo": CPFS[1], "endereco_completo": "Rua B"},
        ]

    def test_a_group_of_somebody_else_over_the_titles(self) -> None:
        text = f"PACIENTE;;RESPONSÁVEL;;ENDEREÇO\nNome;CPF;Nome;CPF;\nAna;{CPFS[0]};Maria;{CPFS[1]};Rua A\n"
        assert rows(text) == [{"nome_paciente": "Ana", "cpf": CPFS[0], "endereco_completo": "Rua A"}]

    @pytest.mark.parametrize("names", ["Ana | Bia", "1) Ana 2) Bia", "Ana - Bia", "Ana + Bia"])
    def test_two_names_and_two_documents_are_two_patients(self, names: str) -> None:
        assert told(f"Nome;CPF\n{names};{' '.join(CPFS)}\n")[0] == []
        assert told(f"Nome;Documento\n{names};RG 12.345.678-9, RG 98.765.432-1\n")[0] == []
        assert rows(f"Nome;CPF\n{names};{CPFS[0]}\n") == [{"nome_paciente": names, "cpf": CPFS[0]}]

    def test_an_address_of_collection_in_parts_stays_apart_from_the_other(self) -> None:
        titles = "Nome;CPF;Endereço;Número;Cidade;Endereço Coleta;Número Coleta;Cidade Coleta;UF Coleta"
        (values,) = rows(f"{titles}\nAna;1;Rua A;10;Campinas;Av. B;102;Cascavel;PR\n")
        assert values["endereco_coleta"] == "Av. B, nº 102, cidade: Cascavel, UF: PR"
        assert "endereco_completo" not in values

    def test_two_titles_of_one_meaning_are_not_joined(self) -> None:
        found, problems = told("Nome;CPF;Rua;Nº;Número;Cidade\nAna;1;Rua A;10;9001;Bauru\nBia;2;Rua B;;20;Bauru\n")
        assert [one["endereco_completo"] for one in found] == [
            "Rua A, nº 10, cidade: Bauru",
            "Rua B, nº 20, cidade: Bauru",
        ]
        assert problems[2] == "valores diferentes"

    @pytest.mark.parametrize("titles", ["Tipo;Documento", "Modelo do documento;Documento", "Tipo de documento;RG"])
    def test_the_kind_of_a_document_decides(self, titles: str) -> None:
        field = "rg" if titles.endswith("RG") else "documento_completo"
        (passport, other) = rows(f"Nome;{titles}\nAna;Passaporte;123456789\nBia;Consulta;123456789\n")
        assert (passport[field], other[field]) == ("Passaporte: 123456789", "123456789")


class TestTimesWithoutADate:
    ROW = f"08:00;Ana;{CPFS[0]};{ADDRESS}"

    def test_they_are_reported(self) -> None:
        found, problems = told(f"Hora;Paciente;CPF;Endereço\n{self.ROW}\n")
        assert "data_agendamento" not in found[0]
        assert problems == {2: "só a hora"}
        assert told(f"Data;Hora;Paciente;CPF;Endereço\n;{self.ROW}\n")[1] == {2: "só a hora"}

    @pytest.mark.parametrize("name", ["Agenda_01-12-2026.csv", "01.12.2026.csv", "terça-feira 01-12-2026.csv"])
    def test_the_name_of_the_file_may_tell_it(self, name: str) -> None:
        sheet = read(f"Hora;Paciente;CPF;Endereço\n{self.ROW}\n".encode(), name=name)
        assert [row.values["data_agendamento"] for row in sheet.rows()] == ["01/12/2026"]
        assert [one.found for one in sheet.problems] == ["a data só no nome da planilha; valeu 01/12/2026"]

    @pytest.mark.parametrize("title", ["Data:;01/12/2026;;", "Terça-feira 01/12/2026;;;"])
    def test_a_title_may(self, title: str) -> None:
        assert rows(f"{title}\nHora;Paciente;CPF;Endereço\n{self.ROW}\n")[0]["data_agendamento"] == "01/12/2026"

    @pytest.mark.parametrize("separator", ["02/12", "Quarta-feira", "dia 2"])
    def test_a_separator_that_is_half_a_date_ends_the_day_before(self, separator: str) -> None:
        found, problems = told(
            f"Hora;Paciente;CPF;Endereço\n01/12/2026;;;\n{self.ROW}\n{separator};;;\n{self.ROW.replace('Ana', 'Bia')}\n"
        )
        assert [one.get("data_agendamento") for one in found] == ["01/12/2026", None]
        assert list(problems) == [4, 5]


@pytest.mark.parametrize("value", ["#N/D", "#REF!", "#NOME?", "#DIV/0!", "Err:502"])
def test_an_error_written_as_text_is_no_value(value: str) -> None:
    sheet = read(f"Nome;CPF;Endereço\nAna;{value};{ADDRESS}\n".encode())
    (row,) = sheet.rows()
    assert ("cpf" in row.values, row.unread) == (False, {"cpf"})
    assert [one.found for one in sheet.problems] == [f"o erro {value}"]


@pytest.mark.parametrize(
    ("cep", "whole"), [("1.3010000E7", "13010-000"), ("1.3101E6", "01310-100"), ("1.3E+07", "1.3E+07")]
)
def test_numbers_as_programs_write_them(cep: str, whole: str) -> None:
    (values,) = rows(f"Nome;CPF;Rua;Nº;Cidade;CEP\nAna;1;Rua A;10.0;Bauru;{cep}\n")
    assert (values["endereco_completo"], values["cep"]) == ("Rua A, nº 10, cidade: Bauru", whole)
