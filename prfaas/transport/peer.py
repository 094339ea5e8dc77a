"""The connections to one receiver, shared by all transfers to it: how many there are, and when they are given up."""

import logging
import secrets
import threading

from prfaas.config.sections import TransportSection
from prfaas.control.credentials import Credentials
from prfaas.core.clock import Clock
from prfaas.core.errors import CancelledError, PeerLostError, PeerRefusedError, PrfaasError
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.book import Book
from prfaas.transport.caller import Caller
from prfaas.transport.channel import Channel
from prfaas.transport.connect import choose_congestion_control
from prfaas.transport.delivery import Lane
from prfaas.transport.dispatch import Dispatch
from prfaas.transport.frame_reader import FrameReader
from prfaas.transport.ledger import Ledger
from prfaas.transport.outgoing import OutgoingTransfer, Source
from prfaas.transport.send_conversation import Conversation, StalledError
from prfaas.transport.snapshot import PeerSnapshot
from prfaas.transport.stream import Stream
from prfaas.transport.verdicts import Verdicts
from prfaas.wire import messages
from prfaas.wire.header import VERSION, Digest, ObjectKey
from prfaas.wire.sending import Summary

log = logging.getLogger(__name__)

RETRY_AFTER_S = 1.0
"""After a failed connect further transfers fail at once for so long, rather than each wait for a timeout of its own."""

SHUT_DOWN = "this instance is shutting down"
SHORTEST_TRY_S = 0.05


class Peer:
    """A session with one receiver. One connection is made first; the others when that one is welcome."""

    def __init__(
        self,
        address: str,
        proxy: str | None,
        cluster: str,
        caller: Caller,
        config: TransportSection,
        credentials: Credentials | None,
        metrics: InstanceMetrics,
        clock: Clock,
        digest: Digest,
    ) -> None:
        self.address = address
        self.cluster = cluster
        """Of the receiver."""
        self.congestion_control = None if config.congestion_control == "auto" else config.congestion_control
        self._proxy = proxy
        self._hello = messages.Hello((VERSION,), caller.instance_id, caller.cluster, secrets.token_bytes(16))
        self._config = config
        self._credentials = credentials
        self._metrics = metrics
        self._clock = clock
        self._digest = digest
        self._book = Book(config.frame_bytes, clock)
        self._ledger = Ledger(self._book)
        self._dispatch = Dispatch(self._book, metrics)
        self._verdicts = Verdicts(self._book, metrics)
        self._lock = threading.Lock()
        self._streams: dict[Stream, Lane | None] = {}
        self._target = config.min_streams
        self._most = config.max_streams
        """As the receiver says."""
        self._rtt_s: float | None = None
        self._welcomed = False
        self._outage_s: float | None = None
        self._outage_answers = 0
        self._lost_ones = 0
        self._unreachable: tuple[float, PrfaasError] | None = None
        self._closing = False

    @property
    def idle(self) -> bool:
        """Not connected, and nothing to send: what a peer that has gone leaves behind."""
        return not self._streams and not self._ledger.busy

    def bytes_acknowledged(self) -> int:
        """Payload bytes that the receiver has acknowledged, ever."""
        return self._book.flow.acknowledged_bytes

    def start(self, transfer: OutgoingTransfer) -> PrfaasError | None:
        """Takes a transfer on, or says why not; `on_done` is then the caller's to call."""
        with self._lock:
            refusal = self._refusal() or self._ledger.add(transfer)
            if refusal is None:
                self._staff()
                if not self._streams:
                    self._ledger.withdraw(transfer)
                    refusal = PeerLostError(f"no data connection to {self.address}: this process is out of resources")
        return refusal

    def send(self, transfer: OutgoingTransfer, key: ObjectKey, source: Source) -> None:
        """Queues one object."""
        self._ledger.send(transfer, key, source)

    def finish(self, transfer: OutgoingTransfer, summary: Summary) -> None:
        """All objects have been queued; the manifest goes as soon as each has its digest."""
        self._ledger.finish(transfer, summary)

    def abandon(self, transfer: OutgoingTransfer, error: PrfaasError) -> None:
        """Gives a transfer up: `on_done(error)` comes as soon as no thread uses its buffers any more."""
        self._ledger.abandon(transfer, error)

    def set_streams(self, count: int) -> None:
        """How many connections there should be, within what configuration and receiver allow."""
        with self._lock:
            self._target = max(1, min(count, self._config.max_streams))
            lanes = [lane for lane in self._streams.values() if lane is not None and not lane.retiring]
            for lane in lanes[min(self._target, self._most) :]:
                self._ledger.retire(lane)
            self._staff()

    def set_window(self, window_bytes: int) -> None:
        """Payload bytes that may be unacknowledged; the receiver's credit is another bound."""
        self._ledger.set_window(window_bytes)

    def set_congestion_control(self, name: str) -> None:
        """Of the present connections and of later ones."""
        self.congestion_control = name
        for lane in self._ledger.lanes:
            choose_congestion_control(lane.sock, name)

    def snapshot(self) -> PeerSnapshot:
        """Counters for those who measure the link."""
        with self._lock:
            target = min(self._target, self._most)
        return self._ledger.snapshot(self._proxy is not None, self._rtt_s, target)

    def close(self) -> None:
        """Ends the connections and their threads; transfers still running end with CancelledError."""
        with self._lock:
            self._closing = True
            streams = list(self._streams)
        self._ledger.fail_all(CancelledError(SHUT_DOWN))
        for stream in streams:
            stream.stop()
        for stream in streams:
            stream.join()

    def patience_s(self) -> float:
        """How long the next attempt to connect may take: an outage is not endured for longer than `stall_s`."""
        with self._lock:
            if self._outage_s is None:
                return self._config.connect_timeout_s
            left_s = self._outage_s + self._config.stall_s - self._clock()
        return max(SHORTEST_TRY_S, min(left_s, self._config.connect_timeout_s))

    def welcomed(self, stream: Stream, lane: Lane, welcome: messages.Welcome, rtt_s: float) -> None:
        """A connection is up, and with the first one the session."""
        with self._lock:
            self._streams[stream] = lane
            self._most = welcome.max_streams
            self._rtt_s = rtt_s if self._rtt_s is None else min(rtt_s, self._rtt_s)
            self._welcomed = True
            self._unreachable = None
            self._metrics.connections.labels("out").inc()
            if self._lost_ones:
                self._lost_ones -= 1
                self._metrics.kv_reconnects.inc()
            self._ledger.join(lane, welcome.credit_bytes)
            self._staff()

    def conversation(
        self, channel: Channel, reader: FrameReader, lane: Lane, wakeup: int, welcome: messages.Welcome
    ) -> Conversation:
        """What is said on a connection that is up."""
        return Conversation(
            channel,
            reader,
            lane,
            self._dispatch,
            self._verdicts,
            wakeup,
            welcome.max_frame_bytes,
            self._config,
            self._clock,
            self._digest,
        )

    def left(self, lane: Lane, stalled: PrfaasError | None) -> None:
        """Nothing reads buffers for a connection any more; it may have ended since it `stalled`."""
        self._ledger.leave(lane, stalled)

    def lost(self, stream: Stream, error: PrfaasError | None) -> bool:
        """Decides what becomes of a stream whose connection is gone, and of the transfers; False: it must end."""
        with self._lock:
            failure, again = self._judge(stream, error)
            if not again:
                del self._streams[stream]
        if failure is not None:
            self._ledger.fail_all(failure)
        return again

    def _judge(self, stream: Stream, error: PrfaasError | None) -> tuple[PrfaasError | None, bool]:
        """What all transfers fail with, if they do, and whether the stream tries again."""
        had_lane = self._streams[stream] is not None
        self._streams[stream] = None
        connected = sum(lane is not None for lane in self._streams.values())
        if had_lane:
            self._metrics.connections.labels("out").dec()
        if error is None or self._closing:
            return None, False
        log.warning("a data connection to %s is gone, %d are left: %s", self.address, connected, error)
        self._lost_ones += had_lane
        if isinstance(error, StalledError) and self._ledger.unanswered_for_s() >= self._config.stall_s:
            if not connected:
                self._give_up(error)
            return error, False
        if not connected:
            return self._outage(error)
        if not had_lane and isinstance(error, PeerRefusedError):
            self._most = connected
        return None, self._ledger.busy and len(self._streams) <= self._wanted(connected)

    def _outage(self, error: PrfaasError) -> tuple[PrfaasError | None, bool]:
        now_s = self._clock()
        if self._outage_s is None or self._book.answers != self._outage_answers:
            self._outage_s, self._outage_answers = now_s, self._book.answers
        if len(self._streams) > 1 or not self._ledger.busy:
            # One of the others goes on trying, or there is nothing to try for.
            return None, False
        over = now_s - self._outage_s >= self._config.stall_s
        if self._welcomed and not over and not isinstance(error, PeerRefusedError):
            return None, True
        self._give_up(error)
        return error, False

    def _give_up(self, error: PrfaasError) -> None:
        self._welcomed = False
        self._outage_s = None
        self._unreachable = self._clock(), error

    def _wanted(self, connected: int) -> int:
        return min(self._target, self._most) if connected else 1

    def _refusal(self) -> PrfaasError | None:
        if self._closing:
            return CancelledError(SHUT_DOWN)
        if self._unreachable is not None and self._clock() - self._unreachable[0] < RETRY_AFTER_S:
            return self._unreachable[1]
        return None

    def _staff(self) -> None:
        """Starts the streams that are missing."""
        connected = sum(lane is not None and not lane.retiring for lane in self._streams.values())
        retiring = sum(lane is not None and lane.retiring for lane in self._streams.values())
        while not self._closing and self._ledger.busy and len(self._streams) - retiring < self._wanted(connected):
            try:
                stream = Stream(
                    self,
                    self.address,
                    self._proxy,
                    self._hello,
                    self._config,
                    self._credentials,
                    self._clock,
                )
                stream.start()
            except (RuntimeError, OSError) as error:
                log.warning("no further data connection to %s: %s", self.address, error)
                return
            self._streams[stream] = None
