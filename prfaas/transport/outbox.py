"""All peers that an instance sends KV to, each with one long-lived connection."""

import threading

from prfaas.config.sections import TransportSection
from prfaas.core.clock import Clock
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.outgoing import OutgoingTransfer
from prfaas.transport.peer import Peer
from prfaas.wire import messages


class Outbox:
    """All peers that this instance sends KV to."""

    def __init__(self, hello: messages.Hello, config: TransportSection, metrics: InstanceMetrics, clock: Clock) -> None:
        self._hello = hello
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self._lock = threading.Lock()
        self._peers: dict[tuple[str, str | None], Peer] = {}

    def bytes_acknowledged(self) -> int:
        """By all present peers together."""
        return sum(peer.bytes_acknowledged() for peer in list(self._peers.values()))

    def start(self, address: str, proxy: str | None, transfer: OutgoingTransfer) -> Peer:
        """Opens a transfer over the connection to `address`, which is made at its first transfer and kept."""
        with self._lock:
            peer = self._peers.get((address, proxy))
            if peer is None:
                self._drop_idle()
                peer = Peer(address, proxy, self._hello, self._config, self._metrics, self._clock)
                self._peers[address, proxy] = peer
            # Under the lock, so that a peer that looks idle is not dropped with this transfer in hand.
            peer.start(transfer)
            return peer

    def close(self) -> None:
        """Ends all connections; it waits for their threads."""
        with self._lock:
            peers = list(self._peers.values())
            self._peers.clear()
        for peer in peers:
            peer.close()

    def _drop_idle(self) -> None:
        """Instances come back with new addresses; threads for the old ones must not pile up."""
        for key in [key for key, peer in self._peers.items() if peer.idle]:
            self._peers.pop(key).close()
