"""Durable copy of what Redis holds and nothing could rebuild: the pause, what was spent, what people corrected.

Redis answers first, as long as it has not been emptied; `worker.tasks.refill` puts these back when it was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from normalizer.domain.address import Address
from normalizer.domain.appointment import Kind, Origin
from normalizer.store.connection import Collection, Record, chunks_of, each_of, raw, translated
from normalizer.store.indexes import CORRECTED_AT
from normalizer.store.records import RESULT_FIELD, SOURCES, about
from normalizer.store.stored_appointment import source_text

_PAUSE: Final = "pausa"
#: As long as the figures of a day are kept in Redis.
_SPENDING_KEPT: Final = timedelta(days=92)


class DurableState:
    """Every method may raise `StoreUnavailable`. Its writes are answered by a majority."""

    def __init__(self, state: Collection, appointments: Collection, *, clock: Callable[[], datetime]) -> None:
        self._state, self._appointments, self._clock = state, appointments, clock

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
        found = raw(self._appointments).find({CORRECTED_AT: {"$exists": True}}, wanted)
        with translated():
            async for chunk in chunks_of(each_of(found.sort(CORRECTED_AT, 1))):
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
