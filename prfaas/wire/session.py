"""One incoming transfer as a state machine: what may be placed, and when all of it is there.

The caller brings headers and messages and does the placing; the session says yes or raises. It commits only when a
manifest covers all that the receiver lacks (every row of every state, and of paged layers the tokens that it does not
hold already) and every object in it arrived with the manifest's digest. Nothing may touch what the receiver holds.
"""

import hmac
from bisect import bisect_left
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from prfaas.core.errors import ManifestError, TicketError
from prfaas.core.shape import ModelShape
from prfaas.wire.header import Codec, FrameHeader, ObjectKey
from prfaas.wire.messages import Manifest, Open


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the receiver's ticket allows, and what it needs."""

    shape: ModelShape
    model_fingerprint: str
    prompt_tokens: int
    secret: bytes
    held_tokens: int = 0
    """Leading tokens whose KV lies in the receiver's pages already, where others may be reading it."""
    codec: Codec = Codec.RAW

    def __post_init__(self) -> None:
        assert 0 <= self.held_tokens <= self.prompt_tokens, f"{self.held_tokens} of {self.prompt_tokens} tokens held"

    def rows(self, layer: int, tensor: int) -> range:
        """The rows of a tensor that must come, and the only ones that may."""
        cache = self.shape.layers[layer]
        return range(self.held_tokens if cache.paged else 0, cache.num_rows(tensor, self.prompt_tokens))


class Phase(Enum):
    """OFFERED until the sender shows the secret; COMMITTED and FAILED are final."""

    OFFERED = auto()
    OPEN = auto()
    COMMITTED = auto()
    FAILED = auto()


class _Arrival(NamedTuple):
    start: int
    end: int
    digest: int


class ReceiveSession:
    """Bookkeeping of one transfer; not thread-safe, holds no bytes."""

    def __init__(self, expectation: Expectation) -> None:
        self._expect = expectation
        self._arrived: dict[tuple[int, int], list[_Arrival]] = {}
        self._manifest: Manifest | None = None
        self.phase = Phase.OFFERED
        self.bytes_raw = 0
        self.bytes_wire = 0

    def open(self, message: Open) -> None:
        """Raises TicketError on a wrong secret or phase, ManifestError when the sender's model or prompt differs."""
        if self.phase is not Phase.OFFERED:
            raise TicketError(f"this transfer is {self.phase.name.lower()} and cannot be opened again")
        if not hmac.compare_digest(message.secret, self._expect.secret):
            raise TicketError("the secret is not the ticket's")
        if message.model_fingerprint != self._expect.model_fingerprint:
            raise ManifestError(
                f"the sender's model {message.model_fingerprint} is not ours, {self._expect.model_fingerprint}"
            )
        if message.prompt_tokens != self._expect.prompt_tokens:
            raise ManifestError(f"the sender has {message.prompt_tokens} tokens, we {self._expect.prompt_tokens}")
        self._check_held(message.held_tokens)
        self.phase = Phase.OPEN

    def admit(self, header: FrameHeader) -> None:
        """May the payload of this OBJECT be placed? Raises TicketError or ManifestError if not."""
        if self.phase is not Phase.OPEN:
            raise TicketError(f"an object came while the transfer was {self.phase.name.lower()}")
        key = header.key
        expected_bytes = self._raw_bytes(key)
        if header.codec is not self._expect.codec:
            raise ManifestError(f"{key} is encoded as {header.codec.name}, not {self._expect.codec.name}")
        if header.raw_bytes != expected_bytes or header.wire_bytes != expected_bytes:
            raise ManifestError(f"{key} has {header.raw_bytes} bytes ({header.wire_bytes} sent), not {expected_bytes}")
        arrivals = self._arrived.get((key.layer, key.tensor), [])
        at = bisect_left(arrivals, key.start, key=lambda a: a.start)
        if (at > 0 and arrivals[at - 1].end > key.start) or (at < len(arrivals) and arrivals[at].start < key.end):
            raise ManifestError(f"{key} overlaps what has arrived already")

    def placed(self, header: FrameHeader) -> None:
        """The payload has been verified against its digest and lies in its place."""
        key = header.key
        arrivals = self._arrived.setdefault((key.layer, key.tensor), [])
        at = bisect_left(arrivals, key.start, key=lambda a: a.start)
        arrivals.insert(at, _Arrival(key.start, key.end, header.digest))
        self.bytes_raw += header.raw_bytes
        self.bytes_wire += header.wire_bytes

    def manifest(self, manifest: Manifest) -> None:
        """Raises ManifestError unless the manifest is a complete description of what we need."""
        if self.phase is not Phase.OPEN or self._manifest is not None:
            raise TicketError("a manifest came out of turn")
        if manifest.prompt_tokens != self._expect.prompt_tokens:
            raise ManifestError(f"manifest for {manifest.prompt_tokens} tokens, expected {self._expect.prompt_tokens}")
        self._check_held(manifest.held_tokens)
        if manifest.tokens_computed + manifest.tokens_reused != manifest.prompt_tokens:
            raise ManifestError(
                f"{manifest.tokens_computed} tokens computed and {manifest.tokens_reused} reused are not "
                f"the prompt's {manifest.prompt_tokens}"
            )
        self._check_coverage(manifest)
        self._manifest = manifest

    def commit(self) -> Manifest | None:
        """The manifest, once everything in it has arrived intact (the transfer is then committed); None before.

        Raises ManifestError when an object that arrived is not the one that the sender computed.
        """
        if self._manifest is None or self.phase is not Phase.OPEN:
            return None
        for o in self._manifest.objects:
            arrivals = self._arrived.get((o.layer, o.tensor), [])
            at = bisect_left(arrivals, o.start, key=lambda a: a.start)
            if at == len(arrivals) or arrivals[at].start != o.start:
                return None
            if arrivals[at] != (o.start, o.end, o.digest):
                raise ManifestError(f"{o} does not match what arrived, {arrivals[at]}")
        self.phase = Phase.COMMITTED
        return self._manifest

    def fail(self) -> None:
        """Nothing more is accepted, unless the transfer has been committed already."""
        if self.phase is not Phase.COMMITTED:
            self.phase = Phase.FAILED

    def _check_held(self, held_tokens: int) -> None:
        if held_tokens != self._expect.held_tokens:
            raise ManifestError(f"the sender leaves {held_tokens} tokens out, we hold {self._expect.held_tokens}")

    def _raw_bytes(self, key: ObjectKey) -> int:
        """Size of an object. Raises ManifestError when the model has no such object, or we hold part of it already."""
        layers = self._expect.shape.layers
        if key.layer >= len(layers) or key.tensor >= len(layers[key.layer].tensors):
            raise ManifestError(f"{key} names a tensor that the model does not have")
        rows = self._expect.rows(key.layer, key.tensor)
        if not rows.start <= key.start < key.end <= rows.stop:
            raise ManifestError(f"{key} lies outside the rows from {rows.start} to {rows.stop} that are awaited")
        return (key.end - key.start) * layers[key.layer].row_bytes(key.tensor)

    def _check_coverage(self, manifest: Manifest) -> None:
        reached: dict[tuple[int, int], int] = {}
        for o in sorted(manifest.objects, key=lambda o: (o.layer, o.tensor, o.start)):
            if o.raw_bytes != self._raw_bytes(ObjectKey(o.layer, o.tensor, o.start, o.end)):
                raise ManifestError(f"{o} has the wrong size")
            begun = reached.get((o.layer, o.tensor), self._expect.rows(o.layer, o.tensor).start)
            if o.start != begun:
                raise ManifestError(f"{o} leaves a gap or an overlap behind {begun}")
            reached[o.layer, o.tensor] = o.end
        for i, layer in enumerate(self._expect.shape.layers):
            for j, tensor in enumerate(layer.tensors):
                rows = self._expect.rows(i, j)
                if reached.get((i, j), rows.start) != rows.stop:
                    raise ManifestError(f"the manifest lacks part of layer {i} ({layer.kind}) tensor {tensor.name!r}")
