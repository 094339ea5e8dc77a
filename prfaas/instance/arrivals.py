"""How fast KV arrives from one cluster, over all transfers from there, and what of it is missing. Reads no clock."""

from collections import deque
from math import inf
from typing import Protocol

LEAST_S = 0.05
"""A transfer that takes less was lying in buffers, and says nothing of the link."""


class Arriving(Protocol):
    """One transfer under way."""

    @property
    def bytes_arrived(self) -> int:
        """All payload received for it so far."""
        ...

    @property
    def missing_bytes(self) -> float:
        """Payload that has still to arrive and only waits for the link: 0 until the prefill is over."""
        ...


class Arrivals:
    """Transfers share the way, and one waits for the other: only of all together can a rate be told."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._under_way: list[Arriving] = []
        self._ended_bytes = 0
        self._samples: deque[tuple[float, int]] = deque()
        self.best_bytes_s = 0.0
        """The best rate of any window, or of a whole transfer."""

    def begin(self, transfer: Arriving) -> None:
        self._under_way.append(transfer)

    def end(self, transfer: Arriving) -> None:
        self._under_way.remove(transfer)
        self._ended_bytes += transfer.bytes_arrived

    def committed(self, num_bytes: int, seconds: float) -> None:
        """A transfer brought so much, in that time from its first object on: most take less than a window."""
        self.best_bytes_s = max(self.best_bytes_s, num_bytes / max(seconds, LEAST_S))

    @property
    def total_bytes(self) -> int:
        """All that ever arrived."""
        return self._ended_bytes + sum(transfer.bytes_arrived for transfer in self._under_way)

    @property
    def missing_bytes(self) -> float:
        return sum(transfer.missing_bytes for transfer in self._under_way)

    def sample(self, now_s: float) -> None:
        """Reads what has arrived; to be called at least a few times per window while transfers are under way."""
        if self._samples and now_s - self._samples[-1][0] < self._window_s / 8:
            return
        self._samples.append((now_s, self.total_bytes))
        while len(self._samples) > 2 and self._samples[1][0] <= now_s - self._window_s:
            self._samples.popleft()
        self.best_bytes_s = max(self.best_bytes_s, self.rate_bytes_s(-inf) or 0.0)

    def rate_bytes_s(self, since_s: float) -> float | None:
        """Of the last window; None while there has not been a whole one after `since_s`, or nothing was sampled.

        The window's longest pause does not count: a way that was gone for a moment is not slow for that.
        """
        if len(self._samples) < 2:
            return None
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        # Before `since_s` something else than the link was waited for; a longer span has a time in it without samples.
        if first_s < since_s or not self._window_s <= last_s - first_s <= 2 * self._window_s:
            return None
        return (last - first) / (last_s - first_s - self._longest_pause_s()) if last > first else 0.0

    def _longest_pause_s(self) -> float:
        longest, (begun_s, before) = 0.0, self._samples[0]
        for at_s, total in self._samples:
            if total != before:
                begun_s, before = at_s, total
            longest = max(longest, at_s - begun_s)
        return longest
