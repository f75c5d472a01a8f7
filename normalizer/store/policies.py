"""Policies an operator set, by brand or unit; read by every group of appointments, and so kept for a moment."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from normalizer.domain.policy import Policies, WhenMissing
from normalizer.store.connection import Collection, translated

#: How long another process may go by what was decided before.
_KEPT: Final = timedelta(seconds=10)
_MOST: Final = 5_000


class PolicyBook:
    """Every method may raise `StoreUnavailable`."""

    def __init__(self, collection: Collection, *, clock: Callable[[], datetime]) -> None:
        self._collection, self._clock = collection, clock
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
