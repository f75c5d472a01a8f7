"""Secret of a database: keys the hashes of texts, so that nobody reverses them by trying."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Final

from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from normalizer.errors import StoreUnavailable
from normalizer.store.connection import Collection, translated

_KEY_ID: Final = "hash"
_BYTES: Final = 32
_TRIES: Final = 10


class Secret:
    """32 random bytes, the same for every replica: `normalizer_secrets`."""

    def __init__(self, collection: Collection, *, clock: Callable[[], datetime]) -> None:
        self._collection, self._clock = collection, clock
        self._known: bytes | None = None

    async def get(self) -> bytes:
        """The secret; made where there is none. Raises StoreUnavailable."""
        if self._known is None:
            with translated():
                self._known = await self._get_or_create()
        return self._known

    async def peek(self) -> bytes | None:
        """The secret, if there is one already: creates nothing. Raises StoreUnavailable."""
        with translated():
            found = await self._collection.find_one({"_id": _KEY_ID})
        return None if found is None else bytes(found["valor"])

    async def _get_or_create(self) -> bytes:
        """Whoever inserts first decides; the others read. Again, while the winner's insert is not visible yet."""
        # By majority: what a failover takes back must not have keyed a hash.
        lasting = self._collection.with_options(read_concern=ReadConcern("majority"))
        for _ in range(_TRIES):
            found = await lasting.find_one({"_id": _KEY_ID})
            if found is not None:
                return bytes(found["valor"])
            fresh = {"_id": _KEY_ID, "valor": secrets.token_bytes(_BYTES), "created_at": self._clock()}
            with suppress(DuplicateKeyError):
                await self._collection.insert_one(fresh)
        raise StoreUnavailable("MongoDB não devolve o segredo que guarda.")
