"""Rows that earlier versions stored, in the forms of today: counted first, then written, and undone like an import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from normalizer.store import ImportNotes, ImportState

if TYPE_CHECKING:
    from normalizer.store import AppointmentStore, Migrated

#: What each change is called where people read it.
CHANGES: Final = {
    "id": "sem id (o backend não os abre)",
    "tags": "sem a lista tags",
    "nomes": "sem nome de marca, unidade ou paciente",
    "formas": "data, hora, telefone ou situação em forma que o backend não lê",
    "ausente": "em revisão só porque não há texto",
    "falta": "sem o endereço que a sua marca ou unidade pede",
    "acompanhamento": "sem normalization_status em dia",
}


async def migrate(store: AppointmentStore, *, apply: bool) -> tuple[str | None, Migrated]:
    """Mend what needs it, or only count; returns the id it can be undone by, for a day. Raises StoreUnavailable."""
    if not apply:
        return None, await store.migrate(None)
    import_id = await begun(store)
    return import_id, await carry_out(store, import_id)


async def begun(store: AppointmentStore) -> str:
    """Note that a migration begins; returns the id it is followed and undone by."""
    return await store.imports.begin(file="migração", format="migrate")


async def carry_out(store: AppointmentStore, import_id: str) -> Migrated:
    """Mend what needs it under this id, and note how far it is."""

    async def noted(so_far: Migrated) -> None:
        await store.imports.note(import_id, rows=so_far.seen, written=so_far.changed)

    migrated = await store.migrate(import_id, moved=noted)
    ended = ImportNotes(state=ImportState.FINISHED, rows=migrated.seen, used=migrated.seen, refreshed=migrated.changed)
    ended["changes"] = migrated.by_change
    await store.imports.end(import_id, **ended)
    return migrated


def as_dict(import_id: str | None, migrated: Migrated) -> dict[str, Any]:
    """For JSON."""
    counts = {"vistos": migrated.seen, "mudados": migrated.changed, "pulados": migrated.skipped}
    return {"import_id": import_id, "ensaio": import_id is None, **counts, "mudancas": dict(migrated.by_change)}
