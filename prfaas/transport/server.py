"""Listens for KV data connections and feeds their frames to the inbox: one thread and one staging buffer each."""

import logging
import socket
import threading

from prfaas.config.sections import TransportSection
from prfaas.core.errors import DigestError, PeerLostError, PrfaasError, WireError
from prfaas.core.ids import TransferId
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.connect import fail_when_stalled, hang_up
from prfaas.transport.framing import receive_header, receive_payload, send_message
from prfaas.transport.inbox import Inbox, IncomingTransfer, Received
from prfaas.wire import messages
from prfaas.wire.header import FrameHeader, Kind

log = logging.getLogger(__name__)


class DataServer:
    """Accepts up to `max_connections` senders; memory is bounded by that times the largest frame."""

    def __init__(
        self, listener: socket.socket, inbox: Inbox, config: TransportSection, metrics: InstanceMetrics
    ) -> None:
        self._listener = listener
        self._inbox = inbox
        self._config = config
        self._metrics = metrics
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._closing = False
        self._acceptor = threading.Thread(target=self._accept, name="kv-accept", daemon=True)

    def start(self) -> None:
        self._acceptor.start()

    def close(self) -> None:
        """Ends every connection (their transfers fail with PeerLostError) and waits for the threads."""
        self._closing = True
        hang_up(self._listener)
        with self._lock:
            connections, threads = list(self._connections), list(self._threads)
        for sock in connections:
            hang_up(sock)
        for thread in [self._acceptor, *threads]:
            thread.join()

    def _accept(self) -> None:
        while not self._closing:
            try:
                sock, peer = self._listener.accept()
            except OSError:
                return
            with self._lock:
                full = len(self._connections) >= self._config.max_connections or self._closing
                if not full:
                    self._connections.add(sock)
            if full:
                log.warning("refused a KV connection from %s: %d are open", peer, self._config.max_connections)
                hang_up(sock)
                continue
            thread = threading.Thread(target=self._serve, args=(sock, f"{peer[0]}:{peer[1]}"), daemon=True)
            with self._lock:
                self._threads.add(thread)
            self._metrics.connections.labels("in").inc()
            thread.start()

    def _serve(self, sock: socket.socket, peer: str) -> None:
        connection = _Connection(sock, peer, self._inbox, self._config, self._metrics)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            fail_when_stalled(sock, self._config.stall_s)
            connection.run()
        except (PrfaasError, OSError) as error:
            if not self._closing:
                log.warning("KV connection from %s ended: %s", connection.peer, error)
        finally:
            connection.abandon()
            hang_up(sock)
            self._metrics.connections.labels("in").dec()
            with self._lock:
                self._connections.discard(sock)
                self._threads.discard(threading.current_thread())


class _Connection:
    """One sender's stream of frames."""

    def __init__(
        self, sock: socket.socket, peer: str, inbox: Inbox, config: TransportSection, metrics: InstanceMetrics
    ) -> None:
        self._sock = sock
        self._inbox = inbox
        self._metrics = metrics
        self._staging = memoryview(bytearray(config.frame_bytes))
        self._max_payload = max(config.frame_bytes, messages.MAX_MESSAGE_BYTES)
        self._opened: dict[tuple[TransferId, int], IncomingTransfer] = {}
        self.peer = peer

    def run(self) -> None:
        while (header := receive_header(self._sock, self._max_payload)) is not None:
            self._handle(header)

    def abandon(self) -> None:
        """The connection is gone: what it was bringing cannot complete."""
        for transfer in self._opened.values():
            transfer.fail(PeerLostError(f"the data connection from {self.peer} ended before the transfer did"))
        self._opened.clear()

    def _handle(self, header: FrameHeader) -> None:
        if header.kind is Kind.HELLO:
            hello = messages.decode(self._message(header), messages.Hello)
            self.peer = f"{hello.instance_id} of {hello.cluster}"
            return
        try:
            self._handle_transfer(header)
        except PeerLostError:
            raise
        except PrfaasError as error:
            self._reject(header, error)

    def _handle_transfer(self, header: FrameHeader) -> None:
        key = (header.transfer_id, header.epoch)
        match header.kind:
            case Kind.OPEN:
                payload = self._message(header)
                transfer = self._inbox.find(*key)
                transfer.open(messages.decode(payload, messages.Open))
                self._opened[key] = transfer
            case Kind.OBJECT:
                self._object(header)
            case Kind.MANIFEST:
                payload = self._message(header)
                if key in self._opened:
                    self._answer(header, self._opened[key].manifest(messages.decode(payload, messages.Manifest)))
            case Kind.CANCEL:
                self._message(header)
                if cancelled := self._opened.pop(key, None):
                    cancelled.fail(PeerLostError(f"{self.peer} gave the transfer up"))
            case _:
                raise WireError(f"a sender must not send {header.kind.name}")

    def _object(self, header: FrameHeader) -> None:
        transfer = self._opened.get((header.transfer_id, header.epoch))
        if header.wire_bytes > len(self._staging):
            raise PeerLostError(f"{header.key} has {header.wire_bytes} bytes, above the frame size of this receiver")
        refusal: PrfaasError | None = None
        if transfer is not None:
            try:
                transfer.admit(header)
            except PrfaasError as error:
                refusal = error
        # The payload is on its way whether it is welcome or not; the stream stays in step only if it is read.
        payload = receive_payload(self._sock, header, self._staging)
        if refusal is not None:
            raise refusal
        if transfer is not None:
            self._metrics.kv_bytes.labels("in", "wire").inc(header.wire_bytes)
            self._answer(header, transfer.place(header, payload))

    def _message(self, header: FrameHeader) -> memoryview:
        if header.wire_bytes > messages.MAX_MESSAGE_BYTES:
            raise PeerLostError(f"a {header.kind.name} message of {header.wire_bytes} bytes is too long")
        room = self._staging if header.wire_bytes <= len(self._staging) else memoryview(bytearray(header.wire_bytes))
        return receive_payload(self._sock, header, room)

    def _answer(self, header: FrameHeader, received: Received | None) -> None:
        if received is None:
            return
        self._opened.pop((header.transfer_id, header.epoch), None)
        self._metrics.kv_bytes.labels("in", "raw").inc(received.bytes_raw)
        self._metrics.transfer_seconds.observe(received.transfer_s)
        send_message(self._sock, Kind.COMMITTED, b"", header.transfer_id, header.epoch)

    def _reject(self, header: FrameHeader, error: PrfaasError) -> None:
        """Tells the sender once; later frames of the transfer are read and dropped."""
        log.warning("transfer %s from %s refused: %s", header.transfer_id.hex(), self.peer, error)
        if transfer := self._opened.pop((header.transfer_id, header.epoch), None):
            transfer.fail(error)
        payload = messages.encode(messages.Rejected(error.code, str(error)))
        send_message(self._sock, Kind.REJECTED, payload, header.transfer_id, header.epoch)
        if isinstance(error, DigestError):
            # The stream cannot be trusted to be in step after corrupt bytes.
            raise error
