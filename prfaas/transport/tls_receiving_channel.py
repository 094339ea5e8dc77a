"""The accepting end of a data connection through TLS, which mostly receives. Knows no frames, and no certificates."""

import contextlib
import ssl
from collections.abc import Sequence

from prfaas.transport.channel import Channel
from prfaas.transport.tls_channel import RECORD_BYTES
from prfaas.transport.tls_server import TlsServer

RECEIVED_BYTES = 256 << 10
"""Asked of the system at once."""
MAX_UNSENT_BYTES = 64 << 10
"""Of the handshake's and OpenSSL's own messages; a peer whose messages make more of them without reading is lost."""


class TlsReceivingChannel(Channel):
    """`Channel` over a connection that a `TlsServer` has made.

    Holds up to 256 KiB as received, and as much again, with a third on top, as OpenSSL's copy that is to be decrypted;
    both take memory only as far as a sender fills them. No more is received before all of that is decrypted.
    """

    encrypted = True

    def __init__(self, server: TlsServer, peer: str) -> None:
        """Takes `server` over."""
        super().__init__(server.sock, peer)
        self._tls = server.tls
        self._incoming = server.incoming
        self._outgoing = server.outgoing
        self._received = memoryview(bytearray(RECEIVED_BYTES))
        self._unsent = memoryview(b"")
        """Encrypted bytes that the socket has not taken."""
        self._encrypted_bytes = 0
        """So many bytes at the front of what `send` is given are encrypted, and not all of them are out."""
        self._dry = False
        """OpenSSL and the socket had no more when they were last asked."""
        self._error: OSError | None = None

    def send(self, views: Sequence[memoryview]) -> int:
        taken = 0
        while self._flush():
            taken += self._encrypted_bytes
            record = _front(views, taken)
            self._encrypted_bytes = len(record)
            if not record:
                break
            self._tls.write(record)
        return taken

    def receive_into(self, views: Sequence[memoryview]) -> int | None:
        if self._error:
            raise self._error
        received = 0
        for given in views:
            view, at = given.cast("B"), 0
            while at < len(view):
                try:
                    count = self._decrypt(view[at:])
                except OSError as error:
                    if not received:
                        raise
                    # What came before it was authentic; the next call tells.
                    self._error = error
                    return received
                if count is None:
                    return received or None
                if not count:
                    return received
                at += count
                received += count
        return received

    @property
    def pending(self) -> bool:
        return self._error is not None or not self._dry

    def _decrypt(self, view: memoryview) -> int | None:
        """At most one record; None if there is none yet, 0 at the end."""
        self._dry = False
        while True:
            try:
                return self._tls.read(len(view), view)
            except ssl.SSLWantReadError:
                if not self._receive():
                    self._dry = True
                    return None
            except ssl.SSLEOFError:
                return 0
            except ssl.SSLError:
                # OpenSSL has something to say about it.
                with contextlib.suppress(OSError):
                    self._flush()
                raise

    def _receive(self) -> bool:
        """Takes what is there from the socket, or its end; False if neither is."""
        if not self._flush() and len(self._unsent) > MAX_UNSENT_BYTES:
            raise ConnectionError(f"{self.peer} makes TLS answer, and does not read the answers")
        try:
            count = self.sock.recv_into(self._received)
        except BlockingIOError:
            return False
        if count:
            self._incoming.write(self._received[:count])
        else:
            self._incoming.write_eof()
        return True

    def _flush(self) -> bool:
        """Sends what is encrypted; False if not all of it could be sent now."""
        if self._outgoing.pending:
            self._unsent = memoryview(bytes(self._unsent) + self._outgoing.read())
        try:
            while self._unsent:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
        except BlockingIOError:
            return False
        return True


def _front(views: Sequence[memoryview], skip: int) -> bytes:
    """A record's worth of what stands in `views` behind the first `skip` bytes."""
    front = bytearray()
    for given in views:
        view = given.cast("B")
        front += view[skip : skip + RECORD_BYTES - len(front)]
        skip = max(0, skip - len(view))
        if len(front) == RECORD_BYTES:
            break
    return bytes(front)
