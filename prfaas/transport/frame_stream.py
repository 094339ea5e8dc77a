"""Cuts what a channel brings into frames, each received straight into the memory that its reader names.

Knows headers, and nothing of what frames mean.
"""

from collections.abc import Sequence
from typing import Protocol

from prfaas.core.errors import PeerLostError
from prfaas.transport.channel import Channel
from prfaas.transport.landing import Landing
from prfaas.wire.header import HEADER_BYTES, FrameHeader, unpack

Room = tuple[Sequence[memoryview], Landing | None]
"""Where a payload goes. With a landing the views are written to under its lock while it lives, else thrown away."""


class FrameReader(Protocol):
    """What frames are for."""

    def begin(self, header: FrameHeader) -> Room:
        """Memory of exactly `header.wire_bytes`. Raises PrfaasError to end the connection."""
        ...

    def complete(self, header: FrameHeader) -> None:
        """All of the payload is there, unverified. Raises PrfaasError to end the connection."""
        ...


def trash_room(trash: memoryview, num_bytes: int) -> list[memoryview]:
    """The same memory again and again, as large a room as is asked for."""
    whole, rest = divmod(num_bytes, len(trash))
    return [trash] * whole + ([trash[:rest]] if rest else [])


class FrameStream:
    """One connection's frames, in order. `reader` may be exchanged between two of them."""

    def __init__(self, channel: Channel, reader: FrameReader, trash: memoryview, max_payload_bytes: int) -> None:
        self.reader = reader
        self.ended = False
        """The sender closed the connection, and not inside a frame."""
        self._channel = channel
        self._trash = trash
        self._max_payload_bytes = max_payload_bytes
        self._head = memoryview(bytearray(HEADER_BYTES))
        # Behind a payload comes the next header, so one call receives both.
        self._views: list[memoryview] = [self._head]
        self._filled = 0
        self._header: FrameHeader | None = None
        self._left = 0
        self._landing: Landing | None = None

    @property
    def inside_frame(self) -> bool:
        return self._header is not None or self._filled > 0

    def receive(self) -> bool:
        """Takes what is there, in one call; False if nothing is.

        Raises PeerLostError when the connection ends inside a frame, WireError on a bad header, and OSError.
        """
        landing = self._landing
        if landing is None:
            got = self._channel.receive_into(self._views)
        else:
            with landing.lock:
                if landing.live:
                    got = self._channel.receive_into(self._views)
                    landing.got += min(got or 0, self._left)
                else:
                    got = -1
            if got == -1:
                self._landing = None
                self._views = [*trash_room(self._trash, self._left), self._head]
                return True
        if got is None:
            return False
        if got == 0:
            if self.inside_frame:
                raise PeerLostError("the connection ended inside a frame")
            self.ended = True
            return False
        self._take(got)
        return True

    def _take(self, got: int) -> None:
        if got < self._left:
            self._left -= got
            self._advance(got)
            return
        if self._header is not None:
            got -= self._left
            self._complete(self._header)
        self._filled += got
        if self._filled < HEADER_BYTES:
            self._views = [self._head[self._filled :]]
            return
        self._filled = 0
        header = unpack(self._head, max_payload_bytes=self._max_payload_bytes)
        views, self._landing = self.reader.begin(header)
        self._views = [*views, self._head]
        self._header, self._left = header, header.wire_bytes
        if not header.wire_bytes:
            self._complete(header)
            self._views = [self._head]

    def _complete(self, header: FrameHeader) -> None:
        self._header = self._landing = None
        self._left = 0
        self.reader.complete(header)

    def _advance(self, got: int) -> None:
        views = self._views
        full = 0
        while got >= views[full].nbytes:
            got -= views[full].nbytes
            full += 1
        del views[:full]
        views[0] = views[0][got:]
