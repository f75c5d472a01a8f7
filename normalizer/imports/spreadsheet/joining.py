"""Values of one row, before they are an appointment: brought together where they belong, and told from other rows.

Systems spread one text over several columns. An address in parts becomes one text in the order of an address, each part
under its label, so that the rules need not guess: `Rua das Flores, nº 10, complemento: Ap 2, bairro: Centro, UF: SP`.
Below a header also stand free slots, totals, notes, other tables, and two patients in a row.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from normalizer.domain.document import Cpf, cpf_is_valid
from normalizer.domain.document.tokens import Label, label_of
from normalizer.domain.gazetteer import UF_NAMES
from normalizer.domain.text import fold
from normalizer.imports.spreadsheet.titles import (
    ADDRESS_FIELDS,
    DOCUMENT_FIELDS,
    FIELD_OF_NAME,
    field_of,
    is_of_others,
    known_name,
    name_of,
    normalize_title,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from normalizer.imports.spreadsheet.table import Cells

_SEGMENTS: Final = re.compile(r"[,;/|()\n]| - ")
_LABEL: Final = re.compile(
    r"^(?:bairro|cidade|munic[ií]pio|uf|estado|complemento|n[º°o]|n[uú]mero)\s*[:.]\s*", re.IGNORECASE
)
_CITY_AND_STATE: Final = re.compile(r"(.+?)\s*[-/(,]\s*([A-Za-z]{2})\)?\s*")
_LABELS: Final = {
    "numero": "nº ",
    "complemento": "complemento: ",
    "bairro": "bairro: ",
    "cidade": "cidade: ",
    "estado": "UF: ",
}
_DECIMALS: Final = re.compile(r"(?<=[0-9])[.,]0+$")
_DOUBLE: Final = re.compile(r"[1-9](?:\.[0-9]{1,7})?[eE][67]")  # as Java writes a number, with all its digits
_STATES: Final = frozenset(map(fold, (*UF_NAMES, *UF_NAMES.values())))


def join_parts(values: dict[str, str], address_field: str) -> None:
    """Replace the parts in `values` by the texts they make up; those of an address by `address_field`."""
    if "sobrenome" in values:
        _join_name(values, values.pop("sobrenome"))
    if "digito" in values:
        _join_digits(values, values.pop("digito"))
    if "tipo_documento" in values:
        _label_document(values, values.pop("tipo_documento"))
    if "cep" in values:
        values["cep"] = _cep(values["cep"], values.get("estado", ""))
    if not values.keys().isdisjoint(_ADDRESS):
        _join_address(values, address_field)


_ADDRESS: Final = frozenset({"tipo_logradouro", "logradouro", *_LABELS})
#: What is joined into another field's text.
PARTS: Final = _ADDRESS | {"sobrenome", "digito", "tipo_documento"}


def _join_name(values: dict[str, str], surname: str) -> None:
    first = values.get("nome_paciente", "")
    if fold(surname) not in fold(first):
        values["nome_paciente"] = f"{first} {surname}".strip()


def _join_digits(values: dict[str, str], digits: str) -> None:
    """The check digits of a CPF that stand in a column of their own: joined where they hold."""
    for name in ("cpf", "documento_completo"):
        whole = f"{re.sub('[^0-9]', '', values.get(name, ''))}{digits.zfill(2)}"
        if cpf_is_valid(whole):
            values[name] = str(Cpf(whole))


def _label_document(values: dict[str, str], kind: str) -> None:
    """A document under the name of its kind, as its column of types says it; what is no kind says nothing."""
    labels = {label_of(word) for word in re.findall("[a-z]+", fold(kind))} - {Label.NONE}
    if labels and values.get("documento_completo"):
        values["documento_completo"] = f"{kind}: {values['documento_completo']}"
    elif labels and labels.isdisjoint({Label.CPF, Label.RG, Label.ANY}):  # a passport under “RG”
        for name in ("cpf", "rg"):
            if name in values:
                values[name] = f"{kind}: {values[name]}"


def _cep(text: str, state: str) -> str:
    """A CEP with the zero that Excel took: those of São Paulo alone begin with one."""
    if _DOUBLE.fullmatch(text):
        text = f"{float(text):.0f}"
    digits = re.sub("[^0-9]", "", _DECIMALS.sub("", text))
    if len(digits) == 7 and fold(state) in {"", "sp", "sao paulo"}:
        digits = f"0{digits}"
    return f"{digits[:5]}-{digits[5:]}" if len(digits) == 8 else text


def _join_address(values: dict[str, str], target: str) -> None:
    parts = {name: _LABEL.sub("", values.pop(name)).strip() for name in _ADDRESS if name in values}
    if "numero" in parts:
        parts["numero"] = _DECIMALS.sub("", parts["numero"])
    base = values.get(target) or " ".join(filter(None, (parts.get("tipo_logradouro"), parts.get("logradouro"))))
    if base:
        values[target] = ", ".join([base, *_labelled(parts, base)])


def _labelled(parts: dict[str, str], base: str) -> Iterator[str]:
    said = {fold(segment).strip() for segment in _SEGMENTS.split(base)}
    city = _CITY_AND_STATE.fullmatch(parts.get("cidade", ""))
    if city is not None and fold(city[2]) in _STATES:
        parts = {**parts, "cidade": city[1], "estado": parts.get("estado") or city[2]}
    for name, label in _LABELS.items():
        value = parts.get(name, "")
        if value and fold(value) not in said and (name != "estado" or fold(value) in _STATES):
            yield value if name == "numero" and not any(map(str.isdigit, value)) else f"{label}{value}"  # "S/N"


_WORDS: Final = re.compile("[a-z]+|[0-9]+")
_OF_FREE_SLOTS: Final = """
    vago vaga vagos vagas livre livres disponivel disponiveis bloqueado bloqueada bloqueio reservado reservada reserva
    almoco intervalo cafe lanche pausa folga feriado recesso reuniao fechado fechada ferias vazio vazia encaixe
    encaixes cancelado cancelada faltou ausente atende atender agendar agendamento agendamentos manha tarde noite
    x xx xxx xxxx
"""
_BESIDE_THOSE: Final = """
    horario hora hr agenda sem nao com para p de do da dos das o a e em no na por ate paciente pacientes confirmar
    nacional municipal estadual dr dra medico medica periodo turno
"""
# What a note begins with that stands alone where a patient's name would.
_OF_NOTES: Final = """
    soma qtd qtde registro registros fim legenda obs observacao observacoes emitido gerado impresso emissao pagina pag
    relatorio lista agenda agendamentos pacientes periodo filtro filtros dr dra doutor doutora profissional medico
    medica sala consultorio unidade setor especialidade resumo data dia nota atencao importante
"""
_OF_OTHER_TABLES: Final = """
    crm cnpj prestador profissional medico dentista especialidade resumo total valor preco descricao item quantidade
    qtd qtde observacao responsavel mae pai empresa fornecedor funcionario cargo setor email sexo idade
"""
_FREE, _BESIDE, _NOTES = (frozenset(words.split()) for words in (_OF_FREE_SLOTS, _BESIDE_THOSE, _OF_NOTES))
_TITLES: Final = frozenset(_OF_OTHER_TABLES.split()).union(*map(str.split, FIELD_OF_NAME))
_TOTALS: Final = frozenset({"total", "totais", "subtotal", "subtotais", "quantidade"})
_TITLE_CHARS: Final = 60
_NO_TITLE: Final = re.compile("[0-9]|^#")
_PARTED: Final = re.compile(r"\s*(?:[\r\n/;|&+]| - |\b[0-9]+ ?[).-]\s)\s*")
_AND_ANOTHER: Final = re.compile(r",|\be\b", re.IGNORECASE)
_CPF: Final = re.compile(r"(?<![0-9])[0-9]{3}\.?[0-9]{3}\.?[0-9]{3}[-/ ]?[0-9]{2}(?![0-9])")
_RG: Final = re.compile(r"(?<![0-9.])[0-9]{1,2}\.?[0-9]{3}\.?[0-9]{3}-?[0-9xX](?![0-9])")


def is_vacant(values: Mapping[str, str]) -> bool:
    """Whether the row is a slot nobody has, a total, or a title once more."""
    name = values.get("nome_paciente")
    if name is None or not values.keys().isdisjoint(ADDRESS_FIELDS | DOCUMENT_FIELDS):
        return False
    words = _WORDS.findall(fold(name))
    if not words or words[0] in _TOTALS or all(map(str.isdigit, words)):
        return True
    return (not _FREE.isdisjoint(words) and _FREE.union(_BESIDE).issuperset(words)) or field_of(name) is not None


def is_note(values: Mapping[str, str]) -> bool:
    """Whether what stands where a name would, and nothing beside it, is a heading or a page's foot."""
    if values.keys() != {"nome_paciente"}:
        return False
    words = _WORDS.findall(fold(values["nome_paciente"]))
    return words[0].isdigit() or not _NOTES.isdisjoint(words[:1])


def are_several(values: Mapping[str, str]) -> bool:
    """Whether two patients stand in one row: two names, and two documents of a kind."""
    name, text = values.get("nome_paciente", ""), f"{values.get('cpf', '')}\n{values.get('documento_completo', '')}"
    names = [part for part in _PARTED.split(name) if part]
    if len(names) < 2 and (not _AND_ANOTHER.search(name) or is_of_others(text)):
        return False
    valid = valid_cpfs(values)
    return len(valid) > 1 or (len(names) > 1 and not valid and len(set(_RG.findall(text + values.get("rg", "")))) > 1)


def valid_cpfs(values: Mapping[str, str]) -> set[str]:
    """The CPFs that stand in a row's document columns, by their digits."""
    found = _CPF.findall(f"{values.get('cpf', '')}\n{values.get('documento_completo', '')}")
    return {digits for one in found if cpf_is_valid(digits := re.sub("[^0-9]", "", one))}


def titles_of_another_table(cells: Cells) -> list[str]:
    """The titles in a row of data, where it can only be the header of a table that is none of appointments."""
    filled = [cell for cell in cells if isinstance(cell, str) and cell.strip()]
    if len(filled) < 2 or any(len(cell) > _TITLE_CHARS or _NO_TITLE.search(cell) for cell in filled):
        return []
    known = sum(map(_is_title, filled))
    return filled if known > 1 and 2 * known >= len(filled) else []


def _is_title(cell: str) -> bool:
    words = known_name(normalize_title(cell)).split()
    return bool(name_of(cell)) or (bool(words) and _TITLES.issuperset(words))
