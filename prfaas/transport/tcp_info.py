"""What the kernel knows of one TCP connection, read from TCP_INFO. Knows nothing of frames or transfers."""

import socket
import struct
from dataclasses import dataclass

_ASKED_BYTES = 512
"""More than any kernel gives: fields are only ever added at the end."""
_U32 = struct.Struct("=I")
_U64 = struct.Struct("=Q")
_UNMEASURED = 0xFFFFFFFF
_US = 1e-6

# Offsets in `struct tcp_info` of linux/tcp.h.
_RTT = 68
_RTTVAR = 72
_SND_CWND = 80
_TOTAL_RETRANS = 100
_BYTES_ACKED = 120
_NOTSENT_BYTES = 144
_MIN_RTT = 148
_DELIVERY_RATE = 160
_BUSY_TIME = 168
_RWND_LIMITED = 176
_SNDBUF_LIMITED = 184
_BYTES_SENT = 200
_BYTES_RETRANS = 208


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """One look at a connection. None: this kernel does not tell, or has not measured it yet."""

    rtt_s: float | None
    """Smoothed."""
    rttvar_s: float | None
    min_rtt_s: float | None
    """Of the last minutes."""
    cwnd_segments: int
    retransmitted_segments: int
    bytes_acked: int | None
    bytes_sent: int | None
    """Those sent again included, as in the next."""
    bytes_retransmitted: int | None
    notsent_bytes: int | None
    """In the socket's buffer, and never sent yet."""
    delivery_rate_bytes_s: int | None
    busy_s: float | None
    """Time with something to send or to be acknowledged; the next two are parts of it."""
    receiver_limited_s: float | None
    buffer_limited_s: float | None


def tcp_info(sock: socket.socket) -> TcpInfo:
    """Raises OSError for a socket that is closed, or not of TCP."""
    return parse(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ASKED_BYTES))


def parse(data: bytes) -> TcpInfo:
    """Reads as much of the structure as an (older) kernel gave."""
    rtt = _read(data, _RTT, _U32)
    min_rtt = _read(data, _MIN_RTT, _U32)
    return TcpInfo(
        # The kernel says 0 before the first measurement.
        rtt_s=_seconds(rtt or None),
        rttvar_s=_seconds(_read(data, _RTTVAR, _U32)) if rtt else None,
        min_rtt_s=_seconds(None if min_rtt in (0, _UNMEASURED) else min_rtt),
        cwnd_segments=_read(data, _SND_CWND, _U32) or 0,
        retransmitted_segments=_read(data, _TOTAL_RETRANS, _U32) or 0,
        bytes_acked=_read(data, _BYTES_ACKED, _U64),
        bytes_sent=_read(data, _BYTES_SENT, _U64),
        bytes_retransmitted=_read(data, _BYTES_RETRANS, _U64),
        notsent_bytes=_read(data, _NOTSENT_BYTES, _U32),
        delivery_rate_bytes_s=_read(data, _DELIVERY_RATE, _U64),
        busy_s=_seconds(_read(data, _BUSY_TIME, _U64)),
        receiver_limited_s=_seconds(_read(data, _RWND_LIMITED, _U64)),
        buffer_limited_s=_seconds(_read(data, _SNDBUF_LIMITED, _U64)),
    )


def _read(data: bytes, offset: int, field: struct.Struct) -> int | None:
    if offset + field.size > len(data):
        return None
    return int(field.unpack_from(data, offset)[0])


def _seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds * _US
