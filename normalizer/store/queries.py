"""Filters of appointments, and the pages they fill, each from an index and bounded in time.

The backend's `normalization_status` is asked before our own: somebody may have changed it since we wrote (a replica of
the old worker, a person who sets `failed` back to `pending`). Records of earlier versions have only
`normalizacao.status`.

Unless asked otherwise, an import's appointments stand in the order of its sheet, all others by when they were touched,
the last one first. Many are touched at one moment (a group's results), or are of one hour: a place in such an order is
the moment, and how many of it were shown; the next page begins where the last one ended.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import partial
from itertools import product
from typing import Any, Final

import bson
from bson import ObjectId
from bson.errors import InvalidBSON
from pymongo.errors import ExecutionTimeout

from normalizer.domain.appointment import Kind, Origin, Status, Tracking
from normalizer.domain.text import fold
from normalizer.errors import InvalidInput
from normalizer.store.connection import BULK, PATIENCE_MS, Record, read, utc
from normalizer.store.connection import Collection as Stored
from normalizer.store.indexes import KEY_FIELD
from normalizer.store.records import TRACKING
from normalizer.store.stored_appointment import StoredAppointment

#: How deep one may page; beyond it a filter finds more.
DEEPEST: Final = 10_000
_WINDOW: Final = timedelta(days=30)
_MILLISECOND: Final = timedelta(milliseconds=1)  # as fine as MongoDB's dates are
_FIRST_DATE: Final = datetime(1, 1, 1, tzinfo=UTC)
_ACCOUNTED: Final[list[dict[str, Any]]] = [
    {"normalization_status": {"$in": [tracking.value for tracking in Tracking]}},
    {"normalization_status": None, "normalizacao.status": {"$in": [status.value for status in Status]}},
]
_DATE: Final = "data_agendamento"
_CAUSE_PLACES: Final = ("normalizacao.erro", *(f"normalizacao.{kind}.motivo" for kind in Kind))
_ORIGIN_PLACES: Final = tuple(f"normalizacao.{kind}.origem" for kind in Kind)
#: The filter on appointments that nobody keeps account of.
UNACCOUNTED: Final = {"normalization_status": None, "normalizacao.status": None}


def standing(status: Status) -> list[dict[str, Any]]:
    """The filters, joined by or, on appointments of one status."""
    told: dict[str, Any] = {"normalization_status": {"$in": [tracking.value for tracking in TRACKING[status]]}}
    if status is Status.REVIEW:
        told["normalizacao.status"] = status.value
    elif status is Status.FAILED:
        told["normalizacao.status"] = {"$ne": Status.REVIEW.value}
    return [told, {"normalization_status": None, "normalizacao.status": status.value}]


def any_of(statuses: Collection[Status]) -> dict[str, Any]:
    """The filter on appointments of any of these."""
    return {"$or": [clause for status in statuses for clause in standing(status)]}


def waiting(before: datetime, died_before: datetime) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """What waits since `before`, or is in some worker's hands since `died_before`, by the account that says so.

    Of each: the time that it keeps, the filter on those that have waited for long enough, and the one on those whose
    time is missing, or no date at all.
    """
    own = {"normalization_status": None, "normalizacao.status": Status.PENDING.value}
    accounts: list[tuple[dict[str, Any], str, datetime]] = [
        ({"normalization_status": Tracking.PENDING.value}, "updated_at", before),
        ({"normalization_status": Tracking.PROCESSING.value}, "updated_at", died_before),
        (own, "normalizacao.atualizado_em", before),
    ]
    return [
        (clock, {**chosen, clock: {"$lt": since + _MILLISECOND}}, {**chosen, clock: {"$not": {"$gte": _FIRST_DATE}}})
        for chosen, clock, since in accounts
    ]


def because_of(reasons: Collection[str]) -> dict[str, Any]:
    """The filter on appointments with one of these as `motivo` of a text or as `erro`."""
    return {"$or": [{place: {"$in": list(reasons)}} for place in _CAUSE_PLACES]}


def _in_one_of(places: Sequence[str], value: str | None) -> list[dict[str, Any]]:
    """The filters, none of which finds what another one does, on a value in any of these places; None asks for none."""
    if value is None:
        return [{}]
    return [{**{one: {"$ne": value} for one in places[:at]}, place: value} for at, place in enumerate(places)]


class Attention(StrEnum):
    """What is settled and yet to be looked at: a date nobody can read, a number refused, a conflict with the base."""

    DATE = "data"
    DOCUMENT = "documento"
    CONFLICT = "conflito"

    def query(self) -> dict[str, Any]:
        """As MongoDB takes it, from an index of those alone."""
        if self is Attention.CONFLICT:
            return {"normalizacao.endereco.conflito": {"$gt": ""}}
        if self is Attention.DATE:
            return {"data_agendamento_informado": {"$gt": ""}}
        return {"normalizacao.documento.motivo": {"$gt": ""}, "documento_normalizado": {"$type": "object"}}


class Order(StrEnum):
    """How a list stands. By date only what has one is in it; `Attention.DATE` finds the others."""

    RECENT = "recentes"
    OLDEST = "antigos"
    DATE = "data"
    DATE_LAST = "-data"
    SHEET = "planilha"

    @property
    def field(self) -> str:
        """What a store sorts by."""
        return {Order.SHEET: "_id", Order.DATE: _DATE, Order.DATE_LAST: _DATE}.get(self, "updated_at")

    @property
    def direction(self) -> int:
        """1 or -1."""
        return -1 if self in {Order.RECENT, Order.DATE_LAST} else 1


@dataclass(frozen=True, slots=True)
class Filter:
    """Which appointments, and in which order; None asks for all.

    Attributes:
        also: further statuses, beside `status`.
        begin, end: days of the appointment, both included.
        part: of the natural key.
        patient: words of the patient's name, accents and case aside; looked for among a month's appointments.
        order: None is the sheet's for an import, the last touched first for all others.
    """

    status: Status | None = None
    import_id: str | None = None
    origin: Origin | None = None
    cause: str | None = None
    key: str | None = None
    attention: Attention | None = None
    also: tuple[Status, ...] = ()
    unit: str | None = None
    begin: date | None = None
    end: date | None = None
    part: str | None = None
    patient: str | None = None
    order: Order | None = None

    @property
    def ordering(self) -> Order:
        """The order that holds."""
        return self.order or (Order.RECENT if self.import_id is None else Order.SHEET)

    @property
    def is_plain(self) -> bool:
        """Whether it asks for nothing but a status."""
        return self == Filter(self.status)

    def queries(self, now: datetime) -> list[dict[str, Any]]:
        """As MongoDB takes it: several, without one in common, since not every store uses an index under an `$or`.

        What no index can find is looked for among open appointments, or in the last month.
        """
        common = {} if self.attention is None else self.attention.query()
        common |= {} if self.import_id is None else {"normalizacao.import_id": self.import_id}
        common |= {} if self.key is None else {KEY_FIELD: self.key}
        common |= {} if self.unit is None else {"nome_unidade": self.unit}
        common |= self._of_a_day() | self._by_words()
        indexed = any(one is not None for one in (self.import_id, self.key, self.attention, self.begin, self.unit))
        statuses = {self.status, *self.also} - {None}
        searched = self.origin or self.cause or self.part or self.patient
        if searched and not indexed and (not statuses or Status.DONE in statuses):
            common["updated_at"] = {"$gte": now - _WINDOW}
        accounts = [one for status in Status if status in statuses for one in standing(status)] or _ACCOUNTED
        causes, origins = _in_one_of(_CAUSE_PLACES, self.cause), _in_one_of(_ORIGIN_PLACES, self.origin)
        return [common | account | cause | origin for account, cause, origin in product(accounts, causes, origins)]

    def _of_a_day(self) -> dict[str, Any]:
        bounds = {"$gte": self.begin, "$lte": self.end}
        days = {name: datetime.combine(day, time()) for name, day in bounds.items() if day is not None}
        if self.ordering.field == _DATE:
            days.setdefault("$gte", _FIRST_DATE.replace(tzinfo=None))
        return {_DATE: days} if days else {}

    def _by_words(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.part:
            found[KEY_FIELD] = {"$regex": re.escape(self.part)}
        if self.patient:
            found["nome_paciente"] = {"$regex": _pattern(self.patient), "$options": "i"}
        return found


_ACCENTED: Final = {one[1]: one for one in ["[aáàâãä]", "[eéèêë]", "[iíìîï]", "[oóòôõö]", "[uúùûü]", "[cç]", "[nñ]"]}


def _pattern(words: str) -> str:
    """A pattern for these words in this order, whatever stands between them, with or without their accents."""
    return ".*".join("".join(_ACCENTED.get(char, re.escape(char)) for char in fold(word)) for word in words.split())


_FIND_MS: Final = 15_000  # within a socket's time-out
_MOST_OF_A_MOMENT: Final = 10 * DEEPEST
_LONG_AGO: Final = datetime.min


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the appointments that were asked for; `total` is cut at `DEEPEST` + 1, `after` asks for the next page."""

    appointments: Sequence[StoredAppointment]
    total: int
    after: str | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a page begins: behind `at` (a moment or a key), and `skip` further; None is the beginning."""

    at: datetime | ObjectId | None = None
    skip: int = 0

    @classmethod
    def read(cls, text: str | None, order: Order) -> _Place:
        if text is None:
            return cls()
        try:
            found = bson.decode(base64.urlsafe_b64decode(text.encode()))
            at, skip = found["at"], int(found["skip"])
        except (InvalidBSON, ValueError, KeyError, TypeError):
            raise _unknown() from None
        kind = ObjectId if order is Order.SHEET else datetime
        if not isinstance(at, kind | None) or not 0 <= skip <= _MOST_OF_A_MOMENT:
            raise _unknown()
        return cls(at, skip)

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(bson.encode({"at": self.at, "skip": self.skip})).decode()

    def within(self, query: Mapping[str, Any], order: Order) -> dict[str, Any]:
        if self.at is None:
            return dict(query)
        bound: dict[str, Any] = {"$gt": self.at}
        if isinstance(self.at, datetime):
            bound = {"$gte": self.at} if order.direction > 0 else {"$lt": self.at + _MILLISECOND}
        return {**query, order.field: {**query.get(order.field, {}), **bound}}

    def behind(self, rows: Sequence[Record], order: Order) -> _Place:
        """The place after all these rows, of which the first stands at this place."""
        at = rows[-1].get(order.field)
        if isinstance(at, datetime):
            return _Place(at, sum(row.get(order.field) == at for row in rows))
        return _Place(at) if isinstance(at, ObjectId) else _Place(self.at, len(rows))


async def page(
    collection: Stored, chosen: Filter, now: datetime, *, after: str | None, skip: int, limit: int
) -> tuple[list[StoredAppointment], str | None]:
    """One page, and where the next one begins. Raises InvalidInput for a place that no page ended at."""
    order = chosen.ordering
    place = _Place.read(after, order)
    skipped = place.skip + min(skip, DEEPEST)
    heads: list[Record] = []
    for query in chosen.queries(now):
        found = collection.find(place.within(query, order), {order.field: 1}).sort(order.field, order.direction)
        heads += await found.limit(skipped + limit).max_time_ms(_FIND_MS).to_list(None)
    heads.sort(key=_key if order is Order.SHEET else partial(_moment, field=order.field), reverse=order.direction < 0)
    seen = heads[: skipped + limit]
    rows = seen[skipped:]
    whole = {record["_id"]: record for record in await read(collection, {"_id": {"$in": [row["_id"] for row in rows]}})}
    shown = [StoredAppointment.of(whole[row["_id"]]) for row in rows if row["_id"] in whole]
    return shown, str(place.behind(seen, order)) if len(rows) == limit else None


async def pages(
    collection: Stored, chosen: Filter, now: datetime, *, most: int
) -> AsyncIterator[list[StoredAppointment]]:
    """Up to `most` appointments, some hundred at a time."""
    after, left = None, most
    while left > 0:
        found, after = await page(collection, chosen, now, after=after, skip=0, limit=min(BULK, left))
        yield found
        left -= len(found)
        if after is None:
            return


async def total(collection: Stored, chosen: Filter, now: datetime) -> int:
    """How many there are, cut at `DEEPEST` + 1: also where nobody would wait for the count."""
    found = 0
    try:
        for query in chosen.queries(now):
            found += await collection.count_documents(query, limit=DEEPEST + 1, maxTimeMS=PATIENCE_MS)
    except ExecutionTimeout:
        return DEEPEST + 1
    return min(found, DEEPEST + 1)


def _moment(row: Record, field: str) -> datetime:
    at = utc(row.get(field))
    return _LONG_AGO if at is None else at.replace(tzinfo=None)


def _key(row: Record) -> tuple[bool, str]:
    return isinstance(row["_id"], ObjectId), str(row["_id"])


def _unknown() -> InvalidInput:
    return InvalidInput(
        where="a página pedida",
        expected="o lugar que a página anterior deu",
        found="outro texto",
        fix="Comece da primeira página.",
    )
