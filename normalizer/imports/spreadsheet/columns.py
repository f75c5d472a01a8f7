"""Which column carries which stored field: known names, and the header row found by how many of them it holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from normalizer.domain.text import clean, fold

if TYPE_CHECKING:
    from collections.abc import Iterable

#: What a row of normalized titles means beyond the known names: title to field, or `IGNORED`.
Also: TypeAlias = Callable[[Sequence[str]], Mapping[str, str]]

KEY_FIELD: Final = "id_agendamento"
ADDRESS_FIELDS: Final = frozenset({"endereco_completo", "endereco_coleta", "cep"})
DOCUMENT_FIELDS: Final = frozenset({"documento_completo", "cpf", "rg"})
# Split into a date and a time field.
MOMENTS: Final = {
    "inicio_agendamento": ("data_agendamento", "hora_agendamento"),
    "momento_confirmacao": ("data_confirmacao", "hora_confirmacao"),
}

HEADER_SEARCH_ROWS: Final = 40
#: A column that was said to carry nothing of use.
IGNORED: Final = "ignorar"
_MIN_SCORE: Final = 2
_TOLD_SCORE: Final = 2  # a title that was explained makes a header by itself

# Stored field: the names it goes by in the deployed export first, then in other sheets, folded and without punctuation.
_NAMES: Final = {
    KEY_FIELD: "id do agendamento|id agendamento|codigo do agendamento|agendamento id",
    "nome_marca": "nome da marca|marca",
    "nome_unidade": "nome da unidade|unidade",
    "status": "status agendamento|status do agendamento|situacao|status",
    "inicio_agendamento": "data hora inicio agendamento|data hora inicio do agendamento|data hora agendamento"
    "|data e hora",
    "data_agendamento": "data agendamento|data do agendamento|data da consulta|data",
    "hora_agendamento": "hora agendamento|hora do agendamento|hora da consulta|horario|hora",
    "nome_paciente": "nome do paciente|nome paciente|paciente|nome completo|nome",
    "tipo_consulta": "nomes dos exames|tipo de consulta|tipo consulta|tipo da consulta|exame|exames|procedimento",
    "endereco_coleta": "endereco coleta|endereco de coleta|endereco da coleta",
    "endereco_completo": "endereco completo|endereco|endereco do paciente|endereco residencial|logradouro completo",
    "cep": "cep|codigo postal",
    "numero_convenio": "convenio|numero convenio|numero do convenio|codigo do convenio",
    "nome_convenio": "nome do convenio|nome convenio|plano|plano de saude",
    "carteira_convenio": "nr carteira|carteira convenio|numero da carteira|numero carteira|carteirinha|no carteira",
    "canal_confirmacao": "canal confirmacao|canal de confirmacao",
    "momento_confirmacao": "data hora confirmacao|data hora da confirmacao",
    "data_confirmacao": "data confirmacao|data da confirmacao",
    "hora_confirmacao": "hora confirmacao|hora da confirmacao",
    "observacoes": "observacao|observacoes|obs",
    "documento_completo": "documento s do paciente|documentos do paciente|documento do paciente|documento completo"
    "|documento|documentos",
    "cpf": "cpf|c p f|cpf do paciente|cpf paciente|no cpf|numero do cpf",
    "rg": "rg|r g|rg do paciente|rg paciente|identidade|no rg|numero do rg",
    "telefone": "contato s do paciente|contatos do paciente|contato do paciente|telefone|telefones|celular|contato",
    "carro": "carro|veiculo",
}
FIELD_OF_NAME: Final = {name: field for field, names in _NAMES.items() for name in names.split("|")}
# Columns of the deployed export that are read and not stored: known, so that they count when the header is looked for.
IGNORED_NAMES: Final = frozenset(
    [
        "codigo da unidade",
        "id da agenda",
        "codigo da sala",
        "nome da sala",
        "data hora fim agendamento",
        "codigos dos exames",
        "total exames",
        "categoria",
        "crm pedido medico",
        "canal de efetivacao",
        "usuario marcacao",
        "data da efetivacao",
        "status confirmacao",
        "nascimento",
    ]
)

_PUNCTUATION: Final = re.compile(r"[^0-9a-z]+")


@dataclass(frozen=True, slots=True)
class Header:
    """Where the header stands (1-based row) and which column (0-based) carries which stored field.

    Attributes:
        titles: as written, of every column.
        unknown: titles of columns nobody knows.
        told: titles that are read by what was said of them, with their field.
    """

    row: int
    columns: dict[int, str]
    titles: tuple[str, ...]
    unknown: tuple[str, ...]
    told: Mapping[str, str] = field(default_factory=dict)

    def title_of(self, field: str) -> str | None:
        """The title as written of the column that carries `field`."""
        return next((self.titles[i] for i, name in self.columns.items() if name == field), None)

    @property
    def fields(self) -> frozenset[str]:
        """The stored fields some column carries."""
        return frozenset(self.columns.values())

    def is_repeated_by(self, cells: Sequence[object]) -> bool:
        """Whether a data row is the header once more, as page breaks leave it."""
        return all(index < len(cells) and cells[index] == self.titles[index] for index in self.columns)


def normalize_title(title: object) -> str:
    """`Documento(s) do Paciente` → `documento s do paciente`."""
    if not isinstance(title, str) or len(title) > 200:
        return ""
    return _PUNCTUATION.sub(" ", fold(clean(title)).replace("º", "o").replace("ª", "a")).strip()


def find_header(rows: Iterable[tuple[int, Sequence[object]]], also: Also | None = None) -> Header | None:
    """Return the row that holds the most known titles among the first ones, or None when no row holds two of them.

    The first of equals wins, so data below that repeats the titles changes nothing.
    """
    best: Header | None = None
    best_score = _MIN_SCORE - 1
    for _, (number, cells) in zip(range(HEADER_SEARCH_ROWS), rows, strict=False):
        header, score = _read_header(number, cells, also)
        if score > best_score:
            best, best_score = header, score
    return best


def header_at(number: int, cells: Sequence[object], also: Also) -> Header:
    """That row read as the header."""
    return _read_header(number, cells, also)[0]


def _read_header(number: int, cells: Sequence[object], also: Also | None) -> tuple[Header, int]:
    names = [normalize_title(cell) for cell in cells]
    meanings = also(names) if also is not None else {}
    told = {index: meanings[name] for index, name in enumerate(names) if name in meanings}
    columns: dict[int, str] = {}
    for index, carried in told.items():
        if carried != IGNORED and carried not in columns.values():
            columns[index] = carried
    unknown: list[str] = []
    score = _TOLD_SCORE * len(told)
    for index, name in enumerate(names):
        if index in told:
            continue
        known = FIELD_OF_NAME.get(name)
        if known is not None and known not in columns.values():
            columns[index] = known
            score += 1
        elif name in IGNORED_NAMES:
            score += 1
        elif name:
            unknown.append(str(cells[index]))
    titles = tuple(str(cell) for cell in cells)
    said = {titles[index]: carried for index, carried in told.items()}
    return Header(number, dict(sorted(columns.items())), titles, tuple(unknown), said), score
