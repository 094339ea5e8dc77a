"""The sending side by itself: an outbox, and a receiver that does as a test tells it."""

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

from prometheus_client import CollectorRegistry

from prfaas.config.sections import TransportSection
from prfaas.core.errors import PrfaasError
from prfaas.core.ids import TransferId, new_transfer_id
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.caller import Caller
from prfaas.transport.outbox import Outbox
from prfaas.transport.outgoing import OutgoingTransfer, Payload
from prfaas.transport.peer import Peer
from prfaas.wire import messages
from prfaas.wire.header import (
    HEADER_BYTES,
    NO_OBJECT,
    NO_TRANSFER,
    Codec,
    FrameHeader,
    Kind,
    ObjectKey,
    payload_digest,
    unpack,
)
from prfaas.wire.sending import Stage, Summary
from tests.eventually import eventually

FRAME = 4096
EPOCH = 7
CONFIG = TransportSection(frame_bytes=FRAME, min_streams=1, max_streams=8, stall_s=5.0, connect_timeout_s=2.0)
OPEN = messages.Open(b"s" * 16, "f" * 32, 10, 0, "float32")
SUMMARY = Summary(42, tokens_computed=10, tokens_reused=0, queue_ms=1.0, prefill_ms=2.0)


def key(i: int) -> ObjectKey:
    """Of the i-th object of a transfer."""
    return ObjectKey(0, 0, i, i + 1)


def content(i: int) -> bytes:
    """Of the i-th object of a transfer: a whole frame."""
    return bytes([i % 251]) * FRAME


@dataclass
class Bytes:
    """A source of bytes in two buffers, as memory that lies in pages is sent; `gate` holds it back."""

    data: bytes
    gate: threading.Event | None = None
    calls: int = 0

    def payload(self, staging: memoryview) -> Payload:
        del staging
        self.calls += 1
        if self.gate is not None:
            self.gate.wait(10)
        view = memoryview(self.data)
        return Payload(Codec.RAW, len(view), [view[:16], view[16:]])


@dataclass
class Sent:
    """One transfer."""

    transfer: OutgoingTransfer
    peer: Peer
    ended: "queue.SimpleQueue[PrfaasError | None]"

    def send(self, *numbers: int) -> None:
        for i in numbers:
            self.peer.send(self.transfer, key(i), Bytes(content(i)))

    def send_bytes(self, *contents: bytes) -> None:
        for i, data in enumerate(contents):
            self.peer.send(self.transfer, key(i), Bytes(data))

    def finish(self) -> None:
        self.peer.finish(self.transfer, SUMMARY)

    def result(self) -> PrfaasError | None:
        return self.ended.get(timeout=10)


class Sender:
    """An outbox whose transfers report into queues."""

    def __init__(self, config: TransportSection = CONFIG) -> None:
        self.metrics = InstanceMetrics(CollectorRegistry())
        self.outbox = Outbox(Caller("east-0", "east"), config, None, self.metrics, time.monotonic)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.outbox.close()

    def start(
        self, address: str, deadline_s: float = float("inf"), transfer_id: TransferId | None = None, objects: int = 0
    ) -> Sent:
        """A transfer; with its first objects, if so many are asked for."""
        ended: queue.SimpleQueue[PrfaasError | None] = queue.SimpleQueue()
        transfer = OutgoingTransfer(transfer_id or new_transfer_id(), EPOCH, OPEN, ended.put, deadline_s)
        sent = Sent(transfer, self.outbox.start(address, None, "west", transfer), ended)
        sent.send(*range(objects))
        return sent

    def accepted(self, *all_sent: Sent) -> None:
        """Returns when the receiver has accepted them."""
        eventually(lambda: all(sent.transfer.session.stage is Stage.ACCEPTED for sent in all_sent))

    def connections(self) -> float:
        return float(self.metrics.connections.labels("out")._value.get())

    def resent_bytes(self, reason: str) -> float:
        return float(self.metrics.kv_resent.labels(reason)._value.get())

    def reconnects(self) -> float:
        return float(self.metrics.kv_reconnects._value.get())


@dataclass(eq=False)
class Caught:
    """A frame as the receiver got it."""

    connection: "Connection"
    header: FrameHeader
    payload: bytes


@dataclass(eq=False)
class Connection:
    """The receiver's end of one connection."""

    sock: socket.socket
    frames: int = 0
    dead: bool = False
    reading: threading.Event = field(default_factory=threading.Event)
    """Cleared: what comes stays in the system's buffers."""

    def __post_init__(self) -> None:
        self.reading.set()

    def say(
        self,
        kind: Kind,
        payload: bytes = b"",
        transfer: tuple[TransferId, int] = (NO_TRANSFER, 0),
        about: ObjectKey = NO_OBJECT,
    ) -> None:
        size = len(payload)
        header = FrameHeader(kind, *transfer, about, Codec.RAW, size, size, payload_digest([payload]))
        with contextlib.suppress(OSError):
            self.sock.sendall(header.pack() + payload)

    def ack(self, credit_bytes: int) -> None:
        self.say(Kind.ACK, messages.encode(messages.Ack(self.frames, credit_bytes)))

    def kill(self) -> None:
        """Both directions, at once, and with what has not been read."""
        self.dead = True
        self.reading.set()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def read(self, count: int) -> bytes | None:
        data = bytearray()
        while len(data) < count:
            self.reading.wait(20)
            if self.dead:
                return None
            try:
                part = self.sock.recv(count - len(data))
            except OSError:
                return None
            if not part:
                return None
            data += part
        return bytes(data)


Hook = Callable[[Caught], bool]
"""Whether the receiver's own behaviour follows."""


class Receiver:
    """Welcomes, accepts, acknowledges and commits, unless `hook` does something else."""

    def __init__(self, hook: Hook | None = None, *, credit_bytes: int = 1 << 30, frame_bytes: int = FRAME) -> None:
        self.hook = hook
        self.credit_bytes = credit_bytes
        self.frame_bytes = frame_bytes
        self.max_streams = 8
        self.caught: list[Caught] = []
        self.connections: list[Connection] = []
        self.arrived: dict[TransferId, dict[ObjectKey, bytes]] = {}
        self.committed: set[TransferId] = set()
        self._manifests: dict[TransferId, messages.Manifest] = {}
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.refuse_connections()
        for connection in self.connections:
            connection.kill()
        for thread in self._threads:
            thread.join()

    def refuse_connections(self) -> None:
        """From now on."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def of(self, kind: Kind) -> list[Caught]:
        """The frames of a kind, in order of arrival."""
        with self._lock:
            return [caught for caught in self.caught if caught.header.kind is kind]

    def objects(self) -> list[ObjectKey]:
        return [caught.header.key for caught in self.of(Kind.OBJECT)]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            connection = Connection(sock)
            self.connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        with connection.sock:
            for caught in self._frames(connection):
                with self._lock:
                    self.caught.append(caught)
                if self.hook is None or self.hook(caught):
                    self.behave(caught)

    def _frames(self, connection: Connection) -> Iterator[Caught]:
        while (data := connection.read(HEADER_BYTES)) is not None:
            header = unpack(data, max_payload_bytes=1 << 24)
            payload = connection.read(header.wire_bytes)
            if payload is None:
                return
            assert payload_digest([payload]) == header.digest
            if header.kind is Kind.OBJECT:
                connection.frames += 1
            yield Caught(connection, header, payload)

    def behave(self, caught: Caught) -> None:
        """As a good receiver does."""
        header = caught.header
        transfer = header.transfer_id, header.epoch
        match header.kind:
            case Kind.HELLO:
                welcome = messages.Welcome(
                    3, "west-0", "west", EPOCH, self.frame_bytes, self.credit_bytes, self.max_streams
                )
                caught.connection.say(Kind.WELCOME, messages.encode(welcome))
            case Kind.OPEN:
                self._open(caught)
            case Kind.OBJECT:
                self.place(caught)
                caught.connection.ack(self.credit_bytes)
                self._commit(caught.connection, transfer)
            case Kind.MANIFEST:
                self._manifests[header.transfer_id] = messages.decode(caught.payload, messages.Manifest)
                self._commit(caught.connection, transfer)
            case _:
                assert header.kind is Kind.CANCEL

    def place(self, caught: Caught) -> None:
        with self._lock:
            self.arrived.setdefault(caught.header.transfer_id, {})[caught.header.key] = caught.payload

    def _open(self, caught: Caught) -> None:
        transfer = caught.header.transfer_id, caught.header.epoch
        assert messages.decode(caught.payload, messages.Open) == OPEN
        if transfer[0] in self.committed:
            caught.connection.say(Kind.COMMITTED, b"", transfer)
            return
        with self._lock:
            keys = list(self.arrived.get(transfer[0], ()))
        rows = tuple(messages.RowRange(k.layer, k.tensor, k.start, k.end) for k in keys)
        caught.connection.say(Kind.ACCEPTED, messages.encode(messages.Accepted(rows)), transfer)

    def _commit(self, connection: Connection, transfer: tuple[TransferId, int]) -> None:
        with self._lock:
            manifest = self._manifests.get(transfer[0])
            arrived = self.arrived.get(transfer[0], {})
            done = manifest is not None and transfer[0] not in self.committed
            done = done and all(ObjectKey(o.layer, o.tensor, o.start, o.end) in arrived for o in manifest.objects)  # type: ignore[union-attr]
            if done:
                self.committed.add(transfer[0])
        if done:
            connection.say(Kind.COMMITTED, b"", transfer)
