"""Which payload frames of one connection have been dealt with, and of how many its sender has been told."""

from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.answers import Answers
from prfaas.transport.framing import message_frame
from prfaas.transport.sessions import SenderSession
from prfaas.wire.header import Kind
from prfaas.wire.messages import Ack, encode

ACK_BYTES = 2 << 20
ACK_FRAMES = 8
"""After so much payload or so many frames a sender is told, and sooner when nothing more comes for `ACK_AFTER_S`."""

ACK_AFTER_S = 0.001


class Receipts:
    """Used by the connection's thread alone."""

    def __init__(self, session: SenderSession, answers: Answers, metrics: InstanceMetrics) -> None:
        self._session = session
        self._answers = answers
        self._bytes_metric = metrics.kv_bytes.labels("in", "wire")
        self._frames = 0
        self._told = 0
        self._present_bytes = 0
        self._untold_bytes = 0

    def begin(self, num_bytes: int) -> None:
        """A payload comes. Raises WireError if the sender had not the credit for it."""
        self._present_bytes = num_bytes
        self._session.begin(num_bytes)

    def done(self) -> None:
        """The payload has been dealt with, whatever became of it."""
        self._frames += 1
        self._untold_bytes += self._present_bytes
        self._present_bytes = 0
        if self._frames - self._told >= ACK_FRAMES or self._untold_bytes >= ACK_BYTES:
            self.tell()

    @property
    def due(self) -> bool:
        """Something has been dealt with that the sender was not told of."""
        return self._frames != self._told

    def tell(self) -> None:
        """Acknowledges what has not been acknowledged."""
        if self._frames == self._told:
            return
        self._told = self._frames
        self._answers.add(message_frame(Kind.ACK, encode(Ack(self._frames, self._session.credit_bytes))))
        self._session.settle(self._untold_bytes)
        self._bytes_metric.inc(self._untold_bytes)
        self._untold_bytes = 0

    def close(self) -> None:
        """The connection is gone; the sender counts nothing of it any more."""
        self._session.settle(self._present_bytes + self._untold_bytes)
        self._present_bytes = self._untold_bytes = 0
