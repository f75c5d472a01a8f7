"""The shape of a sheet: its rows, and how many of them need a model. Nothing is written, nothing leaves the machine."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from normalizer.domain.address import parse_address
from normalizer.domain.appointment import Appointment, Kind
from normalizer.domain.text import canonical
from normalizer.imports.plan import usable_rows
from normalizer.worker.pipeline import needs_model

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Workload:
    """So many rows of a kind.

    Attributes:
        rows: that come at once.
        residual: share of rows whose address only a model can read.
        known: share of those whose text stood in a row before: a patient's second appointment.
    """

    rows: int
    residual: float
    known: float

    @property
    def asked(self) -> float:
        """Records asked of the model, per row."""
        return self.residual * (1 - self.known)


def of_file(path: Path) -> Workload:
    """Read a sheet as an import reads it, and run the rules over every address. InvalidInput when none is usable."""
    rows, _ = usable_rows(path)
    texts = [Appointment(row.key, row.fields).text(Kind.ADDRESS) for row in rows]
    alike = Counter(canonical(text) for text in texts if text)
    shown = {canonical(text): text for text in texts if text}
    left = [identity for identity, text in shown.items() if needs_model(parse_address(text))]
    asked = sum(alike[identity] for identity in left)
    return Workload(len(texts), asked / len(texts), 1 - len(left) / asked if asked else 0.0)
