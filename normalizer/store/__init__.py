"""The only package that speaks to MongoDB. Truth about every appointment is here; the queue may lose everything.

`AppointmentStore` is the whole interface; the other names are what it takes and gives.
"""

from normalizer.store.appointments import AppointmentStore
from normalizer.store.desk import Desk, Filter, Page, Portions
from normalizer.store.import_record import ImportRecord, ImportState
from normalizer.store.intake import ImportRow, UpsertReport
from normalizer.store.migration import Migrated
from normalizer.store.overview import Counts, Sample
from normalizer.store.records import Pending, Result
from normalizer.store.undo import Undone
from normalizer.store.writes import SaveReport

__all__ = [
    "AppointmentStore",
    "Counts",
    "Desk",
    "Filter",
    "ImportRecord",
    "ImportRow",
    "ImportState",
    "Migrated",
    "Page",
    "Pending",
    "Portions",
    "Result",
    "Sample",
    "SaveReport",
    "Undone",
    "UpsertReport",
]
