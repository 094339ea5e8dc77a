"""One data connection as a non-blocking stream of bytes. Knows no frames."""

import socket
from collections.abc import Sequence

MAX_BUFFERS = 1024
"""Linux takes no more in one call."""

RECEIVE_BUFFERS = 256


class Channel:
    """Plain TCP; `TlsChannel` is the encrypted one. One thread uses it; any thread may `shutdown` it."""

    encrypted = False

    def __init__(self, sock: socket.socket, peer: str) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.peer = peer
        """Who is at the other end, for messages."""

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, views: Sequence[memoryview]) -> int:
        """Bytes taken from the front of `views`; 0 if the connection takes none now. Raises OSError.

        After a 0 the next call must offer the same bytes again (TLS may hold a part of them already).
        """
        try:
            return self.sock.sendmsg(views[:MAX_BUFFERS])
        except BlockingIOError:
            return 0

    def receive_into(self, views: Sequence[memoryview]) -> int | None:
        """Bytes written to the front of `views`; None if none are there yet; 0 at the end. Raises OSError."""
        try:
            return self.sock.recvmsg_into(views[:RECEIVE_BUFFERS])[0]
        except BlockingIOError:
            return None

    @property
    def pending(self) -> bool:
        """Received bytes wait in this object, of which the socket, and so `poll`, knows nothing."""
        return False

    def close(self) -> None:
        self.sock.close()
