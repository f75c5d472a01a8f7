"""A short form of `make fuzz`, and that its search for leaks finds what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.fuzz import fuzz
from tests.acceptance.fuzz_checks import PATIENTS, leaks


def test_the_search_finds_what_is_there() -> None:
    name, cpf, rg = PATIENTS[0]
    formatted = f"{cpf[:3]}.{cpf[3:6]}.{cpf[6:9]}-{cpf[9:]}"

    assert leaks(f'{{"paciente": "{name.upper()}"}}') == ["zuleica", "quaresma"]
    assert leaks(f"CPF {formatted}") == [cpf]
    assert leaks(f"RG {rg[:2]}.{rg[2:5]}.{rg[5:8]}-{rg[8]}") == [rg]
    assert leaks("Z. Q. F., •••.•••.•••-35, 2026-10-10") == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_found_in_a_short_while(redis_url: str, mongo_url: str, database: str, tmp_path: Path) -> None:
    assert fuzz(redis_url, mongo_url, database, tmp_path, seconds=30, seed=20_261_125) == []
