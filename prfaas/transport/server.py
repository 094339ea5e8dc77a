"""Listens for KV data connections, and serves each with a thread."""

import logging
import socket
import threading

from prfaas.config.sections import TransportSection
from prfaas.control.credentials import Credentials
from prfaas.core.clock import Clock
from prfaas.core.errors import PrfaasError
from prfaas.telemetry.metrics import InstanceMetrics
from prfaas.transport.connect import wake
from prfaas.transport.connection import Connection
from prfaas.transport.host import Host
from prfaas.transport.inbox import Inbox
from prfaas.transport.sessions import SenderSessions
from prfaas.transport.staging import StagingArena
from prfaas.transport.surroundings import Surroundings
from prfaas.wire.header import Digest, payload_digest

log = logging.getLogger(__name__)

PAUSE_AFTER_REFUSED_ACCEPT_S = 0.1


class DataServer:
    """Accepts up to `max_connections`. A lost one harms no transfer: its sender brings the rest by another."""

    def __init__(
        self,
        listener: socket.socket,
        inbox: Inbox,
        host: Host,
        config: TransportSection,
        credentials: Credentials | None,
        metrics: InstanceMetrics,
        clock: Clock,
        digest: Digest = payload_digest,
    ) -> None:
        """`digest`: of objects; a faster one than ours is welcome."""
        self._listener = listener
        self._config = config
        self._metrics = metrics
        self._arena = StagingArena(config.staging_bytes, config.frame_bytes)
        self._surroundings = Surroundings(
            inbox, SenderSessions(config, clock), self._arena, host, config, credentials, metrics, clock, digest
        )
        if config.socket_buffer_bytes:
            # Before there is a connection, since the window's scale is agreed on with its first packet.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, config.socket_buffer_bytes)
        self._lock = threading.Lock()
        self._serving: dict[threading.Thread, Connection] = {}
        self._closing = threading.Event()
        self._acceptor = threading.Thread(target=self._accept, name="kv-accept", daemon=True)

    @property
    def num_staged(self) -> int:
        """Staging buffers in use."""
        return self._arena.num_taken

    def start(self) -> None:
        self._acceptor.start()

    def close(self) -> None:
        """Ends every connection and waits for their threads; transfers wait on in the inbox."""
        self._closing.set()
        wake(self._listener)
        if self._acceptor.is_alive():
            self._acceptor.join()
        self._listener.close()
        self._arena.close()
        with self._lock:
            serving = dict(self._serving)
        for thread, connection in serving.items():
            connection.hang_up()
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
            self._admit(sock, f"{peer[0]}:{peer[1]}")

    def _admit(self, sock: socket.socket, peer: str) -> None:
        connection = Connection(sock, peer, self._surroundings)
        thread = threading.Thread(target=self._serve, args=(connection,), name="kv-in", daemon=True)
        with self._lock:
            full = len(self._serving) >= self._config.max_connections
            if full and not self._evict():
                log.warning("refused a KV connection from %s: %d are busy", peer, len(self._serving))
                self._metrics.refused.labels("unavailable").inc()
                sock.close()
                return
            self._serving[thread] = connection
        try:
            thread.start()
        except RuntimeError as error:
            log.warning("cannot serve a KV connection: %s", error)
            with self._lock:
                del self._serving[thread]
            sock.close()

    def _evict(self) -> bool:
        """Ends the connection that has been idle longest; its sender reconnects when it has something to send."""
        idle = [c for c in self._serving.values() if not c.busy and not c.hung_up]
        if not idle:
            return False
        min(idle, key=lambda c: c.heard_s).hang_up()
        return True

    def _serve(self, connection: Connection) -> None:
        self._metrics.connections.labels("in").inc()
        try:
            connection.run()
        except (PrfaasError, OSError) as error:
            if not connection.hung_up:
                log.warning("KV connection from %s ended: %s", connection.peer, error)
        except Exception:  # the thread's edge: other connections go on
            log.exception("serving the KV connection from %s broke", connection.peer)
        finally:
            self._metrics.connections.labels("in").dec()
            with self._lock:
                self._serving.pop(threading.current_thread(), None)
