"""How many bytes a peer may have in flight: enough to fill the path, and little more. Pure."""

LEAST_BYTES = 4 << 20
"""Twice what a receiver lets come before it acknowledges; with less in flight a sender would wait for each answer."""
HEADROOM = 2.0
"""Over bandwidth × delay. A window that was too small shows a rate that is too low, and doubles out of it."""


def window_bytes(
    rate_bytes_s: float | None, min_rtt_s: float | None, *, frame_bytes: int, streams: int, credit_bytes: int
) -> int:
    """For a peer whose share of the link is `rate_bytes_s`; all that the receiver grants while that is unknown.

    More than this fills queues on the way, in which an urgent object waits behind those of others.
    """
    if rate_bytes_s is None or min_rtt_s is None:
        return credit_bytes
    # One frame's time on top of the round trip, because a receiver answers whole frames.
    wanted = HEADROOM * (rate_bytes_s * min_rtt_s + frame_bytes)
    least = LEAST_BYTES + streams * frame_bytes
    return min(credit_bytes, max(least, int(wanted)))
