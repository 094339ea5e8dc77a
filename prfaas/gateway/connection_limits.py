"""What the connection of one client may hold, and for how long."""

from dataclasses import dataclass

from prfaas.config.sections import RouterSection


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Those of the fleet file, and those that nobody needs to change."""

    max_connections: int
    head_timeout_s: float
    """From its first byte to its last."""
    idle_timeout_s: float
    stalled_s: float = 60.0
    """In which a client must take `min_progress_bytes` of an answer that waits for it."""
    min_progress_bytes: int = 16 << 10
    rest_s: float = 5.0
    """For a body that nobody reads any more, and for last bytes: closing at once would destroy the answer."""
    farewell_s: float = 1.0
    """For one connection too many to read why it is refused."""
    max_head_bytes: int = 64 << 10
    max_pipelined: int = 16
    """Requests that a client may send ahead of their answers."""

    @classmethod
    def of(cls, section: RouterSection) -> "ConnectionLimits":
        """As the fleet file says."""
        return cls(section.max_connections, section.head_timeout_s, section.idle_timeout_s)
