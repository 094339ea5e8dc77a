"""One incoming transfer as whoever waits for it sees it: what has come of it, and what is missing."""

from prfaas.instance.attempt import Attempt
from prfaas.transport.inbox import IncomingTransfer
from prfaas.wire.receiving import ReceiveSession


class Incoming:
    """Joins the data plane's view of a transfer and the control plane's."""

    def __init__(self, transfer: IncomingTransfer, session: ReceiveSession, attempt: Attempt) -> None:
        self._transfer = transfer
        self._session = session
        self.attempt = attempt
        expect = session.expectation
        self._expected_bytes = sum(
            len(expect.rows(layer, tensor)) * expect.shape.layers[layer].row_bytes(tensor)
            for layer, tensor in expect.tensors()
        )

    @property
    def bytes_arrived(self) -> int:
        """All payload received for it so far."""
        return self._transfer.bytes_arrived

    @property
    def missing_bytes(self) -> float:
        """Payload that only waits for the link, if what is missing shrinks on its way as what came has shrunk."""
        if self.attempt.prefilled_s is None or self.attempt.outcome.done():
            return 0.0
        missing = max(0, self._expected_bytes - self._session.bytes_raw)
        return missing * self._session.bytes_wire / self._session.bytes_raw if self._session.bytes_raw else missing
