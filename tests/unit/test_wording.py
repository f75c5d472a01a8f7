"""How numbers and times are told to people."""

from __future__ import annotations

import pytest

from normalizer.domain import wording


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, "–"),
        (0, "0 s"),
        (59.4, "59 s"),
        (75, "1 min 15 s"),
        (3_599, "59 min"),
        (3_660, "1 h 1 min"),
        (3e5, "3 dias"),
    ],
)
def test_durations(seconds: float | None, told: str) -> None:
    assert wording.duration(seconds) == told


def test_numbers_and_money_are_brazilian() -> None:
    assert wording.number(1234567) == "1.234.567"
    assert (wording.money(0.1234), wording.money(1234.5)) == ("US$ 0,1234", "US$ 1.234,50")
