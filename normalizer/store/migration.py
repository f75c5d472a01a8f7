"""Records of earlier versions of ours, brought into the forms that the deployed backend and this version read.

What is written over is kept for a day as an import's is, so that a migration can be undone like one.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pymongo import UpdateOne

from normalizer.domain.appointment import ABSENT, LABELS, Kind, Origin, Policies, Status, Tracking
from normalizer.domain.decision import Reason
from normalizer.domain.stored_form import stored_form
from normalizer.store.connection import UNREADABLE, Database, Record, each_of, naive
from normalizer.store.records import RESULT_FIELD, TRACKING, about, id_text, ours, status_of
from normalizer.store.undo import Rewrite, write_over
from normalizer.store.upsert import UNNAMED

_CHUNK: Final = 250
_NO_POLICIES: Final = Policies()
_ABSENT: Final = frozenset({Reason.ADDRESS_MISSING.value, Reason.DOCUMENT_MISSING.value})


@dataclass(slots=True)
class Migrated:
    """What a migration changed, or in a dry run would change.

    Attributes:
        seen: records of ours that were looked at.
        changed: those that needed a change.
        skipped: somebody wrote on them meanwhile, or they cannot be decoded: the next migration takes them up.
        by_change: how many needed which change.
    """

    seen: int = 0
    changed: int = 0
    skipped: int = 0
    by_change: Counter[str] = field(default_factory=Counter)


def mended(record: Mapping[str, Any], policies: Policies = _NO_POLICIES) -> dict[str, dict[str, Any]]:
    """The fields to set on a record, by what the change is called; empty where nothing is to be done. Pure."""
    changes = _account(record, needs_address=policies.need_address(record))
    if ours(record).get("linha") is not None:  # an import of ours stored it; the forms of others are theirs
        changes |= _forms(record)
    return {name: fields for name, fields in changes.items() if fields}


def _forms(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    read = {name: naive(value) for name, value in record.items() if name != "normalizacao"}
    shaped = stored_form(read)
    differs = {name: value for name, value in shaped.items() if name not in read or read[name] != value}
    differs |= {
        f"{name}_informado": read[name]
        for name, value in differs.items()
        if value is None and isinstance(read[name], str) and f"{name}_informado" not in shaped
    }
    names = {name: given for name, given in UNNAMED.items() if not str(record.get(name) or "").strip()}
    return {
        "id": {} if id_text(record.get("id")) else {"id": str(uuid.uuid4())},
        "tags": {} if isinstance(record.get("tags"), list) else {"tags": []},
        "nomes": names,
        "formas": differs,
    }


def _account(record: Mapping[str, Any], *, needs_address: bool) -> dict[str, dict[str, Any]]:
    """What is not there is no question, unless it is needed; and the backend's account says what ours does."""
    needed = {Kind.ADDRESS} if needs_address else set()
    empty = [kind for kind in Kind if _is_empty(record, kind)]
    gone = [kind for kind in empty if about(record, kind).get("motivo") in _ABSENT and kind not in needed]
    asked = [kind for kind in empty if about(record, kind).get("origem") == ABSENT and kind in needed]
    noted = {kind: {"versao": about(record, kind).get("versao"), "origem": ABSENT} for kind in gone}
    missing = {"origem": Origin.RULES.value, "motivo": Reason.ADDRESS_MISSING.value}
    noted |= {kind: {**about(record, kind), **missing} for kind in asked}
    left = {kind: motive for kind in empty if (motive := noted.get(kind, about(record, kind)).get("motivo"))}
    changed: dict[str, Any] = {f"normalizacao.{kind}": value for kind, value in noted.items()}
    status = status_of(record)
    if noted and status in {Status.REVIEW, Status.DONE}:
        status = Status.REVIEW if left else Status.DONE
        changed["normalizacao.status"] = status.value
    told = _told(record, status, [f"{LABELS[kind]}: {motive}" for kind, motive in left.items()])
    stale = bool(noted) or record.get("normalization_status") is None
    account = told if stale and status is not None else {}
    return {"falta" if asked else "ausente": changed, "acompanhamento": account}


def _told(record: Mapping[str, Any], status: Status | None, left: list[str]) -> dict[str, Any]:
    if status is None:
        return {}
    tracking = TRACKING[status][0]
    if status is Status.DONE and all(_is_empty(record, kind) for kind in Kind):
        tracking = Tracking.SKIPPED
    error = ours(record).get("erro") or "; ".join(left) or None
    told = {"normalization_status": tracking.value, "normalization_error": error if status is not Status.DONE else None}
    return told if "normalization_job_id" in record else {**told, "normalization_job_id": None}


def _is_empty(record: Mapping[str, Any], kind: Kind) -> bool:
    return record.get(RESULT_FIELD[kind]) is None


async def migrate(
    database: Database,
    import_id: str | None,
    *,
    policies: Policies,
    recount: Callable[[Iterable[str | None]], Awaitable[None]],
    moved: Callable[[Migrated], Awaitable[None]] | None = None,
) -> Migrated:
    """Mend every record of ours, 250 at a time; count only where `import_id` is None. Safe to repeat and to break off.

    A record that somebody writes on between reading and writing is left for the next time.
    """
    migrated = Migrated()
    ours_only = {"normalizacao": {"$type": "object"}}
    async for chunk in each_of(database.durably, ours_only, order="_id", size=_CHUNK):
        sound = [record for record in chunk if UNREADABLE not in record]
        migrated.seen += len(chunk)
        migrated.skipped += len(chunk) - len(sound)
        changes = [(record, found) for record in sound if (found := mended(record, policies))]
        for _, found in changes:
            migrated.by_change.update(found.keys())
        if import_id is None:
            migrated.changed += len(changes)
        elif changes:
            await _mend(database, changes, migrated, import_id)
            await recount(ours(record).get("import_id") for record, _ in changes)
        if moved is not None:
            await moved(migrated)
    return migrated


async def _mend(
    database: Database, changes: list[tuple[Record, dict[str, dict[str, Any]]]], migrated: Migrated, import_id: str
) -> None:
    own = {"normalizacao.tocado_por": import_id, "updated_at": database.clock()}
    rewrites = []
    for record, found in changes:
        names = {name: value for fields in found.values() for name, value in fields.items()}
        plain = {name: value for name, value in names.items() if "." not in name}
        rewrites.append(Rewrite(record["_id"], plain, UpdateOne(_as_read(record), {"$set": {**names, **own}})))
    done, _ = await write_over(database, import_id, rewrites)
    migrated.changed += done.matched
    migrated.skipped += len(changes) - done.matched


def _as_read(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "_id": record["_id"],
        "updated_at": {"$eq": record.get("updated_at")},
        "normalizacao.revisao": {"$eq": ours(record).get("revisao")},
    }
