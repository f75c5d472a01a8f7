"""Overview for an operator: how many appointments stand where, why, and a few of them before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from normalizer.domain.appointment import ABSENT, Kind, Origin, Status
from normalizer.store.connection import Collection, chunks_of, settled
from normalizer.store.queries import standing
from normalizer.store.records import NO_CAUSE, RESULT_FIELD, status_of


@dataclass(slots=True)
class Counts:
    """How many appointments that are ours (they carry `normalizacao`) stand where.

    Attributes:
        by_status: `pendente`, `concluido`, `revisar`, `falhou`; each is present.
        by_reason: per kind, why nothing could be stored.
        by_error: causes of `falhou`.
    """

    by_status: Counter[str] = field(default_factory=lambda: Counter({status.value: 0 for status in Status}))
    by_reason: dict[Kind, Counter[str]] = field(default_factory=lambda: {kind: Counter() for kind in Kind})
    by_error: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """All of them."""
        return self.by_status.total()


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
                counts.by_error[str(found.get("erro") or found.get("deles") or NO_CAUSE)] += row["n"]
                continue
            for kind in Kind:
                if (reason := found.get(kind.value)) and not found.get(f"{kind}_valor"):
                    counts.by_reason[kind][reason] += row["n"]


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
