"""The one identity of an appointment: the backend's field `id`; `_id` only where a record has none.

Everybody above the store names an appointment by this text. A job, a URL or an operator may still say `_id` instead.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Mapping
from typing import Any, Final

from bson import ObjectId
from bson.binary import OLD_UUID_SUBTYPE, UUID_SUBTYPE, Binary

#: What the queue takes as an id.
MOST_CHARS: Final = 200
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_OBJECT_ID: Final = re.compile(r"[0-9a-f]{24}", re.ASCII | re.IGNORECASE)
_NUMBER: Final = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)


def identity_of(record: Mapping[str, Any]) -> str:
    """The text an appointment is known by."""
    return id_text(record.get("id")) or id_text(record["_id"]) or str(record["_id"])


def id_text(value: object) -> str:
    """An id as text; empty where the value cannot be one."""
    if isinstance(value, str):
        return value if len(value) <= MOST_CHARS and value.strip() else ""
    if isinstance(value, Binary) and value.subtype in {UUID_SUBTYPE, OLD_UUID_SUBTYPE} and len(value) == 16:
        return str(uuid.UUID(bytes=bytes(value)))
    return str(value) if isinstance(value, (ObjectId, uuid.UUID, int)) and not isinstance(value, bool) else ""


def forms_of(name: str) -> list[Any]:
    """The values that may be stored for an id that travels as text."""
    if _UUID.fullmatch(name):
        return [name, Binary(bytes.fromhex(name.replace("-", "")), UUID_SUBTYPE)]
    if _OBJECT_ID.fullmatch(name):
        return [name, ObjectId(name)]
    return [name, int(name)] if _NUMBER.fullmatch(name) else [name]


def named(names: Collection[str], field: str = "id") -> dict[str, Any]:
    """The filter on appointments by name, answered from the index on `id`; with `field`, from the one on `_id`."""
    return {field: {"$in": [form for name in names for form in forms_of(name)]}}
