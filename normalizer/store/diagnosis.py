"""Diagnosis of MongoDB for `normalizer doctor`: reads, and one write that changes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pymongo.errors import OperationFailure

from normalizer.store.connection import Client, Collection
from normalizer.store.indexes import APPOINTMENTS, EXPIRY, id_index, names_of

_NOT_ALLOWED: Final = frozenset({13})


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found.

    Attributes:
        version: of the server.
        latency_ms: of one round trip.
        missing_indexes: those of ours that are not there.
        repeated_ids: whether the index on `id` could not be unique.
        never_expiring: collections that hold personal data for a while and have lost the index that ends it.
        weakened: what weakens the promise that an acknowledged write stays, each in a sentence with its remedy.
        may_write: whether this user may update appointments.
        appointments: how many there are, roughly.
    """

    version: str
    latency_ms: float
    missing_indexes: tuple[str, ...]
    repeated_ids: bool
    never_expiring: tuple[str, ...]
    weakened: tuple[tuple[str, str], ...]
    may_write: bool
    appointments: int


async def diagnose(client: Client, appointments: Collection, passing: Sequence[Collection]) -> Diagnosis:
    """Ask the server; `passing` are collections whose records expire. Raises pymongo's errors."""
    started = time.perf_counter()
    await client.admin.command("ping")
    latency_ms = (time.perf_counter() - started) * 1000
    told: dict[str, Any] = await client.admin.command("buildInfo")
    present, id_is_unique = await names_of(appointments), await id_index(appointments)
    missing = [index.name for index in APPOINTMENTS if index.name not in present]
    return Diagnosis(
        version=str(told.get("version", "?")),
        latency_ms=latency_ms,
        missing_indexes=(*missing, *(["id"] if id_is_unique is None else [])),
        repeated_ids=id_is_unique is False,
        never_expiring=tuple([each.name for each in passing if await _never_expires(each)]),
        weakened=tuple(weaknesses(client.write_concern.document, await client.admin.command("hello"))),
        may_write=await _may_write(appointments),
        appointments=await appointments.estimated_document_count(),
    )


def weaknesses(write_concern: Mapping[str, Any], hello: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What of the URL's write concern and of the topology may lose an acknowledged write, and how to mend it."""
    if write_concern.get("w") == 0:
        yield "MONGODB_URL pede w=0: ninguém saberia se algo foi gravado.", "Tire w da URL."
    elif write_concern.get("w") == 1 or write_concern.get("j") is False:
        asked = ", ".join(f"{name}={value}" for name, value in sorted(write_concern.items()))
        yield f"MONGODB_URL pede {asked}: uma troca de primário pode desfazer resultados.", "Tire w e j da URL."
    if hello.get("msg") == "isdbgrid":
        return
    if "setName" not in hello:
        yield "o MongoDB é um nó só: um disco perdido leva tudo.", "Use um replica set de três nós, ou faça backups."
    elif hello.get("arbiters") and len(hello.get("hosts") or ()) < 3:
        fix = "Troque o árbitro por um nó com dados."
        yield "o replica set tem árbitro: com um nó fora, nada mais é confirmado pela maioria.", fix


async def _never_expires(collection: Collection) -> bool:
    found = await names_of(collection)
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
