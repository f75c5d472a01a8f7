"""CPF and RG: what a patient's document is (`value`), and how it is read from typed text (`tokens`, `reading`)."""

from normalizer.domain.document.reading import MAX_CHARS, parse_document
from normalizer.domain.document.value import (
    Cpf,
    Document,
    cpf_is_valid,
    format_cpf,
    format_rg,
    long_rg_is_valid,
    rg_is_valid,
)

__all__ = [
    "MAX_CHARS",
    "Cpf",
    "Document",
    "cpf_is_valid",
    "format_cpf",
    "format_rg",
    "long_rg_is_valid",
    "parse_document",
    "rg_is_valid",
]
