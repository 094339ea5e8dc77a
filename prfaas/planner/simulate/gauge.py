"""What the senders on a link know of it, as our link estimator would see it. Knows no jobs, and no policies."""

from math import exp

from prfaas.core.ids import ClusterName
from prfaas.planner.simulate.links import SimulatedLink
from prfaas.policy.view import LinkView

WINDOW_S = 0.8
"""Of saturated time that the rate is taken over, as in `prfaas.transport.link_estimator`."""
UTILISATION_S = 5.0
"""Time constant of the utilisation."""
SEEN_AFTER_S = 3.0
"""An outage, or its end, is noticed so late: three heartbeats."""


class LinkGauge:
    """A measured rate moves only while the link is what limits; before the first measurement it is the configured."""

    def __init__(self, link: SimulatedLink, configured_bytes_s: float, usd_per_gb: float) -> None:
        self.link, self.usd_per_gb = link, usd_per_gb
        self.rate_bytes_s = self.best_bytes_s = configured_bytes_s
        self.utilisation = 0.0
        self._at_s = 0.0
        self._out_bytes = 0.0
        self._saturated_s = 0.0
        self._saturated_bytes = 0.0

    def observe(self, now_s: float) -> None:
        """Takes in what crossed since it was last called."""
        link = self.link
        link.advance()
        passed_s = now_s - self._at_s
        if passed_s <= 0:
            return
        out_bytes = link.out_bytes - self._out_bytes
        if out_bytes or link.queued_bytes or self.utilisation > 1e-6:
            self._measure(link.saturated_s - self._saturated_s, link.saturated_bytes - self._saturated_bytes)
            self.rate_bytes_s = max(self.rate_bytes_s, out_bytes / passed_s)
            self.best_bytes_s = max(self.best_bytes_s, self.rate_bytes_s)
            blocked = link.queued_bytes > 0 and not out_bytes
            busy = 1.0 if blocked else min(1.0, out_bytes / (self.rate_bytes_s * passed_s))
            self.utilisation = busy + (self.utilisation - busy) * exp(-passed_s / UTILISATION_S)
        self._at_s, self._out_bytes = now_s, link.out_bytes
        self._saturated_s, self._saturated_bytes = link.saturated_s, link.saturated_bytes

    def view(self, now_s: float) -> LinkView:
        """As of the last observation."""
        up = self.link.capacity.bytes_s(max(0.0, now_s - SEEN_AFTER_S)) > 0 if self.link.capacity.ever_down else True
        return self._view(now_s, self.rate_bytes_s, up)

    def truth(self, now_s: float) -> LinkView:
        """As it is: for the oracle alone. In an outage the rate is the last measured."""
        self.link.advance()
        rate = self.link.capacity.bytes_s(now_s)
        return self._view(now_s, rate or self.rate_bytes_s, rate > 0)

    def _view(self, now_s: float, rate_bytes_s: float, up: bool) -> LinkView:
        link = self.link
        rtt_s = link.capacity.rtt_s(now_s)
        return LinkView(
            source=ClusterName(link.source),
            target=ClusterName(link.target),
            bytes_per_s=rate_bytes_s,
            rtt_s=rtt_s,
            min_rtt_s=rtt_s,
            retransmitted=0.0,
            queued_bytes=int(link.queued_bytes),
            queued_s=link.queued_bytes / rate_bytes_s,
            age_s=now_s - link.last_byte_s,
            utilisation=self.utilisation,
            usd_per_gb=self.usd_per_gb,
            up=up,
        )

    def _measure(self, saturated_s: float, saturated_bytes: float) -> None:
        if saturated_s > 0:
            sample = saturated_bytes / saturated_s
            self.rate_bytes_s = sample + (self.rate_bytes_s - sample) * exp(-saturated_s / WINDOW_S)
