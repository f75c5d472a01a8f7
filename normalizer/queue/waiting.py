"""Waiting and cancellation on Python 3.11, where `asyncio.wait_for` may swallow a cancellation.

redis-py sends through `wait_for` when a socket timeout is set, so a task that talks to Redis may go on as if nobody had
cancelled it. Loops that must end call `raise_if_cancelled()`; `cancel_and_wait()` asks a task again until it ends.
"""

from __future__ import annotations

import asyncio
from typing import Any


def raise_if_cancelled() -> None:
    """Raise CancelledError if somebody asked the current task to end and the request was swallowed."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def wait_for_event(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, at most so long; gives way to other tasks even if `seconds` is 0 or less."""
    if seconds <= 0:
        await asyncio.sleep(0)
        return
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


async def cancel_and_wait(*tasks: asyncio.Future[Any], ask_every_s: float = 0.2, patience_s: float = 5.0) -> None:
    """Cancel tasks until they are done; one that will not listen is left behind after `patience_s`. Raises nothing."""
    for task in tasks:
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody asks what it raised
    open_tasks = {task for task in tasks if not task.done()}
    for _ in range(max(1, round(patience_s / ask_every_s))):
        if not open_tasks:
            return
        for task in open_tasks:
            task.cancel()
        _, open_tasks = await asyncio.wait(open_tasks, timeout=ask_every_s)
