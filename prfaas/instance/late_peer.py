"""A transfer that is opened with its first object, since it may have none. Knows no connections."""

from collections.abc import Callable
from typing import Protocol

from prfaas.core.errors import PrfaasError
from prfaas.transport.outgoing import OutgoingTransfer, Source
from prfaas.transport.peer import Peer
from prfaas.wire.header import ObjectKey
from prfaas.wire.sending import Summary


class Way(Protocol):
    """What an export needs of a peer."""

    def send(self, transfer: OutgoingTransfer, key: ObjectKey, source: Source) -> None:
        """An object is ready to go."""
        ...

    def finish(self, transfer: OutgoingTransfer, summary: Summary) -> None:
        """All objects have been sent."""
        ...

    def abandon(self, transfer: OutgoingTransfer, error: PrfaasError) -> None:
        """Gives the transfer up."""
        ...


class LatePeer:
    """Of one transfer. One that is given up before it has begun is not heard of by the receiver's data plane, so that
    the reason, which comes by the call, is the first that it hears."""

    def __init__(self, start: Callable[[], Peer]) -> None:
        """`start` opens the transfer."""
        self._start = start
        self._peer: Peer | None = None
        self._over = False

    def send(self, transfer: OutgoingTransfer, key: ObjectKey, source: Source) -> None:
        """As `Peer.send`."""
        if peer := self._started():
            peer.send(transfer, key, source)

    def finish(self, transfer: OutgoingTransfer, summary: Summary) -> None:
        """As `Peer.finish`."""
        if peer := self._started():
            peer.finish(transfer, summary)

    def abandon(self, transfer: OutgoingTransfer, error: PrfaasError) -> None:
        """As `Peer.abandon`."""
        if self._peer is not None:
            self._peer.abandon(transfer, error)
        elif not self._over:
            self._over = True
            transfer.on_done(error)

    def _started(self) -> Peer | None:
        if self._peer is None and not self._over:
            self._peer = self._start()
        return self._peer
