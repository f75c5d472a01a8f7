"""What a sheet, or a description of one, asks of the deployment. Nothing is written and nothing leaves the machine."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.model import Workload
from benchmarks.supply import hard_rows
from normalizer.domain.address import parse_address
from normalizer.domain.appointment import Appointment, Kind
from normalizer.domain.text import canonical
from normalizer.imports.importing import usable_rows
from normalizer.llm.estimate import cost_of, prompt_tokens
from normalizer.llm.prompt import Record
from normalizer.llm.tokens import counter
from normalizer.worker.pipeline import needs_model

if TYPE_CHECKING:
    from collections.abc import Sequence

_SAMPLE: Final = 100


@dataclass(frozen=True, slots=True)
class Sheet:
    """So many rows of a kind."""

    rows: int
    load: Workload


def of_file(path: Path, *, model: str) -> Sheet:
    """Read a sheet as an import reads it, and run the rules over every address. InvalidInput when none is usable."""
    rows, _ = usable_rows(path)
    texts = [Appointment(row.key, row.fields).text(Kind.ADDRESS) for row in rows]
    alike = Counter(canonical(text) for text in texts if text)
    shown = {canonical(text): text for text in texts if text}
    left = [identity for identity, text in shown.items() if needs_model(parse_address(text))]
    asked = sum(alike[identity] for identity in left)
    count = counter(model)
    costs = [cost_of(Record.of(shown[identity]), count) for identity in left]
    return Sheet(
        len(texts),
        Workload(
            residual=asked / len(texts),
            known=1 - len(left) / asked if asked else 0.0,
            tokens_in=_mean([cost.tokens_in for cost in costs]),
            tokens_out=_mean([cost.tokens_out for cost in costs]),
            tokens_call=prompt_tokens(count),
        ),
    )


def of_words(rows: int, *, residual: float, known: float, characters: float, model: str) -> Sheet:
    """A sheet as described: the tokens of an address follow from its length, as those of synthetic ones do."""
    count = counter(model)
    texts = [row.address or "" for row in hard_rows(_SAMPLE)]
    each = characters * sum(map(count, texts)) / sum(map(len, texts))
    overhead = cost_of(Record.of("x"), count)
    words = count("x")
    return Sheet(
        rows,
        Workload(
            residual=residual,
            known=known,
            tokens_in=each + overhead.tokens_in - words,
            tokens_out=each + overhead.tokens_out - words,
            tokens_call=prompt_tokens(count),
        ),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
