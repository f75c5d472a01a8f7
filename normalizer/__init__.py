"""Batch-aware normalization of Brazilian addresses and patient documents.

The public API:

- `normalize_address(text)` and `normalize_document(text)`: the rules alone, pure and offline;
- `TaskService`: what a backend uses to enqueue appointments;
- `Settings`, `load_settings()`: every environment variable.

Names are resolved at first use, so `import normalizer` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from normalizer.domain.address import parse_address as normalize_address
    from normalizer.domain.document import parse_document as normalize_document
    from normalizer.queue.service import TaskService
    from normalizer.settings import Settings, load_settings

    __version__: str

__all__ = ["Settings", "TaskService", "__version__", "load_settings", "normalize_address", "normalize_document"]

_HOMES = {
    "normalize_address": ("normalizer.domain.address", "parse_address"),
    "normalize_document": ("normalizer.domain.document", "parse_document"),
    "TaskService": ("normalizer.queue.service", "TaskService"),
    "Settings": ("normalizer.settings", "Settings"),
    "load_settings": ("normalizer.settings", "load_settings"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("normalizer")
    if name not in _HOMES:
        raise AttributeError(f"module 'normalizer' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
