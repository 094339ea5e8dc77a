"""What a peer's connections share: transfers, who waits for what, what is in flight. Under one lock.

It moves no bytes and knows no sockets' states. Whoever calls it holds `lock`, but for `report`.
"""

import logging
import threading
from collections import deque

from prfaas.core.clock import Clock
from prfaas.core.errors import PrfaasError
from prfaas.core.ids import TransferId
from prfaas.transport.delivery import Delivery, Lane
from prfaas.transport.flow import Flow
from prfaas.transport.outgoing import OutgoingTransfer
from prfaas.transport.send_queue import SendQueue

log = logging.getLogger(__name__)


class Book:
    """One per peer; `Ledger`, `Dispatch` and `Verdicts` are what callers, connections and the receiver do to it."""

    def __init__(self, frame_bytes: int, clock: Clock) -> None:
        self.lock = threading.Lock()
        self.clock = clock
        self.frame_bytes = frame_bytes
        self.flow = Flow()
        self.answers = 0
        """Frames from the receiver that moved a transfer, ever."""
        self.doubted_at = -1
        """That count when a connection was last given up because it was silent."""
        self.mean_raw_bytes = float(frame_bytes)
        """Of the last objects, about, before encoding."""
        self.live: dict[tuple[TransferId, int], Delivery] = {}
        self.due: deque[Delivery] = deque()
        """Those of which a message may have to go."""
        self.queue = SendQueue()
        self.lanes: set[Lane] = set()
        self.waiting: dict[Lane, None] = {}
        """Those that could send, and found nothing."""
        self._ended: deque[Delivery] = deque()

    def of(self, transfer: OutgoingTransfer) -> Delivery | None:
        delivery = self.live.get(transfer.key)
        return delivery if delivery is not None and delivery.transfer is transfer and not delivery.ended else None

    def notice(self, delivery: Delivery) -> None:
        if not delivery.due:
            delivery.due = True
            self.due.append(delivery)
        self.pass_on()

    def offer(self, delivery: Delivery) -> None:
        self.queue.offer(delivery)
        self.pass_on()

    def pass_on(self) -> None:
        """Wakes one connection if there may be something for it; that one wakes the next."""
        if not self.waiting:
            return
        if self.due or (self.queue.first() is not None and self.flow.admits(self.frame_bytes)):
            lane, _ = self.waiting.popitem()
            lane.wake()

    def release(self, lane: Lane) -> None:
        """The work of a lane goes no further."""
        work, lane.work = lane.work, None
        assert work is not None
        self.unreserve(lane)
        work.delivery.users -= 1
        self.finalise(work.delivery)

    def unreserve(self, lane: Lane) -> None:
        self.flow.unreserve(lane.reserved_bytes)
        lane.reserved_bytes = 0

    def end(self, delivery: Delivery, error: PrfaasError | None, *, cancel: bool) -> None:
        if delivery.ended:
            return
        delivery.ended = True
        delivery.error = error
        delivery.session.end()
        if cancel and delivery.opened:
            delivery.cancel_due = True
            self.notice(delivery)
        self.finalise(delivery)

    def finalise(self, delivery: Delivery) -> None:
        if delivery.ended and not delivery.users and self.live.get(delivery.key) is delivery:
            del self.live[delivery.key]
            delivery.sources.clear()
            self._ended.append(delivery)

    def report(self) -> None:
        while True:
            try:
                delivery = self._ended.popleft()
            except IndexError:
                return
            try:
                delivery.transfer.on_done(delivery.error)
            except Exception:  # the edge to whoever waits: its fault must not end a connection
                log.exception("the end of transfer %s could not be reported", delivery.key[0].hex())
