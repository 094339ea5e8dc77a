"""When may a chunk leave the link, and when does it arrive: the pure half of the relay.

Knows no sockets and reads no clock: time is an argument, in seconds of any monotonic clock.
"""

import math
from collections import deque
from random import Random

import msgspec

from prfaas.core.errors import ConfigError
from prfaas.relay.bit_flips import BitFlips

MAX_CHUNK_BYTES = 64 * 1024
MIN_CHUNK_BYTES = 4 * 1024
MIN_BUDGET_BYTES = 256 * 1024
TICK_S = 0.001
"""Resolution of an event loop's timers: chunks are delivered up to this much late, never early."""

_MAX_GBIT_S = 10_000.0
_MAX_DELAY_MS = 60_000.0
_MAX_RESET_S = 1e6
_MAX_FLIPS_PER_GB = 1e6


class LinkProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the link is like: the rate of each direction, and the delay of a round trip.

    `jitter_ms` is added to each chunk's one-way delay, drawn uniformly from [0, jitter_ms]; order within a connection
    is kept. `reset_every_s` > 0 resets every connection that many seconds after it was opened. `flip_bits_per_gb` turns
    over so many single bits per 10⁹ bytes of either direction, at random. While `stalled` the link delivers nothing and
    refuses nothing: connections stay, new ones get no answer, and neither end learns what becomes of the other.

    Raises:
        ConfigError: a value is out of range; the message lists every one.
    """

    gbit_s: float
    rtt_ms: float
    jitter_ms: float = 0.0
    reset_every_s: float = 0.0
    flip_bits_per_gb: float = 0.0
    stalled: bool = False

    def __post_init__(self) -> None:
        faults = [
            f"{name} is {value}; it must be {rule}"
            for name, value, valid, rule in (
                ("gbit_s", self.gbit_s, 0 < self.gbit_s <= _MAX_GBIT_S, f"above 0 and at most {_MAX_GBIT_S:g}"),
                ("rtt_ms", self.rtt_ms, 0 <= self.rtt_ms <= _MAX_DELAY_MS, f"from 0 to {_MAX_DELAY_MS:g}"),
                ("jitter_ms", self.jitter_ms, 0 <= self.jitter_ms <= _MAX_DELAY_MS, f"from 0 to {_MAX_DELAY_MS:g}"),
                (
                    "reset_every_s",
                    self.reset_every_s,
                    0 <= self.reset_every_s <= _MAX_RESET_S,
                    f"0 (never) or up to {_MAX_RESET_S:g}",
                ),
                (
                    "flip_bits_per_gb",
                    self.flip_bits_per_gb,
                    0 <= self.flip_bits_per_gb <= _MAX_FLIPS_PER_GB,
                    f"from 0 to {_MAX_FLIPS_PER_GB:g}",
                ),
            )
            if not valid
        ]
        if faults:
            raise ConfigError("link profile: " + ", ".join(faults))

    @property
    def bytes_s(self) -> float:
        return self.gbit_s * 1e9 / 8

    @property
    def budget_bytes(self) -> int:
        """Bytes one connection may have inside the relay in one direction: enough to fill the link alone, twice."""
        delay_s = (self.rtt_ms / 2 + self.jitter_ms) / 1e3 + TICK_S
        return max(MIN_BUDGET_BYTES, math.ceil(2 * self.bytes_s * delay_s))

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one read: about a tick's worth, so that a slow link is shared finely and flows smoothly."""
        return int(min(max(self.bytes_s * TICK_S, MIN_CHUNK_BYTES), MAX_CHUNK_BYTES))


class RateLimiter:
    """A serial line: one chunk at a time, each taking size / rate."""

    def __init__(self, bytes_s: float) -> None:
        self.bytes_s = bytes_s
        self._free_at_s = -math.inf

    def depart_s(self, now_s: float, size_bytes: int) -> float:
        """When the last byte of a chunk handed over at `now_s` has left; the line is taken until then."""
        self._free_at_s = max(now_s, self._free_at_s) + size_bytes / self.bytes_s
        return self._free_at_s


class OneWay:
    """One direction of the link, shared by all connections: their common rate limiter, the delay behind it, its faults.

    A new profile holds for chunks handed over from then on; what is already scheduled keeps its time.
    """

    def __init__(self, profile: LinkProfile, rng: Random) -> None:
        self._limiter = RateLimiter(profile.bytes_s)
        self._rng = rng
        self.flips = BitFlips(profile.flip_bits_per_gb, rng)
        self.carried_bytes = 0
        self.bulk_flows = 0
        self.apply(profile)

    def apply(self, profile: LinkProfile) -> None:
        self._limiter.bytes_s = profile.bytes_s
        self._delay_s = profile.rtt_ms / 2e3
        self._jitter_s = profile.jitter_ms / 1e3
        self._budget_bytes = profile.budget_bytes
        self.chunk_bytes = profile.chunk_bytes
        self.stalled = profile.stalled
        self.flips.set_rate(profile.flip_bits_per_gb)

    @property
    def budget_bytes(self) -> int:
        """A connection's budget now. Bulk flows divide it: each holding twice what fills the link would be a standing
        queue of seconds in front of everybody's small messages, and a real router has no such buffer."""
        return max(MIN_BUDGET_BYTES, self._budget_bytes // max(1, self.bulk_flows))

    def latency_s(self) -> float:
        """The delay of one packet without payload: half a round trip, and its draw of jitter."""
        return self._delay_s + (self._rng.uniform(0.0, self._jitter_s) if self._jitter_s else 0.0)

    def arrive_s(self, now_s: float, size_bytes: int) -> float:
        """When a chunk handed over at `now_s` reaches the far end; takes the line for as long as it needs."""
        return self._limiter.depart_s(now_s, size_bytes) + self.latency_s()


class DelayLine:
    """The chunks of one connection on their way in one direction, in order. An empty chunk is its end of stream."""

    def __init__(self, path: OneWay) -> None:
        self._path = path
        self._chunks: deque[tuple[float, bytes]] = deque()
        self._last_arrival_s = -math.inf
        self.queued_bytes = 0

    def push(self, chunk: bytes, now_s: float) -> None:
        # A later chunk with less jitter waits for the earlier one: TCP would hold it back too.
        self._last_arrival_s = max(self._last_arrival_s, self._path.arrive_s(now_s, len(chunk)))
        self._chunks.append((self._last_arrival_s, chunk))
        self.queued_bytes += len(chunk)

    def pop(self, now_s: float) -> bytes | None:
        """The next chunk that has arrived by `now_s`, or None."""
        if not self._chunks or self._chunks[0][0] > now_s:
            return None
        _, chunk = self._chunks.popleft()
        self.queued_bytes -= len(chunk)
        return chunk

    def next_arrival_s(self) -> float | None:
        return self._chunks[0][0] if self._chunks else None

    def clear(self) -> None:
        self._chunks.clear()
        self.queued_bytes = 0
