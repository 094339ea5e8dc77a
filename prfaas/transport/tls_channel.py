"""One data connection through TLS, as a non-blocking stream of bytes. Knows no frames, and no certificates."""

import socket
import ssl
from collections.abc import Iterator, Sequence

from prfaas.transport.channel import Channel

RECORD_BYTES = 16 << 10
"""OpenSSL encrypts no more in one call."""


class TlsChannel(Channel):
    """`Channel` over a connection whose handshake is done.

    `sock` is a second descriptor of the connection, for its options and for `shutdown`: that of Python's SSLSocket
    takes the encryption away first, and a thread that sends at that moment would send in the clear.
    """

    encrypted = True

    def __init__(self, tls: ssl.SSLSocket, peer: str) -> None:
        """Takes `tls` over."""
        tls.setblocking(False)
        super().__init__(socket.socket(fileno=socket.dup(tls.fileno())), peer)
        self._tls = tls
        self._gathered = memoryview(bytearray(RECORD_BYTES))
        self._unfinished: memoryview | None = None
        """What OpenSSL has encrypted and could not send: it wants the same again before anything else."""
        self._blocked_on_read = False
        self._error: OSError | None = None

    def send(self, views: Sequence[memoryview]) -> int:
        taken = 0
        if self._unfinished is not None:
            if not self._offer(self._unfinished):
                return 0
            taken = len(self._unfinished)
            self._unfinished = None
            assert taken <= sum(view.nbytes for view in views), "the bytes that were not taken must be offered again"
        for record in self._records(views, taken):
            if not self._offer(record):
                self._unfinished = record
                break
            taken += len(record)
        return taken

    def receive_into(self, views: Sequence[memoryview]) -> int | None:
        if self._error:
            raise self._error
        received = 0
        for given in views:
            view, at = given.cast("B"), 0
            while at < len(view):
                try:
                    count = self._tls.recv_into(view[at:], len(view) - at)
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    return received or None
                except OSError as error:
                    if not received:
                        raise
                    # What came before it was authentic; the next call tells.
                    self._error = error
                    return received
                if not count:
                    return received
                at += count
                received += count
        return received

    @property
    def pending(self) -> bool:
        return self._error is not None or self._tls.pending() > 0

    @property
    def blocked_on_read(self) -> bool:
        return self._blocked_on_read

    def close(self) -> None:
        self._tls.close()
        super().close()

    def _offer(self, record: memoryview) -> bool:
        try:
            sent = self._tls.send(record)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanting:
            self._blocked_on_read = isinstance(wanting, ssl.SSLWantReadError)
            return False
        assert sent == len(record)
        self._blocked_on_read = False
        return True

    def _records(self, views: Sequence[memoryview], skip: int) -> Iterator[memoryview]:
        """What stands in `views` behind the first `skip` bytes, a full record at a time; small pieces are copied."""
        filled = 0
        for given in views:
            view = given.cast("B")
            at = min(skip, len(view))
            skip -= at
            while at < len(view):
                piece = view[at : at + RECORD_BYTES - filled]
                at += len(piece)
                if len(piece) == RECORD_BYTES:
                    yield piece
                    continue
                self._gathered[filled : filled + len(piece)] = piece
                filled += len(piece)
                if filled == RECORD_BYTES:
                    yield self._gathered
                    filled = 0
        if filled:
            yield self._gathered[:filled]
