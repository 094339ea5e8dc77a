"""The accepting end of a TLS connection while it is made: blocking, and for a limited time in all.

It is not Python's SSLSocket because that makes two calls to the system for each 16 KiB it receives; here OpenSSL
reads from memory, into which as much is received at once as is there. Knows no frames, and judges no names.
"""

import contextlib
import socket
import ssl
import time
from typing import Literal

HANDSHAKE_BYTES = 16 << 10
"""Received at once until the connection is made."""


class TlsServer:
    """Has those of SSLSocket's methods that making a connection takes, and raises what they raise."""

    server_side = True

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, timeout_s: float) -> None:
        """Takes `sock` over. All that is done here must be over after `timeout_s`, or TimeoutError is raised."""
        self.sock = sock
        self.incoming = ssl.MemoryBIO()
        """Encrypted bytes that were received; what stands there behind the handshake is the connection's."""
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self._until_s = time.monotonic() + timeout_s

    def do_handshake(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._receive()
            except ssl.SSLError:
                self._try_flush()
                raise
            else:
                break
        self._flush()

    def getpeercert(self, *, binary_form: Literal[True]) -> bytes | None:
        return self.tls.getpeercert(binary_form)

    def recv(self, num_bytes: int) -> bytes:
        """At most so many; none at the end."""
        while True:
            try:
                return self.tls.read(num_bytes)
            except ssl.SSLWantReadError:
                self._receive()
            except ssl.SSLEOFError:
                return b""
            except ssl.SSLError:
                self._try_flush()
                raise

    def sendall(self, data: bytes) -> None:
        self.tls.write(data)
        self._flush()

    def close(self) -> None:
        self.sock.close()

    def _receive(self) -> None:
        self._set_timeout()
        data = self.sock.recv(HANDSHAKE_BYTES)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    def _flush(self) -> None:
        if self.outgoing.pending:
            self._set_timeout()
            self.sock.sendall(self.outgoing.read())

    def _try_flush(self) -> None:
        """Sends the alert that says what is wrong, to whom it may still reach."""
        with contextlib.suppress(OSError):
            self._flush()

    def _set_timeout(self) -> None:
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self.sock.settimeout(left_s)
