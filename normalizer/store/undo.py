"""Before-images of an import: what it wrote over, kept for a day, and put back when the import is undone.

An image is stored before the write it belongs to: an import that breaks off can be undone as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from pymongo import InsertOne, UpdateOne

from normalizer.domain.appointment import Kind, Status
from normalizer.store.connection import Collection, Database, Record, batched, chunks_of
from normalizer.store.indexes import INSERTED_BY
from normalizer.store.records import RESULT_FIELD, Pending, about, ours, pending_of, revision_of
from normalizer.store.stored_appointment import source_text
from normalizer.store.writes import DUPLICATE_KEY, Bulk, in_bulk

#: How long an import can be undone.
WINDOW: Final = timedelta(hours=24)
_SLACK: Final = timedelta(hours=1)  # an undo that begins in the last minute still finds its images
_TRACKING: Final = ("normalization_status", "normalization_job_id", "normalization_error")
#: What workers write: it changes without anybody having changed it.
_NORMALIZED: Final = (*RESULT_FIELD.values(), "cpf", "rg", *_TRACKING, "normalizacao")
_PERSONS: Final = ("corrigido_em", "decisao")
_PASSES: Final = 5


@dataclass(slots=True)
class Undone:
    """What undoing an import did.

    Attributes:
        removed: appointments the import had inserted.
        restored: appointments put back to what they were.
        kept: changed since by a later import, a person or the backend, and left alone.
        pending: of the restored, those that wait to be normalized and belong in the queue.
        unsaid: address texts of the restored, of which a person had said what holds no more.
    """

    removed: int = 0
    restored: int = 0
    kept: int = 0
    pending: list[Pending] = field(default_factory=list)
    unsaid: list[str] = field(default_factory=list)


class Rewrite(NamedTuple):
    """One record's update: its `_id`, the plain fields that it writes, and the update itself."""

    key: Any
    written: Mapping[str, Any]
    update: UpdateOne


async def write_over(
    database: Database, import_id: str, rewrites: Sequence[Rewrite], *, last: bool = False
) -> tuple[Bulk, dict[Any, int]]:
    """Write what an import changes, after what the records held is stored; what was refused, by `_id`, with its code.

    Kept are the fields written, with what is written: where something else stands later, somebody has changed it; and
    those that normalizing writes. `last`: what anybody writes after it, a worker too, stays when it is undone.
    """
    if not rewrites:
        return Bulk(0, 0, {}), {}
    now, written = database.clock(), {one.key: one.written for one in rewrites}
    found = database.durably.find({"_id": {"$in": list(written)}})
    kept = [_image(record, written[record["_id"]], import_id, now) async for record in found]
    if last:
        kept = [{**image, "revisao": revision_of(image["antes"]) + 1} for image in kept]
    refused = await insert_images(database.images, kept)
    sound = [one for one in rewrites if one.key not in refused]
    done = await in_bulk(database.durably, [one.update for one in sound])
    return done, refused | {sound[at].key: code for at, code in done.refused.items()}


async def insert_images(images: Collection, kept: Sequence[Record]) -> dict[Any, int]:
    """Store images before the writes they belong to; one that is there already is the true one.

    Returns those that MongoDB refused, by their record's `_id`, with its code: nothing may be written on them.
    """
    refused = (await in_bulk(images, list(map(InsertOne, kept)))).refused
    return {kept[at]["registro"]: code for at, code in refused.items() if code != DUPLICATE_KEY}


def _image(record: Record, written: Mapping[str, Any], import_id: str, now: datetime) -> Record:
    names = dict.fromkeys([*written, *_NORMALIZED])
    return {
        "_id": f"{import_id}:{record['_id']}",
        "import_id": import_id,
        "registro": record["_id"],
        "antes": {name: record[name] for name in names if name in record},
        "ausentes": [name for name in names if name not in record],
        "depois": {name: value for name, value in written.items() if name not in _NORMALIZED},
        "expira_em": expiry(now),
    }


def expiry(now: datetime) -> datetime:
    """When an image made now is of no use any more."""
    return now + WINDOW + _SLACK


async def restore(
    database: Database, import_id: str, moved: Callable[[Undone], Awaitable[None]] | None = None
) -> Undone:
    """Remove what the import inserted, restore what it changed, where nobody has written since. Safe to repeat.

    `moved` is told how far it is after each piece.
    """
    undone, secret = Undone(), await database.secret.get()
    mine = {"normalizacao.tocado_por": import_id}
    created = {"normalizacao.import_id": import_id, "normalizacao.criado_por": import_id, **mine}
    # In pieces, each well inside a socket's time-out; one that is lost is done again by the next undo.
    async for chunk in chunks_of(database.durably.find(created, {"_id": 1})):
        found = {"_id": {"$in": [record["_id"] for record in chunk]}, **mine}
        undone.removed += (await database.durably.delete_many(found)).deleted_count
        if moved is not None:
            await moved(undone)
    async for chunk in chunks_of(database.images.find({"import_id": import_id})):
        await _restore(database, {image["registro"]: image for image in chunk}, mine, undone, secret)
        await database.images.delete_many({"_id": {"$in": [image["_id"] for image in chunk]}})
        if moved is not None:
            await moved(undone)
    undone.kept += await _taken_over(database, import_id)
    return undone


async def _taken_over(database: Database, import_id: str) -> int:
    """How many this import inserted and a later one wrote on: that one keeps their images for as long."""
    images = database.images.find({INSERTED_BY: import_id}, {"registro": 1})
    kept = 0
    for chunk in batched({image["registro"] async for image in images}):
        kept += await database.durably.count_documents({"_id": {"$in": chunk}, "normalizacao.criado_por": import_id})
    return kept


async def _restore(
    database: Database, images: Mapping[Any, Record], mine: Mapping[str, Any], undone: Undone, secret: bytes
) -> None:
    collection, waiting = database.durably, dict(images)
    for _ in range(_PASSES):
        # A worker may write between reading and writing; such a record is read again.
        found = await _held(collection, waiting, mine)
        held = {one: record for one, record in found.items() if _is_as_left(record, waiting[one])}
        undone.kept += len(waiting) - len(held)
        said = {one for one, record in held.items() if _said_since(record, waiting[one]["antes"], Kind.ADDRESS)}
        if not held:
            return
        await in_bulk(collection, [_write(held[one], waiting[one], mine, database.clock()) for one in held])
        left = await _held(collection, {one: waiting[one] for one in held}, mine)
        async for record in collection.find({"_id": {"$in": [one for one in held if one not in left]}}):
            undone.restored += 1
            if record["_id"] in said:
                undone.unsaid.append(source_text(record, Kind.ADDRESS))
            if ours(record).get("status") == Status.PENDING.value:
                undone.pending.append(pending_of(record, secret=secret))
        waiting = {native_id: waiting[native_id] for native_id in left}
    undone.kept += len(waiting)


async def _held(collection: Collection, images: Mapping[Any, Record], mine: Mapping[str, Any]) -> dict[Any, Record]:
    """Those of the records that no other import has written on since."""
    chosen = {"_id": {"$in": list(images)}, **mine}
    wanted = dict.fromkeys(["normalizacao", *(name for image in images.values() for name in _after(image))], 1)
    return {record["_id"]: record async for record in collection.find(chosen, wanted)}


def _after(image: Record) -> Mapping[str, Any]:
    return image.get("depois") or {}


def _is_as_left(record: Record, image: Record) -> bool:
    """Whether the import, and workers after it, were the last to write on it."""
    if "revisao" in image:  # a person's own: nobody at all may have written after it
        return bool(image["revisao"] == revision_of(record))
    edited = any(record.get(name) != value for name, value in _after(image).items())
    return not edited and not any(_said_since(record, image["antes"], kind) for kind in Kind)


def _said_since(record: Record, before: Record, kind: Kind) -> bool:
    """Whether a person's word stands there that did not when the image was made."""
    now, then = about(record, kind), about(before, kind)
    return any(now.get(name) not in {None, then.get(name)} for name in _PERSONS)


def _write(record: Record, image: Record, mine: Mapping[str, Any], now: datetime) -> UpdateOne:
    """Back to the image. Revision and fence go on growing, so that no write under way is taken for a newer one."""
    before: dict[str, Any] = dict(image["antes"])
    known = before.get("normalizacao")
    if isinstance(known, Mapping):
        grown = {"revisao": revision_of(record) + 1, "atualizado_em": now}
        fence = ours(record).get("fence")
        before["normalizacao"] = {**known, **grown, **({} if fence is None else {"fence": fence})}
    as_left = {name: {"$eq": value} for name, value in _after(image).items()}
    unread = {"_id": record["_id"], **mine, **as_left, "normalizacao.revisao": {"$eq": ours(record).get("revisao")}}
    change: dict[str, Any] = {"$set": {**before, "updated_at": now}}
    if image["ausentes"]:
        change["$unset"] = dict.fromkeys(image["ausentes"], "")
    return UpdateOne(unread, change)
