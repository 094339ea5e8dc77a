"""The connecting end of a data connection through TLS, which mostly sends. Knows no frames, and no certificates."""

import socket
import ssl
from collections.abc import Iterator, Sequence

from prfaas.transport.channel import Channel

RECORD_BYTES = 16 << 10
"""OpenSSL encrypts and sends no more at a time, however much one call offers."""
GATHERED_BYTES = 64 << 10


class TlsChannel(Channel):
    """`Channel` over a connection whose handshake is done; large views are encrypted where they lie, in one call each.

    `sock` is a second descriptor of the connection, for its options and for `shutdown`: that of Python's SSLSocket
    takes the encryption away first, and a thread that sends at that moment would send in the clear.
    """

    encrypted = True

    def __init__(self, tls: ssl.SSLSocket, peer: str) -> None:
        """Takes `tls` over."""
        tls.setblocking(False)
        super().__init__(socket.socket(fileno=socket.dup(tls.fileno())), peer)
        self._tls = tls
        self._gathered = memoryview(bytearray(GATHERED_BYTES))
        self._unfinished: memoryview | None = None
        """What OpenSSL has taken and could not send all of: it wants the same again before anything else."""
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
        for piece in self._pieces(views, taken):
            if not self._offer(piece):
                self._unfinished = piece
                break
            taken += len(piece)
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

    def _offer(self, piece: memoryview) -> bool:
        try:
            sent = self._tls.send(piece)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanting:
            self._blocked_on_read = isinstance(wanting, ssl.SSLWantReadError)
            return False
        assert sent == len(piece), "Python asks OpenSSL for all or nothing"
        self._blocked_on_read = False
        return True

    def _pieces(self, views: Sequence[memoryview], skip: int) -> Iterator[memoryview]:
        """What stands in `views` behind the first `skip` bytes; large pieces as they are, small ones copied together.

        Small ones are filled up to whole records, so that a header costs none of its own.
        """
        filled = 0
        for given in views:
            view = given.cast("B")
            skipped = min(skip, len(view))
            skip -= skipped
            rest = view[skipped:]
            while rest:
                if not filled and len(rest) >= RECORD_BYTES:
                    yield rest
                    break
                small = len(rest) < RECORD_BYTES
                copied = rest[: GATHERED_BYTES - filled if small else -filled % RECORD_BYTES]
                self._gathered[filled : filled + len(copied)] = copied
                filled += len(copied)
                rest = rest[len(copied) :]
                if filled == GATHERED_BYTES or not small:
                    yield self._gathered[:filled]
                    filled = 0
        if filled:
            yield self._gathered[:filled]
