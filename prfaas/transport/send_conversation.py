"""One welcomed connection on the sending side: frames out as the channel takes them, answers in.

One thread runs it, and that one alone uses the channel. What to send `Dispatch` says, as late as possible.
"""

import logging
import mmap
import os
import select

from prfaas.config.sections import TransportSection
from prfaas.core.clock import Clock
from prfaas.core.errors import ManifestError, PeerLostError, PrfaasError, TransferError, WireError, from_code
from prfaas.transport.channel import Channel
from prfaas.transport.connect import unacknowledged_bytes, wake
from prfaas.transport.delivery import Lane, Message, Object
from prfaas.transport.dispatch import Dispatch
from prfaas.transport.frame_reader import FrameReader
from prfaas.transport.frame_writer import FrameWriter
from prfaas.transport.framing import message_header
from prfaas.transport.verdicts import Verdicts
from prfaas.wire import messages
from prfaas.wire.header import NO_TRANSFER, Digest, FrameHeader, Kind

log = logging.getLogger(__name__)

FRAMES_AT_ONCE = 4
"""Sent while the channel takes them, before answers are looked for again."""

CHECKS = 4
"""In the time after which a connection without progress is given up."""
DOUBT = 0.5
"""Of that time: a connection may be dead, and the receiver not, so that there is time to try another."""


class StalledError(PeerLostError):
    """The receiver owes an answer, and nothing has moved for too long."""


class Conversation:
    """Ends by returning when its lane retires, else by an error."""

    def __init__(
        self,
        channel: Channel,
        reader: FrameReader,
        lane: Lane,
        dispatch: Dispatch,
        verdicts: Verdicts,
        wakeup: int,
        max_payload_bytes: int,
        config: TransportSection,
        clock: Clock,
        digest: Digest,
    ) -> None:
        self._channel = channel
        self._reader = reader
        self._writer = FrameWriter()
        self._lane = lane
        self._dispatch = dispatch
        self._verdicts = verdicts
        self._wakeup = wakeup
        self._max_payload_bytes = max_payload_bytes
        self._stall_s = config.stall_s
        self._clock = clock
        self._digest = digest
        # Of the system and not of the heap: pages that no codec ever writes to are never there.
        self._staging = memoryview(mmap.mmap(-1, config.frame_bytes))
        self._hopeful = True
        self._moved_s = lane.moved_s = clock()
        self._checked_s = self._moved_s
        self._unacknowledged_bytes = 0

    def run(self) -> None:
        """Raises PrfaasError or OSError when the connection is no more."""
        poller = select.poll()
        fd = self._channel.fileno()
        poller.register(self._wakeup, select.POLLIN)
        poller.register(fd, select.POLLIN)
        mask = select.POLLIN
        while not self._over():
            if (wanted := self._mask()) != mask:
                poller.modify(fd, mask := wanted)
            events = dict(poller.poll(self._patience_ms()))
            if self._wakeup in events:
                os.eventfd_read(self._wakeup)
                self._hopeful = True
            if events.get(fd, 0) & ~select.POLLOUT or self._channel.pending:
                self._read()
            if events.get(fd, 0) & select.POLLOUT:
                for _ in range(FRAMES_AT_ONCE):
                    self._write()
                    if self._writer.busy or not self._hopeful:
                        break
            self._check_stalled()

    def _over(self) -> bool:
        return self._lane.retiring and not self._writer.busy and not self._dispatch.owed(self._lane)

    def _mask(self) -> int:
        wants = self._writer.busy or self._hopeful
        return select.POLLIN | (select.POLLOUT if wants else 0)

    def _patience_ms(self) -> float | None:
        if self._channel.pending:
            return 0
        if self._hopeful or self._writer.busy or self._lane.sent or self._dispatch.owed(self._lane):
            return self._stall_s * 1000 / CHECKS
        # Nothing is owed; from when something is, progress will be measured.
        self._moved_s = self._clock()
        return None

    def _check_stalled(self) -> None:
        now_s = self._clock()
        if now_s - self._checked_s < self._stall_s / CHECKS:
            return
        self._checked_s = now_s
        left_bytes = unacknowledged_bytes(self._channel.sock)
        if left_bytes < self._unacknowledged_bytes:
            self._moved()
        elif not (self._writer.busy or self._dispatch.owed(self._lane)):
            self._moved_s = now_s
        self._unacknowledged_bytes = left_bytes
        silent_s = now_s - self._moved_s
        if silent_s >= DOUBT * self._stall_s:
            self._give_up(silent_s)

    def _give_up(self, silent_s: float) -> None:
        silence = f"{self._channel.peer} took and acknowledged nothing for {silent_s:.1f} s"
        if silent_s >= self._stall_s:
            raise StalledError(silence)
        # Answers to what went by others before may have come a little later than what this one is owed was sent.
        since_s = self._moved_s + self._stall_s / CHECKS
        others = self._verdicts.doubt(self._lane, since_s, self._stall_s)
        if others is not None:
            for other in others:
                wake(other.sock)
            raise PeerLostError(silence)

    def _moved(self) -> None:
        self._moved_s = self._lane.moved_s = self._clock()

    def _write(self) -> None:
        if not self._writer.busy and not self._begin():
            self._hopeful = False
            return
        try:
            sent_bytes = self._writer.send(self._channel)
        except OSError:
            # Why the receiver hung up may stand among its last answers.
            self._read()
            raise
        if sent_bytes:
            self._moved()
        if not self._writer.busy and self._lane.work is not None:
            self._dispatch.sent(self._lane)

    def _begin(self) -> bool:
        """Starts the next frame; False if there is none."""
        while (work := self._dispatch.take(self._lane)) is not None:
            self._moved_s = self._clock()
            if self._object(work) if isinstance(work, Object) else self._message(work):
                return True
        return False

    def _object(self, work: Object) -> bool:
        try:
            payload = work.source.payload(self._staging)
            wire_bytes = sum(part.nbytes for part in payload.parts)
            if wire_bytes > self._max_payload_bytes:
                raise TransferError(f"{work.key} has {wire_bytes} bytes, the receiver takes {self._max_payload_bytes}")
            digest = self._digest(payload.parts)
        except Exception as error:  # whatever a source does wrong is the fault of its transfer only
            if not isinstance(error, PrfaasError):
                log.exception("%s could not be made ready", work.key)
                error = TransferError(f"{work.key} could not be read: {error}")
            self._dispatch.failed(self._lane, error)
            return False
        header = self._dispatch.made(self._lane, payload, wire_bytes, digest)
        if header is not None:
            self._writer.start(header, payload.parts)
        return header is not None

    def _message(self, work: Message) -> bool:
        payload = b"" if work.body is None else messages.encode(work.body)
        if len(payload) > messages.MAX_MESSAGE_BYTES:
            # The receiver would end the connection, and with it transfers that are fine.
            error = ManifestError("the transfer has too many objects; raise transport.frame_bytes")
            self._dispatch.unsendable(work, error)
            return False
        self._writer.start(message_header(work.kind, payload, *work.delivery.key), [memoryview(payload)])
        return True

    def _read(self) -> None:
        for header, payload in self._reader.read(self._channel):
            self._moved()
            self._answered(header, payload)

    def _answered(self, header: FrameHeader, payload: bytes) -> None:
        transfer = header.transfer_id, header.epoch
        match header.kind:
            case Kind.ACK:
                self._verdicts.acknowledged(self._lane, messages.decode(payload, messages.Ack))
            case Kind.RESEND:
                self._verdicts.corrupt(self._lane, transfer, header.key)
            case Kind.ACCEPTED:
                self._verdicts.accepted(transfer, messages.decode(payload, messages.Accepted))
            case Kind.COMMITTED:
                self._verdicts.committed(transfer)
            case Kind.REJECTED:
                rejected = messages.decode(payload, messages.Rejected)
                if header.transfer_id == NO_TRANSFER:
                    raise from_code(rejected.code, rejected.message)
                self._verdicts.rejected(transfer, rejected)
            case _:
                raise WireError(f"a receiver must not send {header.kind.name} here")
