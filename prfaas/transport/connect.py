"""Opens data connections, directly or through an HTTP CONNECT proxy."""

import contextlib
import fcntl
import logging
import socket
import struct
import termios
from collections.abc import Callable

import h11

from prfaas.config.sections import split_address
from prfaas.core.errors import PeerLostError

log = logging.getLogger(__name__)

READ_BYTES = 16 << 10


def connect(
    address: str, proxy: str | None, timeout_s: float, prepare: Callable[[socket.socket], None]
) -> socket.socket:
    """A connected socket without timeout; `prepare` has each one that is tried before it connects.

    Raises PeerLostError naming the peer, and the proxy if there is one.
    """
    way = f"{address} through {proxy}" if proxy else address
    try:
        sock = _reach(*split_address(proxy or address), timeout_s, prepare)
    except OSError as error:
        raise PeerLostError(f"cannot connect to {way}: {error}") from error
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if proxy:
            _ask_proxy(sock, address)
        sock.settimeout(None)
    except (OSError, h11.ProtocolError, PeerLostError) as error:
        sock.close()
        raise PeerLostError(f"cannot connect to {way}: {error}") from error
    return sock


def fail_when_stalled(sock: socket.socket, stall_s: float) -> None:
    """Makes the kernel end a connection whose peer acknowledges nothing for `stall_s`, idle or not."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stall_s * 1000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(stall_s / 2)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, int(stall_s / 4)))


def keep_little_unsent(sock: socket.socket, most_bytes: int) -> None:
    """Bounds what waits in the kernel for its turn on the network: an urgent frame cannot overtake that."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, most_bytes)


def choose_congestion_control(sock: socket.socket, name: str) -> None:
    """Where this kernel lacks it the connection keeps the one that it has."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
    except OSError as error:
        log.warning("a data connection keeps its congestion control, since %s cannot be chosen: %s", name, error)


def unacknowledged_bytes(sock: socket.socket) -> int:
    """Bytes that were sent, and that the other end of the TCP connection has not acknowledged."""
    return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0])


def wake(sock: socket.socket) -> None:
    """Ends the connection so that every thread that waits on it returns; repeating it does no harm.

    Only the thread that owns the socket closes it: a descriptor closed under another thread may be somebody else's by
    the time that thread uses it.
    """
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _reach(host: str, port: int, timeout_s: float, prepare: Callable[[socket.socket], None]) -> socket.socket:
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(timeout_s)
            prepare(sock)
            sock.connect(where)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


def _ask_proxy(sock: socket.socket, address: str) -> None:
    client = h11.Connection(h11.CLIENT)
    request = client.send(h11.Request(method="CONNECT", target=address, headers=[("Host", address)]))
    assert request is not None
    sock.sendall(request)
    while True:
        event = client.next_event()
        if isinstance(event, h11.Response):
            if event.status_code // 100 != 2:
                raise PeerLostError(f"the proxy answered {event.status_code} {event.reason.decode('latin-1')}")
            # The receiver never speaks first, so nothing can have arrived behind the answer.
            return
        data = sock.recv(READ_BYTES)
        if not data:
            raise PeerLostError("the proxy closed the connection")
        client.receive_data(data)
