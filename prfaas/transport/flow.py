"""How much may be on its way to one receiver at once, and how that has gone. Knows neither frames nor sockets."""


class Flow:
    """Bytes in flight against the receiver's credit and our window; not thread-safe."""

    def __init__(self) -> None:
        self.credit_bytes = 0
        """0 until the receiver has welcomed us."""
        self.window_bytes = 1 << 62
        self.in_flight_bytes = 0
        self.acknowledged_bytes = 0
        self.busy_s = 0.0
        self.limited_s = 0.0
        self.unanswered_since_s: float | None = None
        """Since when the receiver owes an acknowledgement, of whatever connection."""
        self._reserved_bytes = 0
        self._limited = False
        self._now_s = 0.0

    @property
    def limit_bytes(self) -> int:
        return min(self.credit_bytes, self.window_bytes)

    def admits(self, most_bytes: int) -> bool:
        """Whether a payload of up to so many bytes may go now. One may always: else a small window ended all."""
        under_way = self.in_flight_bytes + self._reserved_bytes
        return under_way == 0 or under_way + most_bytes <= self.limit_bytes

    def reserve(self, most_bytes: int, now_s: float) -> None:
        """A payload of up to so many bytes is being made."""
        self.tick(now_s)
        self._limited = False
        self._reserved_bytes += most_bytes

    def unreserve(self, most_bytes: int) -> None:
        self._reserved_bytes -= most_bytes

    def hold(self, now_s: float) -> None:
        """An object waits, and the limit is why."""
        self.tick(now_s)
        self._limited = True

    def drained(self, now_s: float) -> None:
        """No object waits."""
        self.tick(now_s)
        self._limited = False

    def sent(self, wire_bytes: int, now_s: float) -> None:
        self.tick(now_s)
        self.in_flight_bytes += wire_bytes
        if self.unanswered_since_s is None:
            self.unanswered_since_s = now_s

    def acknowledged(self, wire_bytes: int, credit_bytes: int, now_s: float) -> None:
        self.tick(now_s)
        self.in_flight_bytes -= wire_bytes
        self.acknowledged_bytes += wire_bytes
        self.credit_bytes = credit_bytes
        self.unanswered_since_s = now_s if self.in_flight_bytes else None

    def lost(self, wire_bytes: int, now_s: float) -> None:
        """Of a connection that ended; what it carried is still owed an answer."""
        self.tick(now_s)
        self.in_flight_bytes -= wire_bytes

    def unanswered_s(self, now_s: float) -> float:
        """How long the receiver has owed an acknowledgement, of whatever connection."""
        return 0.0 if self.unanswered_since_s is None else now_s - self.unanswered_since_s

    def tick(self, now_s: float) -> None:
        """Counts the time that went by as what it was."""
        passed_s = now_s - self._now_s
        self._now_s = now_s
        if self.in_flight_bytes:
            self.busy_s += passed_s
        if self._limited:
            self.limited_s += passed_s
