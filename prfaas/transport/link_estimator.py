"""What a link carries, from samples of it. Reads no clock and no socket: the caller brings the samples.

One estimator stands for the link to one cluster, however many peers this process has there. It tells two things apart:
how fast bytes went, and whether it was the link that kept them from going faster. Only the latter may lower the rate.
"""

import math
from collections import deque
from dataclasses import dataclass, replace

from prfaas.transport.link_sample import LinkSample

WINDOW_S = 0.8
"""Of busy time that the rate is taken over. Acknowledgements come in bursts, but none of their bytes is lost or counted
twice, so that a mean over some bursts is right where a single sample may be wrong by half."""
LEAST_BUSY_S = 0.1
"""Over less, the bytes of an acknowledgement and the time that they took may lie in different samples."""
UTILISATION_S = 5.0
"""Time constant of the utilisation, in seconds of the clock; of the retransmitted share, in busy seconds."""


@dataclass(frozen=True, slots=True)
class LinkEstimate:
    """A link as of its last sample."""

    rate_bytes_s: float | None = None
    """Payload that it delivers when there is enough to send; None until measured."""
    link_limited: bool = False
    """The last busy sample was at the limit of the link, rather than of whoever makes the bytes."""
    rtt_s: float | None = None
    min_rtt_s: float | None = None
    retransmitted: float = 0.0
    """Share of the bytes that TCP sent, 0 to 1."""
    utilisation: float = 0.0
    """Share of time with bytes in flight, 0 to 1."""
    queued_bytes: int = 0
    in_flight_bytes: int = 0
    streams: int = 0
    window_bytes: int = 0

    @property
    def queued_s(self) -> float:
        """What waits and what is on its way takes so long; 0 while the rate is unknown."""
        return (self.queued_bytes + self.in_flight_bytes) / self.rate_bytes_s if self.rate_bytes_s else 0.0

    @property
    def rtt_inflation(self) -> float:
        """How many times the shortest round trip the present one is: what queues on the way add."""
        return self.rtt_s / self.min_rtt_s if self.rtt_s and self.min_rtt_s else 1.0


class LinkEstimator:
    """Takes samples, keeps one estimate."""

    def __init__(self) -> None:
        self.estimate = LinkEstimate()
        self._limited = _Window()
        self._all = _Window()
        self._sent_bytes = 0.0
        self._again_bytes = 0.0

    def add(self, sample: LinkSample) -> None:
        """Idle samples leave rate, round trips and retransmissions as they were."""
        last = self.estimate
        busy = sample.busy_s > 0
        if busy:
            self._count_retransmissions(sample)
        self.estimate = LinkEstimate(
            rate_bytes_s=self._rate(sample) if busy else last.rate_bytes_s,
            link_limited=sample.link_limited if busy else last.link_limited,
            rtt_s=sample.rtt_s if busy and sample.rtt_s is not None else last.rtt_s,
            min_rtt_s=sample.min_rtt_s if sample.min_rtt_s is not None else last.min_rtt_s,
            retransmitted=min(1.0, self._again_bytes / self._sent_bytes) if self._sent_bytes else 0.0,
            utilisation=_utilisation(last.utilisation, sample),
            queued_bytes=sample.queued_bytes,
            in_flight_bytes=sample.in_flight_bytes,
            streams=sample.streams,
            window_bytes=sample.window_bytes,
        )

    def forget_peers(self) -> None:
        """All peers there have gone: nothing waits, and what was measured stays."""
        self.estimate = replace(
            self.estimate, utilisation=0.0, queued_bytes=0, in_flight_bytes=0, streams=0, window_bytes=0
        )

    def _rate(self, sample: LinkSample) -> float | None:
        self._all.add(sample)
        known = self.estimate.rate_bytes_s
        if sample.link_limited:
            self._limited.add(sample)
            return self._limited.rate
        if self._all.busy_s < LEAST_BUSY_S:
            return known
        # Whoever had too little to send shows what the link carries at least.
        achieved = self._all.rate
        return achieved if known is None else max(known, achieved)

    def _count_retransmissions(self, sample: LinkSample) -> None:
        kept = math.exp(-sample.busy_s / UTILISATION_S)
        self._sent_bytes = self._sent_bytes * kept + sample.tcp_sent_bytes
        self._again_bytes = self._again_bytes * kept + sample.tcp_retransmitted_bytes


class _Window:
    """Bytes over busy time of the last samples, of some WINDOW_S together."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, float]] = deque()
        self._bytes = 0
        self.busy_s = 0.0

    @property
    def rate(self) -> float:
        return self._bytes / self.busy_s

    def add(self, sample: LinkSample) -> None:
        self._samples.append((sample.acknowledged_bytes, sample.busy_s))
        self._bytes += sample.acknowledged_bytes
        self.busy_s += sample.busy_s
        while self.busy_s - self._samples[0][1] >= WINDOW_S:
            acknowledged_bytes, busy_s = self._samples.popleft()
            self._bytes -= acknowledged_bytes
            self.busy_s -= busy_s


def _utilisation(last: float, sample: LinkSample) -> float:
    if sample.interval_s <= 0:
        return last
    now = min(1.0, sample.busy_s / sample.interval_s)
    return last + (now - last) * (1 - math.exp(-sample.interval_s / UTILISATION_S))
