"""One outgoing transfer as a state machine: which objects have still to go, and when the manifest may.

The caller cuts objects, moves their bytes and brings the receiver's answers; the session knows what is queued, on its
way, delivered, or to be sent again. It holds no bytes.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

import msgspec

from prfaas.wire.header import Codec, ObjectKey
from prfaas.wire.messages import Manifest, ManifestObject, Open, RowRange


class Stage(Enum):
    """OFFERED until the receiver has accepted the OPEN; ENDED is final."""

    OFFERED = auto()
    ACCEPTED = auto()
    ENDED = auto()


@dataclass(frozen=True, slots=True)
class Summary:
    """What the manifest says besides its objects and what the opening said."""

    first_token_id: int | None
    """None where nothing is computed."""
    tokens_computed: int
    tokens_reused: int
    queue_ms: float
    prefill_ms: float
    tokens_fetched: int = 0
    fetched_from: str = ""
    rounded: bool = False


class Encoded(msgspec.Struct, frozen=True, gc=False):
    """How an object went out; the same whenever it is sent again."""

    codec: Codec
    raw_bytes: int
    wire_bytes: int
    digest: int


class _State(Enum):
    """QUEUED to be sent; SENT and not yet answered; LOST with its connection, so that the receiver must be asked
    whether it arrived; DELIVERED for good."""

    QUEUED = auto()
    SENT = auto()
    LOST = auto()
    DELIVERED = auto()


@dataclass(slots=True)
class _Outgoing:
    encoded: Encoded | None = None
    attempt: int = 0
    """Counts sendings, so that an answer to an earlier one is not taken for the last one's."""
    state: _State = _State.QUEUED


@dataclass(slots=True)
class SendSession:
    """Bookkeeping of one transfer; not thread-safe."""

    opening: Open
    stage: Stage = Stage.OFFERED
    bytes_raw: int = 0
    bytes_wire: int = 0
    bytes_again: int = 0
    """Payload bytes of objects that had been sent before."""
    codecs: set[Codec] = field(default_factory=set)
    _objects: dict[ObjectKey, _Outgoing] = field(default_factory=dict)
    _queue: deque[ObjectKey] = field(default_factory=deque)
    _undigested: int = 0
    _lost: int = 0
    _asking: bool = False
    _summary: Summary | None = None
    _manifest_due: bool = False
    _manifest_sent: bool = False

    def add(self, key: ObjectKey) -> None:
        """An object is ready to go; before `finish`."""
        assert self._summary is None, f"{key} comes after the last object"
        assert key not in self._objects, f"{key} comes twice"
        self._objects[key] = _Outgoing()
        self._queue.append(key)
        self._undigested += 1

    def finish(self, summary: Summary) -> None:
        """All objects have been added."""
        assert self._summary is None, "a transfer is finished once"
        self._summary = summary
        self._manifest_due = True

    @property
    def finished(self) -> bool:
        """The prefill is over: what is left is the tail that the receiver waits for."""
        return self._summary is not None

    def accepted(self, received: Iterable[RowRange]) -> int:
        """The receiver takes objects. Of those that were lost on the way it has these rows; the others go again.

        Returns the payload bytes of these.
        """
        if self.stage is Stage.ENDED:
            return 0
        self.stage = Stage.ACCEPTED
        self._asking = False
        again: list[ObjectKey] = []
        ranges: dict[tuple[int, int], list[RowRange]] = {}
        for r in received:
            ranges.setdefault((r.layer, r.tensor), []).append(r)
        for key, outgoing in self._objects.items():
            if outgoing.state is not _State.LOST:
                continue
            self._lost -= 1
            within = any(r.start <= key.start and key.end <= r.end for r in ranges.get((key.layer, key.tensor), ()))
            outgoing.state = _State.DELIVERED if within else _State.QUEUED
            if not within:
                again.append(key)
        self._queue.extendleft(reversed(again))
        return sum(self._wire_bytes(key) for key in again)

    def next(self) -> ObjectKey | None:
        """The object to send next, taken from the queue; None if there is none now."""
        return self._queue.popleft() if self.has_next else None

    @property
    def has_next(self) -> bool:
        """Whether `next` would find something."""
        return self.stage is Stage.ACCEPTED and bool(self._queue)

    @property
    def num_queued(self) -> int:
        """Objects that wait to be sent."""
        return len(self._queue)

    def encoded(self, key: ObjectKey) -> Encoded | None:
        """How the object went out before; None at its first sending."""
        return self._objects[key].encoded

    def sending(self, key: ObjectKey, encoded: Encoded) -> int:
        """The object goes out like this; returns the attempt, which answers to it name."""
        outgoing = self._objects[key]
        if outgoing.encoded is None:
            outgoing.encoded = encoded
            self._undigested -= 1
            self.codecs.add(encoded.codec)
            self.bytes_raw += encoded.raw_bytes
        else:
            assert outgoing.encoded == encoded, f"{key} is not what was sent before"
            self.bytes_again += encoded.wire_bytes
        self.bytes_wire += encoded.wire_bytes
        outgoing.state = _State.SENT
        outgoing.attempt += 1
        return outgoing.attempt

    def delivered(self, key: ObjectKey, attempt: int) -> None:
        """The receiver has dealt with that sending of the object."""
        outgoing = self._objects[key]
        if outgoing.attempt == attempt and outgoing.state is _State.SENT:
            outgoing.state = _State.DELIVERED

    def corrupt(self, key: ObjectKey, attempt: int) -> int:
        """That sending arrived corrupt: the object goes again. Returns its payload bytes, 0 if it does not matter."""
        outgoing = self._objects[key]
        if self.stage is Stage.ENDED or outgoing.attempt != attempt or outgoing.state is not _State.SENT:
            return 0
        outgoing.state = _State.QUEUED
        self._queue.appendleft(key)
        return self._wire_bytes(key)

    def lost(self, key: ObjectKey, attempt: int) -> None:
        """The connection of that sending ended before it was answered; `open_due` until the receiver was asked."""
        outgoing = self._objects[key]
        if outgoing.attempt == attempt and outgoing.state is _State.SENT:
            outgoing.state = _State.LOST
            self._lost += 1

    def ask(self) -> None:
        """An answer may have been lost with a connection: the receiver must be asked how far it is."""
        self._asking = True

    @property
    def open_due(self) -> bool:
        """An OPEN must be sent: the first, or one to learn what has arrived, or that all has been committed."""
        return self.stage is Stage.OFFERED or (self.stage is Stage.ACCEPTED and (self._lost > 0 or self._asking))

    def manifest(self) -> Manifest | None:
        """The manifest, when it is due and every object has its digest; it counts as sent then.

        Not while an OPEN is due: a receiver that has committed takes no manifest, and the answer would say so.
        """
        if self.stage is not Stage.ACCEPTED or not self._manifest_due or self._undigested or self.open_due:
            return None
        assert self._summary is not None
        self._manifest_due = False
        self._manifest_sent = True
        return Manifest(
            prompt_tokens=self.opening.prompt_tokens,
            held_tokens=self.opening.held_tokens,
            first_token_id=self._summary.first_token_id,
            objects=tuple(_entry(key, outgoing.encoded) for key, outgoing in self._objects.items()),
            tokens_computed=self._summary.tokens_computed,
            tokens_reused=self._summary.tokens_reused,
            queue_ms=self._summary.queue_ms,
            prefill_ms=self._summary.prefill_ms,
            tokens_fetched=self._summary.tokens_fetched,
            fetched_from=self._summary.fetched_from,
            rounded=self._summary.rounded,
        )

    def manifest_lost(self) -> None:
        """The connection that carried the manifest ended before anything answered it."""
        self._manifest_due = self._summary is not None and self.stage is Stage.ACCEPTED

    @property
    def manifest_sent(self) -> bool:
        """At least once; only then may the receiver claim to have committed."""
        return self._manifest_sent

    def end(self) -> None:
        """Committed, refused or given up: nothing more goes."""
        self.stage = Stage.ENDED
        self._queue.clear()

    def _wire_bytes(self, key: ObjectKey) -> int:
        encoded = self._objects[key].encoded
        assert encoded is not None, f"{key} was never sent"
        return encoded.wire_bytes


def _entry(key: ObjectKey, encoded: Encoded | None) -> ManifestObject:
    assert encoded is not None
    return ManifestObject(
        key.layer, key.tensor, key.start, key.end, int(encoded.codec), encoded.wire_bytes, encoded.digest
    )
