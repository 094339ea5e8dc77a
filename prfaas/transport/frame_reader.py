"""A receiver's answers out of a channel: few, and small but for ACCEPTED. Knows nothing of transfers."""

from collections import deque
from collections.abc import Iterator

from prfaas.core.errors import PeerLostError, WireError
from prfaas.transport.channel import Channel
from prfaas.wire.header import ANSWERS, HEADER_BYTES, FrameHeader, Kind, payload_digest, unpack
from prfaas.wire.messages import MAX_MESSAGE_BYTES, MAX_SMALL_MESSAGE_BYTES

READS = 16
"""Reads of one turn, so that a flood of answers does not keep frames from going out."""


class FrameReader:
    """Collects whole frames in a buffer that grows only as far as the answer being read needs."""

    def __init__(self) -> None:
        self._room = bytearray(MAX_SMALL_MESSAGE_BYTES)
        self._filled = 0
        self._header: FrameHeader | None = None
        self._whole: deque[tuple[FrameHeader, bytes]] = deque()

    def read(self, channel: Channel) -> Iterator[tuple[FrameHeader, bytes]]:
        """The answers that are there now; those that the caller leaves come first the next time.

        Raises WireError, PeerLostError at the end of the stream, or OSError, each behind the answers before it.
        """
        yield from self._leave()
        for _ in range(READS):
            with memoryview(self._room) as room:
                got = channel.receive_into([room[self._filled :]])
                full = got == len(room) - self._filled
            if got is None:
                break
            if got == 0:
                raise PeerLostError("the receiver closed the data connection")
            self._filled += got
            try:
                self._cut()
            finally:
                yield from self._leave()
            if not full and not channel.pending:
                break

    def _leave(self) -> Iterator[tuple[FrameHeader, bytes]]:
        while self._whole:
            yield self._whole.popleft()

    def _cut(self) -> None:
        """Takes whole frames out of the buffer."""
        at = 0
        while True:
            if self._header is None:
                if self._filled - at < HEADER_BYTES:
                    break
                self._header = _checked(bytes(self._room[at : at + HEADER_BYTES]))
                at += HEADER_BYTES
            header = self._header
            if self._filled - at < header.wire_bytes:
                break
            payload = bytes(self._room[at : at + header.wire_bytes])
            at += header.wire_bytes
            if payload and header.digest != payload_digest([payload]):
                raise WireError(f"the payload of a {header.kind.name} is corrupt")
            self._header = None
            self._whole.append((header, payload))
        self._keep(at)

    def _keep(self, at: int) -> None:
        """Moves what is left to the front, with room for the rest of its frame."""
        left = bytes(self._room[at : self._filled])
        wanted = max(MAX_SMALL_MESSAGE_BYTES, HEADER_BYTES + (self._header.wire_bytes if self._header else 0))
        if wanted != len(self._room):
            self._room = bytearray(wanted)
        self._room[: len(left)] = left
        self._filled = len(left)


def _checked(data: bytes) -> FrameHeader:
    header = unpack(data, max_payload_bytes=MAX_MESSAGE_BYTES)
    if header.kind not in ANSWERS:
        raise WireError(f"a receiver must not send {header.kind.name}")
    if header.wire_bytes > (MAX_MESSAGE_BYTES if header.kind is Kind.ACCEPTED else MAX_SMALL_MESSAGE_BYTES):
        raise WireError(f"a {header.kind.name} of {header.wire_bytes} bytes is too long")
    return header
