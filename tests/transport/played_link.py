"""A link that a test plays: bytes go in, are carried in order at its rate, and are acknowledged a round trip later."""

from collections import deque

from prfaas.transport.link_sample import LinkSample

INTERVAL_S = 0.15


class PlayedLink:
    """Everything that is sent fits the window; the receiver acknowledges whole frames."""

    def __init__(self, bytes_s: float, rtt_s: float, frame_bytes: int) -> None:
        self.bytes_s = bytes_s
        self._rtt_s, self._frame_bytes = rtt_s, frame_bytes
        self._now_s = self._free_s = 0.0
        self._due: deque[tuple[float, int]] = deque()
        self._in_flight = 0

    def send(self, num_bytes: int) -> None:
        """Hands an object over, at once and whole."""
        self._in_flight += num_bytes
        self._free_s = max(self._free_s, self._now_s)
        for first in range(0, num_bytes, self._frame_bytes):
            frame = min(self._frame_bytes, num_bytes - first)
            self._free_s += frame / self.bytes_s
            self._due.append((self._free_s + self._rtt_s, frame))

    def lose(self) -> None:
        """The connection ends with what it carries."""
        self._due.clear()
        self._in_flight, self._free_s = 0, self._now_s

    def sample(self) -> LinkSample:
        """What happens in the next interval."""
        before_s, self._now_s = self._now_s, self._now_s + INTERVAL_S
        acknowledged, ended_s = 0, before_s
        while self._due and self._due[0][0] <= self._now_s:
            ended_s, frame = self._due.popleft()
            acknowledged += frame
        self._in_flight -= acknowledged
        busy_s = (self._now_s if self._due else max(ended_s, before_s)) - before_s
        return LinkSample(
            INTERVAL_S, acknowledged, busy_s, False, False, 0, self._in_flight, 4, 8 << 20, min_rtt_s=self._rtt_s
        )
