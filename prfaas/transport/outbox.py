"""All peers that an instance sends KV to, each with a few long-lived connections."""

import threading

from prfaas.config.sections import TransportSection
from prfaas.control.credentials import Credentials
from prfaas.core.clock import Clock
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.caller import Caller
from prfaas.transport.outgoing import OutgoingTransfer
from prfaas.transport.peer import Peer
from prfaas.wire.header import Digest, payload_digest


class Outbox:
    """All peers that this instance sends KV to."""

    def __init__(
        self,
        identity: Caller,
        config: TransportSection,
        credentials: Credentials | None,
        metrics: InstanceMetrics,
        clock: Clock,
        digest: Digest = payload_digest,
    ) -> None:
        """`digest`: of objects; a faster one than ours is welcome."""
        self._identity = identity
        self._config = config
        self._credentials = credentials
        self._metrics = metrics
        self._clock = clock
        self._digest = digest
        self._lock = threading.Lock()
        self._peers: dict[tuple[str, str | None], Peer] = {}
        self._acknowledged_bytes = 0
        """By peers that are no more."""

    def bytes_acknowledged(self) -> int:
        """By all receivers together, ever; it grows while anything moves."""
        with self._lock:
            return self._acknowledged_bytes + sum(peer.bytes_acknowledged() for peer in self._peers.values())

    def peers(self) -> list[Peer]:
        """The present ones."""
        with self._lock:
            return list(self._peers.values())

    def start(self, address: str, proxy: str | None, cluster: str, transfer: OutgoingTransfer) -> Peer:
        """Opens a transfer over the connections to `address`, which are made at its first transfer and kept."""
        with self._lock:
            dropped = self._drop_idle(but=(address, proxy))
            peer = self._peers.get((address, proxy))
            if peer is None:
                peer = Peer(
                    address,
                    proxy,
                    cluster,
                    self._identity,
                    self._config,
                    self._credentials,
                    self._metrics,
                    self._clock,
                    self._digest,
                )
                self._peers[address, proxy] = peer
            # Under the lock, so that a peer that looks idle is not dropped with this transfer in hand.
            refusal = peer.start(transfer)
        for old in dropped:
            old.close()
        if refusal is not None:
            transfer.on_done(refusal)
        return peer

    def close(self) -> None:
        """Ends all connections; it waits for their threads."""
        with self._lock:
            peers = list(self._peers.values())
            self._peers.clear()
        for peer in peers:
            peer.close()

    def _drop_idle(self, but: tuple[str, str | None]) -> list[Peer]:
        """Instances come back with new addresses; what is kept for the old ones must not pile up."""
        idle = [key for key, peer in self._peers.items() if peer.idle and key != but]
        self._acknowledged_bytes += sum(self._peers[key].bytes_acknowledged() for key in idle)
        return [self._peers.pop(key) for key in idle]
