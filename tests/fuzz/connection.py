"""A receiver's side of one connection without a socket: any bytes in, answers counted, only typed errors out."""

from collections import Counter
from collections.abc import Iterator

from prfaas.core.errors import ManifestError, TicketError, WireError
from prfaas.wire.header import HEADER_BYTES, FrameHeader, Kind, payload_digest, unpack
from prfaas.wire.messages import MAX_SMALL_MESSAGE_BYTES, Hello, Manifest, Open, decode
from prfaas.wire.receiving import Phase, ReceiveSession
from prfaas.wire.tensors import Expectation

MAX_FRAME_BYTES = 4096
MAX_MANIFEST_BYTES = 1 << 20
LIMITS = {Kind.OBJECT: MAX_FRAME_BYTES, Kind.PROBE: MAX_FRAME_BYTES, Kind.MANIFEST: MAX_MANIFEST_BYTES}


def frames(stream: bytes) -> Iterator[tuple[FrameHeader, bytes]]:
    """Whole frames from the front of a stream. Raises WireError where it is none."""
    at = 0
    while at + HEADER_BYTES <= len(stream):
        header = unpack(stream[at : at + HEADER_BYTES], max_payload_bytes=MAX_MANIFEST_BYTES)
        if header.wire_bytes > LIMITS.get(header.kind, MAX_SMALL_MESSAGE_BYTES):
            raise WireError(f"a {header.kind.name} of {header.wire_bytes} bytes")
        at += HEADER_BYTES
        if at + header.wire_bytes > len(stream):
            return
        yield header, stream[at : at + header.wire_bytes]
        at += header.wire_bytes


class FedConnection:
    """One transfer's receiver. What it places is counted; it has no memory for payloads."""

    def __init__(self, expectation: Expectation) -> None:
        self.session = ReceiveSession(expectation)
        self.said: Counter[str] = Counter()
        """What was answered, and the names of errors."""

    def feed(self, stream: bytes) -> None:
        """A whole connection, from HELLO to its end."""
        try:
            for number, (header, payload) in enumerate(frames(stream)):
                if (number == 0) != (header.kind is Kind.HELLO):
                    raise WireError("HELLO is a connection's first frame, and only that")
                self._frame(header, payload)
        except WireError:
            self.said["hung up"] += 1

    def _frame(self, header: FrameHeader, payload: bytes) -> None:
        intact = payload_digest([payload]) == header.digest
        if not intact and header.kind is not Kind.OBJECT:
            raise WireError("a corrupt message")
        try:
            self._deal(header, payload, intact)
        except (TicketError, ManifestError) as error:
            self.said[error.code] += 1
            if self.session.phase is Phase.OPEN:
                self.session.fail()

    def _deal(self, header: FrameHeader, payload: bytes, intact: bool) -> None:
        match header.kind:
            case Kind.HELLO:
                decode(payload, Hello)
            case Kind.OPEN:
                self.session.open(decode(payload, Open))
                self.said["accepted"] += 1
            case Kind.OBJECT:
                self._object(header, intact)
            case Kind.MANIFEST:
                self.session.manifest(decode(payload, Manifest))
                self._commit()
            case Kind.CANCEL:
                self.session.fail()
            case Kind.PROBE:
                self.said["probe"] += 1
            case _:
                raise WireError(f"a sender does not send {header.kind.name}")

    def _object(self, header: FrameHeader, intact: bool) -> None:
        landing = self.session.begin(header)
        if landing is None:
            self.said["duplicate"] += 1
        elif intact:
            self.said["placed"] += self.session.placed(landing)
            self._commit()
        else:
            self.said["resend"] += self.session.dropped(landing)

    def _commit(self) -> None:
        if self.session.commit() is not None:
            self.said["committed"] += 1
