"""Vocabulary of an operator: what titles mean beyond the names we know, and what stands in single cells instead.

Said for one sheet, whose file stays as it is; meanings of titles are kept for the clinic.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from normalizer.domain.text import fold
from normalizer.errors import InvalidInput
from normalizer.imports.spreadsheet.limits import refusal
from normalizer.imports.spreadsheet.titles import (
    ADDRESS_PARTS,
    FIELD_OF_NAME,
    IGNORED,
    IGNORED_NAMES,
    SINGLE_FIELDS,
    field_of,
    known_name,
    normalize_title,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from normalizer.imports.spreadsheet.columns import Header
    from normalizer.imports.spreadsheet.proposals import Proposal
    from normalizer.imports.spreadsheet.table import Cells

#: Normalized title to stored field, or `IGNORED`.
Meanings: TypeAlias = "Mapping[str, str]"

#: Every stored field a column may carry, as operators call it.
LABELS: Final = {
    "endereco_completo": "Endereço completo",
    "endereco_coleta": "Endereço de coleta",
    "tipo_logradouro": "Endereço: tipo (rua, avenida)",
    "logradouro": "Endereço: rua",
    "numero": "Endereço: número",
    "complemento": "Endereço: complemento",
    "bairro": "Endereço: bairro",
    "cidade": "Endereço: cidade",
    "estado": "Endereço: UF",
    "cep": "CEP",
    "documento_completo": "Documento (CPF, RG ou os dois)",
    "cpf": "CPF",
    "rg": "RG",
    "tipo_documento": "Tipo do documento",
    "digito": "Dígitos finais do CPF",
    "id_agendamento": "Id do agendamento",
    "nome_paciente": "Nome do paciente",
    "sobrenome": "Sobrenome do paciente",
    "inicio_agendamento": "Data e hora do agendamento",
    "data_agendamento": "Data do agendamento",
    "hora_agendamento": "Hora do agendamento",
    "nome_marca": "Nome da marca",
    "nome_unidade": "Nome da unidade",
    "status": "Status do agendamento",
    "tipo_consulta": "Exames ou tipo de consulta",
    "telefone": "Contato",
    "numero_convenio": "Número do convênio",
    "nome_convenio": "Nome do convênio",
    "carteira_convenio": "Carteira do convênio",
    "canal_confirmacao": "Canal da confirmação",
    "momento_confirmacao": "Data e hora da confirmação",
    "data_confirmacao": "Data da confirmação",
    "hora_confirmacao": "Hora da confirmação",
    "observacoes": "Observações",
    "carro": "Carro",
}
_MOST_CELLS: Final = 20_000
_LONGEST: Final = 500
_FIX_EDITS: Final = "Corrija a planilha e envie-a de novo."
_MOST_SAID: Final = 100
_LETTER: Final = re.compile("coluna [a-z]{1,3}")


class UnknownColumns(InvalidInput):
    """No column is known to carry an address or a document.

    `titles` are those an operator can explain, `untitled` the columns of a sheet without titles by their letters;
    `proposals`, what some of them may be.
    """

    titles: tuple[str, ...] = ()
    untitled: tuple[str, ...] = ()
    proposals: tuple[Proposal, ...] = ()


@dataclass(frozen=True, slots=True)
class CellEdits:
    """The text that stands for a cell, by (sheet, row) and column title."""

    by_row: Mapping[tuple[str, int], Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, said: Iterable[tuple[str, str, Iterable[int], str]]) -> Self:
        """From (sheet, column title, rows, text); the last word on a cell counts. Raises InvalidInput."""
        found: dict[tuple[str, int], dict[str, str]] = {}
        for sheet, title, rows, text in said:
            if len(text) > _LONGEST:
                raise refusal(f"até {_LONGEST} caracteres por célula", f"{len(text)}", _FIX_EDITS, "edicoes")
            for row in rows:
                found.setdefault((sheet, row), {})[title] = text
            if len(found) > _MOST_CELLS:
                raise refusal(f"até {_MOST_CELLS} linhas editadas", "mais", _FIX_EDITS, "edicoes")
        return cls(found)

    def applied(self, sheet: str, number: int, header: Header, cells: Cells) -> Cells:
        """The row's cells as they were edited."""
        wanted = self.by_row.get((sheet, number))
        if wanted is None:
            return cells
        changed = list(cells) + [""] * max(0, len(header.titles) - len(cells))
        for title, text in wanted.items():
            if title in header.titles:
                changed[header.titles.index(title)] = text
        return changed


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Meanings of titles.

    Attributes:
        said: for this sheet; it wins over known names and over what is remembered.
        remembered: from earlier imports, by scope: a header as a whole, or a brand.
        titles: those of `said`, as they were written.
        edits: cells of this sheet that stand otherwise than in the file.
    """

    said: Meanings = field(default_factory=dict)
    remembered: Mapping[str, Meanings] = field(default_factory=dict)
    titles: tuple[str, ...] = ()
    edits: CellEdits = field(default_factory=CellEdits)

    @classmethod
    def of(cls, pairs: Iterable[str], remembered: Mapping[str, Meanings] | None = None) -> Self:
        """From `título=campo` as an operator writes it. Raises InvalidInput."""
        said: dict[str, str] = {}
        titles = []
        for pair in pairs:
            title, name = _parted(pair)
            if (meaning := _field_of(title, name)) in said.values() and meaning in SINGLE_FIELDS:
                raise _refused(title, "esse campo em uma só coluna", f"outra coluna já indicada como {meaning}")
            said[normalize_title(title)] = meaning
            titles.append(title)
        if len(said) > _MOST_SAID:
            raise _refused(titles[_MOST_SAID], f"até {_MOST_SAID} colunas indicadas", f"{len(said)}")
        return cls(said, remembered or {}, tuple(titles))

    @property
    def is_of_letters(self) -> bool:
        """Whether columns are said by their letter, `Coluna C=cpf`: for a sheet without titles."""
        return any(_LETTER.fullmatch(name) for name in self.said)

    def of_header(self, names: Sequence[str]) -> Meanings:
        """What is said of, or remembered for, a row of these normalized titles."""
        return {**self.remembered.get(header_scope(names), {}), **self.said} if self.said or self.remembered else {}

    def of_brand(self, brand: str, names: Sequence[str]) -> Meanings:
        """The same with what is remembered for the brand: a name we know keeps its meaning under another header."""
        known = self.remembered.get(brand_scope(brand), {})
        fresh = {
            name: field for name, field in known.items() if known_name(name) not in FIELD_OF_NAME.keys() | IGNORED_NAMES
        }
        return {**fresh, **self.of_header(names)}

    def learned(self, header: Header, brand: str) -> dict[str, dict[str, str]]:
        """What is to be remembered of this header, by scope."""
        names = [normalize_title(title) for title in header.titles]
        here = {name: meaning for name, meaning in self.said.items() if name in names}
        scopes = [header_scope(names), *([brand_scope(brand)] if brand else [])]
        return dict.fromkeys(scopes, here) if here else {}

    def check_used(self, headers: Sequence[Header], where: str) -> None:
        """Raise InvalidInput where a title that was explained stands in no header."""
        present = {normalize_title(title) for header in headers for title in header.titles}
        for title in self.titles:
            if normalize_title(title) not in present:
                fix = "Escreva o título como está na planilha (maiúsculas e acentos não importam)."
                raise refusal("um título da planilha", "nenhuma coluna com ele", fix, f"{where}, coluna “{title[:80]}”")


def header_scope(names: Sequence[str]) -> str:
    """What stands for a header: the same titles in any order, and no title of it."""
    digest = hashlib.blake2b("\n".join(sorted(filter(None, names))).encode(), digest_size=12)
    return f"titulos:{digest.hexdigest()}"


def brand_scope(brand: str) -> str:
    """What stands for a brand, however it is written."""
    return f"marca:{fold(brand).strip()[:100]}"


def _parted(pair: str) -> tuple[str, str]:
    title, equals, name = pair.rpartition("=")
    if not (equals and normalize_title(title) and name.strip()):
        raise _refused(pair, "título=campo, por exemplo “Onde mora=endereco_completo”", "outra coisa")
    return title.strip(), name.strip()


def _field_of(title: str, name: str) -> str:
    if name.lower() == IGNORED or name in LABELS:
        return name.lower()
    if (known := field_of(name)) is not None and known not in ADDRESS_PARTS:
        return known
    raise _refused(title, f"um destes campos: {', '.join([*LABELS, IGNORED])}", f"“{name[:40]}”")


def _refused(title: str, expected: str, found: str) -> InvalidInput:
    return refusal(expected, found, "Corrija a indicação da coluna.", f"coluna “{title[:80]}”")
