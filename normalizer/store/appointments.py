"""`AppointmentStore`: every question the program asks MongoDB, and every write."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Self

from bson import ObjectId
from pymongo.errors import DuplicateKeyError, OperationFailure

from normalizer.domain.appointment import PRIVATE_FIELDS, Appointment, Kind, Status
from normalizer.errors import Misconfigured, StoreUnavailable
from normalizer.observability.tracing import span
from normalizer.store.connection import (
    BULK,
    Client,
    Record,
    batched,
    by_id,
    chunks_of,
    likely_ids,
    open_client,
    open_collection,
    settled,
    translated,
)
from normalizer.store.desk import Desk
from normalizer.store.diagnosis import Diagnosis, diagnose
from normalizer.store.intake import KEY_FIELD, ImportRow, Intake, UpsertReport
from normalizer.store.overview import Counts, Sample, count, sample
from normalizer.store.pressure import Stride, Turns
from normalizer.store.records import (
    ALL_SOURCES,
    Pending,
    Result,
    appointment_of,
    change_of,
    failure_of,
    not_fenced_off,
    pending_of,
    status_of,
    unchanged,
)
from normalizer.store.writes import GuardedWrite, SaveReport, write_all

_HASH_KEY_ID = "hash"
_SECRET_BYTES = 32
_SECRET_TRIES = 10
_CORRECTIONS = [f"normalizacao.{kind}.{name}" for kind in Kind for name in ("corrigido_em", "corrigido_de")]
_SOURCE_FIELDS = dict.fromkeys(
    [
        *ALL_SOURCES,
        *PRIVATE_FIELDS,
        *[f"normalizacao.{name}" for name in ("status", "import_id")],
        *_CORRECTIONS,
    ],
    1,
)
_PENDING_FIELDS = {**dict.fromkeys(ALL_SOURCES, 1), "normalizacao.revisao": 1}
# Duplicates, or an index of the same name with other options.
_INDEX_CANNOT_BE = frozenset({11000, 85, 86})


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

    Raises:
        Misconfigured: the database name (or, in `connect`, the URL) cannot be used.
    """

    def __init__(
        self, client: Client, database: str, *, owned: bool = False, clock: Callable[[], datetime] = now_utc
    ) -> None:
        self._client, self._owned = client, owned
        self._clock = clock
        self._secret: bytes | None = None
        self._stride, self._turns = Stride(), Turns()
        self._appointments = open_collection(self._client, database, "appointments")
        self._imports = open_collection(self._client, database, "normalizer_imports")
        self._images = open_collection(self._client, database, "normalizer_undo")
        self._problems = open_collection(self._client, database, "normalizer_problems")
        self._columns = open_collection(self._client, database, "normalizer_columns")
        self._secrets = open_collection(self._client, database, "normalizer_secrets")

    @classmethod
    def connect(cls, url: str, database: str) -> Self:
        """A store with a client of its own, which connects at first use."""
        return cls(open_client(url), database, owned=True)

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
            try:
                await self._appointments.create_index(KEY_FIELD, unique=True, sparse=True, name="normalizer_key")
                waiting = [("normalizacao.status", 1), ("normalizacao.atualizado_em", 1)]
                await self._appointments.create_index(waiting, name="normalizer_status")
                await self._appointments.create_index("normalizacao.import_id", sparse=True, name="normalizer_import")
                for passing in (self._images, self._problems):
                    await passing.create_index("import_id", name="normalizer_import")
                    await passing.create_index("expira_em", expireAfterSeconds=0, name="normalizer_expiry")
            except OperationFailure as error:
                if error.code not in _INDEX_CANNOT_BE:
                    raise
                problem = f"O índice de {KEY_FIELD} não pode ser criado em appointments (código {error.code})."
                mend = f"Remova registros com {KEY_FIELD} repetido ou o índice antigo."
                raise Misconfigured(problem, mend=mend) from None

    async def load(self, ids: Sequence[str]) -> dict[str, Appointment]:
        """The appointments with these ids, in one query per 500; an id that does not exist is absent."""
        found: dict[str, Appointment] = {}
        with translated():
            for chunk in batched(ids):
                async with self._turns.take():
                    await self._find(likely_ids(chunk), found)
                    if missing := [id_ for id_ in chunk if id_ not in found and ObjectId.is_valid(id_)]:
                        await self._find(missing, found)  # stored as text although they spell an ObjectId
        return found

    async def save(self, results: Sequence[Result]) -> SaveReport:
        """Write results whose texts are still those loaded and which no newer claim has overtaken.

        Raises:
            StoreUnavailable: MongoDB is away and not one row was written.
        """
        return await self._write("store.save", [partial(_result_write, row) for row in results])

    async def mark_failed(self, causes: Mapping[str, tuple[str, int]]) -> SaveReport:
        """End appointments as `falhou`: id to (cause, fence). Not where a newer claim has written."""
        rows = [partial(_failure_write, id_, cause, fence) for id_, (cause, fence) in causes.items()]
        return await self._write("store.mark_failed", rows)

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
        """What has been `pendente` for over `older_than_s`, oldest first, `limit` at a time."""
        chosen = {
            "normalizacao.status": Status.PENDING.value,
            "normalizacao.atualizado_em": {"$lte": self._clock() - timedelta(seconds=older_than_s)},
        }
        secret = await self.secret()
        with translated():
            found = self._appointments.find(chosen, _PENDING_FIELDS).sort("normalizacao.atualizado_em", 1)
            async for chunk in chunks_of(found, limit):
                yield [pending_of(record, secret=secret) for record in chunk]

    async def requeue(
        self, statuses: Collection[Status], *, reasons: Collection[str] | None = None, limit: int = 500
    ) -> AsyncIterator[list[Pending]]:
        """Put appointments back to `pendente` and yield them for the queue, in lists of at most `limit`.

        Args:
            statuses: those to take up, e.g. `{Status.REVIEW}`.
            reasons: only those with one of these as `motivo` of a text or as `erro`; None takes all.
            limit: appointments per update.
        """
        among = {"normalizacao.status": {"$in": [status.value for status in statuses]}}
        chosen: dict[str, Any] = dict(among)
        if reasons is not None:
            places = ["normalizacao.erro", *(f"normalizacao.{kind}.motivo" for kind in Kind)]
            chosen["$or"] = [{place: {"$in": list(reasons)}} for place in places]
        secret = await self.secret()
        with translated():
            async for chunk in chunks_of(self._appointments.find(chosen, _PENDING_FIELDS), limit):
                await self._put_back([record["_id"] for record in chunk], among)
                grown = [_one_revision_on(record) for record in chunk]
                yield [pending_of(record, secret=secret) for record in grown]

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
        with translated():
            async for record in self._appointments.find(chosen, _SOURCE_FIELDS):
                yield appointment_of(record)

    async def samples(self, limit: int, import_id: str | None = None) -> list[Sample]:
        """A few results with the text they came from. They hold patients' data: mask before showing."""
        with translated():
            return await sample(self._appointments, limit, import_id)

    async def create_import(self, about: Mapping[str, Any]) -> str:
        """Note that an import begins (file name, row count …) and return its id."""
        record = {"_id": ObjectId(), **about, "status": "em andamento", "created_at": self._clock()}
        with translated():
            await self._imports.insert_one(record)
        return str(record["_id"])

    async def finish_import(self, import_id: str, outcome: Mapping[str, Any]) -> None:
        """Note how an import ended; `outcome` holds counts and row numbers, never a patient's text."""
        ended = {"status": "concluida", **outcome, "finished_at": self._clock()}
        with translated():
            await self._imports.update_one(by_id(import_id), {"$set": ended})

    async def get_import(self, import_id: str) -> Record | None:
        """What is known of an import, its id as `id`; None when there is no such import."""
        with translated():
            found: Record | None = await self._imports.find_one(by_id(import_id))
        return None if found is None else {"id": str(found.pop("_id")), **found}

    def desk(self) -> Desk:
        """What an operator does with appointments and imports: look, correct, undo."""
        return Desk(
            self._appointments,
            self._imports,
            self._images,
            self._problems,
            self._columns,
            secret=self.secret,
            clock=self._clock,
        )

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
        for _ in range(_SECRET_TRIES):
            found = await self._secrets.find_one({"_id": _HASH_KEY_ID})
            if found is not None:
                return bytes(found["valor"])
            fresh = {"_id": _HASH_KEY_ID, "valor": secrets.token_bytes(_SECRET_BYTES), "created_at": self._clock()}
            with suppress(DuplicateKeyError):
                await self._secrets.insert_one(fresh)
        raise StoreUnavailable("MongoDB não devolve o segredo que guarda.")

    async def _write(self, name: str, rows: Sequence[Callable[[datetime], GuardedWrite]]) -> SaveReport:
        with span(name, rows=len(rows)) as facts:
            report = await write_all(
                self._appointments, rows, clock=self._clock, stride=self._stride, turns=self._turns
            )
            facts |= {"saved": len(report.saved), "conflicts": len(report.conflicts)}
            facts |= {"failed": len(report.failed), "refused": len(report.refused)}
            return report

    async def _find(self, native_ids: Sequence[str | ObjectId], found: dict[str, Appointment]) -> None:
        # One batch for all of them: by itself MongoDB sends 101 documents, and the others when asked again.
        cursor = self._appointments.find({"_id": {"$in": native_ids}}, _SOURCE_FIELDS, batch_size=BULK)
        for record in await cursor.to_list(None):
            appointment = appointment_of(record)
            found[appointment.id] = appointment

    async def _intake(self, import_id: str) -> Intake:
        secret = await self.secret()
        return Intake(self._appointments, import_id, secret=secret, clock=self._clock, images=self._images)

    async def _put_back(self, native_ids: list[Any], among: Mapping[str, Any]) -> None:
        fields = {"status": Status.PENDING.value, "erro": None, "atualizado_em": self._clock()}
        change = {"$set": {f"normalizacao.{name}": value for name, value in fields.items()}}
        for chunk in batched(native_ids):
            await self._appointments.update_many(
                {"_id": {"$in": chunk}, **among}, {**change, "$inc": {"normalizacao.revisao": 1}}
            )


def _result_write(result: Result, now: datetime) -> GuardedWrite:
    status = status_of(result.outcomes)
    return GuardedWrite(result.appointment.id, unchanged(result), change_of(result, now), status, result.fence)


def _failure_write(appointment_id: str, cause: str, fence: int, now: datetime) -> GuardedWrite:
    change = failure_of(cause, fence, now)
    return GuardedWrite(appointment_id, not_fenced_off(fence), change, Status.FAILED, fence)


def _one_revision_on(record: Record) -> Record:
    revision = (record.get("normalizacao") or {}).get("revisao") or 0
    return {**record, "normalizacao": {"revisao": revision + 1}}
