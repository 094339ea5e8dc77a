"""The rate of a link: how fast bytes went, and whether it was the link that kept them from going faster.

Only the latter may lower the rate. Reads no clock: its caller brings samples, and says how long there were none.
"""

from collections import deque

from prfaas.transport.link_sample import LinkSample
from prfaas.transport.turnover import Turnover

WINDOW_S = 0.8
"""Of busy time that the rate is taken over. Acknowledgements come in bursts, but none of their bytes is lost or counted
twice, so that a mean over some bursts is right where a single sample may be wrong by half."""
LEAST_BUSY_S = 0.1
"""Over less, the bytes of an acknowledgement and the time that they took may lie in different samples."""
TRUSTED_S = 30.0
"""Without a byte, after which a link that was slow may not be so any more."""
DOUBLING_S = 10.0
"""From then on the rate doubles in this time, up to the highest that is known to be possible. Somebody must try a link
for it to be measured, and nobody sends over one that is thought too slow."""
REFUTED = 1.5
"""A link that carries so many times what was taken for its limit has another limit now."""


class LinkRate:
    """Takes the busy samples of one link."""

    def __init__(self, described_bytes_s: float | None) -> None:
        self.rate_bytes_s: float | None = None
        """Payload that the link delivers when there is enough to send; None until measured."""
        self.limited = False
        """The latest samples were at the limit of the link, rather than of whoever makes the bytes."""
        self._limit_bytes_s: float | None = None
        self._best_bytes_s = described_bytes_s or 0.0
        self._at_limit = _Window()
        self._achieved = _Window()
        self._turnover = Turnover()
        self._rested_s = 0.0

    @property
    def at_least(self) -> bool:
        """No limit of the link was seen below this rate, or long ago."""
        return self._limit_bytes_s is None

    def add(self, sample: LinkSample) -> None:
        """A sample with bytes in flight."""
        if self._rested_s > TRUSTED_S:
            self._at_limit, self._achieved = _Window(), _Window()
        self._rested_s = 0.0
        turnover = self._turnover.plus(sample)
        self._turnover = turnover
        if not sample.in_flight_bytes and not (turnover.acknowledged_bytes and turnover.complete):
            # Its connection ended, and what it carried will never be acknowledged.
            self._turnover = Turnover()
        elif turnover.complete:
            self._turnover = Turnover.after(sample.in_flight_bytes)
            self._conclude(turnover)
        elif turnover.slow:
            self._lower(turnover.most_bytes_s)

    def rest(self, interval_s: float) -> None:
        """For so long nothing was in flight."""
        self._turnover = Turnover()
        self._rested_s += interval_s
        if self._limit_bytes_s is None or self._rested_s <= TRUSTED_S or not self.rate_bytes_s:
            return
        self.rate_bytes_s *= 2.0 ** (min(interval_s, self._rested_s - TRUSTED_S) / DOUBLING_S)
        self._limit_bytes_s = self.rate_bytes_s
        if self.rate_bytes_s >= self._best_bytes_s:
            self.rate_bytes_s = self._best_bytes_s
            self._limit_bytes_s = None

    def _conclude(self, turnover: Turnover) -> None:
        self.limited = turnover.limited or turnover.slow
        if self.limited:
            self._at_limit.add(turnover)
            # What was possible before says nothing about now.
            self._achieved = _Window()
            self._set(self._at_limit.rate)
            self._limit_bytes_s = self.rate_bytes_s
            return
        self._achieved.add(turnover)
        if self._achieved.busy_s >= LEAST_BUSY_S:
            self._raise(self._achieved.surely)

    def _lower(self, most_bytes_s: float) -> None:
        if most_bytes_s < (self.rate_bytes_s or self._best_bytes_s):
            self._at_limit, self._achieved = _Window(), _Window()
            self.limited = True
            self.rate_bytes_s = self._limit_bytes_s = most_bytes_s

    def _raise(self, least_bytes_s: float) -> None:
        if not least_bytes_s or (self.rate_bytes_s is not None and least_bytes_s <= self.rate_bytes_s):
            return
        self._set(least_bytes_s)
        if self._limit_bytes_s is not None and least_bytes_s > REFUTED * self._limit_bytes_s:
            self._limit_bytes_s = None

    def _set(self, rate_bytes_s: float) -> None:
        self.rate_bytes_s = rate_bytes_s
        self._best_bytes_s = max(self._best_bytes_s, rate_bytes_s)


class _Window:
    """Bytes over busy time of the last turnovers, of some WINDOW_S together."""

    def __init__(self) -> None:
        self._turnovers: deque[Turnover] = deque()
        self._bytes = 0
        self._crossing_s = 0.0
        self.busy_s = 0.0

    @property
    def rate(self) -> float:
        return self._bytes / self._crossing_s

    @property
    def surely(self) -> float:
        """The same without what may have crossed before."""
        return max(0, self._bytes - self._turnovers[0].ahead_bytes) / self._crossing_s

    def add(self, turnover: Turnover) -> None:
        self._turnovers.append(turnover)
        self._count(turnover, 1)
        while self.busy_s - self._turnovers[0].busy_s >= WINDOW_S:
            self._count(self._turnovers.popleft(), -1)

    def _count(self, turnover: Turnover, sign: int) -> None:
        self._bytes += sign * turnover.acknowledged_bytes
        self.busy_s += sign * turnover.busy_s
        self._crossing_s += sign * turnover.crossing_s
