"""How MongoDB is, for `normalizer doctor`: reads, and one write that changes nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pymongo.errors import OperationFailure

from normalizer.store.connection import Client, Collection

INDEXES: Final = (
    "normalizer_key",
    "normalizer_status",
    "normalizer_import",
    "normalizer_waiting",
    "normalizer_seats",
)
EXPIRY: Final = "normalizer_expiry"
_NOT_ALLOWED: Final = frozenset({13})
_NO_SUCH_COLLECTION: Final = 26


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found.

    Attributes:
        version: of the server.
        latency_ms: of one round trip.
        missing_indexes: those of ours that are not there.
        never_expiring: collections that hold personal data for a while and have lost the index that ends it.
        may_write: whether this user may update appointments.
        appointments: how many there are, roughly.
    """

    version: str
    latency_ms: float
    missing_indexes: tuple[str, ...]
    never_expiring: tuple[str, ...]
    may_write: bool
    appointments: int


async def diagnose(client: Client, appointments: Collection, passing: Sequence[Collection]) -> Diagnosis:
    """Ask the server; `passing` are collections whose records expire. Raises pymongo's errors."""
    started = time.perf_counter()
    await client.admin.command("ping")
    latency_ms = (time.perf_counter() - started) * 1000
    told: dict[str, Any] = await client.admin.command("buildInfo")
    present = await _indexes(appointments)
    return Diagnosis(
        version=str(told.get("version", "?")),
        latency_ms=latency_ms,
        missing_indexes=tuple(name for name in INDEXES if name not in present),
        never_expiring=tuple([each.name for each in passing if await _never_expires(each)]),
        may_write=await _may_write(appointments),
        appointments=await appointments.estimated_document_count(),
    )


async def _indexes(appointments: Collection) -> frozenset[str]:
    try:
        return frozenset(await appointments.index_information())
    except OperationFailure as error:
        if error.code == _NO_SUCH_COLLECTION:
            return frozenset()
        raise


async def _never_expires(collection: Collection) -> bool:
    found = await _indexes(collection)
    return bool(found) and EXPIRY not in found


async def _may_write(appointments: Collection) -> bool:
    """An update whose condition no record meets needs the right and changes nothing."""
    try:
        await appointments.update_one({"_id": "normalizer doctor"}, {"$set": {"normalizacao.erro": None}})
    except OperationFailure as error:
        if error.code in _NOT_ALLOWED:
            return False
        raise
    return True
