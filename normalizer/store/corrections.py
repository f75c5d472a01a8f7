"""A person's correction as an update: the results, and the texts the person saw. Pure: no client, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from normalizer.domain.address import Address
from normalizer.domain.appointment import LABELS, Kind, Origin, Status, Tracking
from normalizer.domain.document import Document
from normalizer.store.records import SOURCES, noted_of, value_fields
from normalizer.store.stored_appointment import StoredAppointment


def correction_of(
    seen: StoredAppointment, values: Mapping[Kind, Address | Document | None], now: datetime, *, secret: bytes
) -> dict[str, Any]:
    """The update that writes a person's results, and remembers the texts the person saw; None says there is none."""
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
    ending = {
        "normalizacao.status": Status.REVIEW.value,
        "normalizacao.atualizado_em": now,
        "normalization_status": Tracking.FAILED.value,
        "normalization_error": "; ".join(f"{LABELS[each]}: {one}" for each, one in reasons.items() if one) or None,
        "updated_at": now,
    }
    return {"$set": {**before, **ending}, "$inc": {"normalizacao.revisao": 1}}


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
