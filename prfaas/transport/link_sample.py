"""What happened on the way to a peer, or to a whole cluster, between two looks at it. Values only: no sockets."""

from collections.abc import Sequence
from dataclasses import dataclass

BUSY_SHARE = 0.8
"""Of an interval: one that was idle for longer than the rest says nothing about the link."""


@dataclass(frozen=True, slots=True)
class LinkSample:
    """One interval. Bytes are payload, except where TCP counts them."""

    interval_s: float
    acknowledged_bytes: int
    busy_s: float
    """Of the interval, with bytes in flight."""
    waiting: bool
    """Objects waited at both ends of the interval."""
    pressed: bool
    """The window was full for most of the interval, or the sockets are: what left did not get away at once."""
    queued_bytes: int
    """Now; also `in_flight_bytes`, `streams` and `window_bytes`."""
    in_flight_bytes: int
    streams: int
    window_bytes: int
    tcp_sent_bytes: int = 0
    tcp_retransmitted_bytes: int = 0
    rtt_s: float | None = None
    """From end to end, as it is now; None where nothing measured it."""
    min_rtt_s: float | None = None
    hop_min_rtt_s: float | None = None
    """To whatever ends the TCP connection: the peer, or the proxy on the way."""

    @property
    def saturated(self) -> bool:
        """The connections, with all that they do to a frame, had as much to send as they could."""
        return self.waiting and self.busy_s >= BUSY_SHARE * self.interval_s

    @property
    def link_limited(self) -> bool:
        """It was the way that kept the rate of this interval down, and neither prefill nor encoding nor encryption."""
        return self.saturated and self.pressed


def merge(samples: Sequence[LinkSample]) -> LinkSample:
    """The same interval on the way to several peers, as one; there is at least one."""
    interval_s = max(sample.interval_s for sample in samples)
    return LinkSample(
        interval_s=interval_s,
        acknowledged_bytes=sum(s.acknowledged_bytes for s in samples),
        # Peers that were busy one after the other were busy so long; of those at the same time it says too much, which
        # makes their rate too low, and only in intervals that are idle in part, which cannot lower an estimate.
        busy_s=min(interval_s, sum(s.busy_s for s in samples)),
        waiting=any(s.saturated for s in samples),
        pressed=any(s.link_limited for s in samples),
        queued_bytes=sum(s.queued_bytes for s in samples),
        in_flight_bytes=sum(s.in_flight_bytes for s in samples),
        streams=sum(s.streams for s in samples),
        window_bytes=sum(s.window_bytes for s in samples),
        tcp_sent_bytes=sum(s.tcp_sent_bytes for s in samples),
        tcp_retransmitted_bytes=sum(s.tcp_retransmitted_bytes for s in samples),
        rtt_s=_rtt(samples),
        min_rtt_s=min((s.min_rtt_s for s in samples if s.min_rtt_s is not None), default=None),
        hop_min_rtt_s=min((s.hop_min_rtt_s for s in samples if s.hop_min_rtt_s is not None), default=None),
    )


def _rtt(samples: Sequence[LinkSample]) -> float | None:
    """The mean of those that moved bytes, since an idle connection remembers a round trip of long ago; else of all."""
    known = [(s.rtt_s, s.acknowledged_bytes) for s in samples if s.rtt_s is not None]
    moved = [rtt for rtt, moved_bytes in known if moved_bytes]
    chosen = moved or [rtt for rtt, _ in known]
    return sum(chosen) / len(chosen) if chosen else None
