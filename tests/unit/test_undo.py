"""Who may undo when, and what an undo that breaks off leaves. What it restores is in tests/integration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Unpack

import pytest

from normalizer.errors import InvalidInput, StoreUnavailable
from normalizer.imports.importing import undo_import
from normalizer.store import ImportNotes, ImportRecord, ImportState, Undone
from normalizer.store.imports import stored_notes

RUNNING, FINISHED, BROKEN = ImportState.RUNNING, ImportState.FINISHED, ImportState.BROKEN
UNDOING, HALF_UNDONE, UNDONE = ImportState.UNDOING, ImportState.HALF_UNDONE, ImportState.UNDONE
NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@dataclass
class MemoryStore:
    """One import, and an undo of two pieces."""

    record: dict[str, Any]
    breaks: bool = False
    noted: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def imports(self) -> MemoryStore:
        return self

    async def note(self, import_id: str, **known: Unpack[ImportNotes]) -> None:
        assert import_id == self.record["_id"]
        self.noted.append(known)
        self.record |= {**stored_notes(**known), "atualizado_em": NOW}

    end = note

    async def undo(self, import_id: str, *, moved: Callable[[Undone], Awaitable[None]]) -> Undone:
        undone = Undone(removed=500)
        await moved(undone)
        if self.breaks:
            raise StoreUnavailable("away")
        undone.restored = 7
        await moved(undone)
        return undone


async def enqueue(_ids: Sequence[str], *, fingerprints: Mapping[str, str]) -> None:
    assert not fingerprints


def an_import(status: str, *, minutes_ago: float = 30.0, moved_minutes_ago: float = 0.0) -> dict[str, Any]:
    began, moved = NOW - timedelta(minutes=minutes_ago), NOW - timedelta(minutes=moved_minutes_ago)
    return {"_id": "i1", "status": status, "created_at": began, "atualizado_em": moved}


@pytest.mark.parametrize(
    ("status", "silent_minutes", "state", "may_be_undone"),
    [
        (RUNNING, 1, RUNNING, False),
        (RUNNING, 3, BROKEN, True),
        (FINISHED, 60, FINISHED, True),
        (UNDOING, 1, UNDOING, False),
        (UNDOING, 3, HALF_UNDONE, True),
        (HALF_UNDONE, 0, HALF_UNDONE, True),
        (UNDONE, 0, UNDONE, False),
    ],
)
def test_what_has_not_moved_has_lost_its_process(
    status: str, silent_minutes: float, state: str, may_be_undone: bool
) -> None:
    record = an_import(status, minutes_ago=90, moved_minutes_ago=silent_minutes)
    assert ImportRecord.of(record).state(NOW) == state
    assert (ImportRecord.of(record).undo_until(NOW) is not None) is may_be_undone


@pytest.mark.parametrize(("days", "problems", "held"), [(6.9, 2, True), (7.1, 2, False), (0.1, 0, False)])
def test_rows_it_could_not_use_are_offered_as_long_as_they_are_kept(days: float, problems: int, held: bool) -> None:
    record = ImportRecord.of(an_import(FINISHED, minutes_ago=days * 24 * 60) | {"problemas": problems})
    assert (record.problems_until(NOW) is not None) is held


async def test_how_far_it_is_is_told_and_at_the_end_that_it_is_undone() -> None:
    store = MemoryStore(an_import(FINISHED))

    await undo_import(ImportRecord.of(store.record), store=store, enqueue=enqueue, now=NOW)  # type: ignore[arg-type]

    assert [known.get("state") for known in store.noted] == [UNDOING, None, None, UNDONE]
    assert [known.get("restored") for known in store.noted] == [None, 0, 7, 7]


async def test_one_that_breaks_off_can_be_undone_again() -> None:
    store = MemoryStore(an_import(FINISHED), breaks=True)

    with pytest.raises(StoreUnavailable):
        await undo_import(ImportRecord.of(store.record), store=store, enqueue=enqueue, now=NOW)  # type: ignore[arg-type]
    assert ImportRecord.of(store.record).state(NOW) == HALF_UNDONE
    store.breaks = False
    await undo_import(ImportRecord.of(store.record), store=store, enqueue=enqueue, now=NOW)  # type: ignore[arg-type]

    assert store.record["status"] == UNDONE


async def test_nobody_undoes_what_is_being_undone() -> None:
    store = MemoryStore(an_import(UNDOING))

    with pytest.raises(InvalidInput, match="já está sendo desfeita"):
        await undo_import(ImportRecord.of(store.record), store=store, enqueue=enqueue, now=NOW)  # type: ignore[arg-type]
    assert store.noted == []
