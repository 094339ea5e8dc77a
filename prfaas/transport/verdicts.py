"""What a receiver's answers mean for the transfers. Knows no frames and no sockets; any thread may call it."""

from prfaas.core.errors import WireError, from_code
from prfaas.core.ids import TransferId
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.book import Book
from prfaas.transport.delivery import Lane
from prfaas.wire import messages
from prfaas.wire.header import ObjectKey

Ticket = tuple[TransferId, int]
"""Transfer and epoch."""


class Verdicts:
    """One per peer."""

    def __init__(self, book: Book, metrics: InstanceMetrics) -> None:
        self._book = book
        self._resent_metric = metrics.kv_resent

    def acknowledged(self, lane: Lane, ack: messages.Ack) -> None:
        """Raises WireError when the receiver counts frames that it was not sent."""
        with self._book.lock:
            self._book.answers += 1
            count = ack.frames - lane.frames_acknowledged
            if not 0 <= count <= lane.frames_sent - lane.frames_acknowledged:
                raise WireError(f"an ACK of {ack.frames} frames where {lane.frames_sent} were sent")
            lane.frames_acknowledged = ack.frames
            wire_bytes = 0
            for _ in range(count):
                sent = lane.sent.popleft()
                sent.delivery.session.delivered(sent.key, sent.attempt)
                wire_bytes += sent.wire_bytes
            self._book.flow.acknowledged(wire_bytes, ack.credit_bytes, self._book.clock())
            self._book.pass_on()

    def doubt(self, lane: Lane, since_s: float, stall_s: float) -> list[Lane] | None:
        """What to end with a connection that is owed an answer and silent: those that carry nothing, and have been
        silent since then too.

        None: it is not to end yet, because new ones were as silent as that, or answer all but what matters.
        """
        with self._book.lock:
            unanswered_s = self._book.flow.unanswered_s(self._book.clock())
            if self._book.doubted_at == self._book.answers or unanswered_s >= stall_s:
                return None
            self._book.doubted_at = self._book.answers
            idle = [other for other in self._book.lanes if other is not lane and other.work is None]
            return [other for other in idle if other.moved_s <= since_s]

    def corrupt(self, lane: Lane, transfer: Ticket, key: ObjectKey) -> None:
        """An object arrived corrupt by this connection. Raises WireError when it was not sent."""
        with self._book.lock:
            self._book.answers += 1
            # An earlier sending of it that is unacknowledged too had a RESEND of its own, which led to the last one.
            for sent in reversed(lane.sent):
                if sent.key == key and sent.delivery.key == transfer:
                    break
            else:
                raise WireError(f"a RESEND of {key}, which is not under way on this connection")
            self._resent_metric.labels("corrupt").inc(sent.delivery.session.corrupt(sent.key, sent.attempt))
            self._book.offer(sent.delivery)

    def accepted(self, transfer: Ticket, message: messages.Accepted) -> None:
        with self._book.lock:
            self._book.answers += 1
            delivery = self._book.live.get(transfer)
            if delivery is None or delivery.ended:
                return
            delivery.open_lane = None
            if delivery.ask_again:
                # A connection was lost after that OPEN had gone: the answer may not know what it brought or took.
                delivery.session.ask()
                delivery.ask_again = False
            else:
                self._resent_metric.labels("lost").inc(delivery.session.accepted(message.received))
            self._book.notice(delivery)
            self._book.offer(delivery)

    def committed(self, transfer: Ticket) -> None:
        """Raises WireError when the receiver cannot have committed."""
        with self._book.lock:
            self._book.answers += 1
            if (delivery := self._book.live.get(transfer)) is not None and not delivery.ended:
                if not delivery.session.manifest_sent:
                    raise WireError("the receiver claims to have committed what it was never sent")
                self._book.end(delivery, None, cancel=False)
        self._book.report()

    def rejected(self, transfer: Ticket, message: messages.Rejected) -> None:
        with self._book.lock:
            self._book.answers += 1
            if (delivery := self._book.live.get(transfer)) is not None:
                self._book.end(delivery, from_code(message.code, message.message), cancel=False)
        self._book.report()
