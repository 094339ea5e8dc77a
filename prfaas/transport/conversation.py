"""What one connection's sender says after HELLO, and what it is answered.

An error of a transfer ends that transfer, and the stream goes on; one of the stream is raised and ends the connection.
"""

import logging
from collections import OrderedDict, deque

from prfaas.core.errors import DigestError, PeerLostError, PrfaasError, WireError
from prfaas.transport.answers import Answers
from prfaas.transport.frame_stream import Room, trash_room
from prfaas.transport.framing import message_frame, resend_frame
from prfaas.transport.incoming import IncomingTransfer
from prfaas.transport.landing import Landing
from prfaas.transport.receipts import Receipts
from prfaas.transport.sessions import SenderSession
from prfaas.transport.surroundings import Surroundings
from prfaas.transport.tombstones import TransferKey
from prfaas.wire.header import FrameHeader, Kind, payload_digest
from prfaas.wire.messages import MAX_MESSAGE_BYTES, Accepted, Manifest, Open, Rejected, decode, encode

log = logging.getLogger(__name__)

CORRUPT_OBJECTS = 3
"""After so many a connection is ejected."""
REMEMBERED_REFUSALS = 1024


class Conversation:
    """The `FrameReader` of a connection whose sender was welcome; used by the connection's thread alone."""

    def __init__(
        self,
        session: SenderSession,
        small: memoryview,
        answers: Answers,
        posted: deque[tuple[TransferKey, bytes]],
        surroundings: Surroundings,
    ) -> None:
        self._session = session
        self._small = small
        self._answers = answers
        self._posted = posted
        self._inbox = surroundings.inbox
        self._arena = surroundings.arena
        self._digest = surroundings.digest
        self._sessions = surroundings.sessions
        self._frame_bytes = surroundings.config.frame_bytes
        self._metrics = surroundings.metrics
        self.receipts = Receipts(session, answers, surroundings.metrics)
        self._refused: OrderedDict[TransferKey, None] = OrderedDict()
        self._num_corrupt = 0
        # Of the frame that is being received.
        self._transfer: IncomingTransfer | None = None
        self._landing: Landing | None = None
        self._message: memoryview | None = None

    def begin(self, header: FrameHeader) -> Room:
        match header.kind:
            case Kind.OBJECT:
                return self._object_begins(header)
            case Kind.PROBE:
                self._payload_begins(header)
                return trash_room(self._small, header.wire_bytes), None
            case Kind.MANIFEST:
                return self._manifest_begins(header)
            case Kind.OPEN | Kind.CANCEL:
                if header.wire_bytes > len(self._small):
                    raise WireError(f"a {header.kind.name} of {header.wire_bytes} bytes is too long")
                self._message = self._small[: header.wire_bytes]
                return [self._message], None
            case _:
                raise WireError(f"a sender must not send {header.kind.name} now")

    def complete(self, header: FrameHeader) -> None:
        match header.kind:
            case Kind.OBJECT:
                self._object_came(header)
                self.receipts.done()
            case Kind.PROBE:
                self.receipts.done()
            case Kind.OPEN:
                self._open(header)
            case Kind.MANIFEST:
                self._manifest_came(header)
            case Kind.CANCEL:
                self._verified(header)
                self._cancel(_key(header))
            case _:
                raise AssertionError(f"{header.kind} was let in")

    def take_posted(self) -> None:
        """Answers what other threads have to say about transfers, unless the sender knows."""
        while self._posted:
            key, frame = self._posted.popleft()
            if key not in self._refused:
                self._remember_refused(key)
                self._answers.add(frame, outcome=key)

    def close(self) -> None:
        """The connection is gone; what it was bringing may come by another."""
        if self._landing is not None:
            assert self._transfer is not None
            self._transfer.drop(self._landing)
            self._landing = None
        self.receipts.close()

    def _payload_begins(self, header: FrameHeader) -> None:
        if header.wire_bytes > self._frame_bytes:
            raise WireError(f"a frame of {header.wire_bytes} bytes, above the {self._frame_bytes} of this receiver")
        self.receipts.begin(header.wire_bytes)

    def _object_begins(self, header: FrameHeader) -> Room:
        self._payload_begins(header)
        key = _key(header)
        transfer = self._inbox.opened(key, self._session.id)
        if transfer is None:
            self._stray(header)
            return trash_room(self._small, header.wire_bytes), None
        try:
            landing = transfer.begin(header, self._arena)
        except PrfaasError as error:
            self._fail(key, error)
            landing = None
        else:
            if landing is None:
                self._metrics.duplicate_bytes.inc(header.wire_bytes)
        if landing is None:
            return trash_room(self._small, header.wire_bytes), None
        self._transfer, self._landing = transfer, landing
        return landing.views, landing

    def _object_came(self, header: FrameHeader) -> None:
        transfer, landing = self._transfer, self._landing
        self._transfer = self._landing = None
        if transfer is None or landing is None:
            return
        try:
            placed = transfer.land(landing, self._digest)
            if placed:
                self._try_commit(transfer)
        except PrfaasError as error:
            transfer.drop(landing)
            self._fail(transfer.key, error)
            return
        if placed is None:
            self._metrics.duplicate_bytes.inc(header.wire_bytes)
        elif not placed:
            self._corrupt(header)

    def _open(self, header: FrameHeader) -> None:
        message = decode(self._verified(header), Open)
        key = _key(header)
        try:
            received = self._inbox.open(key, message, self._session)
        except PrfaasError as error:
            self._refused.pop(key, None)
            self._refuse(key, error)
            return
        self._refused.pop(key, None)
        if received is None:
            self._answer_committed(key)
        else:
            self._answers.add(message_frame(Kind.ACCEPTED, encode(Accepted(received)), *key))

    def _manifest_begins(self, header: FrameHeader) -> Room:
        if header.wire_bytes > MAX_MESSAGE_BYTES:
            raise WireError(f"a MANIFEST of {header.wire_bytes} bytes is too long")
        self._transfer = self._inbox.opened(_key(header), self._session.id)
        if self._transfer is None:
            return trash_room(self._small, header.wire_bytes), None
        self._message = memoryview(bytearray(header.wire_bytes))
        return [self._message], None

    def _manifest_came(self, header: FrameHeader) -> None:
        transfer, self._transfer = self._transfer, None
        if transfer is None:
            if self._inbox.committed(_key(header), self._session.id):
                self._answer_committed(_key(header))
            else:
                self._stray(header)
            return
        message = decode(self._verified(header), Manifest)
        try:
            transfer.manifest(message)
            self._try_commit(transfer)
        except PrfaasError as error:
            self._fail(transfer.key, error)

    def _cancel(self, key: TransferKey) -> None:
        if self._inbox.opened(key, self._session.id) is not None:
            self._inbox.fail(
                key, PeerLostError(f"{self._session.instance_id} gave the transfer up"), by=self._session.id
            )

    def _try_commit(self, transfer: IncomingTransfer) -> None:
        received = transfer.commit(by=self._session.id)
        if received is not None:
            self._metrics.kv_bytes.labels("in", "raw").inc(received.bytes_raw)
            self._metrics.transfer_seconds.observe(received.transfer_s)
            self._answer_committed(transfer.key)

    def _corrupt(self, header: FrameHeader) -> None:
        self._metrics.corrupt_frames.inc()
        self._num_corrupt += 1
        log.warning("%s from %s came corrupt; it is asked for again", header.key, self._session.instance_id)
        self._answers.add(resend_frame(header))
        if self._num_corrupt < CORRUPT_OBJECTS:
            return
        self._metrics.ejections.labels("connection").inc()
        error = DigestError(f"{self._num_corrupt} objects came corrupt by one connection, which is ejected")
        if self._sessions.eject(self._session):
            self._metrics.ejections.labels("peer").inc()
            error = DigestError(f"{self._session.instance_id} is ejected: objects come corrupt by all connections")
            for key in self._session.under_way:
                self._fail(key, error)
            self._session.hang_up()
        raise error

    def _verified(self, header: FrameHeader) -> memoryview:
        message, self._message = self._message, None
        assert message is not None
        if payload_digest([message]) != header.digest:
            raise WireError(f"a {header.kind.name} is corrupt")
        return message

    def _answer_committed(self, key: TransferKey) -> None:
        self._answers.add(message_frame(Kind.COMMITTED, b"", *key), outcome=key)

    def _stray(self, header: FrameHeader) -> None:
        """A frame of a transfer that this sender has not opened, or that is over."""
        key = _key(header)
        self.take_posted()
        # Of a committed transfer something may be on its way twice.
        if key not in self._refused and not self._inbox.committed(key, self._session.id):
            self._refuse(key, self._inbox.refusal(key))

    def _fail(self, key: TransferKey, error: PrfaasError) -> None:
        if self._inbox.committed(key, self._session.id):
            # By another connection, while this one brought something of it again.
            self._answer_committed(key)
            return
        self._inbox.fail(key, error, by=self._session.id)
        self._refuse(key, error)

    def _refuse(self, key: TransferKey, error: PrfaasError) -> None:
        """Tells the sender once; what else comes of the transfer is dropped."""
        if key in self._refused:
            return
        self._remember_refused(key)
        log.warning("transfer %s from %s refused: %s", key[0].hex(), self._session.instance_id, error)
        self._metrics.refused.labels(error.code).inc()
        rejected = encode(Rejected(error.code, str(error)))
        self._answers.add(message_frame(Kind.REJECTED, rejected, *key), outcome=key)

    def _remember_refused(self, key: TransferKey) -> None:
        self._refused[key] = None
        if len(self._refused) > REMEMBERED_REFUSALS:
            self._refused.popitem(last=False)


def _key(header: FrameHeader) -> TransferKey:
    return header.transfer_id, header.epoch
