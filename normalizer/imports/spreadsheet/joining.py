"""Values that systems spread over several columns, brought into the one text a stored field is read from.

An address in parts becomes one text in the order of an address, each part under its label, so that the rules need not
guess: `Rua das Flores, nº 10, complemento: Ap 2, bairro: Centro, cidade: Campinas, UF: SP`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from normalizer.domain.document import Cpf, cpf_is_valid
from normalizer.domain.document.tokens import Label, label_of
from normalizer.domain.gazetteer import UF_NAMES
from normalizer.domain.text import fold

if TYPE_CHECKING:
    from collections.abc import Iterator

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
