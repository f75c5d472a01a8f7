"""`ClinicWords`: the clinic's own word list, and which decisions each entry has made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime

from normalizer.domain.address.taught import ClinicWord
from normalizer.store.connection import Collection, translated


def id_of(word: ClinicWord) -> str:
    """What an entry is called; one short name has one meaning in a city."""
    return hashlib.blake2b(f"{word.state}\0{word.city}\0{word.short}".encode(), digest_size=8).hexdigest()


class ClinicWords:
    """Every method may raise `StoreUnavailable`. `AppointmentStore.words` is one."""

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
