"""A real data server and real senders around a memory that records what was placed."""

import queue
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Self

from prfaas.wire.session import Expectation, ReceiveSession
from prometheus_client import CollectorRegistry

from prfaas.config.sections import TransportSection
from prfaas.core.errors import PrfaasError
from prfaas.core.ids import TransferId, new_transfer_id
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.inbox import Inbox, Outcome
from prfaas.transport.outbox import Outbox
from prfaas.transport.outgoing import OutgoingTransfer, Summary
from prfaas.transport.peer import Peer
from prfaas.transport.server import DataServer
from prfaas.wire.header import ObjectKey
from prfaas.wire.messages import Hello, Open
from tests.wire.small import EXPECTATION, OPEN, PIECES, TOKENS, content

EPOCH = 7
CONFIG = TransportSection(frame_bytes=4096, stall_s=5.0, connect_timeout_s=2.0)
SUMMARY = Summary(42, tokens_computed=TOKENS, tokens_reused=0, queue_ms=1.0, prefill_ms=2.0)


@dataclass
class Memory:
    """A destination that keeps what it was given."""

    placed: dict[ObjectKey, bytes] = field(default_factory=dict)
    gate: threading.Event | None = None

    def place(self, key: ObjectKey, payload: memoryview) -> None:
        if self.gate is not None:
            self.gate.wait(10)
        self.placed[key] = bytes(payload)


@dataclass
class Sent:
    """One transfer on the sending side."""

    transfer: OutgoingTransfer
    peer: Peer
    ended: "queue.SimpleQueue[PrfaasError | None]"

    def send(self, *keys: ObjectKey) -> None:
        """In two buffers each, as memory that lies in pages is sent."""
        for key in keys:
            data = memoryview(content(key))
            self.peer.send(self.transfer, key, [data[:16], data[16:]])

    def finish(self) -> None:
        self.peer.finish(self.transfer, SUMMARY)

    def result(self) -> PrfaasError | None:
        return self.ended.get(timeout=10)


@dataclass
class Expected:
    """One transfer on the receiving side."""

    transfer_id: TransferId
    memory: Memory
    ended: "queue.SimpleQueue[Outcome]"

    def result(self) -> Outcome:
        return self.ended.get(timeout=10)


class Receiver:
    """A data server on a loopback port."""

    def __init__(self, config: TransportSection = CONFIG, port: int = 0) -> None:
        self.metrics = InstanceMetrics(CollectorRegistry())
        self.inbox = Inbox(time.monotonic)
        listener = socket.create_server(("127.0.0.1", port))
        self.port = int(listener.getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"
        self.server = DataServer(listener, self.inbox, config, self.metrics, time.monotonic)
        self.server.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.close()

    def expect(
        self,
        memory: Memory | None = None,
        transfer_id: TransferId | None = None,
        expectation: Expectation = EXPECTATION,
    ) -> Expected:
        expected = Expected(transfer_id or new_transfer_id(), memory or Memory(), queue.SimpleQueue())
        session = ReceiveSession(expectation)
        self.inbox.expect(expected.transfer_id, EPOCH, session, expected.memory, expected.ended.put)
        return expected


class Sender:
    """An outbox whose transfers report into queues."""

    def __init__(self, config: TransportSection = CONFIG) -> None:
        self.metrics = InstanceMetrics(CollectorRegistry())
        self.outbox = Outbox(Hello("east-0", "east"), config, self.metrics, time.monotonic)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.outbox.close()

    def start(self, address: str, transfer_id: TransferId, opening: Open = OPEN, epoch: int = EPOCH) -> Sent:
        ended: queue.SimpleQueue[PrfaasError | None] = queue.SimpleQueue()
        transfer = OutgoingTransfer(transfer_id, epoch, opening, ended.put)
        return Sent(transfer, self.outbox.start(address, None, transfer), ended)

    def send_all(self, address: str, expected: Expected) -> Sent:
        """A whole transfer of the tiny model."""
        sent = self.start(address, expected.transfer_id)
        sent.send(*PIECES)
        sent.finish()
        return sent
