"""The prompt, its records, and the reading of an answer.

One call carries many records. Records and answers are keyed by slot (`r00`, `r01`, …), so a missing, repeated or
swapped record is seen; an answer is an object that names each field, so that a small model that skips an empty one does
not shift what follows (docs/decisions/020).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, TypeAlias

from normalizer.domain.text import clean
from normalizer.llm.redaction import Redacted, redact

Segments: TypeAlias = Mapping[str, str | None]

FIELDS: Final = ("rua", "numero", "complemento", "bairro", "cidade", "estado", "cep")
# As the model calls them: short, and in the words its schemas are mostly written in.
KEYS: Final = ("street", "number", "unit", "district", "city", "state", "cep")
_FIELD_OF: Final = {**dict(zip(FIELDS, FIELDS, strict=True)), **dict(zip(KEYS, FIELDS, strict=True))}
MAX_RECORDS: Final = 100
MAX_RECORD_CHARS: Final = 2_000
_LONG_RECORD_CHARS: Final = 300

SYSTEM: Final = (files("normalizer.llm") / "address_prompt.txt").read_text(encoding="utf-8").strip()
# Part of every cache key: an answer to another prompt, or one read by other rules, is another answer.
PROMPT_VERSION: Final = "a3-" + hashlib.sha256(SYSTEM.encode()).hexdigest()[:8]

_SLOT = re.compile(r'"(r\d{2})"\s*:\s*')
_ORDERS = re.compile(
    r"\b(?:ignor[ea]\w*|desconsider\w*|instru[cç]\w*|instruct\w*|prompt|assistant|assistente\s+(?:virtual|de\s+ia)|voc[eê]\s+(?:é|agora|deve)|"
    r"system|sistema\s*:|respond[ae]\w*|responder|output|json|chatgpt|gpt|llm|modelo\s+(?:de\s+(?:linguagem|ia)|deve)|previous|"
    r"anterior(?:es)?\s+regras?|disregard)(?!\w)"
    r"|[{}<>`]|\br\d{2}\s*:",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Record(Redacted):
    """One text as the model sees it: one line, clean, of what an address can consist of."""

    suspicious: bool = False
    """Whether it may be more than an address (orders, markup, very long) and must not share a call."""

    @classmethod
    def of(cls, text: str, *, withheld: frozenset[str] = frozenset()) -> Record:
        """Make `text` fit to leave the machine, also without the numbers that are `withheld`. May come out empty."""
        cleaned = clean(text)
        suspicious = len(cleaned) > _LONG_RECORD_CHARS or _ORDERS.search(cleaned) is not None
        leaving = redact(cleaned, withheld=withheld)
        return cls(" ".join(leaving.text.split()), leaving.kept, suspicious)


def slot(index: int) -> str:
    """Return the key of the record at `index` (0–99)."""
    return f"r{index:02d}"


def build_messages(records: Sequence[Record]) -> list[dict[str, str]]:
    """Return chat messages: the same system text always first, so that providers can cache it, then the records."""
    if not 1 <= len(records) <= MAX_RECORDS:
        raise ValueError(f"a call carries 1 to {MAX_RECORDS} records, not {len(records)}")
    lines = "\n".join(f"{slot(index)}: {record.text}" for index, record in enumerate(records))
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": lines}]


def response_schema(n: int) -> dict[str, Any]:
    """Return the strict JSON schema of an answer to `n` records: every slot and field required."""
    slots = [slot(index) for index in range(n)]
    return {
        "type": "object",
        "properties": {name: {"$ref": "#/$defs/a"} for name in slots},
        "required": slots,
        "additionalProperties": False,
        "$defs": {
            "a": {
                "type": "object",
                "properties": {key: {"type": "string"} for key in KEYS},
                "required": list(KEYS),
                "additionalProperties": False,
            }
        },
    }


def parse_answer(raw: str, n: int) -> tuple[Segments | None, ...]:
    """Return what each of `n` slots says, None where it is missing, contradictory or of the wrong shape. Never raises.

    Prose or a fence around the JSON, a truncated end, unknown slots and slots said twice alike are all survived.
    """
    found: dict[str, list[Segments | None]] = {}
    for name, value in _slots(raw):
        found.setdefault(name, []).append(_segments(value))
    return tuple(_agreed(found.get(slot(index), [])) for index in range(n))


def _slots(raw: str) -> Iterator[tuple[str, Any]]:
    """Every `"rNN": value` of the outermost level, in order, as far as the text can be read."""
    decoder = json.JSONDecoder()
    position = 0
    while match := _SLOT.search(raw, position):
        try:
            value, position = decoder.raw_decode(raw, match.end())
        except (ValueError, RecursionError):
            position = match.end()
            continue
        yield match[1], value


def _segments(value: Any) -> Segments | None:
    """The fields an object names, absent ones None; an endpoint that holds no schema may give all seven in order."""
    if isinstance(value, list) and len(value) == len(KEYS):
        value = dict(zip(KEYS, value, strict=True))
    if not isinstance(value, dict) or not value or not value.keys() <= _FIELD_OF.keys():
        return None
    texts = {_FIELD_OF[key]: _text(item) for key, item in value.items()}
    if any(text is None for text in texts.values()):
        return None
    return {field: texts.get(field) or None for field in FIELDS}


def _text(item: Any) -> str | None:
    """A field as text; "" for none said, None for what no field can be."""
    if item is None:
        return ""
    if isinstance(item, int) and not isinstance(item, bool):
        return str(item)
    return item.strip() if isinstance(item, str) else None


def _agreed(candidates: Sequence[Segments | None]) -> Segments | None:
    """What a slot says; a slot that is said twice differently says nothing."""
    return candidates[0] if candidates and all(other == candidates[0] for other in candidates) else None
