"""The only package that speaks to MongoDB. Truth about every appointment is here; the queue may lose everything.

`AppointmentStore` is the whole interface; the other names are what it and its repositories take and give.
"""

from normalizer.store.appointments import AppointmentStore
from normalizer.store.clinic import Counts, DurableState, ProgressCounts
from normalizer.store.imports import CellProblem, ImportNotes, ImportRecord, ImportState, ProblemRow, SheetTitles
from normalizer.store.migration import Migrated
from normalizer.store.queries import Attention, Filter, Order, Page
from normalizer.store.records import Pending, Result, id_text
from normalizer.store.stored_appointment import Evidence, StoredAppointment, StoredText
from normalizer.store.undo import Undone
from normalizer.store.upsert import ImportRow, UpsertReport
from normalizer.store.writes import SaveReport

__all__ = [
    "AppointmentStore",
    "Attention",
    "CellProblem",
    "Counts",
    "DurableState",
    "Evidence",
    "Filter",
    "ImportNotes",
    "ImportRecord",
    "ImportRow",
    "ImportState",
    "Migrated",
    "Order",
    "Page",
    "Pending",
    "ProblemRow",
    "ProgressCounts",
    "Result",
    "SaveReport",
    "SheetTitles",
    "StoredAppointment",
    "StoredText",
    "Undone",
    "UpsertReport",
    "id_text",
]
