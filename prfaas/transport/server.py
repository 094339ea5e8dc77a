"""Listens for KV data connections and feeds their frames to the inbox: one thread and one staging buffer each.

Before a connection has shown the secret of a ticket it can make us hold 64 KiB and nothing more.
"""

import logging
import socket
import threading

from prfaas.config.sections import TransportSection
from prfaas.core.clock import Clock
from prfaas.core.errors import DigestError, PeerLostError, PrfaasError, WireError
from prfaas.core.ids import TransferId
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.connect import fail_when_stalled, wake
from prfaas.transport.framing import receive_header, receive_payload, send_message
from prfaas.transport.inbox import Inbox, IncomingTransfer, Received
from prfaas.wire import messages
from prfaas.wire.header import FrameHeader, Kind

log = logging.getLogger(__name__)

PAUSE_AFTER_REFUSED_ACCEPT_S = 0.1


class DataServer:
    """Accepts up to `max_connections` senders; memory is bounded by that times the largest frame."""

    def __init__(
        self, listener: socket.socket, inbox: Inbox, config: TransportSection, metrics: InstanceMetrics, clock: Clock
    ) -> None:
        self._listener = listener
        self._inbox = inbox
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self._lock = threading.Lock()
        self._serving: dict[threading.Thread, _Connection] = {}
        self._closing = threading.Event()
        self._acceptor = threading.Thread(target=self._accept, name="kv-accept", daemon=True)

    def start(self) -> None:
        self._acceptor.start()

    def close(self) -> None:
        """Ends every connection (their transfers fail with PeerLostError) and waits for the threads."""
        self._closing.set()
        wake(self._listener)
        if self._acceptor.is_alive():
            self._acceptor.join()
        self._listener.close()
        with self._lock:
            serving = dict(self._serving)
        for thread, connection in serving.items():
            wake(connection.sock)
            thread.join()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                sock, peer = self._listener.accept()
            except OSError as error:
                if not self._closing.is_set():
                    # Out of descriptors, say: without an acceptor the instance would look alive and receive nothing.
                    log.warning("cannot accept a KV connection: %s", error)
                    self._closing.wait(PAUSE_AFTER_REFUSED_ACCEPT_S)
                continue
            self._admit(
                _Connection(sock, f"{peer[0]}:{peer[1]}", self._inbox, self._config, self._metrics, self._clock)
            )

    def _admit(self, connection: "_Connection") -> None:
        thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
        with self._lock:
            full = len(self._serving) >= self._config.max_connections
            if full and not self._evict():
                log.warning("refused a KV connection from %s: %d are busy", connection.peer, len(self._serving))
                connection.sock.close()
                return
            self._serving[thread] = connection
        try:
            thread.start()
        except RuntimeError as error:
            log.warning("cannot serve a KV connection: %s", error)
            with self._lock:
                del self._serving[thread]
            connection.sock.close()

    def _evict(self) -> bool:
        """Ends the connection that has been idle longest; its sender reconnects when it has something to send."""
        idle = [c for c in self._serving.values() if not c.busy and not c.evicted]
        if not idle:
            return False
        longest = min(idle, key=lambda c: c.heard_s)
        longest.evicted = True
        wake(longest.sock)
        return True

    def _serve(self, connection: "_Connection") -> None:
        self._metrics.connections.labels("in").inc()
        try:
            connection.run()
        except (PrfaasError, OSError) as error:
            if not self._closing.is_set() and not connection.evicted:
                log.warning("KV connection from %s ended: %s", connection.peer, error)
        except Exception:  # the thread's edge: its transfers are failed below, and others go on
            log.exception("serving the KV connection from %s broke", connection.peer)
        finally:
            connection.abandon()
            wake(connection.sock)
            connection.sock.close()
            self._metrics.connections.labels("in").dec()
            with self._lock:
                self._serving.pop(threading.current_thread(), None)


class _Connection:
    """One sender's stream of frames."""

    def __init__(
        self,
        sock: socket.socket,
        peer: str,
        inbox: Inbox,
        config: TransportSection,
        metrics: InstanceMetrics,
        clock: Clock,
    ) -> None:
        self.sock = sock
        self.peer = peer
        self.heard_s = clock()
        self.evicted = False
        self._inbox = inbox
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self._small = memoryview(bytearray(messages.MAX_SMALL_MESSAGE_BYTES))
        self._staging: memoryview | None = None
        self._opened: dict[tuple[TransferId, int], IncomingTransfer] = {}

    @property
    def busy(self) -> bool:
        """A transfer that somebody waits for is under way."""
        return bool(self._opened)

    def run(self) -> None:
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fail_when_stalled(self.sock, self._config.stall_s)
        self.sock.settimeout(self._config.connect_timeout_s)
        self._greet()
        self.sock.settimeout(None)
        while (header := self._next()) is not None:
            try:
                self._handle(header)
            except PeerLostError:
                raise
            except PrfaasError as error:
                self._reject(header, error)

    def abandon(self) -> None:
        """The connection is gone: what it was bringing cannot complete."""
        for transfer in self._opened.values():
            transfer.fail(PeerLostError(f"the data connection from {self.peer} ended before the transfer did"))
        self._opened.clear()

    def _next(self) -> FrameHeader | None:
        header = receive_header(self.sock, max(self._config.frame_bytes, messages.MAX_MESSAGE_BYTES))
        self.heard_s = self._clock()
        return header

    def _greet(self) -> None:
        header = self._next()
        if header is None:
            return
        if header.kind is not Kind.HELLO:
            raise WireError(f"a connection begins with HELLO, not {header.kind.name}")
        hello = messages.decode(self._message(header, self._small), messages.Hello)
        self.peer = f"{hello.instance_id} of {hello.cluster}"

    def _handle(self, header: FrameHeader) -> None:
        key = (header.transfer_id, header.epoch)
        transfer = self._opened.get(key)
        match header.kind:
            case Kind.OPEN:
                self._open(header)
            case Kind.OBJECT if transfer is not None:
                self._object(header, transfer)
            case Kind.MANIFEST if transfer is not None:
                room = memoryview(bytearray(header.wire_bytes))
                manifest = messages.decode(self._message(header, room), messages.Manifest)
                self._answer(header, transfer.manifest(manifest))
            case Kind.OBJECT | Kind.MANIFEST:
                self._drop(header)
            case Kind.CANCEL:
                self._drop(header)
                if self._opened.pop(key, None) and transfer is not None:
                    transfer.fail(PeerLostError(f"{self.peer} gave the transfer up"))
            case _:
                self._drop(header)
                raise WireError(f"a sender must not send {header.kind.name}")

    def _open(self, header: FrameHeader) -> None:
        message = messages.decode(self._message(header, self._small), messages.Open)
        transfer = self._inbox.find(header.transfer_id, header.epoch)
        transfer.open(message)
        self._opened[header.transfer_id, header.epoch] = transfer
        if self._staging is None:
            self._staging = memoryview(bytearray(self._config.frame_bytes))

    def _object(self, header: FrameHeader, transfer: IncomingTransfer) -> None:
        assert self._staging is not None
        if header.wire_bytes > len(self._staging):
            raise PeerLostError(f"{header.key} has {header.wire_bytes} bytes, above the frame size of this receiver")
        try:
            transfer.admit(header)
        except PrfaasError:
            # The payload is on its way all the same; the stream stays in step only if it is read.
            self._drop(header)
            raise
        payload = receive_payload(self.sock, header, self._staging)
        self._metrics.kv_bytes.labels("in", "wire").inc(header.wire_bytes)
        self._answer(header, transfer.place(header, payload))

    def _message(self, header: FrameHeader, room: memoryview) -> memoryview:
        if header.wire_bytes > len(room):
            raise PeerLostError(f"a {header.kind.name} of {header.wire_bytes} bytes is too long")
        return receive_payload(self.sock, header, room)

    def _drop(self, header: FrameHeader) -> None:
        """Reads a payload that nobody wants."""
        left = header.wire_bytes
        while left:
            got = self.sock.recv_into(self._small[:left])
            if got == 0:
                raise PeerLostError("the connection ended inside a payload")
            left -= got

    def _answer(self, header: FrameHeader, received: Received | None) -> None:
        if received is None:
            return
        self._opened.pop((header.transfer_id, header.epoch), None)
        self._metrics.kv_bytes.labels("in", "raw").inc(received.bytes_raw)
        self._metrics.transfer_seconds.observe(received.transfer_s)
        send_message(self.sock, Kind.COMMITTED, b"", header.transfer_id, header.epoch)

    def _reject(self, header: FrameHeader, error: PrfaasError) -> None:
        """Tells the sender once; later frames of the transfer are read and dropped."""
        log.warning("transfer %s from %s refused: %s", header.transfer_id.hex(), self.peer, error)
        if transfer := self._opened.pop((header.transfer_id, header.epoch), None):
            transfer.fail(error)
        payload = messages.encode(messages.Rejected(error.code, str(error)))
        send_message(self.sock, Kind.REJECTED, payload, header.transfer_id, header.epoch)
        if isinstance(error, DigestError):
            # The stream cannot be trusted to be in step after corrupt bytes.
            raise error
