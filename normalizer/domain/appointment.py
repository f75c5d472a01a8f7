"""An appointment as the deployed system stores it, what normalizing it ends in, and when an address is needed."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self, TypeAlias

from normalizer.domain.address import Address
from normalizer.domain.address.postal import Verdicts
from normalizer.domain.decision import Reason
from normalizer.domain.document import Document
from normalizer.domain.text import clean, fold


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


class Tracking(StrEnum):
    """`normalization_status`, the deployed backend's own account of the same appointment."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Origin(StrEnum):
    """`normalizacao.<kind>.origem`: who answered."""

    RULES = "regras"
    CACHE = "cache"
    MODEL = "llm"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class Normalized:
    """A grounded value, ready to be stored.

    `note` says what was left out of it, if anything; `inferred` what its text does not say itself (`deduzido`);
    `verdicts` what a postal base says of an address, where there is one.
    """

    value: Address | Document
    origin: Origin
    note: Reason | None = None
    inferred: tuple[str, ...] = ()
    verdicts: Verdicts | None = None


@dataclass(frozen=True, slots=True)
class Review:
    """Nothing may be stored; a person decides. `understood` holds the fields that were clear."""

    reason: Reason
    origin: Origin
    understood: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Absent:
    """There is no text, and so no question: the patient comes to the clinic, or gave no document. `reason` says so."""

    reason: Reason


Outcome: TypeAlias = Normalized | Review | Absent

#: `normalizacao.<kind>.origem` of a text that is not there.
ABSENT: Final = "ausente"
LABELS: Final[Mapping[Kind, str]] = {Kind.ADDRESS: "endereço", Kind.DOCUMENT: "documento"}


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of an appointment as a whole, in both accounts; `errors` are the reasons, in Portuguese."""

    status: Status
    tracking: Tracking
    errors: tuple[str, ...] = ()


_COMPLETED: Final = Ending(Status.DONE, Tracking.COMPLETED)
_SKIPPED: Final = Ending(Status.DONE, Tracking.SKIPPED)


def ending_of(outcomes: Mapping[Kind, Outcome], kept: Collection[Kind] = ()) -> Ending:
    """From the outcome of each text that was asked about; the results of `kept` kinds were there already."""
    errors = [f"{LABELS[kind]}: {each.reason}" for kind, each in outcomes.items() if isinstance(each, Review)]
    if errors:
        return Ending(Status.REVIEW, Tracking.FAILED, tuple(errors))
    return _COMPLETED if kept or Normalized in map(type, outcomes.values()) else _SKIPPED


# The fields the two texts are read from. A write of the result is conditional on all of them being unchanged.
ADDRESS_SOURCES = ("endereco_completo", "endereco_coleta", "cep")
DOCUMENT_SOURCES = ("documento_completo", "cpf", "rg")
# Beside the documents, what must not leave with an address that somebody typed it into.
PRIVATE_FIELDS = ("nome_paciente", "telefone", "telefone_informado", "carteira_convenio", "numero_convenio")


@dataclass(slots=True)  # one a row, and freezing its fields would be a third of reading it
class Appointment:
    """One record as it was loaded.

    Args:
        id: the one identity, as `normalizer.store.records` tells it.
        key: the store's own handle on the record.
        sources: the stored values of the source fields, None where absent.
        status: None for a record that is not ours yet.
        corrected_at: when a person last corrected a kind's result; a kind nobody corrected is absent.
        kept: kinds whose result is not ours to replace: somebody else wrote it, or a person corrected ours.
        results: what is stored as result of each kind, None where nothing is.
        fence: the claim of ours that wrote last.
        again: kinds that somebody asked for anew, results that are there included.
        defect: why the record cannot be worked on at all.
        import_id: the import that wrote on it last; None where no import did.
        needs_address: whether a missing address is a question for a person (`Policies`).
        private: what else of the patient no address text may carry out, as stored: the name, phone and card numbers.
    """

    id: str
    sources: Mapping[str, Any]
    key: Any = field(default=None, repr=False)
    status: Status | None = None
    corrected_at: Mapping[Kind, datetime] = field(default_factory=dict)
    kept: frozenset[Kind] = frozenset()
    results: Mapping[Kind, Any] = field(default_factory=dict, repr=False)
    fence: int | None = None
    again: frozenset[Kind] = frozenset()
    defect: str | None = None
    import_id: str | None = None
    needs_address: bool = False
    private: tuple[object, ...] = field(default=(), repr=False)

    def text(self, kind: Kind) -> str:
        """The text to normalize; empty when the appointment carries none."""
        return self._address_text() if kind is Kind.ADDRESS else self._document_text()

    def _address_text(self) -> str:
        address = self._source("endereco_completo") or self._source("endereco_coleta")
        cep = self._source("cep")
        cep_digits = "".join(filter(str.isdigit, cep))
        if address and cep_digits and cep_digits not in "".join(filter(str.isdigit, address)):
            return f"{address}, CEP {cep}"
        return address

    def _document_text(self) -> str:
        """The typed text, and beside it the numbers of the other two fields that it does not carry."""
        whole, cpf, rg = self._source("documento_completo"), self._source("cpf"), self._source("rg")
        if not cpf and not rg:
            return whole
        carried = "".join(filter(str.isdigit, whole))
        labelled = (("CPF", cpf), ("RG", rg))
        others = [f"{label}: {value}" for label, value in labelled if value and not _is_carried(value, carried)]
        return ", ".join([whole, *others] if carried or not others else others)

    def withheld(self) -> list[str]:
        """The document text, then the private ones: what must not leave with the address."""
        return [self.text(Kind.DOCUMENT), *map(text_of, self.private)]

    def is_unreadable(self, kind: Kind) -> bool:
        """Whether a source of the kind holds something, and it is no text and no number."""
        names = ADDRESS_SOURCES if kind is Kind.ADDRESS else DOCUMENT_SOURCES
        return any(not isinstance(self.sources.get(name), _TEXTUAL) for name in names)

    def _source(self, field: str) -> str:
        return text_of(self.sources.get(field))


_TEXTUAL: Final = (str, int, float, type(None))  # bool is an int, and says nothing of an address
_EMPTY_WORDS: Final = frozenset({"nan", "nat", "none", "null", "<na>"})  # an empty cell as a data frame writes it


def text_of(value: object) -> str:
    """A stored source as text; empty where it holds none, so that it hides no other source."""
    if isinstance(value, str):
        text = value.strip()
        return "" if len(text) <= 4 and text.casefold() in _EMPTY_WORDS else text
    if isinstance(value, float):
        if not math.isfinite(value):
            return ""
        return str(int(value)) if value.is_integer() else str(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def _is_carried(number: str, digits: str) -> bool:
    """Whether `digits` hold those of `number`, which may have got its zeros back since."""
    own = "".join(filter(str.isdigit, number)).lstrip("0")
    return bool(own) and own in digits


# -- policy: whether a clinic needs an address of every patient, of those it visits, of none --------------------------

BRAND, UNIT = "nome_marca", "nome_unidade"
#: What a policy is decided by, beside the address itself.
POLICY_FIELDS: Final = (BRAND, UNIT, "endereco_coleta", "carro", "tipo_consulta")
_SCOPES: Final = {BRAND: "marca", UNIT: "unidade"}
_SCOPE_CHARS: Final = 100
_AT_HOME: Final = re.compile(r"domicili|residencia|home ?care|\bem casa\b|\bmovel\b")


class WhenMissing(StrEnum):
    """When a missing address is a question for a person."""

    NEVER = "dispensado"
    HOME = "coleta"
    ALWAYS = "sempre"


def scope_of(name: str, value: object) -> str | None:
    """What stands for one brand or unit (`name` is the stored field), however it is written; None for no name."""
    text = " ".join(fold(clean(value)).split()) if isinstance(value, str) else ""
    return f"{_SCOPES[name]}:{text[:_SCOPE_CHARS]}" if text else None


def is_home_collection(record: Mapping[str, Any]) -> bool:
    """Whether somebody drives to the patient: a car is assigned, or exam or place of collection say so."""
    if str(record.get("carro") or "").strip():
        return True
    said = (record.get(name) for name in ("tipo_consulta", "endereco_coleta"))
    return any(isinstance(text, str) and _AT_HOME.search(fold(text)) for text in said)


@dataclass(frozen=True, slots=True)
class Policies:
    """What was decided, by scope; a unit's own word comes before its brand's, and without one nothing is needed."""

    by_scope: Mapping[str, WhenMissing] = field(default_factory=dict)

    @classmethod
    def of(cls, stored: Iterable[tuple[str, object]]) -> Self:
        """From what is stored; a word of another version counts as none."""
        known = set(WhenMissing)
        return cls({scope: WhenMissing(said) for scope, said in stored if isinstance(said, str) and said in known})

    def for_record(self, record: Mapping[str, Any]) -> WhenMissing:
        """The policy of an appointment's unit, else of its brand."""
        scopes = (scope_of(name, record.get(name)) for name in (UNIT, BRAND))
        return next((self.by_scope[one] for one in scopes if one and one in self.by_scope), WhenMissing.NEVER)

    def need_address(self, record: Mapping[str, Any]) -> bool:
        """Whether an appointment without an address is a question."""
        if not self.by_scope:
            return False
        policy = self.for_record(record)
        return policy is WhenMissing.ALWAYS or (policy is WhenMissing.HOME and is_home_collection(record))
