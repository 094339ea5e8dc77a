"""The connections of each sender as one: their credit, the answers that any of them may carry, and their faults.

Knows no transfers, only their names.
"""

import threading
from collections import deque
from typing import Protocol

from prfaas.config.sections import TransportSection
from prfaas.core.clock import Clock
from prfaas.core.errors import PeerRefusedError, UnavailableError, WireError
from prfaas.transport.tombstones import TransferKey
from prfaas.wire.messages import Hello

EJECTIONS = 3
"""Connections ejected within `EJECTION_WINDOW_S` that make a sender's network, or memory, not worth trusting."""
EJECTION_WINDOW_S = 60.0
REFUSAL_S = 30.0
SILENT_SHARE = 0.25
"""Of `stall_s`: a connection that was silent for so long gives way to a new one of the same sender."""


class SessionConnection(Protocol):
    """One of a sender's connections, as its session sees it."""

    @property
    def heard_s(self) -> float:
        """When something last came by it."""
        ...

    def post(self, key: TransferKey, frame: bytes) -> None:
        """Sends `frame`, which says how a transfer ended, soon; called on any thread."""
        ...

    def hang_up(self) -> None:
        """Ends the connection soon; called on any thread."""
        ...


class SenderSession:
    """One life of one sender's way to us."""

    def __init__(self, hello: Hello, config: TransportSection) -> None:
        self.id = hello.session
        self.instance_id = hello.instance_id
        self.cluster = hello.cluster
        self.credit_bytes = config.credit_bytes
        self._frame_bytes = config.frame_bytes
        self._lock = threading.Lock()
        self._connections: list[SessionConnection] = []
        self._under_way: set[TransferKey] = set()
        self._in_progress_bytes = 0

    @property
    def num_connections(self) -> int:
        return len(self._connections)

    @property
    def under_way(self) -> tuple[TransferKey, ...]:
        """Transfers that it has opened and that have not ended."""
        with self._lock:
            return tuple(self._under_way)

    @property
    def busy(self) -> bool:
        """Somebody waits for what it sends."""
        return bool(self._under_way)

    @property
    def in_progress_bytes(self) -> int:
        """Payload whose header came and that has not been acknowledged."""
        return self._in_progress_bytes

    def begin(self, num_bytes: int) -> None:
        """A payload comes. Raises WireError if the sender had not the credit for it."""
        with self._lock:
            self._in_progress_bytes += num_bytes
            # A connection that was lost may hold a frame of which the sender thinks no more.
            allowed = self.credit_bytes + self._frame_bytes * len(self._connections)
            if self._in_progress_bytes <= allowed:
                return
        raise WireError(f"{self.instance_id} sent beyond its credit of {self.credit_bytes} bytes")

    def settle(self, num_bytes: int) -> None:
        """Payloads are acknowledged, or lost with their connection."""
        with self._lock:
            self._in_progress_bytes -= num_bytes

    def opened(self, key: TransferKey) -> None:
        with self._lock:
            self._under_way.add(key)

    def ended(self, key: TransferKey, frame: bytes | None) -> None:
        """A transfer is over; `frame` tells the sender, if it does not know yet."""
        with self._lock:
            self._under_way.discard(key)
        if frame is not None:
            self.post(key, frame)

    def post(self, key: TransferKey, frame: bytes) -> None:
        """Sends by the connection that is most likely alive; with none left the sender has to ask."""
        with self._lock:
            if self._connections:
                max(self._connections, key=lambda connection: connection.heard_s).post(key, frame)

    def hang_up(self) -> None:
        with self._lock:
            for connection in self._connections:
                connection.hang_up()

    def make_room(self, since_s: float) -> bool:
        """Ends the connection that has been silent longest, and at least since then; False if none has.

        A sender that is told how many it may have opens one more when it knows that another is dead, as we may not.
        """
        with self._lock:
            longest = min(self._connections, key=lambda connection: connection.heard_s, default=None)
            if longest is None or longest.heard_s > since_s:
                return False
            longest.hang_up()
            return True

    def join(self, connection: SessionConnection) -> None:
        with self._lock:
            self._connections.append(connection)

    def leave(self, connection: SessionConnection) -> None:
        """Nothing is posted to `connection` any more."""
        with self._lock:
            self._connections.remove(connection)


class SenderSessions:
    """All sessions that have a connection, a transfer under way, or ended and are remembered for their faults."""

    def __init__(self, config: TransportSection, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[bytes, SenderSession] = {}
        self._ejections: dict[bytes, deque[float]] = {}
        self._refused_until_s: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def join(self, hello: Hello, connection: SessionConnection) -> SenderSession:
        """The session of a new connection.

        Raises PeerRefusedError for a sender that was ejected, UnavailableError when it has all the connections that it
        may have, WireError when the session is another's.
        """
        with self._lock:
            self._forget()
            until_s = self._refused_until_s.get(hello.instance_id)
            if until_s is not None:
                left_s = until_s - self._clock()
                raise PeerRefusedError(
                    f"{hello.instance_id} sent corrupt bytes again and again; look for a bad link or memory, "
                    f"and come back in {left_s:.0f} s"
                )
            session = self._sessions.get(hello.session)
            if session is None:
                session = self._sessions[hello.session] = SenderSession(hello, self._config)
            if (session.instance_id, session.cluster) != (hello.instance_id, hello.cluster):
                raise WireError(f"the session belongs to {session.instance_id} of {session.cluster}")
            full = session.num_connections >= self._config.max_streams
            if full and not session.make_room(self._clock() - self._config.stall_s * SILENT_SHARE):
                raise UnavailableError(
                    f"{hello.instance_id} has {session.num_connections} connections; transport.max_streams here "
                    "allows no more"
                )
            session.join(connection)
            return session

    def eject(self, session: SenderSession) -> bool:
        """Counts an ejected connection; True if with it the whole sender is ejected."""
        with self._lock:
            now_s = self._clock()
            ejections = self._ejections.setdefault(session.id, deque())
            ejections.append(now_s)
            while ejections[0] < now_s - EJECTION_WINDOW_S:
                ejections.popleft()
            if len(ejections) < EJECTIONS:
                return False
            del self._ejections[session.id]
            self._refused_until_s[session.instance_id] = now_s + REFUSAL_S
            return True

    def _forget(self) -> None:
        now_s = self._clock()
        for name in [name for name, until_s in self._refused_until_s.items() if until_s <= now_s]:
            del self._refused_until_s[name]
        for key in [key for key, times in self._ejections.items() if times[-1] < now_s - EJECTION_WINDOW_S]:
            del self._ejections[key]
        for key in [key for key, s in self._sessions.items() if not s.num_connections and not s.busy]:
            del self._sessions[key]
