"""All transfers to one receiver: what goes next on which connection, and what became of what went.

Any thread may call it. It moves no bytes and knows no sockets' states; `on_done` is called outside its lock.
"""

import logging
import threading
from collections import deque

from prfaas.core.clock import Clock
from prfaas.core.errors import PeerLostError, PrfaasError, TicketError, WireError, from_code
from prfaas.core.ids import TransferId
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.delivery import Delivery, Lane, Message, Object, Sent
from prfaas.transport.flow import Flow
from prfaas.transport.outgoing import OutgoingTransfer, Payload, Source
from prfaas.transport.send_queue import SendQueue
from prfaas.transport.snapshot import PeerSnapshot
from prfaas.wire import messages
from prfaas.wire.header import FrameHeader, Kind, ObjectKey
from prfaas.wire.sending import Encoded, Summary

log = logging.getLogger(__name__)

MEAN_OF = 64
"""Objects, about, whose mean size is taken for that of those that wait."""


class Ledger:
    """One per peer."""

    def __init__(self, frame_bytes: int, metrics: InstanceMetrics, clock: Clock) -> None:
        self.flow = Flow()
        self.answers = 0
        """Frames from the receiver that moved a transfer, ever."""
        self._frame_bytes = frame_bytes
        self._clock = clock
        self._wire_metric = metrics.kv_bytes.labels("out", "wire")
        self._raw_metric = metrics.kv_bytes.labels("out", "raw")
        self._resent_metric = metrics.kv_resent
        self._lock = threading.Lock()
        self._live: dict[tuple[TransferId, int], Delivery] = {}
        self._order = 0
        self._mean_raw_bytes = float(frame_bytes)
        self._due: deque[Delivery] = deque()
        self._queue = SendQueue()
        self._lanes: set[Lane] = set()
        self._waiting: dict[Lane, None] = {}
        self._ended: deque[Delivery] = deque()

    @property
    def busy(self) -> bool:
        """A transfer has not ended, or its buffers are still read."""
        return bool(self._live)

    @property
    def lanes(self) -> tuple[Lane, ...]:
        with self._lock:
            return tuple(self._lanes)

    def add(self, transfer: OutgoingTransfer) -> PrfaasError | None:
        """Takes a transfer on; or says why not."""
        with self._lock:
            if transfer.key in self._live:
                return TicketError("a transfer with this ticket is under way already")
            if not self._live and not self.flow.in_flight_bytes:
                self.flow.unanswered_since_s = None
            self._order += 1
            delivery = self._live[transfer.key] = Delivery(transfer, self._order)
            self._notice(delivery)
        return None

    def send(self, transfer: OutgoingTransfer, key: ObjectKey, source: Source) -> None:
        """Queues an object; nothing if the transfer has ended."""
        with self._lock:
            if (delivery := self._of(transfer)) is not None:
                delivery.sources[key] = source
                delivery.session.add(key)
                self._offer(delivery)

    def finish(self, transfer: OutgoingTransfer, summary: Summary) -> None:
        """All objects have been queued; nothing if the transfer has ended."""
        with self._lock:
            if (delivery := self._of(transfer)) is not None:
                delivery.session.finish(summary)
                self._notice(delivery)
                self._offer(delivery)

    def abandon(self, transfer: OutgoingTransfer, error: PrfaasError) -> None:
        """Gives a transfer up, and tells the receiver, if it knows of it."""
        with self._lock:
            if (delivery := self._of(transfer)) is not None:
                self._end(delivery, error, cancel=True)
        self._report()

    def fail_all(self, error: PrfaasError) -> None:
        """The receiver cannot be reached: every transfer ends."""
        with self._lock:
            for delivery in list(self._live.values()):
                self._end(delivery, error, cancel=False)
            self._due.clear()
        self._report()

    def join(self, lane: Lane, credit_bytes: int) -> None:
        """A connection was welcomed."""
        with self._lock:
            self._lanes.add(lane)
            self.flow.credit_bytes = credit_bytes

    def leave(self, lane: Lane, stalled: PrfaasError | None) -> None:
        """A connection has ended, and nothing reads buffers for it any more. What it carried is asked about by
        another; when it had `stalled`, openings that it left unanswered fail."""
        with self._lock:
            self._lanes.discard(lane)
            self._waiting.pop(lane, None)
            now_s = self._clock()
            for sent in lane.sent:
                sent.delivery.session.lost(sent.key, sent.attempt)
                self.flow.lost(sent.wire_bytes, now_s)
            lane.sent.clear()
            if lane.work is not None:
                if lane.reserved_bytes:
                    self._end(lane.work.delivery, PeerLostError("an object could not be made ready"), cancel=True)
                self._release(lane)
            for delivery in list(self._live.values()):
                self._missing(delivery, lane, stalled)
            if not self._live:
                # Nobody connects again for the sake of a CANCEL: the receiver's own deadline frees what it holds.
                self._due.clear()
            self._pass_on()
        self._report()

    def _missing(self, delivery: Delivery, lane: Lane, stalled: PrfaasError | None) -> None:
        if delivery.open_lane is lane:
            delivery.open_lane = None
            if stalled is not None:
                self._end(delivery, stalled, cancel=True)
        elif delivery.open_lane is not None:
            delivery.ask_again = True
        if delivery.manifest_lane is lane:
            delivery.manifest_lane = None
            delivery.session.manifest_lost()
        if delivery.session.manifest_sent or not self._lanes:
            # The answer may have been on its way, or the receiver may be a new one.
            delivery.session.ask()
        self._notice(delivery)

    def retire(self, lane: Lane) -> None:
        """The connection takes nothing new; its thread ends it when all is acknowledged."""
        with self._lock:
            lane.retiring = True
            self._waiting.pop(lane, None)
            lane.wake()

    def owed(self, lane: Lane) -> bool:
        """Whether the receiver owes this connection an answer."""
        with self._lock:
            return bool(lane.sent) or any(delivery.open_lane is lane for delivery in self._live.values())

    def take(self, lane: Lane) -> Message | Object | None:
        """What to send next on a connection that takes bytes; None: nothing now, and the lane is woken later."""
        with self._lock:
            work = None if lane.retiring else self._message(lane) or self._object(lane)
            if work is None and not lane.retiring:
                self._waiting[lane] = None
            else:
                self._pass_on()
            return work

    def made(self, lane: Lane, payload: Payload, wire_bytes: int, digest: int) -> FrameHeader | None:
        """The header for the object taken last; None if its transfer has ended meanwhile."""
        work = lane.work
        assert work is not None
        with self._lock:
            if work.delivery.ended:
                self._release(lane)
                header = None
            else:
                header = self._register(lane, work, Encoded(payload.codec, payload.raw_bytes, wire_bytes, digest))
        if header is None:
            self._report()
        else:
            self._wire_metric.inc(wire_bytes)
        return header

    def _register(self, lane: Lane, work: Object, encoded: Encoded) -> FrameHeader:
        delivery = work.delivery
        session = delivery.session
        if session.encoded(work.key) is None:
            self._raw_metric.inc(encoded.raw_bytes)
            self._mean_raw_bytes += (encoded.raw_bytes - self._mean_raw_bytes) / MEAN_OF
        attempt = session.sending(work.key, encoded)
        lane.sent.append(Sent(delivery, work.key, attempt, encoded.wire_bytes))
        self._unreserve(lane)
        self.flow.sent(encoded.wire_bytes, self._clock())
        if session.finished:
            self._notice(delivery)
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

    def failed(self, lane: Lane, error: PrfaasError) -> None:
        """The payload of the object taken last cannot be made."""
        assert lane.work is not None
        with self._lock:
            self._end(lane.work.delivery, error, cancel=True)
            self._release(lane)
        self._report()

    def sent(self, lane: Lane) -> None:
        """The object's frame has left, and its buffers are not read any more."""
        with self._lock:
            assert lane.work is not None
            lane.frames_sent += 1
            delivery = lane.work.delivery
            lane.work = None
            delivery.users -= 1
            self._finalise(delivery)
        if self._ended:
            self._report()

    def acknowledged(self, lane: Lane, ack: messages.Ack) -> None:
        """Raises WireError when the receiver counts frames that it was not sent."""
        with self._lock:
            self.answers += 1
            count = ack.frames - lane.frames_acknowledged
            if not 0 <= count <= lane.frames_sent - lane.frames_acknowledged:
                raise WireError(f"an ACK of {ack.frames} frames where {lane.frames_sent} were sent")
            lane.frames_acknowledged = ack.frames
            wire_bytes = 0
            for _ in range(count):
                sent = lane.sent.popleft()
                sent.delivery.session.delivered(sent.key, sent.attempt)
                wire_bytes += sent.wire_bytes
            self.flow.acknowledged(wire_bytes, ack.credit_bytes, self._clock())
            self._pass_on()

    def corrupt(self, lane: Lane, transfer: tuple[TransferId, int], key: ObjectKey) -> None:
        """An object arrived corrupt by this connection. Raises WireError when it was not sent."""
        with self._lock:
            self.answers += 1
            for sent in lane.sent:
                if sent.key == key and sent.delivery.key == transfer:
                    break
            else:
                raise WireError(f"a RESEND of {key}, which is not under way on this connection")
            self._resent_metric.labels("corrupt").inc(sent.delivery.session.corrupt(sent.key, sent.attempt))
            self._offer(sent.delivery)

    def accepted(self, transfer: tuple[TransferId, int], message: messages.Accepted) -> None:
        with self._lock:
            self.answers += 1
            delivery = self._live.get(transfer)
            if delivery is None or delivery.ended:
                return
            delivery.open_lane = None
            if delivery.ask_again:
                # A connection was lost after that OPEN had gone: the answer may not know what it brought or took.
                delivery.session.ask()
                delivery.ask_again = False
            else:
                self._resent_metric.labels("lost").inc(delivery.session.accepted(message.received))
            self._notice(delivery)
            self._offer(delivery)

    def committed(self, transfer: tuple[TransferId, int]) -> None:
        """Raises WireError when the receiver cannot have committed."""
        with self._lock:
            self.answers += 1
            if (delivery := self._live.get(transfer)) is not None and not delivery.ended:
                if not delivery.session.manifest_sent:
                    raise WireError("the receiver claims to have committed what it was never sent")
                self._end(delivery, None, cancel=False)
        self._report()

    def rejected(self, transfer: tuple[TransferId, int], message: messages.Rejected) -> None:
        with self._lock:
            self.answers += 1
            if (delivery := self._live.get(transfer)) is not None:
                self._end(delivery, from_code(message.code, message.message), cancel=False)
        self._report()

    def set_window(self, window_bytes: int) -> None:
        with self._lock:
            self.flow.window_bytes = window_bytes
            self._pass_on()

    def unanswered_for_s(self) -> float:
        """How long the receiver has owed an acknowledgement, of whatever connection."""
        with self._lock:
            since_s = self.flow.unanswered_since_s
            return 0.0 if since_s is None else self._clock() - since_s

    def snapshot(self, proxied: bool, connect_rtt_s: float | None, target_streams: int) -> PeerSnapshot:
        """Counters for those who measure the link."""
        with self._lock:
            flow = self.flow
            flow.tick(self._clock())
            num_queued = sum(delivery.session.num_queued for delivery in self._live.values())
            return PeerSnapshot(
                sockets=tuple(lane.sock for lane in self._lanes),
                proxied=proxied,
                queued_bytes=int(num_queued * self._mean_raw_bytes),
                in_flight_bytes=flow.in_flight_bytes,
                acknowledged_bytes=flow.acknowledged_bytes,
                busy_s=flow.busy_s,
                window_limited_s=flow.limited_s,
                connect_rtt_s=connect_rtt_s,
                target_streams=target_streams,
                window_bytes=flow.window_bytes,
                credit_bytes=flow.credit_bytes,
            )

    def _of(self, transfer: OutgoingTransfer) -> Delivery | None:
        delivery = self._live.get(transfer.key)
        return delivery if delivery is not None and delivery.transfer is transfer and not delivery.ended else None

    def _message(self, lane: Lane) -> Message | None:
        while self._due:
            delivery = self._due.popleft()
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
        delivery = self._queue.first()
        now_s = self._clock()
        if delivery is None:
            self.flow.drained(now_s)
            return None
        if not self.flow.admits(self._frame_bytes):
            self.flow.hold(now_s)
            return None
        key = delivery.session.next()
        assert key is not None
        self.flow.reserve(self._frame_bytes, now_s)
        lane.reserved_bytes = self._frame_bytes
        delivery.users += 1
        lane.work = Object(delivery, key, delivery.sources[key])
        return lane.work

    def _release(self, lane: Lane) -> None:
        """The work of a lane goes no further."""
        work, lane.work = lane.work, None
        assert work is not None
        self._unreserve(lane)
        work.delivery.users -= 1
        self._finalise(work.delivery)

    def _unreserve(self, lane: Lane) -> None:
        self.flow.unreserve(lane.reserved_bytes)
        lane.reserved_bytes = 0

    def _notice(self, delivery: Delivery) -> None:
        if not delivery.due:
            delivery.due = True
            self._due.append(delivery)
        self._pass_on()

    def _offer(self, delivery: Delivery) -> None:
        self._queue.offer(delivery)
        self._pass_on()

    def _pass_on(self) -> None:
        """Wakes one connection if there may be something for it; that one wakes the next."""
        if not self._waiting:
            return
        if self._due or (self._queue.first() is not None and self.flow.admits(self._frame_bytes)):
            lane, _ = self._waiting.popitem()
            lane.wake()

    def _end(self, delivery: Delivery, error: PrfaasError | None, *, cancel: bool) -> None:
        if delivery.ended:
            return
        delivery.ended = True
        delivery.error = error
        delivery.session.end()
        if cancel and delivery.opened:
            delivery.cancel_due = True
            self._notice(delivery)
        self._finalise(delivery)

    def _finalise(self, delivery: Delivery) -> None:
        if delivery.ended and not delivery.users and self._live.get(delivery.key) is delivery:
            del self._live[delivery.key]
            delivery.sources.clear()
            self._ended.append(delivery)

    def _report(self) -> None:
        while True:
            try:
                delivery = self._ended.popleft()
            except IndexError:
                return
            try:
                delivery.transfer.on_done(delivery.error)
            except Exception:  # the edge to whoever waits: its fault must not end a connection
                log.exception("the end of transfer %s could not be reported", delivery.key[0].hex())
