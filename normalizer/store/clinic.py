"""What a clinic decided for itself: its policies by brand or unit, and its own word list."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Final

from normalizer.domain.address.taught import ClinicWord
from normalizer.domain.policy import Policies, WhenMissing
from normalizer.store.connection import Collection, translated

#: How long another process may go by what was decided before.
_KEPT: Final = timedelta(seconds=10)
_MOST: Final = 5_000


class PolicyBook:
    """Policies; every group asks, so they are kept for a moment. Every method may raise `StoreUnavailable`."""

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


def id_of(word: ClinicWord) -> str:
    """What an entry is called; one short name has one meaning in a city."""
    return hashlib.blake2b(f"{word.state}\0{word.city}\0{word.short}".encode(), digest_size=8).hexdigest()


class ClinicWords:
    """The word list, and which decisions each entry has made. Every method may raise `StoreUnavailable`."""

    def __init__(self, words: Collection, *, clock: Callable[[], datetime]) -> None:
        self._words, self._clock = words, clock

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
