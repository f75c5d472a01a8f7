"""`AppointmentStore`: every question the program asks MongoDB, and every write."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Self

from pymongo import UpdateOne

from normalizer.domain.appointment import Appointment, Kind, Status
from normalizer.observability.tracing import span
from normalizer.store import indexes, queries, records, writes
from normalizer.store.clinic import ClinicWords, ColumnTitles, DurableState, PolicyBook, Totals
from normalizer.store.connection import (
    Client,
    Database,
    Record,
    batched,
    each_of,
    now_utc,
    open_client,
    read,
    settled,
    translating,
)
from normalizer.store.imports import Imports, ProblemRows
from normalizer.store.indexes import KEY_FIELD, Diagnosis, diagnose
from normalizer.store.migration import Migrated, migrate
from normalizer.store.outbox import Outbox, announced, marked
from normalizer.store.queries import Filter, Page
from normalizer.store.records import Pending, Result, named, ours, status_of
from normalizer.store.review import Questions
from normalizer.store.stored_appointment import Corrected, StoredAppointment, as_read, correction_of
from normalizer.store.undo import Rewrite, Undone, restore, write_over
from normalizer.store.upsert import ImportRow, Upsert, UpsertReport
from normalizer.store.writes import GuardedWrite, SaveReport, Stride, Turns

# The old worker gave a job five minutes.
_DIED_OVER_IT = timedelta(minutes=10)


@translating
class AppointmentStore:
    """Appointments in MongoDB; its attributes are the repositories of the other collections.

    Every method may raise `StoreUnavailable`; ids are strings, whatever `_id` is.

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
        self._database = Database(client, database, clock=clock)
        self._owned, self._announces, self._clock = owned, announces, clock
        self._appointments = self._database.appointments
        self._stride, self._turns = Stride(), Turns()
        self.secret = self._database.secret
        self.imports = Imports(self._database)
        self.problems = ProblemRows(self._database)
        self.columns = ColumnTitles(self._database)
        self.policies = PolicyBook(self._database)
        self.totals = Totals(self._database)
        self.durable_state = DurableState(self._database)
        self.words = ClinicWords(self._database)
        self.questions = Questions(self._database, self.imports, announces=announces)

    @classmethod
    def connect(cls, url: str, database: str, *, announces: bool = False) -> Self:
        """A store with a client of its own, which connects at first use."""
        return cls(open_client(url), database, owned=True, announces=announces)

    async def close(self) -> None:
        """Close the client, if it is ours."""
        if self._owned:
            await settled(self._database.client.close())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def ping(self) -> None:
        """One round trip."""
        await self._database.client.admin.command("ping")

    async def diagnose(self) -> Diagnosis:
        """How the server is and what this user may do there; changes nothing."""
        return await diagnose(self._database)

    async def ensure_indexes(self) -> None:
        """Create what is missing: the unique natural key, and the way to what waits.

        Sparse: appointments that came by another way have no natural key of ours.
        """
        await indexes.ensure(self._database)

    async def load(self, ids: Sequence[str]) -> dict[str, Appointment]:
        """The appointments that these ids name, in one query per 500, and one more where some are named by `_id`."""
        found: dict[str, Appointment] = {}
        secret, policies = await self.secret.get(), await self.policies.recent()
        wanted = records.LOADED_FOR_POLICIES if policies.by_scope else records.LOADED
        for chunk in batched(ids):
            async with self._turns.take():
                for field in ("id", "_id"):
                    if rest := [name for name in chunk if name not in found]:
                        there = await read(self._appointments, named(rest, field), wanted)
                        found |= records.by_name(rest, there, secret=secret, policies=policies)
        return found

    async def save(self, results: Sequence[Result]) -> SaveReport:
        """Write results whose texts are still those loaded and which no newer claim has overtaken.

        Raises:
            StoreUnavailable: MongoDB is away and not one row was written.
        """
        secret = await self.secret.get()
        report = await self._write("store.save", [partial(writes.result_write, row, secret=secret) for row in results])
        await self.totals.add(results, report.saved)
        return report

    async def mark_failed(self, causes: Mapping[str, tuple[str, int]]) -> SaveReport:
        """End appointments as `falhou`: id to (cause, fence). Not where a newer claim has written."""
        known = await self.load(list(causes))
        rows = [partial(writes.failure_write, each, *causes[name]) for name, each in known.items()]
        report = await self._write("store.mark_failed", rows)
        if full := [(each, causes[name][1]) for name, each in known.items() if each.id in report.refused]:
            for ended in await writes.fail_without_room(self._appointments, full):
                del report.refused[ended]
                report.saved[ended] = Status.FAILED
        report.conflicts.extend(causes.keys() - known.keys())
        return report

    async def upsert_rows(self, rows: Sequence[ImportRow], import_id: str) -> UpsertReport:
        """Write rows of a sheet; a row equal to the last import's is not touched."""
        with span("store.upsert", rows=len(rows)) as facts:
            report = await Upsert(self._database, import_id, secret=await self.secret.get()).write(rows)
            facts |= {"new": len(report.new), "changed": len(report.changed)}
            return report

    async def preview_rows(self, rows: Sequence[ImportRow]) -> UpsertReport:
        """What `upsert_rows` would report; writes nothing."""
        return await Upsert(self._database, "", secret=await self.secret.get()).preview(rows)

    async def pending(self, *, limit: int = 1_000, older_than_s: float = 0.0) -> AsyncGenerator[list[Pending], None]:
        """What has waited for over `older_than_s` to be normalized, whoever stored it, oldest first, `limit` at a time.

        Another worker's `processing` counts as waiting after ten minutes: it has died over it. A record that does not
        say since when waits from now on.
        """
        secret, now = await self.secret.get(), self._clock()
        for clock, due, undated in queries.waiting(now - timedelta(seconds=older_than_s), now - _DIED_OVER_IT):
            await self._appointments.update_many(undated, {"$set": {clock: now}})
            async for chunk in self._chunks(due, limit, order=clock):
                yield [records.pending_of(record, secret=secret) for record in chunk]

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
        chosen = queries.any_of(statuses)
        if reasons is not None:
            chosen = {"$and": [chosen, queries.because_of(reasons)]}
        secret = await self.secret.get()
        async for chunk in self._chunks(chosen, limit):
            fields = records.waiting_again(self._clock()) | ({"normalizacao.refazer": list(Kind)} if again else {})
            keys = [record["_id"] for record in chunk]
            await writes.set_pending(self._appointments, keys, queries.any_of(statuses), fields)
            yield [records.pending_of(record, secret=secret, later=1) for record in chunk]

    async def _chunks(
        self, chosen: Mapping[str, Any], limit: int, *, order: str | None = None
    ) -> AsyncIterator[list[Record]]:
        """Records that wait or are about to, none of which keeps the others from being read."""
        async for chunk in each_of(self._appointments, chosen, records.PENDING_FIELDS, order=order, size=limit):
            await self.imports.recount(ours(record).get("import_id") for record in chunk)
            yield [record for record in chunk if record["_id"] is not None]

    async def every(self, import_id: str | None = None) -> AsyncIterator[StoredAppointment]:
        """Every appointment that is ours (it carries `normalizacao`), of one import or of all."""
        chosen: dict[str, Any] = {"normalizacao.status": {"$exists": True}}
        if import_id is not None:
            chosen["normalizacao.import_id"] = import_id
        async for chunk in each_of(self._appointments, chosen):
            for record in chunk:
                yield StoredAppointment.of(record)

    async def browse(self, chosen: Filter, *, after: str | None = None, skip: int = 0, limit: int = 50) -> Page:
        """Appointments that are ours, as `normalizer.store.queries` orders them.

        Args:
            chosen: which.
            after: the `after` of the page before; None begins.
            skip: a page by number, at a cost that grows with it.
            limit: how many at most.

        Raises:
            InvalidInput: `after` is nothing a page gave.
        """
        now = self._clock()
        found, following = await queries.page(self._appointments, chosen, now, after=after, skip=skip, limit=limit)
        total = await self._total(chosen, now)
        return Page(found, total, following)

    async def each(self, chosen: Filter, *, most: int) -> AsyncIterator[list[StoredAppointment]]:
        """Up to `most` of them, in the same order, some hundred at a time."""
        async for found in queries.pages(self._appointments, chosen, self._clock(), most=most):
            yield found

    async def _total(self, chosen: Filter, now: datetime) -> int:
        """Of all, or of the concluded, it is known without counting them."""
        if not chosen.is_plain or chosen.status not in {None, Status.DONE}:
            return await queries.total(self._appointments, chosen, now)
        by_status = await self.totals.by_status()
        return min(queries.DEEPEST + 1, by_status.total() if chosen.status is None else by_status[chosen.status])

    async def written_since(self, import_id: str, keys: Collection[str]) -> set[str]:
        """Which of these natural keys another import wrote on after this one did."""
        found: set[str] = set()
        for chunk in batched(list(keys)):
            chosen = {KEY_FIELD: {"$in": chunk}}
            wanted = {KEY_FIELD: 1, "normalizacao.tocado_por": 1}
            for record in await read(self._appointments, chosen, wanted):
                if ours(record).get("tocado_por") not in {None, import_id}:
                    found.add(record[KEY_FIELD])
        return found

    async def one(self, appointment_id: str) -> StoredAppointment | None:
        """One appointment; None when there is none, or it is not ours."""
        found: Record | None = await self._appointments.find_one(named([appointment_id]))
        found = found or await self._appointments.find_one(named([appointment_id], "_id"))
        return StoredAppointment.of(found) if found is not None and status_of(found) is not None else None

    async def correct(self, seen: StoredAppointment, values: Corrected) -> StoredAppointment | None:
        """Write a person's results on what the person saw; None when somebody wrote on it since."""
        change = self._correction(seen, values, self._clock(), await self.secret.get())
        return await self._write_on(seen, change, list(values))

    async def correct_many(self, corrections: Sequence[tuple[StoredAppointment, Corrected]], import_id: str) -> int:
        """The same for many, under an id that `undo` takes; how many. Those that somebody wrote on since are left."""
        secret, now = await self.secret.get(), self._clock()
        written = 0
        for chunk in batched(corrections):
            rewrites = []
            for seen, values in chunk:
                change = self._correction(seen, values, now, secret)
                change["$set"]["normalizacao.tocado_por"] = import_id
                rewrites.append(Rewrite(seen.handle, {}, UpdateOne(as_read(seen, list(values)), change)))
            written += (await write_over(self._database, import_id, rewrites, last=True))[0].modified
            await self.imports.recount(seen.import_id for seen, _ in chunk)
        return written

    def _correction(self, seen: StoredAppointment, values: Corrected, now: datetime, secret: bytes) -> dict[str, Any]:
        change = correction_of(seen, values, now, secret=secret)
        if self._announces:
            change = marked(change, Status(change["$set"].get("normalizacao.status") or seen.status), now)
        return change

    async def requeue_one(self, seen: StoredAppointment) -> Pending | None:
        """Put one back to `pendente`, all of it to be read anew; None when somebody wrote on it since."""
        again = {"normalizacao.revisao": seen.revision + 1, "normalizacao.refazer": list(Kind)}
        if await self._write_on(seen, {"$set": {**records.waiting_again(self._clock()), **again}}) is None:
            return None
        secret = await self.secret.get()
        return Pending(seen.id, records.fingerprint_of(seen.sources, seen.revision + 1, secret=secret))

    async def _write_on(
        self, seen: StoredAppointment, change: Mapping[str, Any], kinds: Sequence[Kind] = ()
    ) -> StoredAppointment | None:
        durably = self._database.durably
        if not (await durably.update_one(as_read(seen, kinds), change)).modified_count:
            return None
        await self.imports.recount([seen.import_id])
        return StoredAppointment.of(await durably.find_one({"_id": seen.handle}))

    async def undo(self, import_id: str, *, moved: Callable[[Undone], Awaitable[None]] | None = None) -> Undone:
        """Put back what the import wrote, telling how far it is. Whether it may be undone is the caller's to judge."""
        undone = await restore(self._database, import_id, moved)
        await self.problems.forget(import_id)
        await self.imports.recount_all()  # whose appointments came back is not known here
        return undone

    async def migrate(
        self, import_id: str | None, *, moved: Callable[[Migrated], Awaitable[None]] | None = None
    ) -> Migrated:
        """Bring records of earlier versions into today's forms, under this import's id; None only counts."""
        policies = await self.policies.read()
        return await migrate(self._database, import_id, policies=policies, recount=self.imports.recount, moved=moved)

    def outbox(self) -> Outbox:
        """What has to be told outside."""
        return Outbox(self._database)

    async def _write(self, name: str, rows: Sequence[Callable[[datetime], GuardedWrite]]) -> SaveReport:
        with span(name, rows=len(rows)) as facts:
            if self._announces:
                rows = [partial(announced, row) for row in rows]
            report = await writes.write_all(
                self._appointments, rows, clock=self._clock, stride=self._stride, turns=self._turns
            )
            facts |= {"saved": len(report.saved), "conflicts": len(report.conflicts)}
            facts |= {"failed": len(report.failed), "refused": len(report.refused)}
            return report
