"""Which bits of a stream a faulty link turns over. Knows no sockets; draws come from the caller's `Random`."""

import math
from random import Random

_BITS_PER_BYTE = 8


class BitFlips:
    """Single bits at random places, so many per 10⁹ bytes on average: what TCP's checksum lets through."""

    def __init__(self, per_gb: float, rng: Random) -> None:
        self._rng = rng
        self._per_gb = per_gb
        self._clean_bytes = self._draw()
        self.flipped = 0

    def set_rate(self, per_gb: float) -> None:
        """Holds for bytes from now on."""
        if per_gb != self._per_gb:
            self._per_gb = per_gb
            self._clean_bytes = self._draw()

    def apply(self, chunk: bytes) -> bytes:
        """The chunk as the link delivers it; itself if none of its bits is turned over."""
        size = len(chunk)
        if self._clean_bytes >= size:
            self._clean_bytes -= size
            return chunk
        damaged, at = bytearray(chunk), self._clean_bytes
        while at < size:
            damaged[int(at)] ^= 1 << self._rng.randrange(_BITS_PER_BYTE)
            self.flipped += 1
            at += 1 + self._draw()
        self._clean_bytes = at - size
        return bytes(damaged)

    def _draw(self) -> float:
        """Bytes until the next flip."""
        return self._rng.expovariate(self._per_gb / 1e9) if self._per_gb else math.inf
