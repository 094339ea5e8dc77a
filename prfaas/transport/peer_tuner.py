"""Applies to one peer what the pure plans decide from its samples: streams, window, congestion control."""

import logging
from collections.abc import Callable

from prfaas.config.sections import TransportSection
from prfaas.transport.congestion import choose, in_use
from prfaas.transport.link_estimator import LinkEstimate
from prfaas.transport.link_reader import LinkReader, MeasuredPeer
from prfaas.transport.link_sample import LinkSample
from prfaas.transport.stream_plan import StreamPlan
from prfaas.transport.window import window_bytes

log = logging.getLogger(__name__)

WINDOW_STEP = 0.1
"""Changes of a window below this share are not worth a call."""


class PeerTuner:
    """One peer: reads it and adapts it. `may_set` tells which algorithms this process may choose."""

    def __init__(
        self, peer: MeasuredPeer, config: TransportSection, may_set: Callable[[str], bool], now_s: float
    ) -> None:
        self._peer = peer
        self._config = config
        self._may_set = may_set
        self._reader = LinkReader(peer, now_s)
        self._plan = StreamPlan(min(config.min_streams, config.max_streams), config.max_streams)
        self._chosen: str | None = None
        self.congestion_control: str | None = None
        """What the connections have, as one of them says; None before the first."""

    def read(self, now_s: float) -> LinkSample:
        return self._reader.read(now_s)

    def tune(self, sample: LinkSample, estimate: LinkEstimate, busy_peers: int) -> None:
        """`estimate` is the link's, which `busy_peers` share; `sample` is this peer's last."""
        self._tune_streams(sample, estimate)
        self._tune_window(estimate, busy_peers)
        self._tune_congestion_control(sample)

    def _tune_streams(self, sample: LinkSample, estimate: LinkEstimate) -> None:
        taken = self._reader.snapshot.target_streams
        if taken < self._plan.streams:
            self._plan.limit(taken)
        before = self._plan.streams
        self._plan.add(
            sample.interval_s,
            sample.acknowledged_bytes,
            busy=sample.busy_s > 0,
            limited=sample.saturated,
            retransmitted=estimate.retransmitted,
        )
        if self._plan.streams != before:
            log.debug("%d streams to %s, after %d", self._plan.streams, self._peer.address, before)
            self._peer.set_streams(self._plan.streams)

    def _tune_window(self, estimate: LinkEstimate, busy_peers: int) -> None:
        snapshot = self._reader.snapshot
        if not snapshot.credit_bytes:
            # The receiver has not said yet how much it takes.
            return
        rate = estimate.rate_bytes_s
        wanted = window_bytes(
            None if rate is None else rate / max(1, busy_peers),
            estimate.min_rtt_s,
            frame_bytes=self._config.frame_bytes,
            streams=snapshot.target_streams,
            credit_bytes=snapshot.credit_bytes,
        )
        if abs(wanted - snapshot.window_bytes) > WINDOW_STEP * snapshot.window_bytes:
            self._peer.set_window(wanted)

    def _tune_congestion_control(self, sample: LinkSample) -> None:
        self.congestion_control = self._in_use()
        name = choose(self._config.congestion_control, sample.hop_min_rtt_s, self.congestion_control)
        if name is None or name == self._chosen or not self._may_set(name):
            return
        self._chosen = name
        if name != self.congestion_control:
            log.debug("connections to %s use %s", self._peer.address, name)
        self._peer.set_congestion_control(name)

    def _in_use(self) -> str | None:
        for sock in self._reader.snapshot.sockets:
            try:
                return in_use(sock)
            except OSError:
                continue
        return self.congestion_control
