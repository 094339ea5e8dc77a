"""One data connection through TLS, as a non-blocking stream of bytes. Knows no frames, and no certificates."""

import contextlib
import ssl
from collections.abc import Iterator, Sequence

from prfaas.transport.channel import Channel
from prfaas.transport.tls_handshake import TlsHandshake

RECEIVED_BYTES = 128 << 10
"""Asked of the system at once."""
SENT_BYTES = 128 << 10
"""When so many are encrypted the system gets them; one piece of a view may add as many again."""
RECORD_BYTES = 16 << 10
"""OpenSSL encrypts no more in one piece."""
MAX_UNSENT_BYTES = 3 * SENT_BYTES
"""`send` makes fewer. A peer whose messages make OpenSSL add to them up to here, and that does not read, is lost."""


class TlsChannel(Channel):
    """`Channel` over a connection whose handshake is done.

    Received bytes are held twice, as they came and in OpenSSL's copy, up to 128 KiB each, and no more are received
    before these are decrypted; encrypted ones that wait to be sent likewise, up to 256 KiB. So a connection costs
    about 0.4 MiB at the end that receives and 0.5 MiB at the one that sends, and less as long as little went through.
    """

    encrypted = True

    def __init__(self, made: TlsHandshake, peer: str) -> None:
        """Takes over what was made."""
        super().__init__(made.sock, peer)
        self._tls = made.tls
        self._incoming = made.incoming
        self._outgoing = made.outgoing
        self._received = memoryview(bytearray(RECEIVED_BYTES))
        self._gathered = memoryview(bytearray(RECORD_BYTES))
        self._unsent = memoryview(b"")
        """Encrypted bytes that the socket has not taken."""
        self._encrypted_bytes = 0
        """So many bytes at the front of what `send` is given are encrypted, and not all of them are out."""
        self._dry = False
        """OpenSSL and the socket had no more when they were last asked."""
        self._error: OSError | None = None

    def send(self, views: Sequence[memoryview]) -> int:
        if not self._flush():
            return 0
        taken = self._encrypted_bytes
        self._encrypted_bytes = 0
        for piece in _pieces(views, taken, self._gathered):
            self._encrypted_bytes += self._tls.write(piece)
            if self._encrypted_bytes >= SENT_BYTES:
                if not self._flush():
                    return taken
                taken += self._encrypted_bytes
                self._encrypted_bytes = 0
        if self._encrypted_bytes and self._flush():
            taken += self._encrypted_bytes
            self._encrypted_bytes = 0
        return taken

    def receive_into(self, views: Sequence[memoryview]) -> int | None:
        if self._error:
            raise self._error
        self._dry = False
        received = 0
        try:
            for given in views:
                view = given.cast("B")
                while view:
                    count = self._decrypt(view)
                    if not count:
                        return received or count
                    view = view[count:]
                    received += count
        except OSError as error:
            # OpenSSL may have something to say about it.
            with contextlib.suppress(OSError):
                self._flush()
            if not received:
                raise
            # What came before it was authentic; the next call tells.
            self._error = error
        return received

    @property
    def pending(self) -> bool:
        return self._error is not None or not self._dry

    def _decrypt(self, view: memoryview) -> int | None:
        """At most one record; None if there is none yet, 0 at the end."""
        while True:
            try:
                # Bytes is what it returns without a buffer.
                return self._tls.read(len(view), view)  # type: ignore[return-value]
            except ssl.SSLWantReadError:
                if not self._receive():
                    self._dry = True
                    return None
            except ssl.SSLEOFError:
                return 0

    def _receive(self) -> bool:
        """Takes what is there from the socket, or its end; False if neither is."""
        if self._outgoing.pending and not self._flush() and len(self._unsent) > MAX_UNSENT_BYTES:
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
            more = self._outgoing.read()
            self._unsent = memoryview(bytes(self._unsent) + more if self._unsent else more)
        try:
            while self._unsent:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
        except BlockingIOError:
            return False
        return True


def _pieces(views: Sequence[memoryview], skip: int, gathered: memoryview) -> Iterator[memoryview]:
    """What stands in `views` behind the first `skip` bytes: large pieces as they are, and small ones copied together
    until they fill `gathered`, so that a header costs no record of its own. A piece is valid until the next."""
    filled = 0
    for given in views:
        view = given.cast("B")
        at = min(skip, len(view))
        skip -= at
        while at < len(view):
            if not filled and len(view) - at >= len(gathered):
                yield view[at : at + SENT_BYTES]
                at += SENT_BYTES
                continue
            copied = view[at : at + len(gathered) - filled]
            gathered[filled : filled + len(copied)] = copied
            filled += len(copied)
            at += len(copied)
            if filled == len(gathered):
                yield gathered
                filled = 0
    assert not skip, "the bytes that were not taken must be offered again"
    if filled:
        yield gathered[:filled]
