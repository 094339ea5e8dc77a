"""How many requests may be placed a second time: a share of the latest ones, so that a router whose fleet fails does
not double the load of what is left of it. Knows no requests; its clock is given."""

from collections import deque
from dataclasses import dataclass

from prfaas.core.clock import Clock

WINDOW_S = 10.0
SPARE = 10
"""Second placements within the window that are always allowed: a quiet router must be able to retry."""


@dataclass(slots=True)
class _Second:
    """What happened in one second of the window."""

    began_s: int
    ended: int = 0
    placed_again: int = 0


class RetryBudget:
    """Counts requests that were under way at any time within the window, and second placements in it."""

    def __init__(self, share: float, clock: Clock) -> None:
        """`share`: from 0, which leaves `SPARE` alone, to 1, at which every request may be placed twice."""
        self._share = share
        self._clock = clock
        self._running = 0
        self._window: deque[_Second] = deque()

    def began(self) -> None:
        """A request was placed for the first time."""
        self._running += 1

    def ended(self) -> None:
        """A request that began is over."""
        self._running -= 1
        self._now().ended += 1

    def has_room(self) -> bool:
        """One more request may be placed a second time."""
        self._now()
        again = sum(second.placed_again for second in self._window)
        latest = self._running + sum(second.ended for second in self._window)
        return again + 1 <= self._share * latest + SPARE

    def placed_again(self) -> None:
        """A request was placed a second time."""
        self._now().placed_again += 1

    def _now(self) -> _Second:
        now_s = self._clock()
        while self._window and self._window[0].began_s <= now_s - WINDOW_S - 1:
            self._window.popleft()
        if not self._window or self._window[-1].began_s != int(now_s):
            self._window.append(_Second(int(now_s)))
        return self._window[-1]
