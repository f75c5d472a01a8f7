"""What is kept once for a whole database: what its clinic decided, and what nothing could rebuild."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

from normalizer.domain.address import Address
from normalizer.domain.address.explain import ClinicWord
from normalizer.domain.appointment import Kind, Origin, Policies, WhenMissing
from normalizer.store.connection import Database, Record, each_of, translated
from normalizer.store.indexes import CORRECTED_AT
from normalizer.store.records import RESULT_FIELD, SOURCES, about
from normalizer.store.stored_appointment import source_text

#: How long another process may go by what was decided before.
_KEPT: Final = timedelta(seconds=10)
_MOST: Final = 5_000  # scopes: brands, units and headers


class PolicyBook:
    """Policies; every group asks, so they are kept for a moment. Every method may raise `StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._collection, self._clock = database.lasting("normalizer_policies"), database.clock
        self._known: tuple[datetime, Policies] | None = None

    async def read(self) -> Policies:
        """What holds now."""
        with translated():
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
        with translated():
            found = await self._collection.delete_one({"_id": scope})
        self._known = None
        return bool(found.deleted_count)

    async def decide(self, scope: str, when: WhenMissing) -> None:
        """Set one scope's policy."""
        with translated():
            change = {"$set": {"quando": when.value, "atualizado_em": self._clock()}}
            await self._collection.update_one({"_id": scope}, change, upsert=True)
        self._known = None


def id_of(word: ClinicWord) -> str:
    """What an entry is called; one short name has one meaning in a city."""
    return hashlib.blake2b(f"{word.state}\0{word.city}\0{word.short}".encode(), digest_size=8).hexdigest()


class ClinicWords:
    """The word list, and which decisions each entry has made. Every method may raise `StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._words, self._clock = database.lasting("normalizer_words"), database.clock

    async def all(self) -> dict[str, ClinicWord]:
        """The entries in force, by id, the newest first."""
        with translated():
            return {each["_id"]: ClinicWord(**each["palavra"]) async for each in self._words.find().sort("em", -1)}

    async def add(self, word: ClinicWord) -> str:
        """Put an entry into force; its id."""
        change = {"$set": {"palavra": asdict(word), "em": self._clock()}}
        with translated():
            await self._words.update_one({"_id": id_of(word)}, change, upsert=True)
        return id_of(word)

    async def made(self, word_id: str, decisions: Sequence[str]) -> None:
        """Note what the entry has decided."""
        with translated():
            await self._words.update_one({"_id": word_id}, {"$addToSet": {"decisoes": {"$each": list(decisions)}}})

    async def remove(self, word_id: str) -> list[str] | None:
        """Take an entry out of force; the decisions it has made. None when there is none."""
        with translated():
            found = await self._words.find_one_and_delete({"_id": word_id})
        return None if found is None else list(found.get("decisoes") or ())


class ColumnTitles:
    """What operators said of column titles, by scope (a header as a whole, a brand): `normalizer_columns`."""

    def __init__(self, database: Database) -> None:
        self._columns, self._clock = database.lasting("normalizer_columns"), database.clock

    async def known(self) -> dict[str, dict[str, str]]:
        """By scope: title to stored field. StoreUnavailable on an outage, as in all methods."""
        with translated():
            found = self._columns.find({}).sort("atualizado_em", -1).limit(_MOST)
            return {record["_id"]: dict(record.get("titulos") or {}) async for record in found}

    async def remember(self, learned: Mapping[str, Mapping[str, str]]) -> None:
        """Remember what was said of titles; what was said of the same title before is replaced."""
        with translated():
            for scope, meanings in learned.items():
                fields = {f"titulos.{title}": name for title, name in meanings.items()}
                change = {"$set": {**fields, "atualizado_em": self._clock()}}
                await self._columns.update_one({"_id": scope}, change, upsert=True)


_PAUSE: Final = "pausa"
#: As long as the figures of a day are kept in Redis.
_SPENDING_KEPT: Final = timedelta(days=92)


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
        with translated():
            if order is None:
                await self._state.delete_one({"_id": _PAUSE})
            else:
                change = {"$set": {"ordem": order, "desde": self._clock()}}
                await self._state.update_one({"_id": _PAUSE}, change, upsert=True)

    async def pause(self) -> str | None:
        """The order that holds the queue; None if it runs."""
        with translated():
            found: Record | None = await self._state.find_one({"_id": _PAUSE})
        return None if found is None else str(found["ordem"])

    async def add_spending(self, day: str, counts: Mapping[str, float]) -> None:
        """Count one model call into its day."""
        change = {
            "$inc": {f"gasto.{name}": number for name, number in counts.items()},
            "$setOnInsert": {"expira_em": self._clock() + _SPENDING_KEPT},
        }
        with translated():
            await self._state.update_one({"_id": day}, change, upsert=True)

    async def spending(self) -> dict[str, dict[str, float]]:
        """The counts of each day that is kept."""
        with translated():
            return {record["_id"]: record["gasto"] async for record in self._state.find({"_id": {"$ne": _PAUSE}})}

    async def corrections(self) -> AsyncIterator[dict[str, Address]]:
        """Addresses as people corrected them, by the text they saw; the oldest first, some hundred at a time."""
        wanted = dict.fromkeys((RESULT_FIELD[Kind.ADDRESS], f"normalizacao.{Kind.ADDRESS}"), 1)
        corrected = {CORRECTED_AT: {"$exists": True}}
        with translated():
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
