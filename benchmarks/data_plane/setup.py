"""What is measured: a peer, its memory, and the network between its two ends."""

from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.data_plane.memory import PROMPT_TOKENS, SHAPE

Peer = Literal["plain", "iperf3", "raw", "checked", "mtls", "mooncake", "nixl"]
OURS: tuple[Peer, ...] = ("raw", "checked", "mtls")
Network = Literal["machine", "own", "wan"]
"""This machine's loopback; one of its own, which has its own congestion control; two ends of a link."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Both ends' processes get it."""

    peer: Peer
    control: str
    streams: int
    network: Network = "machine"
    tokens: int = PROMPT_TOKENS
    proxy: str | None = None
    """CONNECT proxy that ours goes through."""
    gb_s: float | None = None
    """Prompts are handed over no faster than this; None: as fast as they go. For ours."""
    python: str | None = None
    """Interpreter that has the peers which are not ours."""

    def of(self, peer: Peer) -> "Setup":
        """The same for another peer."""
        return replace(self, peer=peer)

    @property
    def prompt_bytes(self) -> int:
        return SHAPE.cache_bytes(self.tokens)
