"""Rows to feed a fleet with, any number of them: of a synthetic sheet, or such as only a model can read."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from normalizer.domain.address import Address, parse_address
from normalizer.domain.address.answers import standardize
from normalizer.domain.decision import Settled, Undecided
from normalizer.simulation.sheets import generate
from normalizer.simulation.texts import CITIES, DISTRICTS, STREET_NAMES
from normalizer.store import ImportRow
from normalizer.worker.pipeline import needs_model

#: More distinct texts than a worker's first tier holds, so that a long run asks Redis as often per row as a short one.
POOL: Final = 100_000
SEED: Final = 20_261_125
# Orders that the rules leave to a model and a model can read. More than one, because the rules learn.
_HARD: Final = (
    "{bairro}, {numero}, rua {rua}, {estado}, {cidade}",
    "{estado} {cidade} {bairro} rua {rua} {numero}",
    "{estado} - rua {rua} {numero} {cidade} {bairro}",
)
_FIRST_NUMBER: Final = 1_000
_MISSES: Final = 500
_EASY: Final = 2_000


@dataclass(frozen=True, slots=True)
class Supplied:
    """One row's two texts, and the address that stands in the first; None where nobody could read one there."""

    address: str | None
    document: str | None
    expected: Mapping[str, Any] | None


def pool(size: int = POOL, *, seed: int = SEED) -> list[Supplied]:
    """The first rows of a synthetic sheet: 30 % repeat a text, most are read by the rules."""
    rows = itertools.islice(generate(seed), size)
    return [
        Supplied(
            row.address.text if row.address else None,
            row.document.text if row.document else None,
            row.address.expected if row.address else None,
        )
        for row in rows
    ]


def hard_rows(count: int, *, seed: int = SEED) -> list[Supplied]:
    """Rows of different addresses, each of which the rules leave to the model. Their documents are all one."""
    chance = random.Random(seed)
    return list(itertools.islice(_hard(chance), count))


def _hard(chance: random.Random) -> Iterator[Supplied]:
    passed_over = 0
    for number in itertools.count(_FIRST_NUMBER):
        city = chance.choice(CITIES)
        parts = {"rua": chance.choice(STREET_NAMES)[0], "numero": str(number), "bairro": chance.choice(DISTRICTS)[0]}
        parts |= {"cidade": city.name, "estado": city.uf}
        expected = {**parts, "rua": f"Rua {parts['rua']}", "complemento": None, "cep": None}
        texts = (shape.format(**parts).lower() for shape in _HARD)
        text = next((text for text in texts if _only_a_model_reads(text, expected)), None)
        if text is not None:
            yield Supplied(text, "CPF: 11144477735", expected)
        elif (passed_over := passed_over + 1) > max(_MISSES, number // 2):
            raise AssertionError("the rules read every hard shape by now: add one that only a model reads")


def _only_a_model_reads(text: str, expected: Mapping[str, str | None]) -> bool:
    return isinstance(parse_address(text), Undecided) and isinstance(standardize(expected, text), Settled)


def mixed(rows: int, *, residual: float, known: float, seed: int = SEED) -> list[Supplied]:
    """Rows of that kind: so many for the model, so many of them repeated, the rest such as the rules read."""
    asked = round(rows * residual)
    distinct = max(1, round(asked * (1 - known))) if asked else 0
    hard = hard_rows(distinct)
    easy = [row for row in pool(min(_EASY, max(100, rows))) if not needs_model(parse_address(row.address or ""))]
    chance = random.Random(seed)
    found = [*hard, *chance.choices(hard, k=asked - distinct)] if asked else []
    found += [Supplied(row.address, row.document, None) for row in chance.choices(easy, k=rows - asked)]
    chance.shuffle(found)
    return found


def import_rows(supplied: Iterable[Supplied], count: int, *, prefix: str) -> Iterator[ImportRow]:
    """`count` rows as an import writes them, each with its own key; `supplied` is gone through as often as needed."""
    for number, row in enumerate(itertools.islice(itertools.cycle(supplied), count)):
        fields: dict[str, Any] = {
            "nome_paciente": "Paciente Sintético",
            "status": "Agendado",
            "telefone": "(11) 90000-0000",
        }
        fields |= {"endereco_coleta": row.address, "documento_completo": row.document}
        yield ImportRow(f"{prefix}-{number}", fields)


def write_labels(path: Path, rows: Iterable[Supplied]) -> Path:
    """What the simulated model knows."""
    lines = (json.dumps({"text": row.address, "expected": row.expected}, ensure_ascii=False) for row in rows)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def known_addresses(rows: Iterable[Supplied]) -> dict[str, Address]:
    """The address of every text that has one: what an earlier import would have left in the cache."""
    return {row.address: Address.from_dict(row.expected) for row in rows if row.address and row.expected}
