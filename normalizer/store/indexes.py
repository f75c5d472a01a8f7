"""Indexes this worker asks for, what is made of them where old data forbid one, and what `normalizer doctor` asks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pymongo.errors import OperationFailure

from normalizer.domain.appointment import Kind
from normalizer.errors import Misconfigured
from normalizer.store.connection import Client, Collection

KEY_FIELD: Final = "id_agendamento"
CORRECTED_AT: Final = "normalizacao.endereco.corrigido_em"
#: Of an image: the import that inserted the appointment.
INSERTED_BY: Final = "antes.normalizacao.criado_por"
EXPIRY: Final = "normalizer_expiry"
# Duplicates, or an index of the same keys or name with other options.
_CANNOT_BE: Final = frozenset({11000, 85, 86})
_NO_SUCH_COLLECTION: Final = 26


@dataclass(frozen=True, slots=True)
class Index:
    """One index by name."""

    name: str
    keys: tuple[tuple[str, int], ...]
    options: dict[str, Any] = field(default_factory=dict)

    async def create(self, collection: Collection) -> None:
        """Make it, unless it is there. Raises pymongo's OperationFailure."""
        await collection.create_index(list(self.keys), name=self.name, **self.options)


# Sparse: records that came by another way have no natural key of ours, and old ones of ours no `id`.
_KEY: Final = Index("normalizer_key", ((KEY_FIELD, 1),), {"unique": True, "sparse": True})
_UNIQUE_ID: Final = Index("normalizer_id", (("id", 1),), {"unique": True, "sparse": True})
_PLAIN_ID: Final = Index("normalizer_id_plain", (("id", 1),), {"sparse": True})
# What waits, what is open and what was touched last, whoever wrote it; the last key spares reading `failed` records.
_STATE: Final = Index("normalizer_state", (("normalization_status", 1), ("updated_at", 1), ("normalizacao.status", 1)))
# An import's appointments in the order of its sheet.
_IMPORT: Final = Index("normalizer_import_order", (("normalizacao.import_id", 1), ("_id", 1)))
# Sparse: what is to be looked at though it is settled, which is little.
_UNREAD_DATE: Final = Index("normalizer_unread_date", (("data_agendamento_informado", 1),), {"sparse": True})
_NOTED: Final = Index("normalizer_noted", (("normalizacao.documento.motivo", 1),), {"sparse": True})
_CONFLICT: Final = Index("normalizer_conflict", (("normalizacao.endereco.conflito", 1),), {"sparse": True})
_CORRECTED: Final = Index("normalizer_corrected", ((CORRECTED_AT, 1),), {"sparse": True})
# What a person is asked, by what it is asked of: only records in review are in these.
_QUESTIONS: Final = tuple(
    Index(f"normalizer_questions_{kind}", ((f"normalizacao.{kind}.perguntas", 1),), {"sparse": True}) for kind in Kind
)
APPOINTMENTS: Final = (_KEY, _STATE, _IMPORT, _UNREAD_DATE, _NOTED, _CONFLICT, _CORRECTED, *_QUESTIONS)
#: A day's spending ends.
STATE: Final = (Index(EXPIRY, (("expira_em", 1),), {"expireAfterSeconds": 0}),)
PASSING: Final = (
    Index("normalizer_import_order", (("import_id", 1), ("ordem", 1))),
    Index("normalizer_inserted_by", ((INSERTED_BY, 1),), {"sparse": True}),
    *STATE,
)
#: The last ones first.
IMPORTS: Final = (Index("normalizer_when", (("created_at", 1),)),)
COLUMNS: Final = (Index("normalizer_when", (("atualizado_em", 1),)),)
#: What was decided: on a question, the last one at the end; and all of it by time.
DECISIONS: Final = (
    Index("normalizer_question", (("chave", 1), ("numero", 1))),
    Index("normalizer_when", (("em", 1),)),
    Index("normalizer_lesson", (("licao.city", 1),), {"sparse": True}),
)
#: Of earlier versions: each costs a write, and nothing reads them any more.
_RETIRED: Final = ("normalizer_import", "normalizer_status", "normalizer_waiting", "normalizer_seats")


async def ensure(collection: Collection, wanted: Sequence[Index]) -> None:
    """Create what is missing and drop what is retired."""
    there = await names_of(collection)
    for index in wanted:
        await index.create(collection)
    for name in there.intersection(_RETIRED):
        await collection.drop_index(name)


async def ensure_on_appointments(appointments: Collection) -> None:
    """The same for appointments, where old data may forbid one.

    Raises:
        Misconfigured: records with one natural key forbid the index on it.
    """
    await ensure(appointments, [index for index in APPOINTMENTS if index is not _KEY])
    await _ensure_id(appointments)
    try:
        await _KEY.create(appointments)
    except OperationFailure as error:
        if error.code not in _CANNOT_BE:
            raise
        problem = f"O índice de {KEY_FIELD} não pode ser criado em appointments (código {error.code})."
        fix = f"Remova registros com {KEY_FIELD} repetido ou o índice antigo."
        raise Misconfigured(problem, fix=fix) from None


async def _ensure_id(appointments: Collection) -> None:
    """An index on `id`: unique, or plain where two records share one (`doctor` says so). The backend's own will do."""
    if await id_index(appointments) is not None:
        return
    for index in (_UNIQUE_ID, _PLAIN_ID):
        try:
            await index.create(appointments)
        except OperationFailure as error:
            if error.code not in _CANNOT_BE:
                raise
        else:
            return


async def id_index(appointments: Collection) -> bool | None:
    """Whether the index that begins with `id` is unique; None when there is none."""
    found = [
        bool(about.get("unique")) for about in (await _information(appointments)).values() if about["key"][0][0] == "id"
    ]
    return any(found) if found else None


async def names_of(collection: Collection) -> frozenset[str]:
    """The names of the collection's indexes; none where it does not exist yet."""
    return frozenset(await _information(collection))


async def _information(collection: Collection) -> dict[str, Any]:
    try:
        found: dict[str, Any] = await collection.index_information()
    except OperationFailure as error:
        if error.code == _NO_SUCH_COLLECTION:
            return {}
        raise
    return found


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
