"""Sends transfers to other instances: one long-lived connection per peer, shared by all transfers to it.

Two threads per peer, one that writes and one that reads answers. Buffers given to a transfer must stay as they are
until its `on_done` was called: nothing is copied on the way to the socket.
"""

import logging
import queue
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prfaas.config.sections import TransportSection
from prfaas.core.errors import CancelledError, PeerLostError, PrfaasError, from_code
from prfaas.core.ids import TransferId
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.connect import connect, fail_when_stalled, hang_up
from prfaas.transport.framing import receive_header, receive_payload, send_frame, send_message
from prfaas.wire import messages
from prfaas.wire.header import Codec, FrameHeader, Kind, ObjectKey, payload_digest

log = logging.getLogger(__name__)

OnDone = Callable[[PrfaasError | None], None]
"""Called once, on a transport thread: None after the receiver's commit, else why there is none."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What the manifest says besides its objects."""

    prompt_tokens: int
    first_token_id: int
    tokens_computed: int
    tokens_reused: int
    queue_ms: float
    prefill_ms: float


@dataclass(slots=True, eq=False)
class OutgoingTransfer:
    """One ticket's life on the sending side; the peer's threads change it."""

    transfer_id: TransferId
    epoch: int
    opening: messages.Open
    on_done: OnDone
    objects: list[messages.ManifestObject] = field(default_factory=list)
    bytes_wire: int = 0
    ended: bool = False


@dataclass(frozen=True, slots=True)
class _SendObject:
    transfer: OutgoingTransfer
    key: ObjectKey
    parts: Sequence[memoryview]


@dataclass(frozen=True, slots=True)
class _SendManifest:
    transfer: OutgoingTransfer
    summary: Summary


@dataclass(frozen=True, slots=True)
class _Start:
    transfer: OutgoingTransfer


@dataclass(frozen=True, slots=True)
class _Abandon:
    transfer: OutgoingTransfer
    error: PrfaasError


_Item = _Start | _SendObject | _SendManifest | _Abandon | None


class Peer:
    """The connection to one receiver. After a failure it reconnects at the next transfer."""

    def __init__(
        self, address: str, proxy: str | None, hello: messages.Hello, config: TransportSection, metrics: InstanceMetrics
    ) -> None:
        self._address = address
        self._proxy = proxy
        self._hello = hello
        self._config = config
        self._metrics = metrics
        self._items: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._live: dict[tuple[TransferId, int], OutgoingTransfer] = {}
        self._sock: socket.socket | None = None
        self._closing = False
        self._writer = threading.Thread(target=self._write, name=f"kv-to-{address}", daemon=True)
        self._writer.start()

    @property
    def idle(self) -> bool:
        """Not connected, and nothing to send: what a peer that has gone leaves behind."""
        return self._sock is None and not self._live and self._items.empty()

    def start(self, transfer: OutgoingTransfer) -> None:
        """Queues the opening of a transfer; its objects and manifest are queued behind it."""
        self._items.put(_Start(transfer))

    def send(self, transfer: OutgoingTransfer, key: ObjectKey, parts: Sequence[memoryview]) -> None:
        """Queues one object; `parts` in order are its canonical bytes."""
        self._items.put(_SendObject(transfer, key, parts))

    def finish(self, transfer: OutgoingTransfer, summary: Summary) -> None:
        """Queues the manifest of all objects queued before."""
        self._items.put(_SendManifest(transfer, summary))

    def abandon(self, transfer: OutgoingTransfer, error: PrfaasError) -> None:
        """Gives a transfer up: `on_done(error)` comes as soon as no thread uses its buffers any more."""
        self._items.put(_Abandon(transfer, error))

    def close(self) -> None:
        """Ends the connection and the threads; transfers still running end with CancelledError."""
        self._closing = True
        self._items.put(None)
        with self._lock:
            if self._sock:
                hang_up(self._sock)
        self._writer.join()

    def _write(self) -> None:
        while (item := self._items.get()) is not None:
            try:
                self._do(item)
            except (PrfaasError, OSError) as error:
                lost = error if isinstance(error, PrfaasError) else PeerLostError(f"{self._address}: {error}")
                self._disconnect(lost)
        self._disconnect(PeerLostError("closed"))

    def _do(self, item: _Start | _SendObject | _SendManifest | _Abandon) -> None:
        match item:
            case _Start(transfer):
                with self._lock:
                    self._live[transfer.transfer_id, transfer.epoch] = transfer
                opening = messages.encode(transfer.opening)
                send_message(self._connection(), Kind.OPEN, opening, transfer.transfer_id, transfer.epoch)
            case _SendObject(transfer, key, parts):
                if not transfer.ended:
                    self._send_object(transfer, key, parts)
            case _SendManifest(transfer, summary):
                if not transfer.ended:
                    self._send_manifest(transfer, summary)
            case _Abandon(transfer, error):
                if self._end(transfer, error) and self._sock is not None:
                    send_message(self._sock, Kind.CANCEL, b"", transfer.transfer_id, transfer.epoch)

    def _send_object(self, transfer: OutgoingTransfer, key: ObjectKey, parts: Sequence[memoryview]) -> None:
        size = sum(part.nbytes for part in parts)
        digest = payload_digest(parts)
        header = FrameHeader(Kind.OBJECT, transfer.transfer_id, transfer.epoch, key, Codec.RAW, size, size, digest)
        send_frame(self._connection(), header, parts)
        transfer.objects.append(messages.ManifestObject(key.layer, key.tensor, key.start, key.end, size, digest))
        transfer.bytes_wire += size
        self._metrics.kv_bytes.labels("out", "wire").inc(size)

    def _send_manifest(self, transfer: OutgoingTransfer, summary: Summary) -> None:
        manifest = messages.Manifest(
            prompt_tokens=summary.prompt_tokens,
            first_token_id=summary.first_token_id,
            objects=tuple(transfer.objects),
            tokens_computed=summary.tokens_computed,
            tokens_reused=summary.tokens_reused,
            queue_ms=summary.queue_ms,
            prefill_ms=summary.prefill_ms,
        )
        payload = messages.encode(manifest)
        send_message(self._connection(), Kind.MANIFEST, payload, transfer.transfer_id, transfer.epoch)

    def _connection(self) -> socket.socket:
        with self._lock:
            if self._sock is not None:
                return self._sock
        if self._closing:
            raise CancelledError("this instance is shutting down")
        sock = connect(self._address, self._proxy, self._config.connect_timeout_s)
        fail_when_stalled(sock, self._config.stall_s)
        with self._lock:
            self._sock = sock
        self._metrics.connections.labels("out").inc()
        threading.Thread(target=self._read, args=(sock,), name=f"kv-from-{self._address}", daemon=True).start()
        send_message(sock, Kind.HELLO, messages.encode(self._hello))
        return sock

    def _read(self, sock: socket.socket) -> None:
        """Takes the receiver's answers; a lost connection is noticed here first, since nothing else reads."""
        reason = f"{self._address} closed the data connection"
        staging = memoryview(bytearray(messages.MAX_MESSAGE_BYTES >> 8))
        try:
            while (header := receive_header(sock, len(staging))) is not None:
                payload = receive_payload(sock, header, staging)
                self._answered(header, payload)
        except (PrfaasError, OSError) as error:
            reason = f"the data connection to {self._address} failed: {error}"
        self._disconnect(PeerLostError(reason), only=sock)

    def _answered(self, header: FrameHeader, payload: memoryview) -> None:
        transfer = self._live.get((header.transfer_id, header.epoch))
        if transfer is None:
            return
        if header.kind is Kind.COMMITTED:
            self._end(transfer, None)
        elif header.kind is Kind.REJECTED:
            rejected = messages.decode(payload, messages.Rejected)
            # Through the queue: the writer may be using this transfer's buffers at this moment.
            self._items.put(_Abandon(transfer, from_code(rejected.code, rejected.message)))

    def _disconnect(self, error: PrfaasError, only: socket.socket | None = None) -> None:
        """Drops the connection and fails what it carried; `only`: unless it has been replaced already."""
        if self._closing:
            error = CancelledError("this instance is shutting down")
        with self._lock:
            sock = self._sock
            if only is not None and sock is not only:
                return
            self._sock = None
            carried = list(self._live.values())
        if sock is not None:
            hang_up(sock)
            self._metrics.connections.labels("out").dec()
        for transfer in carried:
            if threading.current_thread() is self._writer:
                self._end(transfer, error)
            else:
                self._items.put(_Abandon(transfer, error))

    def _end(self, transfer: OutgoingTransfer, error: PrfaasError | None) -> bool:
        """Ends a transfer once; False if it had ended."""
        with self._lock:
            if transfer.ended:
                return False
            transfer.ended = True
            self._live.pop((transfer.transfer_id, transfer.epoch), None)
        transfer.on_done(error)
        return True


class Outbox:
    """All peers that this instance sends KV to."""

    def __init__(self, hello: messages.Hello, config: TransportSection, metrics: InstanceMetrics) -> None:
        self._hello = hello
        self._config = config
        self._metrics = metrics
        self._lock = threading.Lock()
        self._peers: dict[tuple[str, str | None], Peer] = {}

    def peer(self, address: str, proxy: str | None) -> Peer:
        """The connection to `address`, made at its first transfer and kept."""
        with self._lock:
            if (address, proxy) not in self._peers:
                self._drop_idle()
                self._peers[address, proxy] = Peer(address, proxy, self._hello, self._config, self._metrics)
            return self._peers[address, proxy]

    def close(self) -> None:
        with self._lock:
            peers = list(self._peers.values())
            self._peers.clear()
        for peer in peers:
            peer.close()

    def _drop_idle(self) -> None:
        """Instances come back with new addresses; threads for the old ones must not pile up."""
        for key in [key for key, peer in self._peers.items() if peer.idle]:
            self._peers.pop(key).close()
