"""A peer's transfers as their owners see them, and its connections as they come and go. Knows no sockets' states.

Any thread may call it; `on_done` is called outside its lock.
"""

from prfaas.core.errors import PeerLostError, PrfaasError, TicketError
from prfaas.transport.book import Book
from prfaas.transport.delivery import Delivery, Lane
from prfaas.transport.outgoing import OutgoingTransfer, Source
from prfaas.transport.snapshot import PeerSnapshot
from prfaas.wire.header import ObjectKey
from prfaas.wire.sending import Summary


class Ledger:
    """One per peer."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._order = 0

    @property
    def busy(self) -> bool:
        """A transfer has not ended, or its buffers are still read."""
        return bool(self._book.live)

    @property
    def lanes(self) -> tuple[Lane, ...]:
        with self._book.lock:
            return tuple(self._book.lanes)

    def add(self, transfer: OutgoingTransfer) -> PrfaasError | None:
        """Takes a transfer on; or says why not."""
        with self._book.lock:
            if transfer.key in self._book.live:
                return TicketError("a transfer with this ticket is under way already")
            if not self._book.live and not self._book.flow.in_flight_bytes:
                self._book.flow.unanswered_since_s = None
            self._order += 1
            delivery = self._book.live[transfer.key] = Delivery(transfer, self._order)
            self._book.notice(delivery)
        return None

    def withdraw(self, transfer: OutgoingTransfer) -> None:
        """Takes back what was just added; its end is not reported."""
        with self._book.lock:
            self._book.live.pop(transfer.key).ended = True

    def send(self, transfer: OutgoingTransfer, key: ObjectKey, source: Source) -> None:
        """Queues an object; nothing if the transfer has ended."""
        with self._book.lock:
            if (delivery := self._book.of(transfer)) is not None:
                delivery.sources[key] = source
                delivery.session.add(key)
                self._book.offer(delivery)

    def finish(self, transfer: OutgoingTransfer, summary: Summary) -> None:
        """All objects have been queued; nothing if the transfer has ended."""
        with self._book.lock:
            if (delivery := self._book.of(transfer)) is not None:
                delivery.session.finish(summary)
                self._book.notice(delivery)
                self._book.offer(delivery)

    def abandon(self, transfer: OutgoingTransfer, error: PrfaasError) -> None:
        """Gives a transfer up, and tells the receiver, if it knows of it."""
        with self._book.lock:
            if (delivery := self._book.of(transfer)) is not None:
                self._book.end(delivery, error, cancel=True)
        self._book.report()

    def fail_all(self, error: PrfaasError) -> None:
        """The receiver cannot be reached: every transfer ends."""
        with self._book.lock:
            for delivery in list(self._book.live.values()):
                self._book.end(delivery, error, cancel=False)
            self._book.due.clear()
        self._book.report()

    def join(self, lane: Lane, credit_bytes: int) -> None:
        """A connection was welcomed."""
        with self._book.lock:
            self._book.lanes.add(lane)
            self._book.flow.credit_bytes = credit_bytes

    def leave(self, lane: Lane, stalled: PrfaasError | None) -> None:
        """A connection has ended, and nothing reads buffers for it any more. What it carried is asked about by
        another; when it had `stalled`, openings that it left unanswered fail."""
        with self._book.lock:
            self._book.lanes.discard(lane)
            self._book.waiting.pop(lane, None)
            now_s = self._book.clock()
            for sent in lane.sent:
                sent.delivery.session.lost(sent.key, sent.attempt)
                self._book.flow.lost(sent.wire_bytes, now_s)
            lane.sent.clear()
            if lane.work is not None:
                if lane.reserved_bytes:
                    self._book.end(lane.work.delivery, PeerLostError("an object could not be made ready"), cancel=True)
                self._book.release(lane)
            for delivery in list(self._book.live.values()):
                self._missing(delivery, lane, stalled)
            if not self._book.live:
                # Nobody connects again for the sake of a CANCEL: the receiver's own deadline frees what it holds.
                self._book.due.clear()
            self._book.pass_on()
        self._book.report()

    def _missing(self, delivery: Delivery, lane: Lane, stalled: PrfaasError | None) -> None:
        if delivery.open_lane is lane:
            delivery.open_lane = None
            if stalled is not None:
                self._book.end(delivery, stalled, cancel=True)
        elif delivery.open_lane is not None:
            delivery.ask_again = True
        if delivery.manifest_lane is lane:
            delivery.manifest_lane = None
            delivery.session.manifest_lost()
        if delivery.session.manifest_sent or not self._book.lanes:
            # The answer may have been on its way, or the receiver may be a new one.
            delivery.session.ask()
        self._book.notice(delivery)

    def retire(self, lane: Lane) -> None:
        """The connection takes nothing new; its thread ends it when all is acknowledged."""
        with self._book.lock:
            lane.retiring = True
            self._book.waiting.pop(lane, None)
            lane.wake()

    def set_window(self, window_bytes: int) -> None:
        with self._book.lock:
            self._book.flow.window_bytes = window_bytes
            self._book.pass_on()

    def unanswered_for_s(self) -> float:
        """How long the receiver has owed an acknowledgement, of whatever connection."""
        with self._book.lock:
            return self._book.flow.unanswered_s(self._book.clock())

    def snapshot(self, proxied: bool, connect_rtt_s: float | None, target_streams: int) -> PeerSnapshot:
        """Counters for those who measure the link."""
        with self._book.lock:
            flow = self._book.flow
            flow.tick(self._book.clock())
            num_queued = sum(delivery.session.num_queued for delivery in self._book.live.values())
            return PeerSnapshot(
                sockets=tuple(lane.sock for lane in self._book.lanes),
                proxied=proxied,
                queued_bytes=int(num_queued * self._book.mean_raw_bytes),
                in_flight_bytes=flow.in_flight_bytes,
                acknowledged_bytes=flow.acknowledged_bytes,
                busy_s=flow.busy_s,
                window_limited_s=flow.limited_s,
                connect_rtt_s=connect_rtt_s,
                target_streams=target_streams,
                window_bytes=flow.window_bytes,
                credit_bytes=flow.credit_bytes,
            )
