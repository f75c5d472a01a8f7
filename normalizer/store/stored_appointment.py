"""`StoredAppointment`: an appointment as people look at it, and the update that a person's correction of it is.

What was typed, what became of it, and by whom. It holds a patient's data: who shows it masks it. The worker's own view
is `normalizer.domain.appointment.Appointment`. Pure: no client, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Self, TypeAlias

from normalizer.domain.address import Address
from normalizer.domain.appointment import LABELS, Appointment, Ending, Kind, Origin, Status, Tracking
from normalizer.domain.document import Document
from normalizer.store.connection import utc
from normalizer.store.records import (
    ALL_SOURCES,
    NO_CAUSE,
    RESULT_FIELD,
    SOURCES,
    about,
    account,
    identity_of,
    noted_of,
    ours,
    revision_of,
    status_of,
    value_fields,
)

_AS_WRITTEN: Final = "_informado"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a postal base said of an address when it was stored.

    Attributes:
        fields: of each field its verdict, and the row it stands on ("" where it stands on none).
        action: the one thing to do next.
        conflicts: the fields that the base contradicts.
        suggestions: what the base has instead, by field; for a person to choose.
    """

    fields: Mapping[str, tuple[str, str]]
    action: str
    conflicts: tuple[str, ...] = ()
    suggestions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, noted: Mapping[str, Any]) -> Self | None:
        """From what is noted of an address; None where no base was asked."""
        fields = noted.get("campos")
        if not isinstance(fields, Mapping):
            return None
        said = {name: (str(one.get("veredito")), str(one.get("base") or "")) for name, one in fields.items()}
        conflicts = tuple(map(str, noted.get("conflito") or ()))
        return cls(said, str(noted.get("acao")), conflicts, dict(noted.get("sugestoes") or {}))

    @property
    def objections(self) -> list[str]:
        """What it contradicts, for people: the field and the row; one row against two fields is one objection."""
        rows = {self.fields[name][1]: name for name in reversed(self.conflicts)}
        return [f"{name} não confere com {row}" for row, name in rows.items()]


@dataclass(frozen=True, slots=True)
class StoredText:
    """One of the two texts of an appointment, and its answer.

    Attributes:
        text: as it would be normalized.
        value: the result, None where there is none.
        origin: who answered (`Origin`, or `ausente`); None while nobody did.
        reason: why it is in review, or what was left out of the value.
        understood: in review, the fields that were clear.
        inferred: what the value has and the text does not say.
        corrected_at: when a person answered last.
        evidence: what a postal base said of the value; None where none was asked.
    """

    text: str
    value: Mapping[str, Any] | None = None
    origin: str | None = None
    reason: str | None = None
    understood: Mapping[str, str] | None = None
    inferred: tuple[str, ...] = ()
    corrected_at: datetime | None = None
    evidence: Evidence | None = None

    @property
    def open_reason(self) -> str | None:
        """Why it waits for a person; None where it does not."""
        return self.reason if self.value is None else None


@dataclass(frozen=True, slots=True)
class StoredAppointment:
    """One appointment.

    Attributes:
        id: the one identity, as `normalizer.store.records` tells it.
        handle: the store's own key of the record.
        revision: how often we have written on it; a write of a person's is conditional on it.
        error: the cause of `falhou`.
        moved_at: when its status last changed.
        fields: what a sheet would say of it, by stored name: as typed, where that could not be stored as typed.
        sources: the source fields as stored, which a write is conditional on.
        texts: both, by kind.
    """

    id: str
    handle: Any = field(repr=False)
    status: Status
    revision: int
    tries: int
    error: str | None
    moved_at: datetime | None
    import_id: str | None
    fields: Mapping[str, str] = field(repr=False)
    sources: Mapping[str, Any] = field(repr=False)
    texts: Mapping[Kind, StoredText] = field(repr=False)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """From the stored document, whoever wrote it."""
        mark, status = ours(stored), status_of(stored) or Status.PENDING
        tries, error = mark.get("tentativas"), mark.get("erro") or stored.get("normalization_error")
        return cls(
            id=identity_of(stored),
            handle=stored["_id"],
            status=status,
            revision=revision_of(stored),
            tries=int(tries) if isinstance(tries, int | float) else 0,
            error=str(error or NO_CAUSE) if status is Status.FAILED else None,
            moved_at=utc(mark.get("atualizado_em")),
            import_id=str(found) if (found := mark.get("import_id")) else None,
            fields={name: text for name in _names(stored) if (text := _as_typed(stored, name))},
            sources={name: stored.get(name) for name in ALL_SOURCES},
            texts={kind: _text_of(stored, kind) for kind in Kind},
        )

    @property
    def causes(self) -> list[str]:
        """Why it needs a person or failed, for people; empty where neither is so."""
        if self.error is not None:
            return [self.error]
        if self.status not in {Status.REVIEW, Status.FAILED}:
            return []
        return [f"{LABELS[kind]}: {text.reason}" for kind, text in self.texts.items() if text.reason]


def _text_of(stored: Mapping[str, Any], kind: Kind) -> StoredText:
    noted, value = about(stored, kind), stored.get(RESULT_FIELD[kind])
    understood = noted.get("entendido")
    return StoredText(
        text=source_text(stored, kind),
        value=value if isinstance(value, Mapping) else None,
        origin=noted.get("origem"),
        reason=noted.get("motivo"),
        understood=understood if isinstance(understood, Mapping) else None,
        inferred=tuple(map(str, noted.get("deduzido") or ())),
        corrected_at=utc(noted.get("corrigido_em")),
        evidence=Evidence.of(noted),
    )


def source_text(stored: Mapping[str, Any], kind: Kind) -> str:
    """The text of a kind, as it would be normalized."""
    return Appointment("", {name: stored.get(name) for name in ALL_SOURCES}).text(kind)


def _names(stored: Mapping[str, Any]) -> list[str]:
    """Every field, those included of which there is only what was written."""
    return list(dict.fromkeys([*stored, *(name.removesuffix(_AS_WRITTEN) for name in stored)]))


def _as_typed(stored: Mapping[str, Any], name: str) -> str:
    """A stored value as a sheet says it, so that importing it again changes nothing; empty for what no sheet says."""
    value = stored.get(f"{name}{_AS_WRITTEN}") or stored.get(name)
    if isinstance(value, datetime):
        return f"{value:%d/%m/%Y}"
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


#: A person's results; None says that there is none.
Corrected: TypeAlias = Mapping[Kind, Address | Document | None]


def correction_of(seen: StoredAppointment, values: Corrected, now: datetime, *, secret: bytes) -> dict[str, Any]:
    """The update that writes a person's results, and remembers the texts the person saw."""
    fields: dict[str, Any] = {}
    for kind, value in values.items():
        stored = None if value is None else value.as_dict()
        written = value_fields(kind, stored)
        texts = {name: written.get(name, seen.sources[name]) for name in SOURCES[kind]}
        noted = {**noted_of(kind, Origin.MANUAL, stored, secret), "corrigido_em": now, "corrigido_de": texts}
        fields |= {**written, f"normalizacao.{kind}": noted}
    rest = [kind for kind in Kind if kind not in values]
    status = status_after(seen, rest)
    if status in {Status.DONE, Status.REVIEW}:
        left = [f"{LABELS[kind]}: {reason}" for kind in rest if (reason := seen.texts[kind].open_reason)]
        tracking = Tracking.FAILED if left else Tracking.COMPLETED
        fields |= {"normalization_status": tracking.value, "normalization_error": "; ".join(left) or None}
    if status is not seen.status:
        fields |= {"normalizacao.status": status.value, "normalizacao.erro": None}
    fields |= {"normalizacao.atualizado_em": now, "updated_at": now}
    return {"$set": fields, "$inc": {"normalizacao.revisao": 1}}


def reopening_of(seen: StoredAppointment, kind: Kind, before: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The update that takes a person's word on one kind back: its fields are `before` again, and it is asked again."""
    noted = before.get(f"normalizacao.{kind}") or {}
    reasons = {each: text.open_reason for each, text in seen.texts.items()} | {kind: noted.get("motivo")}
    errors = tuple(f"{LABELS[each]}: {reason}" for each, reason in reasons.items() if reason)
    asked = account(Ending(Status.REVIEW, Tracking.FAILED, errors), now)
    return {"$set": {**before, **asked}, "$inc": {"normalizacao.revisao": 1}}


def status_after(seen: StoredAppointment, rest: Sequence[Kind]) -> Status:
    """The status once a person has settled all but the `rest`: what is still to be done there decides."""
    if rest and seen.status is Status.PENDING:
        return seen.status
    if any(seen.texts[kind].open_reason for kind in rest):
        return Status.REVIEW
    empty = [kind for kind in rest if seen.texts[kind].value is None]
    return seen.status if empty and seen.status is Status.FAILED else Status.DONE


def as_read(seen: StoredAppointment, kinds: Sequence[Kind] = ()) -> dict[str, Any]:
    """The filter that holds while nobody has written on it since, nor edited the texts of these kinds."""
    texts = {name: {"$eq": seen.sources[name]} for kind in kinds for name in SOURCES[kind]}
    unwritten: dict[str, Any] = {"$in": [None, 0]} if not seen.revision else {"$eq": seen.revision}
    return {"_id": seen.handle, "normalizacao.revisao": unwritten, **texts}
