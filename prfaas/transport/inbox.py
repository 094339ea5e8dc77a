"""Transfers that this instance waits for, and how their bytes reach reserved memory.

A transfer is fenced by a lock: after `abort` returned, no byte of it can be placed any more, so its pages may be freed.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from prfaas.core.clock import Clock
from prfaas.core.errors import PrfaasError, TicketError
from prfaas.core.ids import TransferId
from prfaas.wire.header import FrameHeader, ObjectKey
from prfaas.wire.messages import Manifest, Open
from prfaas.wire.session import ReceiveSession


class Destination(Protocol):
    """Reserved memory of one request."""

    def place(self, key: ObjectKey, payload: memoryview) -> None:
        """Copies the verified bytes of one object, in canonical order, to where the model reads them."""
        ...


@dataclass(frozen=True, slots=True)
class Received:
    """A committed transfer."""

    manifest: Manifest
    bytes_raw: int
    bytes_wire: int
    transfer_s: float
    """First object seen to commit; 0 where there was nothing to send."""


Outcome = Received | PrfaasError
OnDone = Callable[[Outcome], None]
"""Called once, on the thread that ended the transfer; it must not block."""


class IncomingTransfer:
    """One ticket's life on the receiving side."""

    def __init__(self, session: ReceiveSession, destination: Destination, on_done: OnDone, clock: Clock) -> None:
        self._lock = threading.Lock()
        self._session = session
        self._destination = destination
        self._on_done = on_done
        self._clock = clock
        self._first_object_s: float | None = None
        self._ended = False
        self.objects_placed = 0
        """Grows with every verified object; a watcher tells progress from a stall by it."""

    def open(self, message: Open) -> None:
        with self._lock:
            self._session.open(message)

    def admit(self, header: FrameHeader) -> None:
        """Raises what the session raises, before the payload is even read."""
        with self._lock:
            if self._first_object_s is None:
                self._first_object_s = self._clock()
            self._session.admit(header)

    def place(self, header: FrameHeader, payload: memoryview) -> Received | None:
        """Places a verified payload; the result if that completed the transfer."""
        with self._lock:
            # The transfer may have been aborted, or the same object placed, while the payload was on its way.
            self._session.admit(header)
            self._destination.place(header.key, payload)
            self._session.placed(header)
            self.objects_placed += 1
            return self._try_commit()

    def manifest(self, manifest: Manifest) -> Received | None:
        """Takes the manifest; the result if everything in it has arrived already."""
        with self._lock:
            self._session.manifest(manifest)
            return self._try_commit()

    def fail(self, error: PrfaasError) -> None:
        """Ends the transfer unless it has ended; nothing is placed afterwards."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self._session.fail()
        self._on_done(error)

    def _try_commit(self) -> Received | None:
        manifest = self._session.commit()
        if manifest is None or self._ended:
            return None
        self._ended = True
        started = self._first_object_s
        transfer_s = 0.0 if started is None else self._clock() - started
        received = Received(manifest, self._session.bytes_raw, self._session.bytes_wire, transfer_s)
        self._on_done(received)
        return received


class Inbox:
    """Open transfers by (id, epoch)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._transfers: dict[tuple[TransferId, int], IncomingTransfer] = {}

    def __len__(self) -> int:
        return len(self._transfers)

    def expect(
        self, transfer_id: TransferId, epoch: int, session: ReceiveSession, destination: Destination, on_done: OnDone
    ) -> IncomingTransfer:
        """Registers a ticket, before it is handed out."""
        transfer = IncomingTransfer(session, destination, on_done, self._clock)
        with self._lock:
            self._transfers[transfer_id, epoch] = transfer
        return transfer

    def find(self, transfer_id: TransferId, epoch: int) -> IncomingTransfer:
        """Raises TicketError for a transfer that nobody here waits for (any more)."""
        with self._lock:
            transfer = self._transfers.get((transfer_id, epoch))
        if transfer is None:
            raise TicketError(f"no transfer {transfer_id.hex()} of epoch {epoch} is expected here")
        return transfer

    def close(self, transfer_id: TransferId, epoch: int, error: PrfaasError) -> None:
        """Forgets a transfer; if it has not ended it ends with `error`. Safe to call at any time, twice too."""
        with self._lock:
            transfer = self._transfers.pop((transfer_id, epoch), None)
        if transfer is not None:
            transfer.fail(error)
