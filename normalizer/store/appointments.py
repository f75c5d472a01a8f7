"""`AppointmentStore`: every question the program asks MongoDB, and every write."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Self

from bson import ObjectId
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from normalizer.domain.appointment import PRIVATE_FIELDS, Appointment, Kind, Status
from normalizer.errors import StoreUnavailable
from normalizer.observability.tracing import span
from normalizer.store import indexes
from normalizer.store.connection import (
    Client,
    Record,
    batched,
    by_native_id,
    chunks_of,
    durable,
    each_of,
    open_client,
    open_collection,
    raw,
    read,
    settled,
    translated,
)
from normalizer.store.desk import Desk, thaw
from normalizer.store.diagnosis import Diagnosis, diagnose
from normalizer.store.identity import named, text_of
from normalizer.store.import_record import STORED_AS, ImportRecord, ImportState
from normalizer.store.intake import ImportRow, Intake, UpsertReport
from normalizer.store.migration import Migrated, migrate
from normalizer.store.outbox import Outbox, marked
from normalizer.store.overview import Counts, Sample, count, sample
from normalizer.store.pressure import Stride, Turns
from normalizer.store.queries import any_of, because_of, waiting
from normalizer.store.records import (
    ALL_SOURCES,
    RESULT_FIELD,
    Pending,
    Result,
    appointment_of,
    change_of,
    failure_of,
    not_fenced_off,
    overtaking,
    pending_of,
    unchanged,
    waiting_again,
)
from normalizer.store.totals import Totals
from normalizer.store.writes import GuardedWrite, SaveReport, straighten, write_all

_HASH_KEY_ID = "hash"
_SECRET_BYTES = 32
_SECRET_TRIES = 10
_ABOUT_KINDS = [
    f"normalizacao.{kind}.{name}" for kind in Kind for name in ("origem", "gravado", "corrigido_em", "corrigido_de")
]
_SOURCE_FIELDS = dict.fromkeys(
    [
        "id",
        *ALL_SOURCES,
        *PRIVATE_FIELDS,
        *RESULT_FIELD.values(),
        "normalization_status",
        *[f"normalizacao.{name}" for name in ("status", "import_id", "fence", "refazer")],
        *_ABOUT_KINDS,
    ],
    1,
)
_PENDING_FIELDS = {"id": 1, **dict.fromkeys(ALL_SOURCES, 1), "normalizacao.revisao": 1, "normalizacao.import_id": 1}
# The old worker gave a job five minutes.
_DIED_OVER_IT = timedelta(minutes=10)


def now_utc() -> datetime:
    """The time in the precision MongoDB stores, so that what was written compares equal when read back."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class AppointmentStore:
    """Appointments in MongoDB. Every method may raise `StoreUnavailable`; ids are strings, whatever `_id` is.

    Args:
        client: a motor client or a pymongo AsyncMongoClient; see `connect` for one from a URL.
        database: DATABASE_NAME.
        owned: whether `close` closes the client.
        clock: the time in UTC, in whole milliseconds.
        announces: whether somebody collects what `outbox` tells; results then carry a mark.

    Raises:
        Misconfigured: the database name (or, in `connect`, the URL) cannot be used.
    """

    def __init__(
        self,
        client: Client,
        database: str,
        *,
        owned: bool = False,
        clock: Callable[[], datetime] = now_utc,
        announces: bool = False,
    ) -> None:
        self._client, self._owned, self._announces = client, owned, announces
        self._clock = clock
        self._secret: bytes | None = None
        self._stride, self._turns = Stride(), Turns()
        self._appointments = open_collection(self._client, database, "appointments")
        self._imports = open_collection(self._client, database, "normalizer_imports", lasting=True)
        self._images = open_collection(self._client, database, "normalizer_undo", lasting=True)
        self._problems = open_collection(self._client, database, "normalizer_problems", lasting=True)
        self._columns = open_collection(self._client, database, "normalizer_columns", lasting=True)
        self._secrets = open_collection(self._client, database, "normalizer_secrets", lasting=True)
        totals = open_collection(self._client, database, "normalizer_totals")
        self._totals = Totals(totals, self._appointments, clock=clock)
        self._events = open_collection(self._client, database, "normalizer_events")

    @classmethod
    def connect(cls, url: str, database: str, *, announces: bool = False) -> Self:
        """A store with a client of its own, which connects at first use."""
        return cls(open_client(url), database, owned=True, announces=announces)

    async def close(self) -> None:
        """Close the client, if it is ours."""
        if self._owned:
            await settled(self._client.close())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def ping(self) -> None:
        """One round trip."""
        with translated():
            await self._client.admin.command("ping")

    async def diagnose(self) -> Diagnosis:
        """How the server is and what this user may do there; changes nothing."""
        with translated():
            return await diagnose(self._client, self._appointments, (self._images, self._problems))

    async def ensure_indexes(self) -> None:
        """Create what is missing: the unique natural key, and the way to what waits.

        Sparse: appointments that came by another way have no natural key of ours.
        """
        with translated():
            await indexes.ensure(self._appointments, (self._images, self._problems))

    async def load(self, ids: Sequence[str]) -> dict[str, Appointment]:
        """The appointments that these ids name, in one query per 500, and one more where some are named by `_id`."""
        found: dict[str, Appointment] = {}
        secret = await self.secret()
        with translated():
            for chunk in batched(ids):
                async with self._turns.take():
                    records = await read(self._appointments, named(chunk), _SOURCE_FIELDS)
                    found |= _by_name(chunk, records, secret=secret)
                    if rest := [name for name in chunk if name not in found]:
                        records = await read(self._appointments, named(rest, "_id"), _SOURCE_FIELDS)
                        found |= _by_name(rest, records, secret=secret)
        return found

    async def save(self, results: Sequence[Result]) -> SaveReport:
        """Write results whose texts are still those loaded and which no newer claim has overtaken.

        Raises:
            StoreUnavailable: MongoDB is away and not one row was written.
        """
        secret = await self.secret()
        report = await self._write("store.save", [partial(_result_write, row, secret, unchanged) for row in results])
        if report.conflicts:  # rare; an older claim's result may be what has changed
            left = [row for row in results if row.appointment.id in set(report.conflicts)]
            rest = await self._write("store.save", [partial(_result_write, row, secret, overtaking) for row in left])
            report.saved |= rest.saved
            report.refused |= rest.refused
            report.conflicts, report.failed = rest.conflicts, [*report.failed, *rest.failed]
        await self._totals.add(results, report.saved)
        return report

    async def mark_failed(self, causes: Mapping[str, tuple[str, int]]) -> SaveReport:
        """End appointments as `falhou`: id to (cause, fence). Not where a newer claim has written."""
        known = await self.load(list(causes))
        rows = [partial(_failure_write, each, *causes[name]) for name, each in known.items()]
        report = await self._write("store.mark_failed", rows)
        report.conflicts.extend(causes.keys() - known.keys())
        return report

    async def upsert_rows(self, rows: Sequence[ImportRow], import_id: str) -> UpsertReport:
        """Write rows of a sheet; a row equal to the last import's is not touched."""
        with span("store.upsert", rows=len(rows)) as facts:
            report = await (await self._intake(import_id)).upsert(rows)
            facts |= {"new": len(report.new), "changed": len(report.changed)}
            return report

    async def preview_rows(self, rows: Sequence[ImportRow]) -> UpsertReport:
        """What `upsert_rows` would report; writes nothing."""
        return await (await self._intake("")).preview(rows)

    async def pending(self, *, limit: int = 1_000, older_than_s: float = 0.0) -> AsyncGenerator[list[Pending], None]:
        """What has waited for over `older_than_s` to be normalized, whoever stored it, oldest first, `limit` at a time.

        Another worker's `processing` counts as waiting after ten minutes: it has died over it. A record that does not
        say since when waits from now on.
        """
        secret, now = await self.secret(), self._clock()
        for each in waiting(now - timedelta(seconds=older_than_s), now - _DIED_OVER_IT):
            with translated():
                await self._appointments.update_many(each.undated(), {"$set": {each.clock: now}})
            async for chunk in self._chunks(each.due(), limit, order=each.clock):
                yield [pending_of(record, secret=secret) for record in chunk]

    async def requeue(
        self,
        statuses: Collection[Status],
        *,
        reasons: Collection[str] | None = None,
        again: bool = False,
        limit: int = 500,
    ) -> AsyncIterator[list[Pending]]:
        """Put appointments back to `pendente` and yield them for the queue, in lists of at most `limit`.

        Args:
            statuses: those to take up, e.g. `{Status.REVIEW}`.
            reasons: only those with one of these as `motivo` of a text or as `erro`; None takes all.
            again: results that somebody else stored or a person corrected are replaced, too.
            limit: appointments per update.
        """
        chosen = any_of(statuses)
        if reasons is not None:
            chosen = {"$and": [chosen, because_of(reasons)]}
        secret = await self.secret()
        async for chunk in self._chunks(chosen, limit):
            with translated():
                await self._put_back([record["_id"] for record in chunk], any_of(statuses), again=again)
            grown = [_one_revision_on(record) for record in chunk]
            yield [pending_of(record, secret=secret) for record in grown]

    async def _chunks(
        self, chosen: Mapping[str, Any], limit: int, *, order: str | None = None
    ) -> AsyncIterator[list[Record]]:
        """Records that wait or are about to, none of which keeps the others from being read."""
        with translated():
            cursor = raw(self._appointments).find(chosen, _PENDING_FIELDS)
            async for chunk in chunks_of(each_of(cursor.sort(order, 1) if order else cursor), limit):
                await thaw(self._imports, chunk)
                yield [record for record in chunk if record["_id"] is not None]

    async def open_counts(self) -> Counts:
        """Where all appointments stand and why the open ones are open, at a cost that follows the open ones."""
        return await self._totals.counts()

    async def counts(self, import_id: str | None = None) -> Counts:
        """How many stand where and why, of one import or of all."""
        with translated():
            return await count(self._appointments, import_id)

    async def count_by_status(self, import_id: str | None = None) -> Counter[Status]:
        """How many appointments have each status."""
        by_status = (await self.counts(import_id)).by_status
        return Counter({Status(name): n for name, n in by_status.items()})

    async def count_by_origin(self, import_id: str | None = None) -> Counter[str]:
        """How many stored results, of both kinds together, came from where."""
        return sum((await self.counts(import_id)).by_origin.values(), Counter[str]())

    async def count_by_reason(self, import_id: str | None = None) -> Counter[str]:
        """Why texts, of both kinds together, are in review."""
        return sum((await self.counts(import_id)).by_reason.values(), Counter[str]())

    async def every(self, import_id: str | None = None) -> AsyncIterator[Appointment]:
        """Every appointment that is ours (it carries `normalizacao`), of one import or of all."""
        chosen: dict[str, Any] = {"normalizacao.status": {"$exists": True}}
        if import_id is not None:
            chosen["normalizacao.import_id"] = import_id
        secret = await self.secret()
        with translated():
            async for record in each_of(raw(self._appointments).find(chosen, _SOURCE_FIELDS)):
                yield appointment_of(record, secret=secret)

    async def samples(self, limit: int, import_id: str | None = None) -> list[Sample]:
        """A few results with the text they came from. They hold patients' data: mask before showing."""
        with translated():
            return await sample(self._appointments, limit, import_id)

    async def create_import(self, about: Mapping[str, Any], *, import_id: str | None = None) -> str:
        """Note that an import begins (file name, row count …), under its id where it has one, and return the id."""
        native, now = ObjectId(import_id), self._clock()
        began = {
            "$set": {**about, "status": ImportState.RUNNING.value, "atualizado_em": now},
            "$setOnInsert": {"created_at": now},
        }
        with translated():
            await self._imports.update_one({"_id": native}, {**began, "$unset": {"fase": ""}}, upsert=True)
        return str(native)

    async def import_id_of(self, key: str | None) -> str:
        """The id of the import that a client calls by this key, whenever it asks; without a key a new one."""
        if key is None:
            return str(ObjectId())
        return hashlib.blake2b(key.encode(), key=await self.secret(), digest_size=12).hexdigest()

    async def announce_import(self, import_id: str, about: Mapping[str, Any]) -> bool:
        """Note that an import was received and is being read; False when it was before."""
        now = self._clock()
        record = {
            **about,
            "status": ImportState.RUNNING.value,
            "fase": "lendo",
            "created_at": now,
            "atualizado_em": now,
        }
        with translated():
            made = await self._imports.update_one({"_id": ObjectId(import_id)}, {"$setOnInsert": record}, upsert=True)
        return made.upserted_id is not None

    async def forget_import(self, import_id: str) -> None:
        """Take back an announced import that was refused before it wrote anything."""
        with translated():
            await self._imports.delete_one({"_id": ObjectId(import_id), "fase": "lendo"})

    async def finish_import(self, import_id: str, outcome: Mapping[str, Any]) -> None:
        """Note how an import ended; `outcome` holds counts and row numbers, never a patient's text."""
        counts = {STORED_AS.get(name, name): value for name, value in outcome.items()}
        ended = {"status": ImportState.FINISHED.value, **counts, "finished_at": self._clock()}
        with translated():
            await self._imports.update_one(by_native_id(import_id), {"$set": ended})

    async def get_import(self, import_id: str) -> ImportRecord | None:
        """What is known of an import; None when there is no such import."""
        with translated():
            found: Record | None = await self._imports.find_one(by_native_id(import_id))
        return None if found is None else ImportRecord.of(found)

    async def migrate(
        self, import_id: str | None, *, moved: Callable[[Migrated], Awaitable[None]] | None = None
    ) -> Migrated:
        """Bring records of earlier versions into today's forms, under this import's id; None only counts."""
        return await migrate(
            durable(self._appointments), self._images, import_id=import_id, clock=self._clock, moved=moved
        )

    def desk(self) -> Desk:
        """What an operator does with appointments and imports: look, correct, undo."""
        return Desk(
            durable(self._appointments),
            self._imports,
            self._images,
            self._problems,
            self._columns,
            totals=self._totals,
            secret=self.secret,
            clock=self._clock,
            announces=self._announces,
        )

    def outbox(self) -> Outbox:
        """What has to be told outside."""
        return Outbox(self._appointments, self._imports, self._events, clock=self._clock)

    async def secret(self) -> bytes:
        """32 random bytes of this database, the same for every replica: keys hashes when CACHE_SECRET is unset."""
        if self._secret is None:
            with translated():
                self._secret = await self._get_or_create_secret()
        return self._secret

    async def known_secret(self) -> bytes | None:
        """`secret`, if there is one already: creates nothing."""
        with translated():
            found = await self._secrets.find_one({"_id": _HASH_KEY_ID})
        return None if found is None else bytes(found["valor"])

    async def _get_or_create_secret(self) -> bytes:
        """Whoever inserts first decides; the others read. Again, while the winner's insert is not visible yet."""
        # By majority: what a failover takes back must not have keyed a hash.
        secret = self._secrets.with_options(read_concern=ReadConcern("majority"))
        for _ in range(_SECRET_TRIES):
            found = await secret.find_one({"_id": _HASH_KEY_ID})
            if found is not None:
                return bytes(found["valor"])
            fresh = {"_id": _HASH_KEY_ID, "valor": secrets.token_bytes(_SECRET_BYTES), "created_at": self._clock()}
            with suppress(DuplicateKeyError):
                await self._secrets.insert_one(fresh)
        raise StoreUnavailable("MongoDB não devolve o segredo que guarda.")

    async def _write(self, name: str, rows: Sequence[Callable[[datetime], GuardedWrite]]) -> SaveReport:
        with span(name, rows=len(rows)) as facts:
            if self._announces:
                rows = [partial(_announced, row) for row in rows]
            report = await write_all(
                self._appointments, rows, clock=self._clock, stride=self._stride, turns=self._turns
            )
            facts |= {"saved": len(report.saved), "conflicts": len(report.conflicts)}
            facts |= {"failed": len(report.failed), "refused": len(report.refused)}
            return report

    async def _intake(self, import_id: str) -> Intake:
        secret = await self.secret()
        return Intake(durable(self._appointments), import_id, secret=secret, clock=self._clock, images=self._images)

    async def _put_back(self, keys: list[Any], among: Mapping[str, Any], *, again: bool) -> None:
        fields = waiting_again(self._clock()) | ({"normalizacao.refazer": list(Kind)} if again else {})
        for chunk in batched(keys):
            await straighten(self._appointments, chunk)
            await self._appointments.update_many(
                {"_id": {"$in": chunk}, **among},
                {"$set": fields, "$inc": {"normalizacao.revisao": 1}},
            )


def _by_name(names: Sequence[str], records: Sequence[Record], *, secret: bytes) -> dict[str, Appointment]:
    """Appointments by the name they were asked for. Of several with one `id` the one that waits to be normalized."""
    by_id: dict[str, Appointment] = {}
    by_key: dict[str, Appointment] = {}
    for record in records:
        appointment = appointment_of(record, secret=secret)
        by_key[text_of(record["_id"])] = appointment
        if appointment.id not in by_id or appointment.status in {None, Status.PENDING}:
            by_id[appointment.id] = appointment
    return {name: found for name in names if (found := by_id.get(name) or by_key.get(name)) is not None}


def _result_write(
    result: Result, secret: bytes, guard: Callable[[Result], dict[str, Any]], now: datetime
) -> GuardedWrite:
    seen = result.appointment
    change = change_of(result, now, secret=secret)
    return GuardedWrite(seen.id, seen.key, guard(result), change, result.ending.status, result.fence)


def _failure_write(appointment: Appointment, cause: str, fence: int, now: datetime) -> GuardedWrite:
    change = failure_of(cause, fence, now)
    return GuardedWrite(appointment.id, appointment.key, not_fenced_off(fence), change, Status.FAILED, fence)


def _announced(row: Callable[[datetime], GuardedWrite], now: datetime) -> GuardedWrite:
    write = row(now)
    return replace(write, change=marked(write.change, write.status, now))


def _one_revision_on(record: Record) -> Record:
    revision = (record.get("normalizacao") or {}).get("revisao") or 0
    return {**record, "normalizacao": {"revisao": revision + 1}}
