"""One deadline that moves all the time and is hardly ever reached. Knows nothing of what it is for."""

import asyncio
from collections.abc import Callable


class Alarm:
    """Rings once when its time has come. A timer that wakes too early costs less than one for every new deadline."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._due_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, after_s: float | None) -> None:
        """From now on, in the place of what was set before; None: never."""
        self._due_s = None if after_s is None else self._loop.time() + after_s
        if self._due_s is not None and (self._timer is None or self._timer.when() > self._due_s):
            self._wake_at(self._due_s)

    def stop(self) -> None:
        """It never rings again, and holds nothing."""
        self._due_s = None
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _wake_at(self, when_s: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(when_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        if self._due_s is None:
            return
        if self._loop.time() < self._due_s:
            self._wake_at(self._due_s)
        else:
            self._due_s = None
            self._ring()
