"""The stored shape of an appointment: its name, and what is written on it. Pure: no client, no clock.

The one identity is the backend's field `id`; `_id` only where a record has none. Everybody above the store names an
appointment by this text; a job, a URL or an operator may still say `_id` instead.

Everything of ours lies under `normalizacao`, a sub-document (which are dicts here): `{status, endereco, documento,
tentativas, erro, atualizado_em, import_id, fence, revisao, linha, fontes}`. `revisao` grows with every write of ours;
`fence` is the claim that wrote last; `linha` and `fontes` are keyed hashes of the imported row and of its source texts;
`criado_por` and `tocado_por` are the imports that inserted it and wrote on it last. `refazer` lists the kinds whose
result is to be replaced even if it is not ours; `gravado` of a kind is the keyed hash of the result we wrote, so that
another's is told from it; `deduzido` names what the address has and its text does not say ("tipo", "estado"); `campos`,
`parecer`, `acao`, `conflito` and `sugestoes` are a postal base's word on it; a text that is not there has `origem`
"ausente". The backend's own account (`normalization_status`, `normalization_job_id`, `normalization_error`,
`updated_at`) is written with it. A kind that a person corrected carries `corrigido_em` and `corrigido_de`, the texts
the person saw. One that waits for a person carries `perguntas`, the keys of what is asked of it: equal texts share one.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Final, TypeAlias, assert_never

import orjson
from bson import ObjectId
from bson.binary import OLD_UUID_SUBTYPE, UUID_SUBTYPE, Binary

from normalizer.domain.address import RULES_VERSION
from normalizer.domain.address.explain import town_without_state
from normalizer.domain.address.postal import Verdict, Verdicts
from normalizer.domain.appointment import (
    ABSENT,
    ADDRESS_SOURCES,
    DOCUMENT_SOURCES,
    POLICY_FIELDS,
    PRIVATE_FIELDS,
    Absent,
    Appointment,
    Ending,
    Kind,
    Normalized,
    Origin,
    Outcome,
    Policies,
    Review,
    Status,
    Tracking,
    ending_of,
)
from normalizer.domain.text import canonical
from normalizer.store.connection import UNREADABLE

#: What the queue takes as an id.
MOST_CHARS: Final = 200
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_OBJECT_ID: Final = re.compile(r"[0-9a-f]{24}", re.ASCII | re.IGNORECASE)
_NUMBER: Final = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)


def identity_of(record: Mapping[str, Any]) -> str:
    """The text an appointment is known by."""
    return id_text(record.get("id")) or id_text(record["_id"]) or str(record["_id"])


def id_text(value: object) -> str:
    """An id as text; empty where the value cannot be one."""
    if isinstance(value, str):
        return value if len(value) <= MOST_CHARS and value.strip() else ""
    if isinstance(value, Binary) and value.subtype in {UUID_SUBTYPE, OLD_UUID_SUBTYPE} and len(value) == 16:
        return str(uuid.UUID(bytes=bytes(value)))
    return str(value) if isinstance(value, (ObjectId, uuid.UUID, int)) and not isinstance(value, bool) else ""


def forms_of(name: str) -> list[Any]:
    """The values that may be stored for an id that travels as text."""
    if _UUID.fullmatch(name):
        return [name, Binary(bytes.fromhex(name.replace("-", "")), UUID_SUBTYPE)]
    if _OBJECT_ID.fullmatch(name):
        return [name, ObjectId(name)]
    return [name, int(name)] if _NUMBER.fullmatch(name) else [name]


def named(names: Collection[str], field: str = "id") -> dict[str, Any]:
    """The filter on appointments by name, answered from the index on `id`; with `field`, from the one on `_id`."""
    return {field: {"$in": [form for name in names for form in forms_of(name)]}}


SOURCES: Mapping[Kind, Sequence[str]] = {Kind.ADDRESS: ADDRESS_SOURCES, Kind.DOCUMENT: DOCUMENT_SOURCES}
ALL_SOURCES = (*ADDRESS_SOURCES, *DOCUMENT_SOURCES)
RESULT_FIELD: Mapping[Kind, str] = {Kind.ADDRESS: "endereco_normalizado", Kind.DOCUMENT: "documento_normalizado"}
#: What a claim, and what the queue, has to know of an appointment; the first also where policies look at its unit.
LOADED: Mapping[str, int] = dict.fromkeys(
    [
        *("id", *ALL_SOURCES, *PRIVATE_FIELDS, *RESULT_FIELD.values(), "normalization_status"),
        *[f"normalizacao.{name}" for name in ("status", "import_id", "fence", "refazer")],
        *[
            f"normalizacao.{kind}.{name}"
            for kind in Kind
            for name in ("origem", "gravado", "corrigido_em", "corrigido_de")
        ],
    ],
    1,
)
LOADED_FOR_POLICIES: Mapping[str, int] = {**LOADED, **dict.fromkeys(POLICY_FIELDS, 1)}
PENDING_FIELDS = dict.fromkeys(("id", *ALL_SOURCES, "normalizacao.revisao", "normalizacao.import_id"), 1)
DOCUMENT_RULES_VERSION = 3
_VERSION: Mapping[Kind, int] = {Kind.ADDRESS: RULES_VERSION, Kind.DOCUMENT: DOCUMENT_RULES_VERSION}
_KINDS = tuple(Kind)
#: An address or a document as it is stored, by field.
Stored: TypeAlias = Mapping[str, str | None]
_NO_POLICIES = Policies()
_UNREADABLE = "registro ilegível: um campo não é texto UTF-8 ou não é BSON válido; corrija-o no MongoDB"
_STATUS: Mapping[object, Status] = {status.value: status for status in Status}
TRACKING: Mapping[Status, Sequence[Tracking]] = {
    Status.PENDING: (Tracking.PENDING, Tracking.PROCESSING),
    Status.DONE: (Tracking.COMPLETED, Tracking.SKIPPED),
    Status.REVIEW: (Tracking.FAILED,),
    Status.FAILED: (Tracking.FAILED,),
}
# Where the two accounts differ the backend's is the newer one: a replica of the old worker, or somebody's retry.
_TOLD: Mapping[object, tuple[Status, ...]] = {
    tracking.value: tuple(status for status in reversed(Status) if tracking in TRACKING[status])
    for tracking in Tracking
}
_ABOUT: Mapping[Kind, str] = {kind: f"normalizacao.{kind}" for kind in Kind}
_CORRECTED_AT: Mapping[Kind, str] = {kind: f"normalizacao.{kind}.corrigido_em" for kind in Kind}


@dataclass(slots=True)
class Result:
    """What one claim found out about one appointment, and what becomes of it: the `ending`.

    Args:
        appointment: as it was loaded; the write is refused when its texts have changed since.
        outcomes: one per enabled kind; a kind that is absent is never touched.
        fence: the claim's number; the write is refused when a newer claim has written.
        tries: how often the job was claimed, this time included.
        job_id: of that claim.
    """

    appointment: Appointment
    outcomes: Mapping[Kind, Outcome]
    fence: int
    tries: int
    job_id: str | None = None
    ending: Ending = field(init=False)

    def __post_init__(self) -> None:
        self.ending = ending_of(self.outcomes, self.appointment.kept)

    @property
    def fields_normalized(self) -> list[str]:
        """The result fields that this writes a value to."""
        return [RESULT_FIELD[kind] for kind, outcome in self.outcomes.items() if isinstance(outcome, Normalized)]


@dataclass(frozen=True, slots=True)
class Pending:
    """An appointment that waits to be normalized, and the fingerprint of the content it waits with."""

    id: str
    fingerprint: str


def appointment_of(record: Mapping[str, Any], *, secret: bytes, policies: Policies = _NO_POLICIES) -> Appointment:
    """The stored document as the rest of the program sees it."""
    mark = ours(record)
    # Most records wait for their first result.
    answered = [kind for kind in _KINDS if mark.get(kind) or record.get(RESULT_FIELD[kind])]
    asked = mark.get("refazer")
    again = frozenset([kind for kind in _KINDS if kind in asked]) if asked else frozenset()
    return Appointment(
        id=identity_of(record),
        key=record["_id"],
        sources={name: record.get(name) for name in ALL_SOURCES},
        status=status_of(record),
        corrected_at={kind: at for kind in answered if (at := about(record, kind).get("corrigido_em"))},
        kept=frozenset([kind for kind in answered if kind not in again and _is_kept(record, kind, secret)]),
        fence=mark.get("fence"),
        again=again,
        results={kind: record.get(field) for kind, field in RESULT_FIELD.items()},
        import_id=str(found) if (found := mark.get("import_id")) else None,
        private=tuple([record.get(name) for name in PRIVATE_FIELDS]),
        defect=_UNREADABLE if UNREADABLE in record else None,
        needs_address=policies.need_address(record),
    )


def status_of(record: Mapping[str, Any]) -> Status | None:
    """Where an appointment stands; None for one that neither we nor the backend keep account of."""
    own, told = _STATUS.get(ours(record).get("status")), _TOLD.get(record.get("normalization_status"))
    return own if not told or own in told else told[0]


def _is_kept(record: Mapping[str, Any], kind: Kind, secret: bytes) -> bool:
    """Whether a result stays: written by somebody else, changed since we wrote it, or a person's word."""
    mark, value = about(record, kind), record.get(RESULT_FIELD[kind])
    if mark and holds_by_hand(record, kind):
        return True
    if not isinstance(value, dict) or not any(value.values()):
        return False
    written = mark.get("gravado")
    return not mark if written is None else written != value_hash(value, secret=secret)


def holds_by_hand(record: Mapping[str, Any], kind: Kind) -> bool:
    """Whether a person's correction stands: made, and the texts are still those it was made on."""
    seen = about(record, kind).get("corrigido_de")
    return isinstance(seen, dict) and all(record.get(name) == seen.get(name) for name in SOURCES[kind])


def about(record: Mapping[str, Any], kind: Kind) -> Mapping[str, Any]:
    """What we noted of one kind; empty where we never wrote it."""
    found = ours(record).get(kind)
    return found if isinstance(found, dict) else {}


def pending_of(record: Mapping[str, Any], *, secret: bytes, later: int = 0) -> Pending:
    """Its id and fingerprint, once its revision has grown by so many."""
    return Pending(identity_of(record), fingerprint_of(record, revision_of(record) + later, secret=secret))


def fingerprint_of(sources: Mapping[str, Any], revision: int, *, secret: bytes) -> str:
    """What a job of it is named by. With the revision: the same text to be done again is a new job."""
    return keyed_hash([revision, *[sources.get(name) for name in ALL_SOURCES]], secret=secret)


def by_name(
    names: Sequence[str], records: Sequence[Mapping[str, Any]], *, secret: bytes, policies: Policies
) -> dict[str, Appointment]:
    """Appointments by the name they were asked for. Of several with one `id` the one that waits to be normalized."""
    found = [appointment_of(record, secret=secret, policies=policies) for record in records]
    by_id: dict[str, Appointment] = {}
    for each in found:
        if each.id not in by_id or each.status in {None, Status.PENDING}:
            by_id[each.id] = each
    if any(name not in by_id for name in names):
        by_id = {id_text(each.key): each for each in found} | by_id
    return {name: by_id[name] for name in names if name in by_id}


def revision_of(record: Mapping[str, Any]) -> int:
    """How often we have written on it."""
    found = ours(record).get("revisao")
    return int(found) if isinstance(found, int | float) else 0


def ours(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The sub-document `normalizacao`; empty when it is absent."""
    found = record.get("normalizacao")
    return found if isinstance(found, dict) else {}


def keyed_hash(content: object, *, secret: bytes) -> str:
    """16 hex digits. Keyed, because a bare hash of a CPF is reversed in minutes by hashing all CPFs."""
    packed = orjson.dumps(content, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    digest = _keyed(secret).copy()
    digest.update(packed)
    return digest.hexdigest()


@cache  # a process has one secret, and taking the key in is half of hashing a short text
def _keyed(secret: bytes) -> hashlib.blake2b:
    return hashlib.blake2b(key=secret[:64], digest_size=8)


def unchanged(result: Result) -> dict[str, Any]:
    """The filter that holds while texts and results are as loaded, nobody corrected them, no newer claim has written.

    None also matches an absent field; `$not $gt` also matches an absent fence. That an older claim may
    have written since is a filter of its own, `overtaking`: under an `$or` some servers leave the index on `_id` alone.
    """
    seen = result.appointment
    results = {RESULT_FIELD[kind]: _equal(seen.results.get(kind)) for kind in result.outcomes}
    return {**_untouched(result), **results, **not_fenced_off(result.fence)}


def overtaking(result: Result) -> dict[str, Any]:
    """The filter that holds where an older claim has written since; the results are then its, and give way."""
    fences = {"$ne": result.appointment.fence, "$not": {"$gt": result.fence}}
    return {**_untouched(result), "normalizacao.fence": fences}


def _untouched(result: Result) -> dict[str, Any]:
    seen = result.appointment
    condition: dict[str, Any] = {}
    for kind in result.outcomes:
        for name in SOURCES[kind]:
            condition[name] = _equal(seen.sources.get(name))
        condition[_CORRECTED_AT[kind]] = _equal(seen.corrected_at.get(kind))
    return condition


def _equal(value: object) -> object:
    """The condition that a field is this; what somebody stored must not be taken for an operator."""
    return value if value is None or isinstance(value, str) else {"$eq": value}


def not_fenced_off(fence: int) -> dict[str, Any]:
    """The filter that holds while no newer claim has written."""
    return {"normalizacao.fence": {"$not": {"$gt": fence}}}


def change_of(result: Result, now: datetime, *, secret: bytes) -> dict[str, Any]:
    """The update that writes a result. A field whose kind is not in the result is not named."""
    fields = account(result.ending, now)
    fields["normalizacao.fence"] = result.fence
    fields["normalizacao.tentativas"] = result.tries
    fields["normalization_job_id"] = result.job_id
    for kind, outcome in result.outcomes.items():
        fields |= _fields_of(kind, outcome, secret)
        if isinstance(outcome, Review):
            text = result.appointment.text(kind)
            asked = questions(kind, text, outcome.reason, outcome.understood, secret=secret)
            fields[_ABOUT[kind]]["perguntas"] = asked
    change: dict[str, Any] = {"$set": fields, "$inc": {"normalizacao.revisao": 1}}
    return change | {"$unset": {"normalizacao.refazer": ""}} if result.appointment.again else change


#: What a question's key begins with: a text of each kind, or what several texts lack.
QUESTION: Mapping[Kind, str] = {Kind.ADDRESS: "e", Kind.DOCUMENT: "d"}
LACK = "f"


def questions(kind: Kind, text: str, reason: str, understood: Mapping[str, str] | None, *, secret: bytes) -> list[str]:
    """The keys of what a text in review asks: what it means, and, if it names a town only, where that lies.

    Equal texts in review for one reason have one key, wherever they came from; nobody reads a text off it.
    """
    asked = [QUESTION[kind] + keyed_hash([kind, reason, canonical(text)], secret=secret)]
    town = town_without_state(text) if kind is Kind.ADDRESS and not (understood or {}).get("estado") else None
    return asked if town is None else [*asked, LACK + keyed_hash([LACK, town.name, *town.ufs], secret=secret)]


#: Shown where a failure has no cause: `writes.fail_without_room` leaves none.
NO_CAUSE: Final = "sem causa gravada (num registro de quase 16 MB ela não cabe)"


def failure_of(cause: str, fence: int, now: datetime) -> dict[str, Any]:
    """The update that ends an appointment as `falhou`; earlier results stay as they are."""
    noted = {"normalizacao.erro": cause, "normalizacao.fence": fence}
    fields = account(Ending(Status.FAILED, Tracking.FAILED, (cause,)), now) | noted
    return {"$set": fields, "$inc": {"normalizacao.revisao": 1}}


def waiting_again(now: datetime) -> dict[str, Any]:
    """The fields that make an appointment `pendente`, in both accounts."""
    return account(Ending(Status.PENDING, Tracking.PENDING), now) | {"normalization_job_id": None}


def account(ending: Ending, now: datetime) -> dict[str, Any]:
    """What both accounts say of an appointment from now on."""
    return {
        "normalizacao.status": str(ending.status),
        "normalizacao.erro": None,
        "normalizacao.atualizado_em": now,
        "normalization_status": str(ending.tracking),
        "normalization_error": "; ".join(ending.errors) or None,
        "updated_at": now,
    }


def _fields_of(kind: Kind, outcome: Outcome, secret: bytes) -> dict[str, Any]:
    match outcome:
        case Normalized():
            stored = outcome.value.as_dict()
            noted = noted_of(kind, outcome.origin, stored, secret)
            if outcome.note is not None:
                noted["motivo"] = str(outcome.note)
            if outcome.inferred:
                noted["deduzido"] = list(outcome.inferred)
            if outcome.verdicts is not None:
                noted |= _evidence(outcome.verdicts)
            return {**value_fields(kind, stored), _ABOUT[kind]: noted}
        case Review():
            noted = {"versao": _VERSION[kind], "origem": str(outcome.origin), "motivo": str(outcome.reason)}
            if outcome.understood:
                noted["entendido"] = dict(outcome.understood)
            return {RESULT_FIELD[kind]: None, _ABOUT[kind]: noted}
        case Absent():
            return {RESULT_FIELD[kind]: None, _ABOUT[kind]: noted_of(kind, Origin.RULES, None, secret)}
        case _:
            assert_never(outcome)


def _evidence(verdicts: Verdicts) -> dict[str, Any]:
    """What a postal base says: of each field, with the row that says so, and of the whole in one word."""
    fields = {
        name: {"veredito": finding.verdict.value, **({"base": str(finding.row)} if finding.row else {})}
        for name, finding in verdicts.fields.items()
    }
    noted: dict[str, Any] = {"campos": fields, "parecer": verdicts.summary.value, "acao": verdicts.action.value}
    if against := verdicts.having(Verdict.CONFLICT):
        noted["conflito"] = against  # only where there is one: an index of those alone finds them
    return noted | ({"sugestoes": dict(verdicts.suggestions)} if verdicts.suggestions else {})


def noted_of(kind: Kind, origin: Origin, stored: Stored | None, secret: bytes) -> dict[str, Any]:
    """Who gave a value and by which rules; `gravado` tells it from one that somebody else puts in its place."""
    if stored is None:
        return {"versao": _VERSION[kind], "origem": ABSENT}
    return {"versao": _VERSION[kind], "origem": str(origin), "gravado": value_hash(stored, secret=secret)}


def value_hash(value: Mapping[str, Any], *, secret: bytes) -> str:
    """What stands for a stored result; its empty fields do not count, since a typed model may drop them."""
    return keyed_hash({name: each for name, each in value.items() if each}, secret=secret)


def value_fields(kind: Kind, stored: Stored | None) -> dict[str, Any]:
    """The result, and for a document its mirrors `cpf` and `rg`: only those it has, so that nothing is erased."""
    if stored is None:
        return {RESULT_FIELD[kind]: None}
    mirrored = {name: stored[name] for name in ("cpf", "rg") if stored.get(name)} if kind is Kind.DOCUMENT else {}
    return {RESULT_FIELD[kind]: stored, **mirrored}
