"""Pages of appointments, each from an index and bounded in time; the next one begins where the last one ended.

Unless asked otherwise, an import's appointments stand in the order of its sheet, all others by when they were touched,
the last one first. Many are touched at one moment (a group's results), or are of one hour: a place in such an order is
the moment, and how many of it were shown.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import bson
from bson import ObjectId
from bson.errors import InvalidBSON
from pymongo.errors import ExecutionTimeout

from normalizer.errors import InvalidInput
from normalizer.store.connection import BULK, Collection, Record, read, utc
from normalizer.store.overview import PATIENCE_MS
from normalizer.store.queries import DEEPEST, Filter, Order
from normalizer.store.stored_appointment import StoredAppointment

_MOMENT: Final = timedelta(milliseconds=1)
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
            bound = {"$gte": self.at} if order.direction > 0 else {"$lt": self.at + _MOMENT}
        return {**query, order.field: {**query.get(order.field, {}), **bound}}

    def behind(self, rows: Sequence[Record], order: Order) -> _Place:
        """The place after all these rows, of which the first stands at this place."""
        at = rows[-1].get(order.field)
        if isinstance(at, datetime):
            return _Place(at, sum(row.get(order.field) == at for row in rows))
        return _Place(at) if isinstance(at, ObjectId) else _Place(self.at, len(rows))


async def page(
    collection: Collection, chosen: Filter, now: datetime, *, after: str | None, skip: int, limit: int
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
    collection: Collection, chosen: Filter, now: datetime, *, most: int
) -> AsyncIterator[list[StoredAppointment]]:
    """Up to `most` appointments, some hundred at a time."""
    after, left = None, most
    while left > 0:
        found, after = await page(collection, chosen, now, after=after, skip=0, limit=min(BULK, left))
        yield found
        left -= len(found)
        if after is None:
            return


async def total(collection: Collection, chosen: Filter, now: datetime) -> int:
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
