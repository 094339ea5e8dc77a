"""What the kernel says of a real connection, and how much an old one may leave out."""

import socket

from prfaas.transport.tcp_info import TcpInfo, parse, tcp_info
from tests.eventually import eventually

SENT_BYTES = 300_000


def sent_over_loopback() -> TcpInfo:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sender:
        receiver, _ = server.accept()
        with receiver:
            sender.setblocking(False)
            left = SENT_BYTES
            while left:
                try:
                    left -= sender.send(bytes(left))
                except BlockingIOError:
                    receiver.recv(1 << 20)
            # Read to the end, so that everything is acknowledged.
            receiver.settimeout(5)
            eventually(lambda: len(receiver.recv(1 << 20)) == 0 or tcp_info(sender).bytes_acked == SENT_BYTES + 1)
            return tcp_info(sender)


def test_a_real_connection() -> None:
    info = sent_over_loopback()
    # The kernel counts the SYN as one byte.
    assert info.bytes_acked == SENT_BYTES + 1
    assert info.bytes_sent is not None
    assert info.bytes_sent >= SENT_BYTES
    # A full receive buffer can make even loopback send again.
    assert info.bytes_retransmitted == info.bytes_sent - SENT_BYTES
    assert (info.retransmitted_segments > 0) == (info.bytes_retransmitted > 0)
    assert info.notsent_bytes == 0
    assert info.rtt_s is not None
    assert info.min_rtt_s is not None
    assert 0 < info.min_rtt_s <= info.rtt_s < 1
    assert info.cwnd_segments > 0
    assert info.delivery_rate_bytes_s is not None
    assert info.delivery_rate_bytes_s > 0
    assert info.busy_s is not None
    assert info.receiver_limited_s is not None
    assert info.buffer_limited_s is not None


def test_what_a_kernel_does_not_tell_is_not_known() -> None:
    old = parse(b"\0" * 104)
    assert (old.bytes_acked, old.min_rtt_s, old.bytes_retransmitted, old.busy_s) == (None, None, None, None)
    assert (old.rtt_s, old.retransmitted_segments, old.cwnd_segments) == (None, 0, 0)


def test_a_round_trip_that_was_not_measured_is_not_known() -> None:
    unmeasured = parse(b"\0" * 148 + b"\xff" * 4 + b"\0" * 100)
    assert unmeasured.min_rtt_s is None
    assert unmeasured.rtt_s is None
