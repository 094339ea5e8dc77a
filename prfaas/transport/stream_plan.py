"""How many connections a peer should have, by what more of them gain. Pure: samples in, a number out.

While objects wait, some more connections are tried, and kept if the rate grew; else the plan goes back and waits,
longer each time. A gain is judged over a second of waiting, so that traffic in bursts is judged over several bursts.
"""

import math
from dataclasses import dataclass, field
from statistics import fmean, variance

MEASURE_S = 1.0
"""Of time at the link's limit, for a rate that others are compared with."""
SETTLE_S = 0.4
"""Of such time, before a new number of connections is judged: they connect, and find their speed."""
LEAST_GAIN = 0.05
"""Of the rate, for which more connections are kept."""
SURE = 2.5
"""A gain must also be so many times the standard error of the two rates that it is the difference of: on a link whose
rate jumps about, tries would otherwise be kept by luck, and luck comes again and again."""
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 320.0
LOSSY = 0.0005
"""Retransmitted share from which lost packets, rather than a full link, are what holds a connection back."""
LONGEST_LOSSY_PAUSE_S = 20.0
IDLE_S = 60.0
"""After each so long without traffic the connections above the minimum are halved."""


@dataclass(frozen=True, slots=True)
class _Rate:
    """A mean and the square of its standard error."""

    bytes_s: float
    variance: float


@dataclass(slots=True)
class _Measurement:
    """Rates of the samples since the last `clear`."""

    seconds: float = 0.0
    _rates: list[float] = field(default_factory=list)

    def add(self, acknowledged_bytes: int, seconds: float) -> None:
        self._rates.append(acknowledged_bytes / seconds)
        self.seconds += seconds

    def clear(self) -> None:
        self.seconds = 0.0
        self._rates.clear()

    def rate(self) -> _Rate:
        count = len(self._rates)
        # One sample says nothing of how they vary.
        return _Rate(fmean(self._rates), variance(self._rates) / count if count > 1 else 0.0)


@dataclass(frozen=True, slots=True)
class _Trial:
    """More connections than before, on approval."""

    streams_before: int
    rate_before: _Rate

    def worth(self, rate: _Rate) -> bool:
        gain = rate.bytes_s - self.rate_before.bytes_s
        error = math.sqrt(rate.variance + self.rate_before.variance)
        return gain >= max(LEAST_GAIN * self.rate_before.bytes_s, SURE * error)


@dataclass(slots=True)
class StreamPlan:
    """The number of connections of one peer; `streams` is what it should have now."""

    min_streams: int
    max_streams: int
    streams: int = field(init=False)
    _measured: _Measurement = field(default_factory=_Measurement)
    _settling_s: float = SETTLE_S
    _trial: _Trial | None = None
    _pause_s: float = FIRST_PAUSE_S
    _wait_s: float = 0.0
    _idle_s: float = 0.0

    def __post_init__(self) -> None:
        assert 1 <= self.min_streams <= self.max_streams, f"{self.min_streams} to {self.max_streams} streams"
        self.streams = self.min_streams

    def limit(self, max_streams: int) -> None:
        """The receiver takes no more than this, or the minimum if that is more: then there is nothing to plan."""
        self.max_streams = max(self.min_streams, max_streams)
        if self.streams > self.max_streams:
            self._go_to(self.max_streams)
            self._trial = None

    def add(
        self, interval_s: float, acknowledged_bytes: int, *, busy: bool, limited: bool, retransmitted: float
    ) -> None:
        """One sample: whether bytes were in flight at all, and whether objects waited all the time."""
        self._wait_s = max(0.0, self._wait_s - interval_s)
        self._idle_s = 0.0 if busy else self._idle_s + interval_s
        if self._idle_s >= IDLE_S:
            self._shrink()
        if not limited:
            return
        if self._settling_s > 0:
            self._settling_s -= interval_s
            return
        self._measured.add(acknowledged_bytes, interval_s)
        if self._measured.seconds >= MEASURE_S:
            self._judge(retransmitted >= LOSSY)

    def _judge(self, lossy: bool) -> None:
        rate = self._measured.rate()
        self._measured.clear()
        trial, self._trial = self._trial, None
        if trial and not trial.worth(rate):
            self._go_to(trial.streams_before)
            self._wait_s = min(self._pause_s, LONGEST_LOSSY_PAUSE_S) if lossy else self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            return
        if trial:
            self._pause_s = FIRST_PAUSE_S
        more = self._more(lossy)
        if more > self.streams and self._wait_s == 0:
            self._trial = _Trial(self.streams, rate)
            self._go_to(more)

    def _more(self, lossy: bool) -> int:
        wanted = 2 * self.streams if lossy else math.ceil(1.5 * self.streams)
        return min(self.max_streams, max(self.streams + 2, wanted))

    def _shrink(self) -> None:
        self._idle_s = 0.0
        self._wait_s = 0.0
        self._pause_s = FIRST_PAUSE_S
        before = self._trial.streams_before if self._trial else self.streams
        self._trial = None
        self._go_to(max(self.min_streams, before // 2))

    def _go_to(self, streams: int) -> None:
        self.streams = streams
        self._measured.clear()
        self._settling_s = SETTLE_S
