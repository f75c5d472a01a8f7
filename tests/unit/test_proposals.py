"""Columns of titles nobody knows, or of none: the right field is proposed by what stands in the cells."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from normalizer.domain.document import format_cpf
from normalizer.domain.document.value import _CHECK_DIGIT
from normalizer.imports.importing import import_sheet
from normalizer.imports.spreadsheet import UnknownColumns, Vocabulary, read
from normalizer.imports.spreadsheet.titles import field_of
from tests.unit.test_imports import MemoryQueue, MemoryStore

pytestmark = pytest.mark.usefixtures("read_here")

SHEETS = 60
FIRST = [
    "Ana",
    "Maria",
    "José",
    "João",
    "Carla",
    "Paulo",
    "Lucas",
    "Beatriz",
    "Rita",
    "Davi",
    "Helena",
    "Otávio",
    "Zuleica",
    "Ademir",
    "Sônia",
    "Marcos",
]
LAST = ["Silva", "Souza", "Lima", "Alves", "Rocha", "Prado", "Nunes", "Teixeira", "Moraes", "Castro"]
STREETS = ["Rua das Flores", "Av. Brasil", "R. Sete de Setembro", "Travessa do Sol", "Alameda Santos", "Rua São João"]
CITIES = [("Campinas", "SP"), ("Cascavel", "PR"), ("Belo Horizonte", "MG"), ("Recife", "PE"), ("Niterói", "RJ")]
DISTRICTS = ["Centro", "Jardim América", "Vila Nova", "Parque das Nações", "Setor Bueno", "Boa Vista", "Savassi"]
# A field, what hides it from the known names, and how its cells are written.
Cells = Callable[[random.Random], str]


def cpf(rng: random.Random) -> str:
    digits = f"{rng.randrange(10**9):09}"
    for _ in range(2):
        weights = range(len(digits) + 1, 1, -1)
        digits += _CHECK_DIGIT[sum(int(d) * w for d, w in zip(digits, weights, strict=True)) % 11]
    return digits


def masked(rng: random.Random) -> str:
    return format_cpf(cpf(rng)) if rng.random() < 0.97 else "não trouxe"


def rg(rng: random.Random) -> str:
    return f"{rng.randrange(10, 60)}.{rng.randrange(1000):03}.{rng.randrange(1000):03}-{rng.choice('0123456789X')}"


def phone(rng: random.Random) -> str:
    return rng.choice(["(19) 9{}-{}", "11 9{}{}", "+55 41 9{}-{}"]).format(rng.randrange(1000, 9999), "0001")


def street(rng: random.Random) -> str:
    return rng.choice(STREETS)


def address(rng: random.Random) -> str:
    city, state = rng.choice(CITIES)
    return f"{street(rng)}, {rng.randrange(1, 2000)}, {rng.choice(DISTRICTS)}, {city} - {state}"


def person(rng: random.Random) -> str:
    return f"{rng.choice(FIRST)} {rng.choice(LAST)} {rng.choice(LAST)}"


def day(rng: random.Random) -> str:
    return f"{rng.randrange(1, 29):02}/{rng.randrange(11, 13)}/2026"


def birthday(rng: random.Random) -> str:
    return f"{rng.randrange(1, 29):02}/{rng.randrange(1, 13):02}/{rng.randrange(1940, 2020)}"


def hour(rng: random.Random) -> str:
    return rng.choice(["{:02}:{:02}", "{}h{:02}"]).format(rng.randrange(7, 18), rng.choice([0, 15, 30, 45]))


#: The fields of a sheet, some always together: (field, odd titles, cells).
COLUMNS: list[tuple[str, list[str], Cells]] = [
    ("cpf", ["Identificação", "Doc1", "Nº fiscal", "Inscrição"], masked),
    ("cpf", ["Ident", "Cad. pessoa"], cpf),
    ("rg", ["Cédula", "Doc2", "Id civil"], rg),
    ("documento_completo", ["Papéis", "Documentação"], lambda rng: f"CPF {masked(rng)} RG {rg(rng)}"),
    ("telefone", ["Falar com", "Ligar", "Zap"], phone),
    ("endereco_completo", ["Onde mora", "Residência", "Local"], address),
    ("nome_paciente", ["Quem", "Pessoa", "Atender"], person),
    ("data_agendamento", ["Quando", "Dia marcado"], day),
    ("hora_agendamento", ["Momento", "Chegada"], hour),
    ("inicio_agendamento", ["Quando é", "Marcação"], lambda rng: f"{day(rng)} {hour(rng)}"),
    ("cep", ["Postal", "Cod. correio"], lambda rng: f"{rng.randrange(1000, 20000):05}-{rng.randrange(1000):03}"),
    ("status", ["Posição", "Andamento"], lambda rng: rng.choice(["Agendado", "Confirmado", "Cancelado", "Realizado"])),
    ("nome_convenio", ["Fonte pagadora", "Quem paga"], lambda rng: rng.choice(["Unimed", "Particular", "Amil One"])),
    ("tipo_consulta", ["Fazer", "Serv"], lambda rng: rng.choice(["Hemograma", "Consulta", "Raio X tórax", "Retorno"])),
]
PARTS: list[tuple[str, list[str], Cells]] = [
    ("logradouro", ["Via", "Ende"], street),
    ("numero", ["Casa nº", "Num.casa"], lambda rng: str(rng.randrange(1, 3000)) if rng.random() < 0.95 else "S/N"),
    ("complemento", ["Ap/bloco", "Resto"], lambda rng: rng.choice(["Ap 12", "Casa 2", "Bloco B", "Fundos", ""])),
    ("bairro", ["Região", "Zona/bairro"], lambda rng: rng.choice(DISTRICTS)),
    ("cidade", ["Localid", "Munic"], lambda rng: rng.choice(CITIES)[0]),
    ("estado", ["Unid fed", "Est"], lambda rng: rng.choice(CITIES)[1]),
]
#: Columns that are nothing we store: nothing may be proposed for them.
STRANGE: list[tuple[str, Cells]] = [
    ("Prontuário", lambda rng: str(rng.randrange(10_000, 99_999))),
    ("Correio eletrônico", lambda rng: f"{rng.choice(FIRST).lower()}@exemplo.invalid"),
    ("Sexo", lambda rng: rng.choice("FM")),
    ("Preço", lambda rng: f"R$ {rng.randrange(50, 900)},00"),
    ("Veio ao mundo", birthday),
    ("Profissional", lambda rng: rng.choice(["Dra. Ana Lima", "Dr. Paulo Prado"])),
    ("CPF da mãe", cpf),
    ("Cartão SUS", lambda rng: f"7{rng.randrange(10**14):014}"),
]


def sheet(seed: int) -> tuple[str, dict[str, str]]:
    """A csv, and the field of each of its columns by title; every fourth has no titles at all."""
    rng = random.Random(seed)
    parts = rng.random() < 0.4
    fields = [column for column in COLUMNS if not (parts and column[0] == "endereco_completo")]
    chosen = {}
    for field, titles, cells in rng.sample(fields, 6):
        alike = {"documento_completo": ("cpf", "rg"), "inicio_agendamento": ("data_agendamento", "hora_agendamento")}
        clash = {*alike.get(field, ()), *(one for one, others in alike.items() if field in others), field}
        if clash.isdisjoint(chosen):
            chosen[field] = (rng.choice(titles), cells)
    columns = [(title, field, cells) for field, (title, cells) in chosen.items()]
    columns += [(title, "", cells) for title, cells in rng.sample(STRANGE, 3)]
    rng.shuffle(columns)
    if parts:  # systems export them side by side
        columns += [(rng.choice(titles), field, cells) for field, titles, cells in PARTS]
    rows = [";".join(cells(rng) for _, _, cells in columns) for _ in range(rng.choice([8, 30, 120]))]
    titles = [title for title, _, _ in columns]
    if seed % 4 == 0:
        titles = [f"Coluna {chr(ord('A') + at)}" for at in range(len(columns))]
    else:
        rows.insert(0, ";".join(titles))
    return "\n".join(rows), {title: field for title, (_, field, _) in zip(titles, columns, strict=True)}


def proposed(text: str) -> dict[str, str]:
    try:
        opened = read(text.encode())
    except UnknownColumns as refused:
        return {one.title: one.field for one in refused.proposals}
    assert list(opened.rows())
    return {one.title: one.field for one in opened.proposals()}


def test_the_right_field_is_proposed_and_none_for_what_is_none() -> None:
    right = wanted = 0
    for seed in range(SHEETS):
        text, fields = sheet(seed)
        found = proposed(text)
        for title, field in fields.items():
            if field and field_of(title) is None:
                wanted += 1
                right += found.get(title) == field
            elif not field and seed % 4:
                assert title not in found, f"{title}: {found[title]} in sheet {seed}"
    assert wanted > SHEETS * 4
    assert right / wanted >= 0.95


def test_a_proposal_says_why_in_words_and_shows_shapes_alone() -> None:
    rng = random.Random(5)
    cells = [masked(rng) for _ in range(40)]
    with pytest.raises(UnknownColumns) as caught:
        read("\n".join(["Quem;Inscrição", *(f"{person(rng)};{cell}" for cell in cells)]).encode())
    one = next(one for one in caught.value.proposals if one.title == "Inscrição")
    share = sum("." in cell for cell in cells) / len(cells)
    assert (one.field, one.evidence) == ("cpf", f"{round(100 * share)} % são CPFs válidos")
    assert one.examples == ("“000.000.000-00”",)
    assert f"“Inscrição” pode ser CPF: {one.evidence}" in str(caught.value)


def test_nothing_is_taken_by_default_and_an_accepted_one_is_remembered() -> None:
    text = "Pessoa;Onde mora;Inscrição;CPF\nAna Lima;Rua A, 1, Centro, Campinas - SP;x;111.444.777-35".encode()
    opened = read(text)
    assert [row.values for row in opened.rows()] == [{"cpf": "111.444.777-35"}]
    assert {one.title: one.field for one in opened.proposals()} == {
        "Pessoa": "nome_paciente",
        "Onde mora": "endereco_completo",
    }
    accepted = read(text, vocabulary=Vocabulary.of(["Onde mora=endereco_completo"]))
    again = read(text, vocabulary=Vocabulary.of([], accepted.learned))
    assert [row.values["endereco_completo"] for row in again.rows()] == ["Rua A, 1, Centro, Campinas - SP"]


def test_a_title_that_its_cells_contradict_is_told_and_still_read_as_it_says() -> None:
    rng = random.Random(7)
    rows = [f"{person(rng)};{phone(rng)};{cpf(rng)};{address(rng)}" for _ in range(30)]
    opened = read("\n".join(["Nome;CPF;Telefone;Endereço", *rows]).encode())
    first = next(opened.rows())
    assert first.values["cpf"].startswith(("(19)", "11", "+55"))
    assert len(list(opened.rows())) == 30
    assert {one.title: one.field for one in opened.proposals()} == {"CPF": "telefone", "Telefone": "cpf"}


def test_columns_without_titles_are_said_by_their_letter_and_not_remembered() -> None:
    text = b"Ana Lima;111.444.777-35\nBia Rocha;529.982.247-25\n"
    opened = read(text, vocabulary=Vocabulary.of(["Coluna A=nome_paciente", "coluna b=cpf"]))
    assert [(row.number, row.values) for row in opened.rows()] == [
        (1, {"nome_paciente": "Ana Lima", "cpf": "111.444.777-35"}),
        (2, {"nome_paciente": "Bia Rocha", "cpf": "529.982.247-25"}),
    ]
    assert opened.learned == {}


async def test_the_preview_carries_them() -> None:
    text = "Nome;Inscrição;CEP\nAna;111.444.777-35;13010-000".encode()
    report = await import_sheet(text, store=MemoryStore(), enqueue=MemoryQueue().enqueue_many, dry_run=True)
    assert report.as_dict()["proposals"] == [
        {
            "title": "Inscrição",
            "field": "cpf",
            "evidence": "100 % são CPFs válidos",
            "examples": ["“000.000.000-00”"],
        }
    ]
