"""Sheets in: any of the files clinics really send, read row by row into stored field names."""

from normalizer.imports.spreadsheet.columns import Header
from normalizer.imports.spreadsheet.limits import Limits, megabytes
from normalizer.imports.spreadsheet.proposals import ColumnSeen, Proposal
from normalizer.imports.spreadsheet.reading import SheetInfo, Spreadsheet, read
from normalizer.imports.spreadsheet.rows import Problem, ProblemGroup, Row, grouped
from normalizer.imports.spreadsheet.titles import ADDRESS_FIELDS, DOCUMENT_FIELDS, KEY_FIELD
from normalizer.imports.spreadsheet.vocabulary import LABELS, CellEdits, UnknownColumns, Vocabulary

__all__ = [
    "ADDRESS_FIELDS",
    "DOCUMENT_FIELDS",
    "KEY_FIELD",
    "LABELS",
    "CellEdits",
    "ColumnSeen",
    "Header",
    "Limits",
    "Problem",
    "ProblemGroup",
    "Proposal",
    "Row",
    "SheetInfo",
    "Spreadsheet",
    "UnknownColumns",
    "Vocabulary",
    "grouped",
    "megabytes",
    "read",
]
