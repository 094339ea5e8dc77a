"""One frame at a time onto a channel that takes as much of it as it can. Knows nothing of transfers."""

from collections.abc import Sequence

from prfaas.transport.channel import Channel
from prfaas.wire.header import FrameHeader


class FrameWriter:
    """Keeps what the channel has not taken yet; the views must stay as they are until then."""

    def __init__(self) -> None:
        self._views: list[memoryview] = []

    @property
    def busy(self) -> bool:
        """A part of the frame has still to go."""
        return bool(self._views)

    def start(self, header: FrameHeader, parts: Sequence[memoryview]) -> None:
        """The next frame; before it `busy` is false."""
        assert not self._views, "a frame is under way"
        self._views = [memoryview(header.pack()), *(part for part in parts if part.nbytes)]

    def send(self, channel: Channel) -> int:
        """Bytes that the channel took, until it takes no more or the frame is out. Raises OSError."""
        total = 0
        while self._views and (sent := channel.send(self._views)):
            total += sent
            self._advance(sent)
        return total

    def _advance(self, sent: int) -> None:
        views = self._views
        done = 0
        while done < len(views) and sent >= views[done].nbytes:
            sent -= views[done].nbytes
            done += 1
        del views[:done]
        if sent:
            views[0] = views[0].cast("B")[sent:]
