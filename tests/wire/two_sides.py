"""Both ends of a transfer as small drivers around the two sessions, with lines of real frames between them.

Threads, sockets, credit and windows are the transport's; here a test decides what arrives when, and what is lost.
"""

from collections import deque
from dataclasses import dataclass, field

from prfaas.wire.header import NO_OBJECT, Codec, FrameHeader, Kind, ObjectKey, payload_digest, unpack
from prfaas.wire.messages import MAX_MESSAGE_BYTES, Accepted, Ack, Manifest, Open, decode, encode
from prfaas.wire.receiving import Landing, Phase, ReceiveSession
from prfaas.wire.sending import Encoded, SendSession
from tests.wire.small import EXPECTATION, OPEN, TRANSFER, content

Frame = tuple[bytes, bytes]
Row = tuple[int, int, int]


def frame(kind: Kind, payload: bytes = b"", key: ObjectKey = NO_OBJECT) -> Frame:
    size = len(payload)
    return FrameHeader(kind, TRANSFER, 1, key, Codec.RAW, size, size, payload_digest([payload])).pack(), payload


def read(sent: Frame) -> tuple[FrameHeader, bool]:
    """The header, and whether the payload is intact."""
    header = unpack(sent[0], max_payload_bytes=MAX_MESSAGE_BYTES)
    assert len(sent[1]) == header.wire_bytes
    return header, payload_digest([sent[1]]) == header.digest


@dataclass(eq=False)
class Line:
    """One connection. After its end for the sender, what it had sent may still arrive."""

    forward: deque[Frame] = field(default_factory=deque)
    back: deque[Frame] = field(default_factory=deque)
    unanswered: deque[tuple[ObjectKey, int]] = field(default_factory=deque)
    acknowledged: int = 0
    dealt_with: int = 0
    landing: Landing | None = None
    payload: bytes = b""


class SendingEnd:
    """Sends what the session wants sent, by the line that it is given."""

    def __init__(self) -> None:
        self.session = SendSession(OPEN)
        self.asked: Line | None = None
        """Where an OPEN waits for its answer."""
        self.outdated = False
        """A line was lost after that OPEN had gone."""
        self.told: Line | None = None
        """Where the manifest went."""
        self.committed = 0

    def push(self, line: Line) -> bool:
        """Sends one frame if there is one to send."""
        session = self.session
        if session.open_due and self.asked is None:
            self.asked = line
            line.forward.append(frame(Kind.OPEN, encode(OPEN)))
            return True
        manifest = session.manifest()
        if manifest is not None:
            self.told = line
            line.forward.append(frame(Kind.MANIFEST, encode(manifest)))
            return True
        key = session.next()
        if key is None:
            return False
        sent = frame(Kind.OBJECT, content(key), key)
        size = len(sent[1])
        attempt = session.sending(key, Encoded(Codec.RAW, size, size, payload_digest([sent[1]])))
        line.unanswered.append((key, attempt))
        line.forward.append(sent)
        return True

    def hear(self, line: Line) -> None:
        """Takes one answer off a line that still stands."""
        answer = line.back.popleft()
        header, intact = read(answer)
        assert intact
        match header.kind:
            case Kind.ACCEPTED:
                self._accepted(line, decode(answer[1], Accepted))
            case Kind.ACK:
                frames = decode(answer[1], Ack).frames
                for _ in range(frames - line.acknowledged):
                    self.session.delivered(*line.unanswered.popleft())
                line.acknowledged = frames
            case Kind.RESEND:
                # Both sendings may be there: the first was answered by the RESEND that led to the second.
                key, attempt = next(sent for sent in reversed(line.unanswered) if sent[0] == header.key)
                self.session.corrupt(key, attempt)
            case Kind.COMMITTED:
                assert self.session.manifest_sent
                self.committed += 1
                self.session.end()
            case _:
                raise AssertionError(f"{header} is no answer that this receiver gives")

    def lose(self, line: Line) -> None:
        """The connection is gone, as this end sees it."""
        for key, attempt in line.unanswered:
            self.session.lost(key, attempt)
        if self.asked is line:
            self.asked = None
        elif self.asked is not None:
            self.outdated = True
        if self.told is line:
            self.told = None
            self.session.manifest_lost()
        if self.session.manifest_sent:
            self.session.ask()

    def _accepted(self, line: Line, answer: Accepted) -> None:
        if self.asked is line:
            self.asked = None
        if self.outdated:
            self.outdated = False
            self.session.ask()
        else:
            self.session.accepted(answer.received)


class ReceivingEnd:
    """Places what the session lets through into `memory`, a row at a time."""

    def __init__(self) -> None:
        self.session = ReceiveSession(EXPECTATION)
        self.memory: dict[Row, bytes] = {}
        self.commits = 0

    def take(self, line: Line) -> None:
        """Deals with the next frame of a line; of an object, first the header and at the next call the payload."""
        if line.landing is not None:
            self._land(line, line.landing)
            return
        header, intact = read(line.forward[0])
        if header.kind is Kind.OBJECT:
            self._begin(line, header)
            return
        _, payload = line.forward.popleft()
        assert intact
        if header.kind is Kind.OPEN:
            received = self.session.open(decode(payload, Open))
            committed = self.session.phase is Phase.COMMITTED
            line.back.append(frame(Kind.COMMITTED) if committed else frame(Kind.ACCEPTED, encode(Accepted(received))))
        elif self.session.phase is Phase.COMMITTED:
            line.back.append(frame(Kind.COMMITTED))
        else:
            self.session.manifest(decode(payload, Manifest))
            self._commit(line)

    def acknowledge(self, line: Line) -> None:
        """All that was dealt with on this line."""
        line.back.append(frame(Kind.ACK, encode(Ack(line.dealt_with, 1 << 20))))

    def lose(self, line: Line) -> None:
        """The connection is gone, as this end sees it."""
        if line.landing is not None:
            self.session.dropped(line.landing)
            line.landing = None
        line.forward.clear()

    def _begin(self, line: Line, header: FrameHeader) -> None:
        landing = self.session.begin(header) if self.session.phase is Phase.OPEN else None
        if landing is None:
            line.forward.popleft()
            line.dealt_with += 1
            return
        line.landing = landing

    def _land(self, line: Line, landing: Landing) -> None:
        sent = line.forward.popleft()
        line.landing = None
        header, intact = read(sent)
        line.dealt_with += 1
        if not intact:
            if self.session.dropped(landing):
                line.back.append(frame(Kind.RESEND, key=header.key))
            return
        if not self.session.placed(landing):
            return
        key, size = header.key, len(sent[1]) // (header.key.end - header.key.start)
        for row in range(key.start, key.end):
            at = (row - key.start) * size
            self.memory[key.layer, key.tensor, row] = sent[1][at : at + size]
        self._commit(line)

    def _commit(self, line: Line) -> None:
        if self.session.commit() is not None:
            self.commits += 1
            line.back.append(frame(Kind.COMMITTED))
