"""How often requests come, smoothed. Reads no clock: whoever asks says what time it is."""

from math import exp

RATE_S = 60.0
"""Time constant."""


class ArrivalRate:
    """From a count of arrivals that never falls."""

    def __init__(self, at_s: float = 0.0) -> None:
        self._at_s, self._arrived = at_s, 0
        self.req_s = 0.0

    def observe(self, now_s: float, arrived: int) -> None:
        """`arrived`: so many since the start."""
        passed_s = now_s - self._at_s
        if passed_s > 0:
            rate = (arrived - self._arrived) / passed_s
            self.req_s = rate + (self.req_s - rate) * exp(-passed_s / RATE_S)
            self._at_s, self._arrived = now_s, arrived
