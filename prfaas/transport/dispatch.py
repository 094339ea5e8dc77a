"""What goes next on a connection, chosen as late as possible: messages first, then objects in the queue's order.

Any thread may call it; it moves no bytes.
"""

from prfaas.core.errors import PrfaasError
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.book import Book
from prfaas.transport.delivery import Delivery, Lane, Message, Object, Sent
from prfaas.transport.outgoing import Payload
from prfaas.wire.header import FrameHeader, Kind
from prfaas.wire.sending import Encoded

MEAN_OF = 64
"""Objects, about, whose mean size is taken for that of those that wait."""


class Dispatch:
    """One per peer."""

    def __init__(self, book: Book, metrics: InstanceMetrics) -> None:
        self._book = book
        self._wire_metric = metrics.kv_bytes.labels("out", "wire")
        self._raw_metric = metrics.kv_bytes.labels("out", "raw")

    def take(self, lane: Lane) -> Message | Object | None:
        """What to send next on a connection that takes bytes; None: nothing now, and the lane is woken later."""
        with self._book.lock:
            work = None if lane.retiring else self._message(lane) or self._object(lane)
            if work is None and not lane.retiring:
                self._book.waiting[lane] = None
            else:
                self._book.pass_on()
            return work

    def made(self, lane: Lane, payload: Payload, wire_bytes: int, digest: int) -> FrameHeader | None:
        """The header for the object taken last; None if its transfer has ended meanwhile."""
        work = lane.work
        assert work is not None
        with self._book.lock:
            if work.delivery.ended:
                self._book.release(lane)
                header = None
            else:
                header = self._register(lane, work, Encoded(payload.codec, payload.raw_bytes, wire_bytes, digest))
        if header is None:
            self._book.report()
        else:
            self._wire_metric.inc(wire_bytes)
        return header

    def failed(self, lane: Lane, error: PrfaasError) -> None:
        """The payload of the object taken last cannot be made."""
        assert lane.work is not None
        with self._book.lock:
            self._book.end(lane.work.delivery, error, cancel=True)
            self._book.release(lane)
        self._book.report()

    def unsendable(self, message: Message, error: PrfaasError) -> None:
        """The message taken last cannot be sent, and so its transfer ends."""
        with self._book.lock:
            self._book.end(message.delivery, error, cancel=True)
        self._book.report()

    def sent(self, lane: Lane) -> None:
        """The object's frame has left, and its buffers are not read any more."""
        with self._book.lock:
            assert lane.work is not None
            lane.frames_sent += 1
            delivery = lane.work.delivery
            lane.work = None
            delivery.users -= 1
            self._book.finalise(delivery)
        self._book.report()

    def owed(self, lane: Lane) -> bool:
        """Whether the receiver owes this connection an answer."""
        with self._book.lock:
            return bool(lane.sent) or any(self._owed(delivery, lane) for delivery in self._book.live.values())

    def _owed(self, delivery: Delivery, lane: Lane) -> bool:
        # A manifest is answered once all objects are there, by whatever connection.
        complete = not delivery.session.num_queued and not self._book.flow.in_flight_bytes
        return delivery.open_lane is lane or (delivery.manifest_lane is lane and complete)

    def _message(self, lane: Lane) -> Message | None:
        while self._book.due:
            delivery = self._book.due.popleft()
            delivery.due = False
            session = delivery.session
            if delivery.ended:
                if delivery.cancel_due:
                    delivery.cancel_due = False
                    return Message(Kind.CANCEL, delivery, None)
            elif session.open_due and delivery.open_lane is None:
                delivery.open_lane = lane
                delivery.opened = True
                return Message(Kind.OPEN, delivery, session.opening)
            elif (manifest := session.manifest()) is not None:
                delivery.manifest_lane = lane
                return Message(Kind.MANIFEST, delivery, manifest)
        return None

    def _object(self, lane: Lane) -> Object | None:
        delivery = self._book.queue.first()
        now_s = self._book.clock()
        if delivery is None:
            self._book.flow.drained(now_s)
            return None
        if not self._book.flow.admits(self._book.frame_bytes):
            self._book.flow.hold(now_s)
            return None
        key = delivery.session.next()
        assert key is not None
        self._book.flow.reserve(self._book.frame_bytes, now_s)
        lane.reserved_bytes = self._book.frame_bytes
        delivery.users += 1
        lane.work = Object(delivery, key, delivery.sources[key])
        return lane.work

    def _register(self, lane: Lane, work: Object, encoded: Encoded) -> FrameHeader:
        delivery = work.delivery
        session = delivery.session
        if session.encoded(work.key) is None:
            self._raw_metric.inc(encoded.raw_bytes)
            self._book.mean_raw_bytes += (encoded.raw_bytes - self._book.mean_raw_bytes) / MEAN_OF
        attempt = session.sending(work.key, encoded)
        lane.sent.append(Sent(delivery, work.key, attempt, encoded.wire_bytes))
        self._book.unreserve(lane)
        self._book.flow.sent(encoded.wire_bytes, self._book.clock())
        if session.finished:
            self._book.notice(delivery)
        transfer_id, epoch = delivery.key
        return FrameHeader(
            Kind.OBJECT,
            transfer_id,
            epoch,
            work.key,
            encoded.codec,
            encoded.raw_bytes,
            encoded.wire_bytes,
            encoded.digest,
        )
