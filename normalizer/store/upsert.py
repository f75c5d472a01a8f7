"""Rows of a sheet into appointments: new ones inserted, changed ones put back to `pendente`, equal ones left alone."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from bson import ObjectId
from pymongo import InsertOne, UpdateOne

from normalizer.domain.appointment import Kind
from normalizer.domain.stored_form import FORMED
from normalizer.store.connection import BULK, Database, Record, batched, naive, read
from normalizer.store.indexes import KEY_FIELD
from normalizer.store.records import (
    ALL_SOURCES,
    SOURCES,
    identity_of,
    keyed_hash,
    ours,
    pending_of,
    revision_of,
    waiting_again,
)
from normalizer.store.undo import Rewrite, write_over
from normalizer.store.writes import DUPLICATE_KEY, in_bulk, told

_AS_WRITTEN: Final = frozenset({f"{name}_informado" for name in FORMED})
_MIRRORED: Final = frozenset({"cpf", "rg"})  # filled by results, too
#: What the backend's typed model demands of every appointment, where a sheet does not say it.
UNNAMED: Final = dict.fromkeys(("nome_marca", "nome_unidade", "nome_paciente"), "Não informado")


@dataclass(frozen=True, slots=True)
class ImportRow:
    """One usable row of a sheet.

    Args:
        key: the natural key (`Id do agendamento`), stored as `id_agendamento`; the same key is the same appointment.
        fields: values by stored field name; a name that is absent leaves what is stored, None empties it.
        kept: names of fields that hold nothing to read here, and that must not empty what is stored.
    """

    key: str
    fields: Mapping[str, Any]
    kept: frozenset[str] = frozenset()


@dataclass(slots=True)
class UpsertReport:
    """What one call changed. `new` and `changed` are to be enqueued: appointment id to content fingerprint.

    Attributes:
        new: inserted as `pendente`.
        changed: a source text differs from the last import; `pendente` again, earlier results kept until then.
        refreshed: only other fields (status, phone) differ; they were updated, nothing is to be normalized.
        equal: the same row as in the last import; not touched.
        emptied: fields that hold a text and whose cell is empty now, by number of rows; `ImportRow.kept` ones stay.
        refused: what MongoDB will never take (too large, against a rule of the collection), by key: what was found.
    """

    new: dict[str, str] = field(default_factory=dict)
    changed: dict[str, str] = field(default_factory=dict)
    refreshed: int = 0
    equal: int = 0
    emptied: Counter[str] = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)


class Upsert:
    """Writes rows of one import. Safe to run twice at once: the unique key decides who inserts."""

    def __init__(self, database: Database, import_id: str, *, secret: bytes) -> None:
        self._database, self._collection, self._clock = database, database.durably, database.clock
        self._import_id, self._secret = import_id, secret
        self._report = UpsertReport()

    async def write(self, rows: Sequence[ImportRow]) -> UpsertReport:
        """Write all rows, 500 at a time. Of rows with one key the last counts. StoreUnavailable on an outage."""
        distinct = {row.key: row for row in rows}
        for chunk in batched(distinct.values(), BULK):
            await self._upsert_chunk(chunk)
        return self._report

    async def preview(self, rows: Sequence[ImportRow]) -> UpsertReport:
        """What `write` would report, without a write; a new row, which has no id yet, stands under its key."""
        distinct = {row.key: row for row in rows}
        for chunk in batched(distinct.values(), BULK):
            stored = await self._stored(chunk)
            for row in chunk:
                if row.key in stored:
                    self._compared(row, stored[row.key])
                else:
                    fresh = {**self._new_record(row), "id": row.key}
                    self._report.new[row.key] = pending_of(fresh, secret=self._secret).fingerprint
        return self._report

    async def _upsert_chunk(self, rows: Sequence[ImportRow]) -> None:
        stored = await self._stored(rows)
        unknown = [row for row in rows if row.key not in stored]
        raced = await self._insert(unknown) if unknown else []
        stored |= await self._stored(raced) if raced else {}
        # A key that is taken, and by no record of this name: another unique index of the collection.
        self._report.refused |= {row.key: told(DUPLICATE_KEY) for row in raced if row.key not in stored}
        await self._update([(row, stored[row.key]) for row in rows if row.key in stored])

    async def _stored(self, rows: Sequence[ImportRow]) -> dict[str, Record]:
        wanted = dict.fromkeys((KEY_FIELD, "id", *ALL_SOURCES, *(name for row in rows for name in row.fields)), 1)
        wanted |= {f"normalizacao.{name}": 1 for name in ("linha", "fontes", "revisao")}
        found = await read(self._collection, {KEY_FIELD: {"$in": [row.key for row in rows]}}, wanted)
        return {record[KEY_FIELD]: record for record in found if KEY_FIELD in record}

    async def _insert(self, rows: Sequence[ImportRow]) -> list[ImportRow]:
        """Insert them, and return those that another import inserted first."""
        records = [self._new_record(row) for row in rows]
        raced: list[ImportRow] = []
        refused = (await in_bulk(self._collection, list(map(InsertOne, records)))).refused
        for index, (row, record) in enumerate(zip(rows, records, strict=True)):
            if (code := refused.get(index)) is None:
                self._report.new[record["id"]] = pending_of(record, secret=self._secret).fingerprint
            elif code == DUPLICATE_KEY:
                raced.append(row)
            else:
                self._report.refused[row.key] = told(code)
        return raced

    def _new_record(self, row: ImportRow) -> Record:
        now = self._clock()
        by = {"criado_por": self._import_id, "tocado_por": self._import_id}
        mark = {"import_id": self._import_id, "tentativas": 0, "revisao": 1, **self._hashes(row), **by}
        record: Record = {"_id": ObjectId(), "id": str(uuid.uuid4()), **UNNAMED, "tags": []}
        record |= {name: value for name, value in row.fields.items() if name not in UNNAMED or value}
        record |= {KEY_FIELD: row.key, "created_at": now, "normalizacao": mark}
        for path, value in waiting_again(now).items():
            holder, _, name = path.rpartition(".")
            (record[holder] if holder else record)[name] = value
        return record

    async def _update(self, pairs: Sequence[tuple[ImportRow, Record]]) -> None:
        found = [(row, record, self._compared(row, record)) for row, record in pairs]
        rewrites = [self._rewrite(row, record, change) for row, record, change in found if change is not None]
        _, refused = await write_over(self._database, self._import_id, rewrites)
        for row, record in pairs if refused else ():
            if (code := refused.get(record["_id"])) is not None:
                self._refuse(row, record, code)

    def _refuse(self, row: ImportRow, record: Record, code: int) -> None:
        """Not written, and not counted as such."""
        self._report.refused[row.key] = told(code)
        if self._report.changed.pop(identity_of(record), None) is None:
            self._report.refreshed -= 1

    def _compared(self, row: ImportRow, record: Record) -> Record | None:
        """Count the row, and return the fields that bring the record up to it, if any are needed."""
        known = ours(record)
        if self._hashes(row)["linha"] != known.get("linha"):
            row = self._held(row, record)
        hashes = self._hashes(row)
        if hashes["linha"] == known.get("linha") or _says_the_same(row, record):
            self._report.equal += 1
            return None
        if hashes["fontes"] == known.get("fontes") or _same_sources(row, record):
            # The texts are those of the last import: a correction made since, by hand or by us, stays.
            self._report.refreshed += 1
            others = {name: value for name, value in row.fields.items() if name not in ALL_SOURCES}
            return others | _dotted(hashes)
        changed = {**record, **row.fields, "normalizacao": {"revisao": revision_of(record) + 1}}
        pending = pending_of(changed, secret=self._secret)
        self._report.changed[pending.id] = pending.fingerprint
        # Another text asks for another result, whoever wrote the one that is there.
        differs = {name for name in ALL_SOURCES if name in row.fields and row.fields[name] != record.get(name)}
        again = [kind.value for kind in Kind if differs.intersection(SOURCES[kind])]
        asked = {"import_id": self._import_id, "refazer": again}
        return dict(row.fields) | _dotted(hashes | asked) | waiting_again(self._clock())

    def _held(self, row: ImportRow, record: Record) -> ImportRow:
        """The row with what is stored in the place of what it must not empty; what it would empty is counted."""
        self._report.emptied.update(
            name
            for name, value in row.fields.items()
            if value is None and record.get(name) and not (name in _MIRRORED and row.fields.get("documento_completo"))
        )
        held = {name: record[name] for name in row.kept if record.get(name)}
        return replace(row, fields={**row.fields, **held}) if held else row

    def _rewrite(self, row: ImportRow, record: Record, fields: Mapping[str, Any]) -> Rewrite:
        # Conditional on the row still being the one compared: of two imports at once, one writes.
        unread = {"_id": record["_id"], "normalizacao.linha": {"$eq": ours(record).get("linha")}}
        touched = {"updated_at": self._clock(), "normalizacao.tocado_por": self._import_id}
        change: dict[str, Any] = {"$set": {**fields, **touched}}
        # What an earlier sheet wrote illegibly, and this one does not, is not to be looked at any more.
        if gone := [one for name in fields if (one := f"{name}_informado") in _AS_WRITTEN and one not in fields]:
            change["$unset"] = dict.fromkeys(gone, "")
        if "normalizacao.status" in fields:  # it waits again
            change |= {"$inc": {"normalizacao.revisao": 1}}
        written = {name: value for name, value in fields.items() if name in row.fields}
        return Rewrite(record["_id"], written, UpdateOne(unread, change))

    def _hashes(self, row: ImportRow) -> dict[str, str]:
        return {
            "linha": keyed_hash(dict(row.fields), secret=self._secret),
            "fontes": keyed_hash({name: row.fields.get(name) for name in ALL_SOURCES}, secret=self._secret),
        }


def _says_the_same(row: ImportRow, record: Mapping[str, Any]) -> bool:
    """Whether a row of fewer columns than the last import's, as a sheet to correct is, holds nothing that differs."""
    return all(naive(record.get(name)) == said for name, said in row.fields.items())


def _same_sources(row: ImportRow, record: Mapping[str, Any]) -> bool:
    """For a record no import of ours has written: the texts themselves are compared."""
    return not ours(record).get("fontes") and all(
        record.get(name) == row.fields[name] for name in ALL_SOURCES if name in row.fields
    )


def _dotted(fields: Mapping[str, Any]) -> Record:
    return {f"normalizacao.{name}": value for name, value in fields.items()}
