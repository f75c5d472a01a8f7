"""Figures of appointments: open ones and why they are open from an index, what is concluded kept as it is stored.

One small record a day; to count the concluded ones would be to read the whole history every other second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta, timezone
from typing import Any, Final

from pymongo.errors import ExecutionTimeout, PyMongoError

from normalizer.domain.appointment import ABSENT, Kind, Normalized, Origin, Review, Status
from normalizer.store.connection import PATIENCE_MS, Collection, Database, Record, grouped, translated
from normalizer.store.queries import DEEPEST, UNACCOUNTED, Attention, standing
from normalizer.store.records import NO_CAUSE, RESULT_FIELD, Result, status_of


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


async def count_open(collection: Collection) -> Counter[str]:
    """How many wait, need a person or have failed: from an index, at the cost of what is open."""
    by_status: Counter[str] = Counter({status.value: 0 for status in Status})
    for status in (Status.PENDING, Status.REVIEW, Status.FAILED):
        for query in standing(status):  # one by one: not every store uses an index under an $or
            by_status[status] += await collection.count_documents(query, maxTimeMS=PATIENCE_MS)
    return by_status


async def add_causes(counts: Counts, collection: Collection) -> None:
    """Why the open ones are open, at the same cost."""
    causes = {"erro": "$normalizacao.erro", "deles": "$normalization_error"}
    for query in standing(Status.FAILED) if counts.by_status[Status.FAILED] else ():
        async for found, number in _numbers(collection, query, causes):
            counts.by_error[str(found.get("erro") or found.get("deles") or NO_CAUSE)] += number
    reasons: dict[str, Any] = {kind.value: f"$normalizacao.{kind}.motivo" for kind in Kind}
    reasons |= {f"{kind}_valor": {"$gt": [f"${RESULT_FIELD[kind]}", None]} for kind in Kind}
    for query in standing(Status.REVIEW) if counts.by_status[Status.REVIEW] else ():
        async for found, number in _numbers(collection, query, reasons):
            for kind in Kind:
                if (reason := found.get(kind)) and not found.get(f"{kind}_valor"):
                    counts.by_reason[kind][reason] += number


async def progress_of_import(appointments: Collection, import_id: str) -> ProgressCounts:
    """Of one import's appointments."""
    counted = ProgressCounts()
    async for found, number in _numbers(appointments, {"normalizacao.import_id": import_id}, _ORIGINS):
        record = {"normalizacao": {"status": found.get("status")}, "normalization_status": found.get("deles")}
        status = status_of(record) or Status.PENDING
        counted.by_status[status.value] += number
        if status is Status.DONE:
            counted.by_origin[read_by(*map(found.get, Kind))] += number
        if word := found.get("parecer"):
            counted.by_evidence[word] += number
    return counted


#: What appointments are grouped by: who answered each text, where they stand, and what a base says of them.
_ORIGINS: Final[Mapping[str, str]] = {
    **{kind.value: f"$normalizacao.{kind}.origem" for kind in Kind},
    "status": "$normalizacao.status",
    "deles": "$normalization_status",
    "parecer": "$normalizacao.endereco.parecer",
}


async def _numbers(
    appointments: Collection, chosen: Mapping[str, Any], by: Mapping[str, Any], patience_ms: int = PATIENCE_MS
) -> AsyncIterator[tuple[Record, int]]:
    """How many of the chosen are alike in these expressions, and what they have in each."""
    steps = [{"$match": dict(chosen)}, {"$group": {"_id": dict(by), "n": {"$sum": 1}}}]
    async for row in grouped(appointments, steps, patience_ms=patience_ms):
        yield row["_id"], row["n"]


def read_by(*origins: Any) -> str:
    """Who read an appointment: the address's reader, else the document's; rules where there was nothing to read."""
    known = [origin for origin in origins if isinstance(origin, str) and origin != ABSENT]
    return known[0] if known else Origin.RULES.value


#: Brasília, which all of Brazil's business hours are told in; no daylight saving since 2019.
BRASILIA: Final = timezone(timedelta(hours=-3))
_KINDS: Final = tuple(Kind)
_BEFORE: Final = "antes"
_FIRST_COUNT_MS: Final = 60_000
_MOST_UNACCOUNTED: Final = 10_000


class Totals:
    """How many appointments stand where, at a cost that does not grow with their history."""

    def __init__(self, database: Database) -> None:
        self._totals, self._clock = database.passing("normalizer_totals"), database.clock
        self._appointments = database.appointments
        self._counted_before = False

    async def add(self, results: Sequence[Result], saved: Mapping[str, Status]) -> None:
        """Keep what was concluded just now. Figures for people: one that cannot be written is let go."""
        done = [each for each in results if saved.get(each.appointment.id) is Status.DONE]
        if not done:
            return
        by_origin = Counter([read_by(*_origins_of(each)) for each in done])
        words = Counter(word for each in done if (word := _evidence_of(each)))
        figures = {f"por.{name}": n for name, n in by_origin.items()} | {f"base.{name}": n for name, n in words.items()}
        change = {"$inc": {"concluidos": len(done), **figures}}
        with suppress(PyMongoError):
            await self._totals.update_one({"_id": self._day()}, change, upsert=True)

    async def counts(self) -> Counts:
        """Where all appointments stand, and why the open ones are open."""
        counts = Counts(by_status=await self.by_status())
        with translated():
            await add_causes(counts, self._appointments)
        return counts

    async def by_status(self) -> Counter[str]:
        """Where all appointments stand; the concluded ones are what is left of all."""
        with translated():
            by_status = await count_open(self._appointments)
            everything = await self._appointments.estimated_document_count()
            unaccounted = await self._appointments.count_documents(
                UNACCOUNTED, limit=_MOST_UNACCOUNTED, maxTimeMS=PATIENCE_MS
            )
        by_status[Status.DONE] = max(0, everything - unaccounted - by_status.total())
        return by_status

    async def attention(self) -> Counter[Attention]:
        """How many are settled and yet to be looked at, each cut at `DEEPEST` + 1; from an index of those alone."""
        found: Counter[Attention] = Counter()
        with translated():
            for each in Attention:
                found[each] = await self._appointments.count_documents(
                    each.query(), limit=DEEPEST + 1, maxTimeMS=PATIENCE_MS
                )
        return found

    async def concluded_today(self) -> int:
        """How many were concluded since midnight in Brasília."""
        with translated():
            found = await self._totals.find_one({"_id": self._day()})
        return int((found or {}).get("concluidos") or 0)

    async def evidence(self) -> Counter[str]:
        """What a postal base said of the addresses that were ever concluded; empty where none was asked."""
        found: Counter[str] = Counter()
        with translated():
            async for record in self._totals.find({"base": {"$exists": True}}, {"base": 1}):
                found.update(record["base"])
        return found

    async def progress(self, counts: Counts) -> ProgressCounts:
        """How far all appointments are, of which these are the `counts`."""
        return ProgressCounts(Counter(counts.by_status), await self._by_origin(counts.by_status[Status.DONE]))

    async def _by_origin(self, concluded: int) -> Counter[str]:
        """So many concluded appointments by who read them, in the shares of all that were ever concluded."""
        await self._count_what_was_before()
        kept: Counter[str] = Counter()
        with translated():
            async for record in self._totals.find({}, {"por": 1}):
                kept.update(record.get("por") or {})
        if not kept.total():
            return Counter({Origin.RULES.value: concluded} if concluded else {})
        shares = Counter({name: concluded * number // kept.total() for name, number in kept.items()})
        shares[kept.most_common(1)[0][0]] += concluded - shares.total()
        return shares

    async def _count_what_was_before(self) -> None:
        """Once a database: what earlier versions concluded. Where that takes too long, shares begin with this one."""
        if self._counted_before:
            return
        self._counted_before = True
        with translated():
            if await self._totals.find_one({"_id": _BEFORE}) is not None:
                return
            kept_days = [each["_id"] async for each in self._totals.find({}, {"_id": 1})]
            before: Counter[str] = Counter()
            if not kept_days:
                with suppress(ExecutionTimeout):
                    before = await self._stored_origins()
            await self._totals.update_one({"_id": _BEFORE}, {"$setOnInsert": {"por": dict(before)}}, upsert=True)

    async def _stored_origins(self) -> Counter[str]:
        concluded = {"normalizacao.status": Status.DONE.value}
        found: Counter[str] = Counter()
        async for origins, number in _numbers(self._appointments, concluded, _ORIGINS, _FIRST_COUNT_MS):
            found[read_by(*map(origins.get, Kind))] += number
        return found

    def _day(self) -> str:
        return self._clock().astimezone(BRASILIA).date().isoformat()


def _evidence_of(result: Result) -> str | None:
    outcome = result.outcomes.get(Kind.ADDRESS)
    return outcome.verdicts.summary.value if isinstance(outcome, Normalized) and outcome.verdicts else None


def _origins_of(result: Result) -> list[Origin]:
    found = [result.outcomes.get(kind) for kind in _KINDS]
    return [each.origin for each in found if isinstance(each, (Normalized, Review))]
