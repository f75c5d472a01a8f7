"""Indexes this worker asks for, what is made of them where old data forbid one, and what `normalizer doctor` asks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pymongo import IndexModel
from pymongo.errors import OperationFailure

from normalizer.domain.appointment import Kind
from normalizer.errors import Misconfigured
from normalizer.store.connection import Collection, Database

KEY_FIELD: Final = "id_agendamento"
CORRECTED_AT: Final = "normalizacao.endereco.corrigido_em"
#: Of an image: the import that inserted the appointment.
INSERTED_BY: Final = "antes.normalizacao.criado_por"
_EXPIRY: Final = "normalizer_expiry"
# Duplicates, or an index of the same keys or name with other options.
_CANNOT_BE: Final = frozenset({11000, 85, 86})
_NO_SUCH_COLLECTION: Final = 26
_NOT_ALLOWED: Final = frozenset({13})


def index(name: str, *keys: str, **options: Any) -> IndexModel:
    """One index by name, ascending in each key."""
    return IndexModel([(key, 1) for key in keys], name=name, **options)


# Sparse: records that came by another way have no natural key of ours, and old ones of ours no `id`.
_KEY: Final = index("normalizer_key", KEY_FIELD, unique=True, sparse=True)
_IDS: Final = (
    index("normalizer_id", "id", unique=True, sparse=True),
    index("normalizer_id_plain", "id", sparse=True),
)
_APPOINTMENTS: Final = (
    # What waits, is open or was touched last, whoever wrote it; the last key spares reading `failed` records.
    index("normalizer_state", "normalization_status", "updated_at", "normalizacao.status"),
    # An import's appointments in the order of its sheet.
    index("normalizer_import_order", "normalizacao.import_id", "_id"),
    # Sparse: what is to be looked at though it is settled, which is little.
    index("normalizer_unread_date", "data_agendamento_informado", sparse=True),
    index("normalizer_noted", "normalizacao.documento.motivo", sparse=True),
    index("normalizer_conflict", "normalizacao.endereco.conflito", sparse=True),
    index("normalizer_corrected", CORRECTED_AT, sparse=True),
    # What a person is asked, by what it is asked of: only records in review are in these.
    *[index(f"normalizer_questions_{kind}", f"normalizacao.{kind}.perguntas", sparse=True) for kind in Kind],
)
ENDS: Final = index(_EXPIRY, "expira_em", expireAfterSeconds=0)
_PASSING: Final = (
    index("normalizer_import_order", "import_id", "ordem"),
    index("normalizer_inserted_by", INSERTED_BY, sparse=True),
    ENDS,
)
#: Collections whose records hold personal data for a while.
_PERSONAL: Final = ("normalizer_undo", "normalizer_problems")
_OTHERS: Final[Mapping[str, Sequence[IndexModel]]] = {
    **dict.fromkeys(_PERSONAL, _PASSING),
    "normalizer_imports": [index("normalizer_when", "created_at")],
    "normalizer_columns": [index("normalizer_when", "atualizado_em")],
    "normalizer_state": [ENDS],  # a day's spending
    # What was decided: on a question, the last one at the end; and all of it by time.
    "normalizer_decisions": [
        index("normalizer_question", "chave", "numero"),
        index("normalizer_when", "em"),
        index("normalizer_lesson", "licao.city", sparse=True),
    ],
}
#: Of earlier versions: each costs a write, and nothing reads them any more.
_RETIRED: Final = ("normalizer_import", "normalizer_status", "normalizer_waiting", "normalizer_seats")


async def ensure(database: Database) -> None:
    """Create what is missing and drop what is retired.

    Raises:
        Misconfigured: records with one natural key forbid the index on it.
    """
    await _ensure(database.appointments, _APPOINTMENTS)
    if await _id_index(database.appointments) is None:
        # Unique, or plain where two records share an id (`doctor` says so). The backend's own will do.
        for each in _IDS:
            if await _refused(database.appointments, each) is None:
                break
    if (code := await _refused(database.appointments, _KEY)) is not None:
        problem = f"O índice de {KEY_FIELD} não pode ser criado em appointments (código {code})."
        fix = f"Remova registros com {KEY_FIELD} repetido ou o índice antigo."
        raise Misconfigured(problem, fix=fix)
    for name, wanted in _OTHERS.items():
        await _ensure(database.lasting(name), wanted)


async def _ensure(collection: Collection, wanted: Sequence[IndexModel]) -> None:
    there = await _information(collection)
    await collection.create_indexes(list(wanted))
    for name in there.keys() & set(_RETIRED):
        await collection.drop_index(name)


async def _refused(collection: Collection, wanted: IndexModel) -> int | None:
    """The code that old data forbid the index with; None where it is there."""
    try:
        await collection.create_indexes([wanted])
    except OperationFailure as error:
        if error.code not in _CANNOT_BE:
            raise
        return int(error.code)
    return None


async def _id_index(appointments: Collection) -> bool | None:
    """Whether the index that begins with `id` is unique; None when there is none."""
    there = (await _information(appointments)).values()
    found = [bool(about.get("unique")) for about in there if about["key"][0][0] == "id"]
    return any(found) if found else None


async def _information(collection: Collection) -> dict[str, Any]:
    try:
        found: dict[str, Any] = await collection.index_information()
    except OperationFailure as error:
        if error.code == _NO_SUCH_COLLECTION:
            return {}
        raise
    return found


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


async def diagnose(database: Database) -> Diagnosis:
    """Ask the server. Raises pymongo's errors."""
    client, appointments = database.client, database.appointments
    started = time.perf_counter()
    await client.admin.command("ping")
    latency_ms = (time.perf_counter() - started) * 1000
    told: dict[str, Any] = await client.admin.command("buildInfo")
    present, id_is_unique = await _information(appointments), await _id_index(appointments)
    names = [str(each.document["name"]) for each in (_KEY, *_APPOINTMENTS)]
    missing = [name for name in names if name not in present]
    return Diagnosis(
        version=str(told.get("version", "?")),
        latency_ms=latency_ms,
        missing_indexes=(*missing, *(["id"] if id_is_unique is None else [])),
        repeated_ids=id_is_unique is False,
        never_expiring=tuple([name for name in _PERSONAL if await _never_expires(database.lasting(name))]),
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
    found = await _information(collection)
    return bool(found) and _EXPIRY not in found


async def _may_write(appointments: Collection) -> bool:
    """An update whose condition no record meets needs the right and changes nothing."""
    try:
        await appointments.update_one({"_id": "normalizer doctor"}, {"$set": {"normalizacao.erro": None}})
    except OperationFailure as error:
        if error.code in _NOT_ALLOWED:
            return False
        raise
    return True
