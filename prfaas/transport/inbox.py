"""Transfers that this instance waits for, by their tickets; committed ones are remembered for a while."""

import threading
from collections import OrderedDict

from prfaas.core.clock import Clock
from prfaas.core.errors import PrfaasError, TicketError
from prfaas.core.ids import TransferId
from prfaas.transport.incoming import Destination, IncomingTransfer, OnDone, Opener, Outcome, Received
from prfaas.transport.tombstones import Tombstone, Tombstones, TransferKey
from prfaas.wire.messages import Open, RowRange
from prfaas.wire.receiving import ReceiveSession

__all__ = ["Destination", "Inbox", "IncomingTransfer", "OnDone", "Outcome", "Received"]


REMEMBERED_FAILURES = 4096


class Inbox:
    """Open transfers by (id, epoch)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._transfers: dict[TransferKey, IncomingTransfer] = {}
        self._tombstones = Tombstones()
        self._failures: OrderedDict[TransferKey, PrfaasError] = OrderedDict()

    def __len__(self) -> int:
        return len(self._transfers)

    def expect(
        self, transfer_id: TransferId, epoch: int, session: ReceiveSession, destination: Destination, on_done: OnDone
    ) -> IncomingTransfer:
        """Registers a ticket, before it is handed out."""
        key = (transfer_id, epoch)
        transfer = IncomingTransfer(key, session, destination, on_done, self._committed, self._clock)
        with self._lock:
            self._transfers[key] = transfer
        return transfer

    def open(self, key: TransferKey, message: Open, opener: Opener) -> tuple[RowRange, ...] | None:
        """The rows that need not be sent; None if the transfer has been committed.

        Raises TicketError for a transfer that nobody here waits for (any more), and what `ReceiveSession.open` raises.
        """
        with self._lock:
            transfer = self._transfers.get(key)
            if transfer is None:
                if self._tombstones.asked(key, message.secret):
                    return None
                raise TicketError(f"no transfer {key[0].hex()} of epoch {key[1]} is expected here")
        return transfer.open(message, opener)

    def opened(self, key: TransferKey, session: bytes) -> IncomingTransfer | None:
        """A transfer that the session has opened and that is not over."""
        transfer = self._transfers.get(key)
        return transfer if transfer is not None and transfer.opened_by(session) else None

    def committed(self, key: TransferKey, session: bytes) -> bool:
        """Whether a transfer that the session had opened was committed."""
        with self._lock:
            return self._tombstones.committed(key, session)

    def fail(self, key: TransferKey, error: PrfaasError, *, by: bytes | None = None) -> None:
        """Ends a transfer; `by`: the session that needs not be told."""
        transfer = self._transfers.get(key)
        if transfer is not None:
            transfer.fail(error, by=by)

    def close(self, transfer_id: TransferId, epoch: int, error: PrfaasError) -> None:
        """Forgets a transfer; if it has not ended it ends with `error`. Safe to call at any time, twice too.

        No byte is written into the transfer's pages after this returned, although its connections live on.
        """
        key = (transfer_id, epoch)
        with self._lock:
            transfer = self._transfers.pop(key, None)
            if transfer is None:
                return
            self._failures[key] = transfer.error or error
            if len(self._failures) > REMEMBERED_FAILURES:
                self._failures.popitem(last=False)
        transfer.fail(error)

    def refusal(self, key: TransferKey) -> PrfaasError:
        """Why nothing more is taken of a transfer that is not open."""
        with self._lock:
            failure = self._failures.get(key)
        return failure or TicketError(f"no transfer {key[0].hex()} of epoch {key[1]} is open here")

    def _committed(self, key: TransferKey, stone: Tombstone) -> None:
        with self._lock:
            self._transfers.pop(key, None)
            self._tombstones.add(key, stone)
