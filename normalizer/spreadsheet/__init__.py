"""Sheets in: any of the files clinics really send, read row by row into stored field names."""

from normalizer.spreadsheet.columns import ADDRESS_FIELDS, DOCUMENT_FIELDS, KEY_FIELD, Header
from normalizer.spreadsheet.limits import Limits, megabytes
from normalizer.spreadsheet.problem import Problem, mask
from normalizer.spreadsheet.reading import Row, SheetInfo, Spreadsheet, read
from normalizer.spreadsheet.vocabulary import LABELS, UnknownColumns, Vocabulary

__all__ = [
    "ADDRESS_FIELDS",
    "DOCUMENT_FIELDS",
    "KEY_FIELD",
    "LABELS",
    "Header",
    "Limits",
    "Problem",
    "Row",
    "SheetInfo",
    "Spreadsheet",
    "UnknownColumns",
    "Vocabulary",
    "mask",
    "megabytes",
    "read",
]
