"""Both real ends on loopback: an outbox that sends the tiny model's cache to a data server."""

import queue
import time
from typing import Self

from prometheus_client import CollectorRegistry

from prfaas.config.sections import TransportSection
from prfaas.control.credentials import Credentials
from prfaas.core.errors import PrfaasError
from prfaas.core.ids import TransferId
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.caller import Caller
from prfaas.transport.outbox import Outbox
from prfaas.transport.outgoing import OutgoingTransfer, Payload
from prfaas.transport.peer import Peer
from prfaas.wire.header import Codec, ObjectKey
from prfaas.wire.messages import Open
from prfaas.wire.sending import Summary
from tests.transport.receiving_rig import CONFIG, EPOCH, Expected, Receiver
from tests.wire.small import OPEN, PIECES, content

__all__ = ["CONFIG", "EPOCH", "Bytes", "Expected", "Receiver", "Sender", "Sent", "summary"]


def summary(opening: Open = OPEN) -> Summary:
    """Of a prefill that computed everything."""
    return Summary(42, tokens_computed=opening.prompt_tokens, tokens_reused=0, queue_ms=1.0, prefill_ms=2.0)


class Bytes:
    """A source in two buffers, as memory that lies in pages is sent."""

    def __init__(self, data: bytes) -> None:
        self._view = memoryview(data)

    def payload(self, staging: memoryview) -> Payload:
        assert len(staging) >= len(self._view)
        return Payload(Codec.RAW, len(self._view), [self._view[:16], self._view[16:]])


class Sent:
    """One transfer on the sending side."""

    def __init__(self, transfer: OutgoingTransfer, peer: Peer, ended: "queue.SimpleQueue[PrfaasError | None]") -> None:
        self.transfer = transfer
        self.peer = peer
        self.ended = ended

    def send(self, *keys: ObjectKey) -> None:
        for key in keys:
            self.send_bytes(key, content(key))

    def send_bytes(self, key: ObjectKey, data: bytes) -> None:
        self.peer.send(self.transfer, key, Bytes(data))

    def finish(self) -> None:
        self.peer.finish(self.transfer, summary(self.transfer.opening))

    def result(self) -> PrfaasError | None:
        return self.ended.get(timeout=10)


class Sender:
    """An outbox whose transfers report into queues."""

    def __init__(self, config: TransportSection = CONFIG, credentials: Credentials | None = None) -> None:
        self.metrics = InstanceMetrics(CollectorRegistry())
        self.outbox = Outbox(Caller("east-0", "east"), config, credentials, self.metrics, time.monotonic)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.outbox.close()
        assert self.connections == 0

    @property
    def connections(self) -> int:
        return int(self.metrics.registry.get_sample_value("prfaas_kv_connections", {"direction": "out"}) or 0)

    def start(self, address: str, transfer_id: TransferId, opening: Open = OPEN, epoch: int = EPOCH) -> Sent:
        ended: queue.SimpleQueue[PrfaasError | None] = queue.SimpleQueue()
        transfer = OutgoingTransfer(transfer_id, epoch, opening, ended.put)
        return Sent(transfer, self.outbox.start(address, None, "west", transfer), ended)

    def send_all(self, address: str, expected: Expected) -> Sent:
        """A whole transfer of the tiny model."""
        sent = self.start(address, expected.transfer_id)
        sent.send(*PIECES)
        sent.finish()
        return sent
