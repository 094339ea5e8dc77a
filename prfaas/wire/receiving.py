"""One incoming transfer as a state machine: what may be placed, and when all of it is there.

The caller brings headers and messages and does the placing; the session says yes, "not again", or raises. It commits
only when a manifest covers all that the receiver lacks (every row of every state, and of paged layers the tokens that
it does not hold already) and every object in it arrived with the manifest's digest. Nothing may touch what the
receiver holds.
"""

import hmac
from collections.abc import Iterable
from enum import Enum, auto

from prfaas.core.errors import ManifestError, TicketError
from prfaas.core.shape import ModelShape
from prfaas.wire.header import CODEC_NAMES, LOSSY, Codec, FrameHeader, ObjectKey
from prfaas.wire.messages import MAX_OBJECTS, Manifest, ManifestObject, Open, RowRange
from prfaas.wire.received_rows import Arrival, Overlap, ReceivedRows
from prfaas.wire.tensors import Expectation, Tensor, usable_codecs


class Phase(Enum):
    """OFFERED until the sender shows the secret; COMMITTED and FAILED are final."""

    OFFERED = auto()
    OPEN = auto()
    COMMITTED = auto()
    FAILED = auto()


class Landing:
    """An object whose payload is on its way into its place. Of two for the same rows only the later one counts."""

    __slots__ = ("header",)

    def __init__(self, header: FrameHeader) -> None:
        self.header = header


class ReceiveSession:
    """Bookkeeping of one transfer; not thread-safe, holds no bytes."""

    def __init__(self, expectation: Expectation) -> None:
        self.expectation = expectation
        self._rows: dict[Tensor, ReceivedRows] = {tensor: ReceivedRows() for tensor in expectation.tensors()}
        self._landing: dict[ObjectKey, Landing] = {}
        self._opened: Open | None = None
        self._manifest: Manifest | None = None
        self._num_objects = 0
        self.phase = Phase.OFFERED
        self.bytes_raw = 0
        self.bytes_wire = 0
        self.bytes_again = 0
        """Payload bytes that came though their rows had arrived, or that were corrupt."""
        self.codecs: set[Codec] = set()

    @property
    def lossy(self) -> bool:
        """Something arrived that is not exactly what was computed, wherever that was."""
        return not self.codecs.isdisjoint(LOSSY) or (self._manifest is not None and self._manifest.rounded)

    @property
    def sent_shape(self) -> ModelShape:
        """The sender's cache; only of a transfer that was opened."""
        assert self._opened is not None
        return self.expectation.sent_shapes[self._opened.kv_dtype]

    def open(self, message: Open) -> tuple[RowRange, ...]:
        """The rows that need not be sent: none, unless an earlier connection brought some.

        Raises TicketError on a wrong secret or phase, ManifestError when the sender's model or prompt differs.
        """
        expect = self.expectation
        if not hmac.compare_digest(message.secret, expect.secret):
            raise TicketError("the secret is not the ticket's")
        if self.phase is Phase.FAILED or (self._opened is not None and message != self._opened):
            raise TicketError(f"this transfer is {self.phase.name.lower()} and cannot be opened like this")
        if message.model_fingerprint != expect.model_fingerprint:
            raise ManifestError(
                f"the sender's model {message.model_fingerprint} is not ours, {expect.model_fingerprint}"
            )
        if message.prompt_tokens != expect.prompt_tokens:
            raise ManifestError(f"the sender has {message.prompt_tokens} tokens, we {expect.prompt_tokens}")
        if message.kv_dtype not in expect.sent_shapes:
            raise ManifestError(f"the sender's cache is {message.kv_dtype}, which cannot be converted here")
        self._check_held(message.held_tokens)
        self._opened = message
        if self.phase is Phase.OFFERED:
            self.phase = Phase.OPEN
        return tuple(
            RowRange(*tensor, start, end) for tensor, rows in self._rows.items() for start, end in rows.ranges()
        )

    def begin(self, header: FrameHeader) -> Landing | None:
        """May the payload of this OBJECT be placed? None: its rows are there already, so read it and drop it.

        Rows whose payload is on its way by another connection, which may be a dead one, are taken over: what that one
        still brings no longer counts. Raises TicketError or ManifestError if the object must not come at all.
        """
        if self.phase is not Phase.OPEN:
            raise TicketError(f"an object came while the transfer was {self.phase.name.lower()}")
        key = header.key
        self._check_object(key, header.codec, header.raw_bytes, header.wire_bytes)
        overlap = self._rows[key.layer, key.tensor].overlap(key.start, key.end)
        if overlap is Overlap.WHOLE:
            self.bytes_again += header.wire_bytes
            return None
        if overlap is Overlap.PART or any(_collide(key, other) for other in self._landing):
            raise ManifestError(f"{key} overlaps a part of what has arrived already")
        if self._num_objects + len(self._landing) >= MAX_OBJECTS:
            raise ManifestError(f"more than {MAX_OBJECTS} objects; send larger ones")
        landing = self._landing[key] = Landing(header)
        return landing

    def current(self, landing: Landing) -> bool:
        """Whether what `landing` brings still counts."""
        return self.phase is Phase.OPEN and self._landing.get(landing.header.key) is landing

    def placed(self, landing: Landing) -> bool:
        """The payload has been verified against its digest and lies in its place; False if it no longer counts."""
        if not self.current(landing):
            self.bytes_again += landing.header.wire_bytes
            return False
        header = landing.header
        key = header.key
        del self._landing[key]
        arrival = Arrival(key.start, key.end, header.codec, header.wire_bytes, header.digest)
        self._rows[key.layer, key.tensor].add(arrival)
        self._num_objects += 1
        self.codecs.add(header.codec)
        self.bytes_raw += header.raw_bytes
        self.bytes_wire += header.wire_bytes
        return True

    def dropped(self, landing: Landing) -> bool:
        """The payload was corrupt, or its connection ended; the rows are awaited again. False if it did not count."""
        self.bytes_again += landing.header.wire_bytes
        if self._landing.get(landing.header.key) is not landing:
            return False
        del self._landing[landing.header.key]
        return self.phase is Phase.OPEN

    def manifest(self, manifest: Manifest) -> None:
        """Raises ManifestError unless the manifest is a complete description of what we need; the same one may come
        again."""
        if self.phase is not Phase.OPEN:
            raise TicketError(f"a manifest came while the transfer was {self.phase.name.lower()}")
        if self._manifest is not None:
            if manifest != self._manifest:
                raise ManifestError("a second manifest differs from the first")
            return
        expect = self.expectation
        if manifest.prompt_tokens != expect.prompt_tokens:
            raise ManifestError(f"manifest for {manifest.prompt_tokens} tokens, expected {expect.prompt_tokens}")
        self._check_held(manifest.held_tokens)
        if (manifest.first_token_id is None) != expect.cached_only:
            raise ManifestError("a manifest has a first token if, and only if, a prefill was asked for")
        if manifest.tokens_computed + manifest.tokens_reused != manifest.prompt_tokens:
            raise ManifestError(
                f"{manifest.tokens_computed} tokens computed and {manifest.tokens_reused} reused are not "
                f"the prompt's {manifest.prompt_tokens}"
            )
        self._check_coverage(manifest.objects)
        self._manifest = manifest

    def commit(self) -> Manifest | None:
        """The manifest, once everything in it has arrived intact (the transfer is then committed); None before.

        Raises ManifestError when an object that arrived is not the one that the sender computed.
        """
        if self._manifest is None or self.phase is not Phase.OPEN or self._num_objects < len(self._manifest.objects):
            return None
        for o in self._manifest.objects:
            arrival = self._rows[o.layer, o.tensor].at(o.start)
            if arrival != (o.start, o.end, o.codec, o.wire_bytes, o.digest):
                raise ManifestError(f"{o} does not match what arrived, {arrival}")
        self.phase = Phase.COMMITTED
        return self._manifest

    def fail(self) -> None:
        """Nothing more is accepted, unless the transfer has been committed already."""
        if self.phase is not Phase.COMMITTED:
            self.phase = Phase.FAILED
            self._landing.clear()

    def verified_tokens(self) -> int:
        """Leading tokens of which every paged layer's rows are here and verified, those held included."""
        expect = self.expectation
        paged = [tensor for tensor in self._rows if expect.shape.layers[tensor[0]].paged]
        return min((self._rows[tensor].reach(expect.held_tokens) for tensor in paged), default=0)

    def _check_held(self, held_tokens: int) -> None:
        if held_tokens != self.expectation.held_tokens:
            raise ManifestError(f"the sender leaves {held_tokens} tokens out, we hold {self.expectation.held_tokens}")

    def _check_object(self, key: ObjectKey, codec: Codec, raw_bytes: int, wire_bytes: int) -> None:
        expected_bytes = self.expectation.raw_bytes(key, self.sent_shape)
        if codec not in self.expectation.codecs or codec not in usable_codecs(self.sent_shape, key.layer, key.tensor):
            raise ManifestError(f"{key} is encoded as {CODEC_NAMES[codec]}, which was not offered for it")
        if raw_bytes != expected_bytes:
            raise ManifestError(f"{key} has {raw_bytes} bytes, not {expected_bytes}")
        if wire_bytes > expected_bytes or (codec is Codec.RAW and wire_bytes != expected_bytes):
            raise ManifestError(f"{key} comes as {wire_bytes} bytes of {CODEC_NAMES[codec]} for {expected_bytes}")

    def _check_coverage(self, objects: Iterable[ManifestObject]) -> None:
        reached: dict[Tensor, int] = {tensor: self.expectation.rows(*tensor).start for tensor in self._rows}
        for o in sorted(objects, key=lambda o: (o.layer, o.tensor, o.start)):
            self.expectation.raw_bytes(ObjectKey(o.layer, o.tensor, o.start, o.end), self.sent_shape)
            if o.start != reached[o.layer, o.tensor]:
                raise ManifestError(f"{o} leaves a gap or an overlap behind {reached[o.layer, o.tensor]}")
            reached[o.layer, o.tensor] = o.end
        for (i, j), end in reached.items():
            if end != self.expectation.rows(i, j).stop:
                layer = self.expectation.shape.layers[i]
                raise ManifestError(f"the manifest lacks part of layer {i} ({layer.kind}) {layer.tensors[j].name!r}")


def _collide(key: ObjectKey, other: ObjectKey) -> bool:
    """Rows of two objects overlap, and they are not the same."""
    same_tensor = (key.layer, key.tensor) == (other.layer, other.tensor)
    return same_tensor and key != other and key.start < other.end and other.start < key.end
