"""The stored shape of an appointment, and what is written on it. Pure: no client, no clock.

Everything of ours lies under `normalizacao`:
`{status, endereco, documento, tentativas, erro, atualizado_em, import_id, fence, revisao, linha, fontes}`.
`revisao` grows with every write of ours; `fence` is the claim that wrote last; `linha` and `fontes` are keyed hashes of
the imported row and of its source texts; `criado_por` and `tocado_por` are the imports that inserted it and wrote on it
last. A kind that a person corrected carries `corrigido_em` and `corrigido_de`, the texts the person saw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never

import orjson

from normalizer.domain.address import RULES_VERSION, Address
from normalizer.domain.appointment import (
    ADDRESS_SOURCES,
    DOCUMENT_SOURCES,
    PRIVATE_FIELDS,
    Appointment,
    Kind,
    Normalized,
    Origin,
    Outcome,
    Rejected,
    Review,
    Status,
)
from normalizer.domain.document import Document

SOURCES: Mapping[Kind, Sequence[str]] = {Kind.ADDRESS: ADDRESS_SOURCES, Kind.DOCUMENT: DOCUMENT_SOURCES}
ALL_SOURCES = (*ADDRESS_SOURCES, *DOCUMENT_SOURCES)
RESULT_FIELD: Mapping[Kind, str] = {Kind.ADDRESS: "endereco_normalizado", Kind.DOCUMENT: "documento_normalizado"}
DOCUMENT_RULES_VERSION = 2
_VERSION: Mapping[Kind, int] = {Kind.ADDRESS: RULES_VERSION, Kind.DOCUMENT: DOCUMENT_RULES_VERSION}
_KINDS = tuple(Kind)
_STATUS: Mapping[object, Status] = {status.value: status for status in Status}
_ABOUT: Mapping[Kind, str] = {kind: f"normalizacao.{kind}" for kind in Kind}
_CORRECTED_AT: Mapping[Kind, str] = {kind: f"normalizacao.{kind}.corrigido_em" for kind in Kind}


@dataclass(frozen=True, slots=True)
class Result:
    """What one claim found out about one appointment.

    Args:
        appointment: as it was loaded; the write is refused when its texts have changed since.
        outcomes: one per enabled kind; a kind that is absent is never touched.
        fence: the claim's number; the write is refused when a newer claim has written.
        tries: how often the job was claimed, this time included.
    """

    appointment: Appointment
    outcomes: Mapping[Kind, Outcome]
    fence: int
    tries: int


@dataclass(frozen=True, slots=True)
class Pending:
    """An appointment that waits to be normalized, and the fingerprint of the content it waits with."""

    id: str
    fingerprint: str


def appointment_of(record: Mapping[str, Any]) -> Appointment:
    """The stored document as the rest of the program sees it."""
    mark = ours(record)
    touched = [kind for kind in _KINDS if mark.get(kind)]  # most records were never corrected
    return Appointment(
        id=str(record["_id"]),
        sources={name: record.get(name) for name in ALL_SOURCES},
        status=_STATUS.get(mark.get("status")),
        corrected_at={kind: at for kind in touched if (at := _about(record, kind).get("corrigido_em"))},
        by_hand=frozenset(kind for kind in touched if holds_by_hand(record, kind)),
        import_id=str(found) if (found := mark.get("import_id")) else None,
        private=tuple([str(record.get(name) or "") for name in PRIVATE_FIELDS]),
    )


def sources_hash(fields: Mapping[str, Any], *, secret: bytes) -> str:
    """What stands for all source texts, as `fontes`."""
    return keyed_hash({name: fields.get(name) for name in ALL_SOURCES}, secret=secret)


def holds_by_hand(record: Mapping[str, Any], kind: Kind) -> bool:
    """Whether a person's correction stands: made, and the texts are still those it was made on."""
    seen = _about(record, kind).get("corrigido_de")
    return isinstance(seen, Mapping) and all(record.get(name) == seen.get(name) for name in SOURCES[kind])


def _about(record: Mapping[str, Any], kind: Kind) -> Mapping[str, Any]:
    found = ours(record).get(kind)
    return found if isinstance(found, Mapping) else {}


def pending_of(record: Mapping[str, Any], *, secret: bytes) -> Pending:
    """Its id and fingerprint. The revision is part of the content: the same text to be done again is a new job."""
    content = [record.get(name) for name in ALL_SOURCES]
    return Pending(str(record["_id"]), keyed_hash([revision_of(record), *content], secret=secret))


def revision_of(record: Mapping[str, Any]) -> int:
    """How often we have written on it."""
    return int(ours(record).get("revisao") or 0)


def ours(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The sub-document `normalizacao`; empty when it is absent."""
    found = record.get("normalizacao")
    return found if isinstance(found, Mapping) else {}


def keyed_hash(content: object, *, secret: bytes) -> str:
    """16 hex digits. Keyed, because a bare hash of a CPF is reversed in minutes by hashing all CPFs."""
    packed = orjson.dumps(content, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.blake2b(packed, key=secret[:64], digest_size=8).hexdigest()


def status_of(outcomes: Mapping[Kind, Outcome]) -> Status:
    """`falhou` if any text was rejected, `revisar` if any needs a person, else `concluido`."""
    found = set(map(type, outcomes.values()))
    if Rejected in found:
        return Status.FAILED
    return Status.REVIEW if Review in found else Status.DONE


def unchanged(result: Result) -> dict[str, Any]:
    """The filter that holds while the texts are the ones normalized, nobody corrected them, no newer claim has written.

    `$eq` also matches an absent field against None; `$not $gt` also matches an absent fence.
    """
    seen = result.appointment
    texts = {name: {"$eq": seen.sources.get(name)} for kind in result.outcomes for name in SOURCES[kind]}
    by_hand = {_CORRECTED_AT[kind]: {"$eq": seen.corrected_at.get(kind)} for kind in result.outcomes}
    return {**texts, **by_hand, **not_fenced_off(result.fence)}


def not_fenced_off(fence: int) -> dict[str, Any]:
    """The filter that holds while no newer claim has written."""
    return {"normalizacao.fence": {"$not": {"$gt": fence}}}


def change_of(result: Result, now: datetime) -> dict[str, Any]:
    """The update that writes a result. A field whose kind is not in the result is not named."""
    cause = next((outcome.cause for outcome in result.outcomes.values() if isinstance(outcome, Rejected)), None)
    fields: dict[str, Any] = _closing(status_of(result.outcomes), cause, result.fence, now)
    fields["normalizacao.tentativas"] = result.tries
    for kind, outcome in result.outcomes.items():
        fields |= _fields_of(kind, outcome)
    return {"$set": fields, "$inc": {"normalizacao.revisao": 1}}


def failure_of(cause: str, fence: int, now: datetime) -> dict[str, Any]:
    """The update that ends an appointment as `falhou`; earlier results stay as they are."""
    return {"$set": _closing(Status.FAILED, cause, fence, now), "$inc": {"normalizacao.revisao": 1}}


def corrected_change(
    record: Mapping[str, Any], values: Mapping[Kind, Address | Document], now: datetime
) -> dict[str, Any]:
    """The update that writes a person's results, and remembers the texts the person saw."""
    fields: dict[str, Any] = {}
    for kind, value in values.items():
        written = _value_fields(kind, value)
        seen = {name: written.get(name, record.get(name)) for name in SOURCES[kind]}
        about = {"origem": Origin.MANUAL.value, "versao": _VERSION[kind], "corrigido_em": now, "corrigido_de": seen}
        fields |= {**written, _ABOUT[kind]: about}
    status = _status_after(record, [kind for kind in Kind if kind not in values])
    if status is not _status_of(record):
        fields |= {"normalizacao.status": status.value, "normalizacao.erro": None}
    fields |= {"normalizacao.atualizado_em": now, "updated_at": now}
    return {"$set": fields, "$inc": {"normalizacao.revisao": 1}}


def _status_after(record: Mapping[str, Any], rest: Sequence[Kind]) -> Status:
    """The status once a person has settled all but the `rest`: what is still to be done there decides."""
    status = _status_of(record)
    if rest and status is Status.PENDING:
        return status
    empty = [kind for kind in rest if record.get(RESULT_FIELD[kind]) is None]
    if any(_about(record, kind).get("motivo") is not None for kind in empty):
        return Status.REVIEW
    return status if empty and status is Status.FAILED else Status.DONE


def _closing(status: Status, cause: str | None, fence: int, now: datetime) -> dict[str, Any]:
    return {
        "normalizacao.status": status.value,
        "normalizacao.erro": cause,
        "normalizacao.fence": fence,
        "normalizacao.atualizado_em": now,
        "updated_at": now,
    }


def _fields_of(kind: Kind, outcome: Outcome) -> dict[str, Any]:
    match outcome:
        case Normalized():
            about = {"origem": outcome.origin.value, "versao": _VERSION[kind]}
            if outcome.note is not None:
                about["motivo"] = outcome.note.value
            return {**_value_fields(kind, outcome.value), _ABOUT[kind]: about}
        case Review():
            about = {"origem": outcome.origin.value, "versao": _VERSION[kind], "motivo": outcome.reason.value}
            understood = {"entendido": dict(outcome.understood)} if outcome.understood else {}
            return {RESULT_FIELD[kind]: None, _ABOUT[kind]: {**about, **understood}}
        case Rejected():
            return {}
        case _:
            assert_never(outcome)


def _value_fields(kind: Kind, value: Address | Document) -> dict[str, Any]:
    """The result, and for a document its mirrors `cpf` and `rg`: only those it has, so that nothing is erased."""
    stored = value.as_dict()
    mirrored = {name: stored[name] for name in ("cpf", "rg") if stored.get(name)} if kind is Kind.DOCUMENT else {}
    return {RESULT_FIELD[kind]: stored, **mirrored}


def _status_of(record: Mapping[str, Any]) -> Status | None:
    return _STATUS.get(ours(record).get("status"))
