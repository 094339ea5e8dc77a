"""One end of a TLS connection while it is made: blocking, and for a limited time in all.

It is not Python's SSLSocket because that calls the system twice for each 16 KiB it receives, and once for each it
sends; here OpenSSL works on memory, and as much is received or sent at once as is there. Knows no frames, and judges
no names.
"""

import contextlib
import socket
import ssl
import time

HANDSHAKE_BYTES = 16 << 10
"""Received at once until the connection is made."""


class TlsHandshake:
    """After `run` both ends can `read_exactly` and `send`; a `TlsChannel` then takes it over."""

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool, name: str, timeout_s: float
    ) -> None:
        """Takes `sock` over; `name` is that which a server must show. What is done here must be over after `timeout_s`,
        or TimeoutError is raised; every method may raise OSError."""
        self.sock = sock
        self.server_side = server_side
        self.incoming = ssl.MemoryBIO()
        """Encrypted bytes that were received; what stands there behind the handshake is the connection's."""
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming, self.outgoing, server_side=server_side, server_hostname=None if server_side else name
        )
        self._until_s = time.monotonic() + timeout_s

    def run(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._receive()
            except ssl.SSLError:
                self._tell()
                raise
            else:
                break
        self._flush()

    @property
    def certificate(self) -> bytes:
        """The other end's, in DER."""
        shown = self.tls.getpeercert(binary_form=True)
        assert shown is not None, "both contexts ask for a certificate"
        return shown

    def read(self, num_bytes: int) -> bytes:
        """So many, or less if the connection ends before."""
        read = bytearray()
        while len(read) < num_bytes:
            try:
                more = self.tls.read(num_bytes - len(read))
            except ssl.SSLWantReadError:
                self._receive()
                continue
            except ssl.SSLEOFError:
                break
            except ssl.SSLError:
                self._tell()
                raise
            if not more:
                break
            read += more
        return bytes(read)

    def send(self, data: bytes) -> None:
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

    def _tell(self) -> None:
        """Sends the alert that says what is wrong, if it still reaches anybody."""
        with contextlib.suppress(OSError):
            self._flush()

    def _set_timeout(self) -> None:
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self.sock.settimeout(left_s)
