"""Waiting and being cancelled, also when a cancellation is swallowed on the way."""

from __future__ import annotations

import asyncio

import pytest

from normalizer.queue.waiting import cancel_and_wait, raise_if_cancelled, wait_for_event


async def _swallows(times: int, heard: list[int]) -> None:
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append(1)
            if len(heard) > times:
                raise


async def test_it_asks_again_until_the_task_listens() -> None:
    heard: list[int] = []
    task = asyncio.create_task(_swallows(2, heard))
    await asyncio.sleep(0)

    await cancel_and_wait(task, ask_every_s=0.01)

    assert task.cancelled()
    assert len(heard) == 3


async def test_it_leaves_a_task_behind_that_will_not_listen() -> None:
    heard: list[int] = []
    task = asyncio.create_task(_swallows(5, heard))
    await asyncio.sleep(0)

    await cancel_and_wait(task, ask_every_s=0.01, patience_s=0.03)

    assert not task.done()
    await cancel_and_wait(task, ask_every_s=0.01)


async def test_ending_nothing_and_of_done_tasks_is_at_once() -> None:
    done = asyncio.create_task(asyncio.sleep(0))
    await done

    await cancel_and_wait()
    await cancel_and_wait(done)

    assert not done.cancelled()


async def test_a_loop_raises_what_was_swallowed() -> None:
    reached: list[str] = []

    async def loops() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            reached.append("swallowed")
        raise_if_cancelled()
        reached.append("went on")

    raise_if_cancelled()
    task = asyncio.create_task(loops())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert reached == ["swallowed"]


async def test_waiting_ends_with_the_event_the_time_or_at_once() -> None:
    event = asyncio.Event()
    for seconds in (0, -1, 0.001):
        async with asyncio.timeout(5):
            await wait_for_event(event, seconds)
    event.set()
    async with asyncio.timeout(5):
        await wait_for_event(event, 3600)

    assert event.is_set()
