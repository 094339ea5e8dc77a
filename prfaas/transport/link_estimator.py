"""What is known of a link, from samples of it. Reads no clock and no socket: the caller brings the samples.

One estimator stands for the link to one cluster, however many peers this process has there.
"""

import math
from dataclasses import dataclass, replace

from prfaas.transport.link_rate import LinkRate
from prfaas.transport.link_sample import LinkSample

UTILISATION_S = 5.0
"""Time constant of the utilisation, in seconds of the clock; of the retransmitted share, in busy seconds."""


@dataclass(frozen=True, slots=True)
class LinkEstimate:
    """A link as of its last sample."""

    rate_bytes_s: float | None = None
    """Payload that it delivers when there is enough to send; None until measured."""
    at_least: bool = True
    """Nothing has shown that it does not deliver more."""
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

    def __init__(self, described_bytes_s: float | None = None) -> None:
        """`described_bytes_s`: what the link should carry by the fleet file."""
        self.estimate = LinkEstimate()
        self._rates = LinkRate(described_bytes_s)
        self._sent_bytes = 0.0
        self._again_bytes = 0.0

    def add(self, sample: LinkSample) -> None:
        """Idle samples leave round trips and retransmissions as they were, and after a while let the rate recover."""
        last = self.estimate
        busy = sample.busy_s > 0
        if busy:
            self._count_retransmissions(sample)
            self._rates.add(sample)
        else:
            self._rates.rest(sample.interval_s)
        self.estimate = LinkEstimate(
            rate_bytes_s=self._rates.rate_bytes_s,
            at_least=self._rates.at_least,
            link_limited=self._rates.limited if busy else last.link_limited,
            rtt_s=sample.rtt_s if busy and sample.rtt_s is not None else last.rtt_s,
            min_rtt_s=sample.min_rtt_s if sample.min_rtt_s is not None else last.min_rtt_s,
            retransmitted=min(1.0, self._again_bytes / self._sent_bytes) if self._sent_bytes else 0.0,
            utilisation=_utilisation(last.utilisation, sample),
            queued_bytes=sample.queued_bytes,
            in_flight_bytes=sample.in_flight_bytes,
            streams=sample.streams,
            window_bytes=sample.window_bytes,
        )

    def forget_peers(self, interval_s: float) -> None:
        """For so long all peers there have been gone: nothing waits."""
        self._rates.rest(interval_s)
        self.estimate = replace(
            self.estimate,
            rate_bytes_s=self._rates.rate_bytes_s,
            at_least=self._rates.at_least,
            utilisation=0.0,
            queued_bytes=0,
            in_flight_bytes=0,
            streams=0,
            window_bytes=0,
        )

    def _count_retransmissions(self, sample: LinkSample) -> None:
        kept = math.exp(-sample.busy_s / UTILISATION_S)
        self._sent_bytes = self._sent_bytes * kept + sample.tcp_sent_bytes
        self._again_bytes = self._again_bytes * kept + sample.tcp_retransmitted_bytes


def _utilisation(last: float, sample: LinkSample) -> float:
    if sample.interval_s <= 0:
        return last
    now = min(1.0, sample.busy_s / sample.interval_s)
    return last + (now - last) * (1 - math.exp(-sample.interval_s / UTILISATION_S))
