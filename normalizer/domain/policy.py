"""Policy for addresses that are not there: whether a clinic needs one of every patient, of those it visits, of none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Self

from normalizer.domain.text import clean, fold

BRAND, UNIT = "nome_marca", "nome_unidade"
#: What a policy is decided by, beside the address itself.
FIELDS: Final = (BRAND, UNIT, "endereco_coleta", "carro", "tipo_consulta")
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
