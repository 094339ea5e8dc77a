"""How long it takes until what is in flight has been acknowledged. Knows neither a clock nor what is concluded."""

from dataclasses import dataclass, replace

from prfaas.transport.link_sample import LinkSample

LEAST_S = 0.25
"""What came back sooner fits into one or two samples: it cannot be told how soon it really was."""
ROUND_TRIPS = 4.0
"""What is in flight comes back within one, if nothing holds it up."""


@dataclass(frozen=True, slots=True)
class Turnover:
    """Successive samples, until as much has been acknowledged as was in flight."""

    ahead_bytes: int = 0
    """In flight before the first sample: part of it had crossed by then."""
    due_bytes: int = 0
    """Acknowledged, and all that was in flight has come back; what was sent later may be among it."""
    acknowledged_bytes: int = 0
    in_flight_bytes: int = 0
    """After the last sample."""
    busy_s: float = 0.0
    held_s: float = 0.0
    """Busy time in which what is due was in flight from beginning to end."""
    limited: bool = True
    """Each sample was at the limit of the link."""
    rtt_s: float = 0.0
    """The shortest that is known; 0 where none is."""

    @classmethod
    def after(cls, in_flight_bytes: int) -> "Turnover":
        """The one that begins where another ended."""
        return cls(ahead_bytes=in_flight_bytes, due_bytes=in_flight_bytes, in_flight_bytes=in_flight_bytes)

    def plus(self, sample: LinkSample) -> "Turnover":
        acknowledged_bytes = self.acknowledged_bytes + sample.acknowledged_bytes
        fresh = not self.due_bytes
        return replace(
            self,
            # What went out in the course of the first sample is due with all that did.
            due_bytes=acknowledged_bytes + sample.in_flight_bytes if fresh else self.due_bytes,
            acknowledged_bytes=acknowledged_bytes,
            in_flight_bytes=sample.in_flight_bytes,
            busy_s=self.busy_s + sample.busy_s,
            held_s=0.0 if fresh else self.held_s + sample.busy_s,
            limited=self.limited and sample.link_limited,
            rtt_s=sample.min_rtt_s or sample.rtt_s or 0.0,
        )

    @property
    def complete(self) -> bool:
        return self.acknowledged_bytes >= self.due_bytes

    @property
    def slow(self) -> bool:
        """It takes so long that the way holds it up, and not whoever makes the bytes: all had been handed over."""
        return self.held_s >= max(LEAST_S, ROUND_TRIPS * self.rtt_s)

    @property
    def crossing_s(self) -> float:
        """Time in which bytes came through: where none were ahead, the first came a round trip later."""
        return self.busy_s - self.rtt_s if self.slow and not self.ahead_bytes else self.busy_s

    @property
    def most_bytes_s(self) -> float:
        """What the way carried at most: all that is in flight may be about to be acknowledged."""
        return (self.acknowledged_bytes + self.in_flight_bytes) / self.crossing_s
