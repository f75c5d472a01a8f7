"""Decision on one text: settled with a value, or undecided with a reason an operator understands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")


class Reason(StrEnum):
    """The closed list of reasons for review or for a note. The value is what is stored and shown as `motivo`."""

    ADDRESS_MISSING = "endereço não informado"
    ADDRESS_JUNK = "texto não é um endereço"
    ADDRESS_FOREIGN = "endereço fora do Brasil"
    STREET_UNKNOWN = "rua não identificada"
    CITY_UNKNOWN = "cidade não identificada"
    STATE_UNKNOWN = "estado não identificado"
    NUMBER_AMBIGUOUS = "número ambíguo"
    DISTRICT_AMBIGUOUS = "bairro ambíguo"
    ADDRESS_AMBIGUOUS = "mais de uma leitura possível"
    CITY_STATE_CONFLICT = "cidade e estado não combinam"
    CEP_STATE_CONFLICT = "CEP e estado não combinam"
    TEXT_UNEXPLAINED = "parte do texto ficou sem explicação"
    TEXT_TOO_LONG = "texto longo demais"
    DOCUMENT_MISSING = "documento não informado"
    NOT_TEXT = "campo gravado com um tipo que não é texto"
    DOCUMENT_JUNK = "texto não traz CPF nem RG"
    CPF_CHECK_DIGIT = "CPF com dígito inválido"
    CPF_LENGTH = "CPF com quantidade de dígitos inválida"
    CPF_MASKED = "CPF incompleto ou mascarado"
    EXCEL_SCIENTIFIC = "número truncado pelo Excel (notação científica)"
    RG_INVALID = "RG inválido"
    DOCUMENT_AMBIGUOUS = "documento ambíguo"
    DOCUMENT_OF_OTHERS = "documento de outra pessoa"
    DOCUMENT_OF_SEVERAL = "documentos de vários pacientes"
    NOT_GROUNDED = "resposta com valor que não está no texto"
    MODEL_NO_ANSWER = "modelo não soube responder"
    MODEL_REFUSED = "modelo recusou o texto"
    NO_MODEL_KEY = "sem chave de IA configurada"
    MODEL_BUDGET = "orçamento diário de IA esgotado"


@dataclass(frozen=True, slots=True)
class Settled(Generic[T]):
    """A value the text carries.

    `note` tells what was left out (an invalid CPF beside a good RG); `inferred` names what the text does not say itself
    (`deduzido`): a street's type, a state.
    """

    value: T
    note: Reason | None = None
    inferred: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Undecided:
    """No value may be stored. `understood` holds the fields that were clear, by stored field name."""

    reason: Reason
    understood: Mapping[str, str] | None = None


Decision: TypeAlias = Settled[T] | Undecided
