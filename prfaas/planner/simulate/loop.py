"""Simulated time. Knows what is to happen when, and nothing of what it is."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any


class EventLoop:
    """Calls back in order of time; what is due at the same time, in the order in which it was asked for."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = count()

    def at(self, time_s: float, call: Callable[..., None], *args: Any) -> None:
        """`call(*args)` at `time_s`, or now if that has passed."""
        heappush(self._heap, (max(time_s, self.now_s), next(self._number), call, args))

    def after(self, delay_s: float, call: Callable[..., None], *args: Any) -> None:
        self.at(self.now_s + delay_s, call, *args)

    @property
    def idle(self) -> bool:
        """Nothing is to happen any more."""
        return not self._heap

    def run(self) -> None:
        """Until nothing is to happen any more."""
        heap = self._heap
        while heap:
            self.now_s, _, call, args = heappop(heap)
            call(*args)
