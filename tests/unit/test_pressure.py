"""How hard MongoDB is pressed: bulks shrink while it does not take them, and only a few operations run at once."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizer.errors import StoreUnavailable
from normalizer.store.writes import Stride, Turns


def test_a_bulk_that_is_not_taken_is_halved_down_to_the_smallest_and_grows_back() -> None:
    stride = Stride(largest=500, smallest=20)

    down = []
    for _ in range(6):
        stride.failed(stride.size)
        down.append(stride.size)
    up = []
    for _ in range(6):
        stride.taken(stride.size)
        up.append(stride.size)

    assert down == [250, 125, 62, 31, 20, 20]
    assert up == [40, 80, 160, 320, 500, 500]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 500))))
def test_its_size_stays_within_its_bounds(history: list[tuple[bool, int]]) -> None:
    stride = Stride(largest=500, smallest=20)
    for taken, rows in history:
        (stride.taken if taken else stride.failed)(rows)
        assert 20 <= stride.size <= 500


async def test_no_more_than_so_many_at_once_and_each_gets_its_turn() -> None:
    turns, running, most, done = Turns(at_once=3), 0, 0, 0

    async def operation() -> None:
        nonlocal running, most, done
        async with turns.take():
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            done += 1

    await asyncio.gather(*(operation() for _ in range(20)))

    assert (most, done) == (3, 20)


async def test_whose_turn_does_not_come_in_time_is_told_that_the_store_does_not_keep_up() -> None:
    turns = Turns(at_once=1, patience_s=0.01)
    async with turns.take():
        with pytest.raises(StoreUnavailable, match="não acompanha"):
            async with turns.take():
                raise AssertionError("the place was taken")
    async with turns.take():
        pass  # free again
