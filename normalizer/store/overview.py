"""Overview for an operator: how many appointments stand where, why, and a few of them before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from normalizer.domain.appointment import ABSENT, Kind, Origin, Status
from normalizer.store.connection import Collection, chunks_of, settled
from normalizer.store.queries import standing
from normalizer.store.records import ALL_SOURCES, RESULT_FIELD, status_of
from normalizer.store.stored_appointment import source_text


@dataclass(slots=True)
class Counts:
    """How many appointments that are ours (they carry `normalizacao`) stand where.

    Attributes:
        by_status: `pendente`, `concluido`, `revisar`, `falhou`; each is present.
        by_origin: per kind, who gave the results that were stored.
        by_reason: per kind, why nothing could be stored.
        by_note: per kind, what was left out of a result that was stored.
        by_error: causes of `falhou`.
    """

    by_status: Counter[str] = field(default_factory=lambda: Counter({status.value: 0 for status in Status}))
    by_origin: dict[Kind, Counter[str]] = field(default_factory=lambda: {kind: Counter() for kind in Kind})
    by_reason: dict[Kind, Counter[str]] = field(default_factory=lambda: {kind: Counter() for kind in Kind})
    by_note: dict[Kind, Counter[str]] = field(default_factory=lambda: {kind: Counter() for kind in Kind})
    by_error: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """All of them."""
        return self.by_status.total()

    @property
    def origins(self) -> Counter[str]:
        """Stored results of both kinds together, by who gave them."""
        return sum(self.by_origin.values(), Counter[str]())

    @property
    def reasons(self) -> Counter[str]:
        """Texts of both kinds together that are in review, by why."""
        return sum(self.by_reason.values(), Counter[str]())


@dataclass(slots=True)
class ProgressCounts:
    """How far appointments are: by status, the concluded ones by who read the address, and by a base's word on it."""

    by_status: Counter[str] = field(default_factory=Counter)
    by_origin: Counter[str] = field(default_factory=Counter)
    by_evidence: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """All of them."""
        return self.by_status.total()


@dataclass(frozen=True, slots=True)
class Sample:
    """One appointment before and after. Holds a patient's data: mask documents before showing it."""

    kind: Kind
    origin: str
    text: str
    value: Mapping[str, Any]


#: How long a count for people may take.
PATIENCE_MS: Final = 5_000


_OPEN: Final = (Status.PENDING, Status.REVIEW, Status.FAILED)


async def count_open(collection: Collection) -> Counter[str]:
    """How many wait, need a person or have failed: from an index, at the cost of what is open."""
    by_status: Counter[str] = Counter({status.value: 0 for status in Status})
    for status in _OPEN:
        for query in standing(status):  # one by one: not every store uses an index under an $or
            by_status[status] += await collection.count_documents(query, maxTimeMS=PATIENCE_MS)
    return by_status


async def add_causes(counts: Counts, collection: Collection) -> None:
    """Why the open ones are open, at the same cost."""
    for status in (Status.REVIEW, Status.FAILED):
        for query in standing(status) if counts.by_status[status] else ():
            await _add_causes(counts, collection, status, query)


async def _add_causes(counts: Counts, collection: Collection, status: Status, query: Mapping[str, Any]) -> None:
    group = {"erro": "$normalizacao.erro", "deles": "$normalization_error"}
    for kind in Kind:
        group[kind.value] = f"$normalizacao.{kind}.motivo"
        group[f"{kind}_valor"] = {"$gt": [f"${RESULT_FIELD[kind]}", None]}  # type: ignore[assignment]
    steps = [{"$match": query}, {"$group": {"_id": group, "n": {"$sum": 1}}}]
    async for chunk in chunks_of(await settled(collection.aggregate(steps, maxTimeMS=PATIENCE_MS))):
        for row in chunk:
            found = row["_id"]
            if status is Status.FAILED:
                counts.by_error[str(found.get("erro") or found.get("deles") or "")] += row["n"]
                continue
            for kind in Kind:
                if reason := found.get(kind.value):
                    (counts.by_note if found.get(f"{kind}_valor") else counts.by_reason)[kind][reason] += row["n"]


def stored_origins(chosen: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The aggregation that groups appointments by who answered each text, and where they stand."""
    group: dict[str, Any] = {kind.value: f"$normalizacao.{kind}.origem" for kind in Kind}
    group |= {"status": "$normalizacao.status", "deles": "$normalization_status"}
    group["parecer"] = "$normalizacao.endereco.parecer"
    return [{"$match": dict(chosen)}, {"$group": {"_id": group, "n": {"$sum": 1}}}]


async def progress_of_import(appointments: Collection, import_id: str) -> ProgressCounts:
    """Of one import's appointments."""
    counted = ProgressCounts()
    steps = stored_origins({"normalizacao.import_id": import_id})
    async for chunk in chunks_of(await settled(appointments.aggregate(steps, maxTimeMS=PATIENCE_MS))):
        for row in chunk:
            found, number = row["_id"], row["n"]
            record = {"normalizacao": {"status": found.get("status")}, "normalization_status": found.get("deles")}
            status = status_of(record) or Status.PENDING
            counted.by_status[status.value] += number
            if status is Status.DONE:
                counted.by_origin[read_by(found.get("endereco"), found.get("documento"))] += number
            if word := found.get("parecer"):
                counted.by_evidence[word] += number
    return counted


def read_by(*origins: Any) -> str:
    """Who read an appointment: the address's reader, else the document's; rules where there was nothing to read."""
    known = [origin for origin in origins if isinstance(origin, str) and origin != ABSENT]
    return known[0] if known else Origin.RULES.value


async def count(collection: Collection, import_id: str | None) -> Counts:
    """Group once on the server, reading every appointment; the groups are few."""
    chosen: dict[str, Any] = {"normalizacao.status": {"$in": [status.value for status in Status]}}
    if import_id is not None:
        chosen["normalizacao.import_id"] = import_id
    group = {"status": "$normalizacao.status", "erro": "$normalizacao.erro"}
    for kind in Kind:
        group |= {f"{kind}_{name}": f"$normalizacao.{kind}.{name}" for name in ("origem", "motivo")}
        group |= {f"{kind}_valor": {"$gt": [f"${RESULT_FIELD[kind]}", None]}}  # type: ignore[dict-item]
    pipeline = [{"$match": chosen}, {"$group": {"_id": group, "n": {"$sum": 1}}}]
    counts = Counts()
    async for chunk in chunks_of(await settled(collection.aggregate(pipeline))):
        for row in chunk:
            _add(counts, row["_id"], row["n"])
    return counts


def _add(counts: Counts, group: Mapping[str, Any], n: int) -> None:
    status = group["status"]
    counts.by_status[status] += n
    if status == Status.FAILED:
        counts.by_error[group.get("erro") or ""] += n
        return
    if status == Status.PENDING:
        return
    for kind in Kind:
        origin, reason = group.get(f"{kind}_origem"), group.get(f"{kind}_motivo")
        stored = group.get(f"{kind}_valor")
        if stored and origin:
            counts.by_origin[kind][origin] += n
        if reason:
            (counts.by_note if stored else counts.by_reason)[kind][reason] += n


async def sample(collection: Collection, limit: int, import_id: str | None) -> list[Sample]:
    """Up to `limit` stored results, drawn in turn from what rules and model settled, addresses and documents."""
    sources = [(Kind.ADDRESS, Origin.MODEL), (Kind.ADDRESS, Origin.RULES), (Kind.DOCUMENT, Origin.RULES)]
    columns = [await _sample_of(collection, kind, origin, limit, import_id) for kind, origin in sources]
    in_turn = [column[row] for row in range(limit) for column in columns if row < len(column)]
    return in_turn[:limit]


async def _sample_of(
    collection: Collection, kind: Kind, origin: Origin, limit: int, import_id: str | None
) -> list[Sample]:
    chosen: dict[str, Any] = {"normalizacao.status": Status.DONE.value, f"normalizacao.{kind}.origem": origin.value}
    if import_id is not None:
        chosen["normalizacao.import_id"] = import_id
    wanted = dict.fromkeys((*ALL_SOURCES, RESULT_FIELD[kind]), 1)
    cursor = collection.find(chosen, wanted).limit(limit)
    return [
        Sample(kind, origin.value, source_text(record, kind), record[RESULT_FIELD[kind]])
        async for record in cursor
        if record.get(RESULT_FIELD[kind])
    ]
