"""An appointment as the deployed system stores it, and what normalizing one of its texts ends in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

from normalizer.domain.address import Address
from normalizer.domain.decision import Reason
from normalizer.domain.document import Document


class Kind(StrEnum):
    """The two texts of an appointment. The value names the sub-document under `normalizacao`."""

    ADDRESS = "endereco"
    DOCUMENT = "documento"


class Status(StrEnum):
    """`normalizacao.status`: what became of the appointment as a whole."""

    PENDING = "pendente"
    DONE = "concluido"
    REVIEW = "revisar"
    FAILED = "falhou"


class Origin(StrEnum):
    """`normalizacao.<kind>.origem`: who answered."""

    RULES = "regras"
    CACHE = "cache"
    MODEL = "llm"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class Normalized:
    """A grounded value, ready to be stored. `note` says what was left out of it, if anything."""

    value: Address | Document
    origin: Origin
    note: Reason | None = None


@dataclass(frozen=True, slots=True)
class Review:
    """Nothing may be stored; a person decides. `understood` holds the fields that were clear."""

    reason: Reason
    origin: Origin
    understood: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The appointment cannot be worked on at all; `cause` is shown to the operator."""

    cause: str


Outcome: TypeAlias = Normalized | Review | Rejected

# The fields the two texts are read from. A write of the result is conditional on all of them being unchanged.
ADDRESS_SOURCES = ("endereco_completo", "endereco_coleta", "cep")
DOCUMENT_SOURCES = ("documento_completo", "cpf", "rg")
# Beside the documents, what must not leave with an address that somebody typed it into.
PRIVATE_FIELDS = ("nome_paciente", "telefone", "telefone_informado", "carteira_convenio", "numero_convenio")


@dataclass(frozen=True, slots=True)
class Appointment:
    """One record as it was loaded.

    Args:
        id: as queued.
        sources: the stored values of the source fields, None where absent.
        status: None for a record that is not ours yet.
        corrected_at: when a person last corrected a kind's result; a kind nobody corrected is absent.
        by_hand: the corrected kinds whose texts are still those the person saw: no machine touches their results.
        import_id: the import that wrote on it last; None where no import did.
        private: what else of the patient no address text may carry out: the name first, then phone and card numbers.
    """

    id: str
    sources: Mapping[str, Any]
    status: Status | None = None
    corrected_at: Mapping[Kind, datetime] = field(default_factory=dict)
    by_hand: frozenset[Kind] = frozenset()
    import_id: str | None = None
    private: tuple[str, ...] = field(default=(), repr=False)

    def text(self, kind: Kind) -> str:
        """The text to normalize; empty when the appointment carries none."""
        return self._address_text() if kind is Kind.ADDRESS else self._document_text()

    def _address_text(self) -> str:
        address = self._source("endereco_completo") or self._source("endereco_coleta")
        cep = self._source("cep")
        carried = "".join(filter(str.isdigit, address))
        cep_digits = "".join(filter(str.isdigit, cep))
        if address and cep_digits and cep_digits not in carried:
            return f"{address}, CEP {cep}"
        return address

    def _document_text(self) -> str:
        whole = self._source("documento_completo")
        if whole:
            return whole
        labelled = (("CPF", self._source("cpf")), ("RG", self._source("rg")))
        return ", ".join(f"{label}: {value}" for label, value in labelled if value)

    def _source(self, field: str) -> str:
        value = self.sources.get(field)
        return "" if value is None else str(value).strip()
