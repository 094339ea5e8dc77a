"""Waiting for something that another thread or process does, without measuring time."""

import asyncio
import threading
from collections.abc import Callable

TRIES = 1000
PAUSE_S = 0.01


def eventually(condition: Callable[[], bool]) -> None:
    """Returns once `condition` holds; fails the test if it does not within some ten seconds."""
    for _ in range(TRIES):
        if condition():
            return
        threading.Event().wait(PAUSE_S)
    raise AssertionError("the condition never came true")


async def eventually_async(condition: Callable[[], bool]) -> None:
    """The same while the event loop goes on."""
    for _ in range(TRIES):
        if condition():
            return
        await asyncio.sleep(PAUSE_S)
    raise AssertionError("the condition never came true")
