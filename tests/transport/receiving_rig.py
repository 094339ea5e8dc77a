"""A real data server around a memory that can be looked at; it checks on leaving that nothing was left behind."""

import queue
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Self

from prometheus_client import CollectorRegistry

from prfaas.config.sections import TransportSection
from prfaas.control.credentials import Credentials
from prfaas.core.ids import TransferId, new_transfer_id
from prfaas.core.shape import ModelShape
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.host import Host
from prfaas.transport.inbox import Inbox, IncomingTransfer, Outcome, Received
from prfaas.transport.server import DataServer
from prfaas.wire.header import Codec, ObjectKey
from prfaas.wire.receiving import ReceiveSession
from prfaas.wire.tensors import Expectation
from tests.eventually import eventually
from tests.wire.small import EXPECTATION, content

EPOCH = 7
CONFIG = TransportSection(frame_bytes=4096, staging_bytes=2 * 4096, stall_s=5.0, connect_timeout_s=2.0)
Tensors = dict[tuple[int, int], bytearray]


def zeroed(expectation: Expectation) -> Tensors:
    """The request's tensors before anything came."""
    tokens, layers = expectation.prompt_tokens, expectation.shape.layers
    return {(i, j): bytearray(layers[i].num_rows(j, tokens) * layers[i].row_bytes(j)) for i, j in expectation.tensors()}


@dataclass
class Memory:
    """A destination in plain bytes: frames land in it directly, or, if `staged`, by way of the arena."""

    expectation: Expectation = EXPECTATION
    staged: bool = False
    gate: threading.Event | None = None
    """What holds a placing, or the question where to receive into, back."""
    asked: threading.Event = field(default_factory=threading.Event)
    tensors: Tensors = field(init=False)

    def __post_init__(self) -> None:
        self.tensors = zeroed(self.expectation)

    def views(self, key: ObjectKey, codec: Codec, sent: ModelShape) -> list[memoryview] | None:
        if self.staged:
            return None
        assert (codec, sent) == (Codec.RAW, self.expectation.shape)
        self._pass_gate()
        whole = self._place_of(key)
        return [whole[:5], whole[5:]]

    def place(self, key: ObjectKey, codec: Codec, sent: ModelShape, payload: memoryview) -> None:
        assert self.staged
        assert (codec, sent) == (Codec.RAW, self.expectation.shape)
        self._pass_gate()
        self._place_of(key)[:] = payload

    def at(self, key: ObjectKey) -> bytes:
        return bytes(self._place_of(key))

    def fill(self, byte: int) -> None:
        """As if the memory belonged to somebody else now."""
        for tensor in self.tensors.values():
            tensor[:] = bytes([byte]) * len(tensor)

    def only(self, byte: int) -> bool:
        return all(set(tensor) == {byte} for tensor in self.tensors.values())

    def _place_of(self, key: ObjectKey) -> memoryview:
        row = self.expectation.shape.layers[key.layer].row_bytes(key.tensor)
        return memoryview(self.tensors[key.layer, key.tensor])[key.start * row : key.end * row]

    def _pass_gate(self) -> None:
        self.asked.set()
        if self.gate is not None:
            assert self.gate.wait(10)


@dataclass
class Expected:
    """One transfer on the receiving side."""

    transfer_id: TransferId
    memory: Memory
    transfer: IncomingTransfer
    ended: "queue.SimpleQueue[Outcome]"

    def result(self) -> Outcome:
        return self.ended.get(timeout=10)

    def received(self) -> Received:
        """Of a transfer that committed, with all of its bytes in place."""
        outcome = self.result()
        assert isinstance(outcome, Received), outcome
        for o in outcome.manifest.objects:
            key = ObjectKey(o.layer, o.tensor, o.start, o.end)
            assert self.memory.at(key) == content(key)
        return outcome


class Receiver:
    """A data server on a loopback port."""

    def __init__(
        self, config: TransportSection = CONFIG, port: int = 0, credentials: Credentials | None = None
    ) -> None:
        self.metrics = InstanceMetrics(CollectorRegistry())
        self.inbox = Inbox(time.monotonic)
        listener = socket.create_server(("127.0.0.1", port))
        self.port = int(listener.getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"
        host = Host("west-0", "west", EPOCH)
        self.server = DataServer(listener, self.inbox, host, config, credentials, self.metrics, time.monotonic)
        self.server.start()
        self.clients: list[socket.socket] = []
        """Closed on leaving."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.close()
        for client in self.clients:
            client.close()
        assert self.server.num_staged == 0
        assert self.connections == 0
        sessions = self.server._surroundings.sessions._sessions.values()
        assert not any(session.in_progress_bytes or session.num_connections for session in sessions)
        assert not [thread for thread in self.threads() if thread.is_alive()]

    def threads(self) -> list[threading.Thread]:
        """That serve connections now, or accept them."""
        return [self.server._acceptor, *self.server._serving]

    @property
    def connections(self) -> int:
        return self.count("prfaas_kv_connections", direction="in")

    def count(self, metric: str, **labels: str) -> int:
        return int(self.metrics.registry.get_sample_value(metric, labels) or 0)

    def settles(self, connections: int) -> None:
        """Returns once so many are served."""
        eventually(lambda: self.connections == connections)

    def cut_all(self) -> None:
        """Every present connection ends."""
        for connection in list(self.server._serving.values()):
            connection.hang_up()

    def stranger(self) -> None:
        """Connects and says nothing."""
        self.clients.append(socket.create_connection(("127.0.0.1", self.port), timeout=10))

    def expect(
        self,
        memory: Memory | None = None,
        transfer_id: TransferId | None = None,
        expectation: Expectation = EXPECTATION,
    ) -> Expected:
        transfer_id, memory = transfer_id or new_transfer_id(), memory or Memory(expectation)
        ended: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        transfer = self.inbox.expect(transfer_id, EPOCH, ReceiveSession(expectation), memory, ended.put)
        return Expected(transfer_id, memory, transfer, ended)
