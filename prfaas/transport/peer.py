"""The connection to one receiver, shared by all transfers to it.

Two threads: the writer owns the socket, sends, and alone closes it; the reader takes answers and wakes the writer when
the connection is lost. Buffers given to a transfer must stay as they are until its `on_done` was called: nothing is
copied on the way to the socket.
"""

import logging
import queue
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from prfaas.config.sections import TransportSection
from prfaas.core.clock import Clock
from prfaas.core.errors import (
    CancelledError,
    ManifestError,
    PeerLostError,
    PrfaasError,
    TicketError,
    WireError,
    from_code,
)
from prfaas.core.ids import TransferId
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.connect import connect, fail_when_stalled, unacknowledged_bytes, wake
from prfaas.transport.framing import receive_header, receive_payload, send_frame, send_message
from prfaas.transport.outgoing import OutgoingTransfer, Summary
from prfaas.wire import messages
from prfaas.wire.header import Codec, FrameHeader, Kind, ObjectKey, payload_digest

log = logging.getLogger(__name__)

RETRY_AFTER_S = 1.0
"""After a failed connect further transfers fail at once for so long, rather than each wait for a timeout of its own."""


@dataclass(frozen=True, slots=True)
class _Start:
    transfer: OutgoingTransfer


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
class _Abandon:
    transfer: OutgoingTransfer
    error: PrfaasError


@dataclass(frozen=True, slots=True)
class _Lost:
    """The reader found the connection over `sock` ended."""

    sock: socket.socket
    reason: str


_Item = _Start | _SendObject | _SendManifest | _Abandon | _Lost


class Peer:
    """The connection to one receiver. After a failure it reconnects at the next transfer."""

    def __init__(
        self,
        address: str,
        proxy: str | None,
        hello: messages.Hello,
        config: TransportSection,
        metrics: InstanceMetrics,
        clock: Clock,
    ) -> None:
        self._address = address
        self._proxy = proxy
        self._hello = hello
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self._items: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._live: dict[tuple[TransferId, int], OutgoingTransfer] = {}
        self._sock: socket.socket | None = None
        self._reader: threading.Thread | None = None
        self._loss: str | None = None
        self._unreachable: tuple[float, PrfaasError] | None = None
        self._closing = False
        self._bytes_sent = 0
        self._writer = threading.Thread(target=self._write, name=f"kv-to-{address}", daemon=True)
        self._writer.start()

    @property
    def idle(self) -> bool:
        """Not connected, and nothing to send: what a peer that has gone leaves behind."""
        return self._sock is None and not self._live

    def bytes_acknowledged(self) -> int:
        """Changes while the connection moves; a watcher tells a queue from a stall by it.

        What the kernel still holds does not count: it can be seconds of a slow link.
        """
        with self._lock:
            return self._bytes_sent - (unacknowledged_bytes(self._sock) if self._sock is not None else 0)

    def start(self, transfer: OutgoingTransfer) -> None:
        """Queues the opening of a transfer; its objects and manifest are queued behind it."""
        refusal: PrfaasError | None = None
        with self._lock:
            if self._closing:
                refusal = CancelledError("this instance is shutting down")
            elif transfer.key in self._live:
                refusal = TicketError("a transfer with this ticket is under way already")
            else:
                self._live[transfer.key] = transfer
        if refusal is not None:
            self._end(transfer, refusal)
        self._items.put(_Start(transfer))

    def send(self, transfer: OutgoingTransfer, key: ObjectKey, parts: Sequence[memoryview]) -> None:
        """Queues one object; `parts` in order are its canonical bytes."""
        self._items.put(_SendObject(transfer, key, parts))

    def finish(self, transfer: OutgoingTransfer, summary: Summary) -> None:
        """Queues the manifest of all objects queued before."""
        self._items.put(_SendManifest(transfer, summary))

    def abandon(self, transfer: OutgoingTransfer, error: PrfaasError) -> None:
        """Gives a transfer up: `on_done(error)` comes as soon as no thread uses its buffers any more."""
        # The flag makes the writer skip at once all that is queued; the item ends the transfer when it is reached.
        transfer.abandoned = True
        self._items.put(_Abandon(transfer, error))

    def close(self) -> None:
        """Ends the connection and the threads; transfers still running end with CancelledError."""
        with self._lock:
            self._closing = True
            if self._sock is not None:
                wake(self._sock)
        self._items.put(None)
        self._writer.join()

    def _write(self) -> None:
        while (item := self._items.get()) is not None:
            try:
                self._do(item)
            except Exception as error:  # the thread's edge: whatever it was, no transfer may wait for ever
                if not isinstance(error, PrfaasError | OSError):
                    log.exception("sending to %s broke", self._address)
                self._disconnect(self._typed(error))
        self._disconnect(CancelledError("this instance is shutting down"), also_unopened=True)

    def _typed(self, error: Exception) -> PrfaasError:
        if self._closing:
            return CancelledError("this instance is shutting down")
        if isinstance(error, PrfaasError):
            return error
        # A reader that saw the end first knows the reason better than a failed write does.
        return PeerLostError(self._loss or f"the data connection to {self._address} failed: {error}")

    def _do(self, item: _Item) -> None:
        match item:
            case _Start(transfer) | _SendObject(transfer) | _SendManifest(transfer) if not transfer.wanted:
                return
            case _Start(transfer):
                transfer.opened = True
                opening = messages.encode(transfer.opening)
                send_message(self._connection(), Kind.OPEN, opening, *transfer.key)
            case _SendObject(transfer, key, parts):
                self._send_object(transfer, key, parts)
            case _SendManifest(transfer, summary):
                self._send_manifest(transfer, summary)
            case _Abandon(transfer, error):
                if self._end(transfer, error) and transfer.opened and self._sock is not None:
                    send_message(self._sock, Kind.CANCEL, b"", *transfer.key)
            case _Lost(sock, reason):
                if sock is self._sock:
                    self._disconnect(self._typed(PeerLostError(reason)))

    def _send_object(self, transfer: OutgoingTransfer, key: ObjectKey, parts: Sequence[memoryview]) -> None:
        size = sum(part.nbytes for part in parts)
        digest = payload_digest(parts)
        header = FrameHeader(Kind.OBJECT, *transfer.key, key, Codec.RAW, size, size, digest)
        send_frame(self._connection(), header, parts)
        transfer.objects.append(messages.ManifestObject(key.layer, key.tensor, key.start, key.end, size, digest))
        transfer.bytes_wire += size
        self._bytes_sent += size
        self._metrics.kv_bytes.labels("out", "wire").inc(size)

    def _send_manifest(self, transfer: OutgoingTransfer, summary: Summary) -> None:
        manifest = messages.Manifest(
            prompt_tokens=transfer.opening.prompt_tokens,
            held_tokens=transfer.opening.held_tokens,
            first_token_id=summary.first_token_id,
            objects=tuple(transfer.objects),
            tokens_computed=summary.tokens_computed,
            tokens_reused=summary.tokens_reused,
            queue_ms=summary.queue_ms,
            prefill_ms=summary.prefill_ms,
        )
        payload = messages.encode(manifest)
        if len(payload) > messages.MAX_MESSAGE_BYTES:
            # The receiver would end the connection, and with it transfers that are fine.
            error = ManifestError(f"{len(transfer.objects)} objects are too many; raise transport.frame_bytes")
            self.abandon(transfer, error)
            return
        transfer.manifest_sent = True
        send_message(self._connection(), Kind.MANIFEST, payload, *transfer.key)

    def _connection(self) -> socket.socket:
        if self._sock is None:
            self._connect()
        assert self._sock is not None
        return self._sock

    def _connect(self) -> None:
        if self._unreachable is not None and self._clock() - self._unreachable[0] < RETRY_AFTER_S:
            raise self._unreachable[1]
        try:
            sock = connect(self._address, self._proxy, self._config.connect_timeout_s)
        except PeerLostError as error:
            self._unreachable = self._clock(), error
            raise
        fail_when_stalled(sock, self._config.stall_s)
        with self._lock:
            if self._closing:
                sock.close()
                raise CancelledError("this instance is shutting down")
            self._sock = sock
        self._loss = None
        self._unreachable = None
        self._metrics.connections.labels("out").inc()
        name = f"kv-from-{self._address}"
        self._reader = threading.Thread(target=self._read, args=(sock,), name=name, daemon=True)
        self._reader.start()
        send_message(sock, Kind.HELLO, messages.encode(self._hello))

    def _read(self, sock: socket.socket) -> None:
        """Takes the receiver's answers; a lost connection is noticed here first, since nothing else reads."""
        reason = f"{self._address} closed the data connection"
        staging = memoryview(bytearray(messages.MAX_SMALL_MESSAGE_BYTES))
        try:
            while (header := receive_header(sock, len(staging))) is not None:
                self._answered(header, receive_payload(sock, header, staging))
        except Exception as error:  # the thread's edge: the writer must learn of it
            if not isinstance(error, PrfaasError | OSError):
                log.exception("reading from %s broke", self._address)
            reason = f"the data connection to {self._address} failed: {error}"
        self._loss = reason
        wake(sock)
        self._items.put(_Lost(sock, reason))

    def _answered(self, header: FrameHeader, payload: memoryview) -> None:
        transfer = self._live.get((header.transfer_id, header.epoch))
        if transfer is None:
            return
        if header.kind is Kind.COMMITTED:
            if not transfer.manifest_sent:
                raise WireError("the receiver claims to have committed what it was never sent")
            self._end(transfer, None)
        elif header.kind is Kind.REJECTED:
            rejected = messages.decode(payload, messages.Rejected)
            self.abandon(transfer, from_code(rejected.code, rejected.message))

    def _disconnect(self, error: PrfaasError, *, also_unopened: bool = False) -> None:
        """Closes the connection and fails what it carried; only the writer does this, so no other thread's
        descriptor can be hit."""
        with self._lock:
            sock, self._sock = self._sock, None
            carried = [t for t in self._live.values() if t.opened or also_unopened]
        if sock is not None:
            wake(sock)
            if self._reader is not None:
                self._reader.join()
            sock.close()
            self._metrics.connections.labels("out").dec()
        for transfer in carried:
            self._end(transfer, error)

    def _end(self, transfer: OutgoingTransfer, error: PrfaasError | None) -> bool:
        """Ends a transfer once; False if it had ended."""
        with self._lock:
            if transfer.ended:
                return False
            transfer.ended = True
            if self._live.get(transfer.key) is transfer:
                del self._live[transfer.key]
        transfer.on_done(error)
        return True
