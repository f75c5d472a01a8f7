"""What is kept once for a whole database: what its clinic decided, what nothing could rebuild, and its figures.

Figures are those of open appointments, counted from an index, and of what is concluded, kept as it is stored: one small
record a day. To count the concluded ones would be to read the whole history every other second.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from pymongo.errors import ExecutionTimeout, PyMongoError

from normalizer.domain.address import Address
from normalizer.domain.address.explain import ClinicWord
from normalizer.domain.appointment import ABSENT, Kind, Normalized, Origin, Policies, Review, Status, WhenMissing
from normalizer.store.connection import PATIENCE_MS, Collection, Database, Record, each_of, grouped, translating
from normalizer.store.indexes import CORRECTED_AT
from normalizer.store.queries import DEEPEST, UNACCOUNTED, Attention, standing
from normalizer.store.records import NO_CAUSE, RESULT_FIELD, SOURCES, Result, about, status_of
from normalizer.store.stored_appointment import source_text

#: How long another process may go by what was decided before.
_KEPT: Final = timedelta(seconds=10)
_MOST: Final = 5_000  # scopes: brands, units and headers


@translating
class PolicyBook:
    """Policies; every group asks, so they are kept for a moment. Every method may raise `StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._collection, self._clock = database.lasting("normalizer_policies"), database.clock
        self._known: tuple[datetime, Policies] | None = None

    async def read(self) -> Policies:
        """What holds now."""
        stored = [(one["_id"], one.get("quando")) async for one in self._collection.find({}).limit(_MOST)]
        self._known = (self._clock(), Policies.of(stored))
        return self._known[1]

    async def recent(self) -> Policies:
        """What held some seconds ago: what a worker asks for each group."""
        if self._known is None or not timedelta() <= self._clock() - self._known[0] < _KEPT:
            return await self.read()
        return self._known[1]

    async def forget(self, scope: str) -> bool:
        """Leave a scope without a policy of its own; False where it had none."""
        found = await self._collection.delete_one({"_id": scope})
        self._known = None
        return bool(found.deleted_count)

    async def decide(self, scope: str, when: WhenMissing) -> None:
        """Set one scope's policy."""
        change = {"$set": {"quando": when.value, "atualizado_em": self._clock()}}
        await self._collection.update_one({"_id": scope}, change, upsert=True)
        self._known = None


def id_of(word: ClinicWord) -> str:
    """What an entry is called; one short name has one meaning in a city."""
    return hashlib.blake2b(f"{word.state}\0{word.city}\0{word.short}".encode(), digest_size=8).hexdigest()


@translating
class ClinicWords:
    """The word list, and which decisions each entry has made. Every method may raise `StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._words, self._clock = database.lasting("normalizer_words"), database.clock

    async def all(self) -> dict[str, ClinicWord]:
        """The entries in force, by id, the newest first."""
        return {each["_id"]: ClinicWord(**each["palavra"]) async for each in self._words.find().sort("em", -1)}

    async def add(self, word: ClinicWord) -> str:
        """Put an entry into force; its id."""
        change = {"$set": {"palavra": asdict(word), "em": self._clock()}}
        await self._words.update_one({"_id": id_of(word)}, change, upsert=True)
        return id_of(word)

    async def made(self, word_id: str, decisions: Sequence[str]) -> None:
        """Note what the entry has decided."""
        await self._words.update_one({"_id": word_id}, {"$addToSet": {"decisoes": {"$each": list(decisions)}}})

    async def remove(self, word_id: str) -> list[str] | None:
        """Take an entry out of force; the decisions it has made. None when there is none."""
        found = await self._words.find_one_and_delete({"_id": word_id})
        return None if found is None else list(found.get("decisoes") or ())


@translating
class ColumnTitles:
    """What operators said of column titles, by scope (a header as a whole, a brand): `normalizer_columns`."""

    def __init__(self, database: Database) -> None:
        self._columns, self._clock = database.lasting("normalizer_columns"), database.clock

    async def known(self) -> dict[str, dict[str, str]]:
        """By scope: title to stored field. StoreUnavailable on an outage, as in all methods."""
        found = self._columns.find({}).sort("atualizado_em", -1).limit(_MOST)
        return {record["_id"]: dict(record.get("titulos") or {}) async for record in found}

    async def remember(self, learned: Mapping[str, Mapping[str, str]]) -> None:
        """Remember what was said of titles; what was said of the same title before is replaced."""
        for scope, meanings in learned.items():
            fields = {f"titulos.{title}": name for title, name in meanings.items()}
            change = {"$set": {**fields, "atualizado_em": self._clock()}}
            await self._columns.update_one({"_id": scope}, change, upsert=True)


_PAUSE: Final = "pausa"
#: As long as the figures of a day are kept in Redis.
_SPENDING_KEPT: Final = timedelta(days=92)


@translating
class DurableState:
    """Durable copy of what Redis holds and nothing could rebuild: the pause, what was spent, what people corrected.

    Redis answers first, as long as it has not been emptied; `worker.tasks.refill` puts these back when it was. Every
    method may raise `StoreUnavailable`. Its writes are answered by a majority.
    """

    def __init__(self, database: Database) -> None:
        self._state, self._clock = database.lasting("normalizer_state"), database.clock
        self._appointments = database.appointments

    async def keep_pause(self, order: str | None) -> None:
        """Keep what an operator told the queue; None once it runs again."""
        if order is None:
            await self._state.delete_one({"_id": _PAUSE})
        else:
            change = {"$set": {"ordem": order, "desde": self._clock()}}
            await self._state.update_one({"_id": _PAUSE}, change, upsert=True)

    async def pause(self) -> str | None:
        """The order that holds the queue; None if it runs."""
        found: Record | None = await self._state.find_one({"_id": _PAUSE})
        return None if found is None else str(found["ordem"])

    async def add_spending(self, day: str, counts: Mapping[str, float]) -> None:
        """Count one model call into its day."""
        change = {
            "$inc": {f"gasto.{name}": number for name, number in counts.items()},
            "$setOnInsert": {"expira_em": self._clock() + _SPENDING_KEPT},
        }
        await self._state.update_one({"_id": day}, change, upsert=True)

    async def spending(self) -> dict[str, dict[str, float]]:
        """The counts of each day that is kept."""
        return {record["_id"]: record["gasto"] async for record in self._state.find({"_id": {"$ne": _PAUSE}})}

    async def corrections(self) -> AsyncIterator[dict[str, Address]]:
        """Addresses as people corrected them, by the text they saw; the oldest first, some hundred at a time."""
        wanted = dict.fromkeys((RESULT_FIELD[Kind.ADDRESS], f"normalizacao.{Kind.ADDRESS}"), 1)
        corrected = {CORRECTED_AT: {"$exists": True}}
        async for chunk in each_of(self._appointments, corrected, wanted, order=CORRECTED_AT):
            yield dict(filter(None, map(_correction, chunk)))


def _correction(record: Record) -> tuple[str, Address] | None:
    """The text a person saw and the address they gave; None where a machine has written since, or it is one's alone."""
    noted, value = about(record, Kind.ADDRESS), record.get(RESULT_FIELD[Kind.ADDRESS])
    seen: Any = noted.get("corrigido_de")
    if (
        noted.get("origem") != Origin.MANUAL
        or noted.get("so_este")
        or not isinstance(seen, Mapping)
        or not isinstance(value, Mapping)
    ):
        return None
    text = source_text({name: seen.get(name) for name in SOURCES[Kind.ADDRESS]}, Kind.ADDRESS)
    with suppress(ValueError, TypeError, KeyError):
        return (text, Address.from_dict(dict(value))) if text else None
    return None


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


@translating
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
        """Where all appointments stand, and why the open ones are open: at the cost of what is open."""
        counts = Counts(by_status=await self.by_status())
        causes = {"erro": "$normalizacao.erro", "deles": "$normalization_error"}
        for query in standing(Status.FAILED) if counts.by_status[Status.FAILED] else ():
            async for found, number in _numbers(self._appointments, query, causes):
                counts.by_error[str(found.get("erro") or found.get("deles") or NO_CAUSE)] += number
        reasons: dict[str, Any] = {kind.value: f"$normalizacao.{kind}.motivo" for kind in Kind}
        reasons |= {f"{kind}_valor": {"$gt": [f"${RESULT_FIELD[kind]}", None]} for kind in Kind}
        for query in standing(Status.REVIEW) if counts.by_status[Status.REVIEW] else ():
            async for found, number in _numbers(self._appointments, query, reasons):
                for kind in Kind:
                    if (reason := found.get(kind)) and not found.get(f"{kind}_valor"):
                        counts.by_reason[kind][reason] += number
        return counts

    async def by_status(self) -> Counter[str]:
        """Where all appointments stand: open ones from an index, and the concluded ones are what is left of all."""
        by_status: Counter[str] = Counter({status.value: 0 for status in Status})
        for status in (Status.PENDING, Status.REVIEW, Status.FAILED):
            for query in standing(status):  # one by one: not every store uses an index under an $or
                by_status[status] += await self._appointments.count_documents(query, maxTimeMS=PATIENCE_MS)
        everything = await self._appointments.estimated_document_count()
        unaccounted = await self._appointments.count_documents(
            UNACCOUNTED, limit=_MOST_UNACCOUNTED, maxTimeMS=PATIENCE_MS
        )
        by_status[Status.DONE] = max(0, everything - unaccounted - by_status.total())
        return by_status

    async def attention(self) -> Counter[Attention]:
        """How many are settled and yet to be looked at, each cut at `DEEPEST` + 1; from an index of those alone."""
        found: Counter[Attention] = Counter()
        for each in Attention:
            found[each] = await self._appointments.count_documents(
                each.query(), limit=DEEPEST + 1, maxTimeMS=PATIENCE_MS
            )
        return found

    async def concluded_today(self) -> int:
        """How many were concluded since midnight in Brasília."""
        found = await self._totals.find_one({"_id": self._day()})
        return int((found or {}).get("concluidos") or 0)

    async def evidence(self) -> Counter[str]:
        """What a postal base said of the addresses that were ever concluded; empty where none was asked."""
        found: Counter[str] = Counter()
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
        kept = [each["_id"] async for each in self._totals.find({}, {"_id": 1})]
        if _BEFORE in kept:
            return
        before: Counter[str] = Counter()
        if not kept:
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
