"""One ticket's life on the receiving side: connections bring its objects, it places them and ends once.

Its landings are fenced one by one, so that connections that bring different objects do not wait for each other.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from prfaas.core.clock import Clock
from prfaas.core.errors import PrfaasError, from_code
from prfaas.core.shape import ModelShape
from prfaas.transport.framing import message_frame
from prfaas.transport.landing import Landing
from prfaas.transport.staging import StagingArena
from prfaas.transport.tombstones import Tombstone, TransferKey
from prfaas.wire.header import Codec, Digest, FrameHeader, Kind, ObjectKey
from prfaas.wire.messages import Manifest, Open, Rejected, RowRange, encode
from prfaas.wire.receiving import Phase, ReceiveSession


class Destination(Protocol):
    """Reserved memory of one request. Called on the connections' threads, for different objects at the same time."""

    def views(self, key: ObjectKey, codec: Codec, sent: ModelShape) -> list[memoryview] | None:
        """Writable memory, in bytes, that together is the object's place, if its payload may be received into it as
        it comes; None if it must be staged and then placed."""
        ...

    def place(self, key: ObjectKey, codec: Codec, sent: ModelShape, payload: memoryview) -> None:
        """Decodes a verified payload, converts it and puts it in its place. Raises TransferError."""
        ...


class Opener(Protocol):
    """A sender that has shown the ticket."""

    @property
    def id(self) -> bytes: ...

    def opened(self, key: TransferKey) -> None:
        """The transfer is under way."""
        ...

    def ended(self, key: TransferKey, frame: bytes | None) -> None:
        """The transfer is over, and `frame` is to be sent about it."""
        ...


@dataclass(frozen=True, slots=True)
class Received:
    """A committed transfer."""

    manifest: Manifest
    bytes_raw: int
    bytes_wire: int
    bytes_again: int
    """Payload that came in vain: corrupt, or already there."""
    codecs: frozenset[Codec]
    lossy: bool
    transfer_s: float
    """First object seen to commit; 0 where there was nothing to send."""


Outcome = Received | PrfaasError
OnDone = Callable[[Outcome], None]
"""Called once, on the thread that ended the transfer; it must not block."""
OnCommit = Callable[[TransferKey, Tombstone], None]
"""Called in the moment of the commit, before anybody can learn of it."""


class IncomingTransfer:
    """Connections call it from their threads, and whoever waits for the transfer from its own."""

    def __init__(
        self,
        key: TransferKey,
        session: ReceiveSession,
        destination: Destination,
        on_done: OnDone,
        on_commit: OnCommit,
        clock: Clock,
    ) -> None:
        self.key = key
        self._lock = threading.Lock()
        self._session = session
        self._destination = destination
        self._on_done = on_done
        self._on_commit = on_commit
        self._clock = clock
        self._first_object_s: float | None = None
        self._ended = False
        self.error: PrfaasError | None = None
        """Why the transfer failed."""
        self._openers: dict[bytes, Opener] = {}
        self._landings: dict[ObjectKey, Landing] = {}
        self._bytes_arrived = 0

    @property
    def bytes_arrived(self) -> int:
        """Grows with everything that is received for the transfer, parts of frames included."""
        with self._lock:
            return self._bytes_arrived + sum(landing.got for landing in self._landings.values())

    def verified_tokens(self) -> int:
        """Leading tokens of which all that grows with the prompt lies verified in its place."""
        with self._lock:
            return self._session.verified_tokens()

    def open(self, message: Open, opener: Opener) -> tuple[RowRange, ...] | None:
        """As `Inbox.open`."""
        with self._lock:
            received = self._session.open(message)
            if self._session.phase is Phase.COMMITTED:
                return None
            self._openers[opener.id] = opener
            opener.opened(self.key)
            return received

    def opened_by(self, session: bytes) -> bool:
        return session in self._openers

    def begin(self, header: FrameHeader, arena: StagingArena) -> Landing | None:
        """Where to receive an object into; None if it is there already. Raises as `ReceiveSession.begin`.

        Waits for room in the arena if the object must be staged.
        """
        with self._lock:
            self._check_alive()
            if self._first_object_s is None:
                self._first_object_s = self._clock()
            arrival = self._session.begin(header)
            if arrival is None:
                self._bytes_arrived += header.wire_bytes
                return None
            self._end_landing(header.key)
            landing = self._landings[header.key] = Landing(arrival)
        views = self._destination.views(header.key, header.codec, self._session.sent_shape)
        if views is not None:
            assert sum(view.nbytes for view in views) == header.wire_bytes, f"{header.key} does not fit its place"
            landing.direct(views)
        elif (buffer := arena.take()) is not None:
            landing.stage(buffer, arena)
        else:
            landing.end()
        return landing

    def land(self, landing: Landing, digest: Digest) -> bool | None:
        """An object's payload is complete. True: it is in its place; False: it was corrupt; None: it came in vain.

        Raises TransferError when it cannot be decoded.
        """
        header = landing.arrival.header
        intact = digest(landing.views) == header.digest
        if intact and landing.staged is not None:
            self._place(landing)
        with self._lock:
            self._forget(landing)
            if intact:
                return True if self._session.placed(landing.arrival) else None
            return False if self._session.dropped(landing.arrival) else None

    def drop(self, landing: Landing) -> None:
        """The connection ended inside the payload; others may bring the object."""
        with self._lock:
            self._forget(landing)
            self._session.dropped(landing.arrival)

    def manifest(self, manifest: Manifest) -> None:
        """Raises as `ReceiveSession.manifest`."""
        with self._lock:
            self._check_alive()
            self._session.manifest(manifest)

    def commit(self, *, by: bytes) -> Received | None:
        """Ends the transfer if all of it is here. Raises ManifestError. `by`: the session that the caller answers."""
        with self._lock:
            manifest = self._session.commit()
            if manifest is None:
                return None
            self._ended = True
            stone = Tombstone(self._session.expectation.secret, frozenset(self._openers))
            self._on_commit(self.key, stone)
            received = self._received(manifest)
        self._tell(message_frame(Kind.COMMITTED, b"", *self.key), by)
        self._on_done(received)
        return received

    def fail(self, error: PrfaasError, *, by: bytes | None = None) -> None:
        """Ends the transfer unless it has ended; nothing is placed afterwards."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self.error = error
            self._session.fail()
            for key in list(self._landings):
                self._end_landing(key)
        self._tell(message_frame(Kind.REJECTED, encode(Rejected(error.code, str(error))), *self.key), by)
        self._on_done(error)

    def _check_alive(self) -> None:
        if self.error is not None:
            # A new one: an error that is raised on several threads collects all their traces.
            raise from_code(self.error.code, str(self.error))

    def _place(self, landing: Landing) -> None:
        header = landing.arrival.header
        with landing.lock:
            payload = landing.staged
            if landing.live and payload is not None:
                self._destination.place(header.key, header.codec, self._session.sent_shape, payload)

    def _received(self, manifest: Manifest) -> Received:
        session = self._session
        started_s = self._first_object_s
        return Received(
            manifest,
            session.bytes_raw,
            session.bytes_wire,
            session.bytes_again,
            frozenset(session.codecs),
            session.lossy,
            0.0 if started_s is None else self._clock() - started_s,
        )

    def _tell(self, frame: bytes, by: bytes | None) -> None:
        for session, opener in self._openers.items():
            opener.ended(self.key, None if session == by else frame)

    def _forget(self, landing: Landing) -> None:
        """Ends a landing that is over by itself."""
        if self._landings.get(landing.arrival.header.key) is landing:
            self._end_landing(landing.arrival.header.key)
        else:
            landing.end()

    def _end_landing(self, key: ObjectKey) -> None:
        landing = self._landings.pop(key, None)
        if landing is not None:
            landing.end()
            self._bytes_arrived += landing.got
