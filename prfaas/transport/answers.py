"""What a receiver has to tell one sender, and how much of it the connection has taken."""

from collections import deque
from collections.abc import Iterator

from prfaas.core.clock import Clock
from prfaas.core.errors import PeerLostError
from prfaas.transport.channel import Channel
from prfaas.transport.tombstones import TransferKey


class Answers:
    """Whole frames in order; used by the connection's thread alone."""

    def __init__(self, clock: Clock, stall_s: float) -> None:
        self._clock = clock
        self._stall_s = stall_s
        self._frames: deque[tuple[bytes, TransferKey | None]] = deque()
        self._sent = 0
        self._moved_s = 0.0
        self.num_bytes = 0
        """Left to send."""

    def add(self, frame: bytes, *, outcome: TransferKey | None = None) -> None:
        """`outcome`: the transfer that ended, if the frame says how: the sender must learn that by another connection
        if this one is lost."""
        if not self._frames:
            self._moved_s = self._clock()
        self._frames.append((frame, outcome))
        self.num_bytes += len(frame)

    def flush(self, channel: Channel) -> None:
        """Sends what the connection takes. Raises OSError, and PeerLostError if it took nothing for `stall_s`."""
        while self._frames:
            views = [memoryview(frame) for frame, _ in self._frames]
            views[0] = views[0][self._sent :]
            sent = channel.send(views)
            if sent == 0:
                if self._clock() - self._moved_s > self._stall_s:
                    raise PeerLostError(f"the sender has read no answer for {self._stall_s:g} s")
                return
            self._moved_s = self._clock()
            self.num_bytes -= sent
            self._sent += sent
            while self._frames and self._sent >= len(self._frames[0][0]):
                self._sent -= len(self._frames.popleft()[0])

    def unsent_outcomes(self) -> Iterator[tuple[TransferKey, bytes]]:
        """Of transfers whose end the connection has not wholly taken."""
        return ((outcome, frame) for frame, outcome in self._frames if outcome is not None)
