"""What a peer's connections did so far, for those who measure the link."""

import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PeerSnapshot:
    """Counters grow from the peer's first connection on; all bytes are payload."""

    sockets: tuple[socket.socket, ...]
    """Of the present connections; one that is closed meanwhile raises OSError when it is asked."""
    proxied: bool
    """Connections lead through a CONNECT proxy, so that what TCP says of them holds for the way to the proxy only."""
    queued_bytes: int
    """Raw bytes of objects that wait for a connection."""
    in_flight_bytes: int
    """Sent, and not acknowledged by the receiver."""
    acknowledged_bytes: int
    """By the receiver's ACK frames."""
    busy_s: float
    """Time with bytes in flight."""
    window_limited_s: float
    """Time in which objects waited and the window or the receiver's credit held them back."""
    connect_rtt_s: float | None
    """The fastest HELLO to WELCOME so far: a round trip from end to end, proxies and TLS records included."""
    target_streams: int
    window_bytes: int
    credit_bytes: int
