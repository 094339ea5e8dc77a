"""The fixed 64-byte frame header: what the payload is, whose it is, and how to tell that it is intact."""

import struct
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum

import msgspec
import xxhash

from prfaas.core.errors import WireError
from prfaas.core.ids import TRANSFER_ID_BYTES, TransferId

MAGIC = b"PFKV"
VERSION = 3
"""The only version that this process speaks; HELLO and WELCOME agree on one."""
_FIELDS = struct.Struct("<4sHH16sIHBBIIIIQI")
_CHECKSUM = struct.Struct("<I")
HEADER_BYTES = _FIELDS.size + _CHECKSUM.size
Digest = Callable[[Sequence[bytes | bytearray | memoryview]], int]
"""xxh3-64 over parts in order, as `payload_digest` has it."""

NO_TRANSFER = TransferId(bytes(TRANSFER_ID_BYTES))


class Kind(IntEnum):
    """What a frame says. Receivers answer; senders send the others."""

    HELLO = 1
    WELCOME = 2
    OPEN = 3
    ACCEPTED = 4
    OBJECT = 5
    MANIFEST = 6
    ACK = 7
    RESEND = 8
    COMMITTED = 9
    REJECTED = 10
    CANCEL = 11
    PROBE = 12


ANSWERS = frozenset({Kind.WELCOME, Kind.ACCEPTED, Kind.ACK, Kind.RESEND, Kind.COMMITTED, Kind.REJECTED})
"""What only receivers of KV send."""


class Codec(IntEnum):
    """How an object's payload is encoded; kernels/prfaas_kernels/codec/README.md defines the bytes."""

    RAW = 0
    EXACT = 1
    INT8_CHANNEL = 2
    INT8_TOKEN = 3
    STATE16 = 4


LOSSY = frozenset({Codec.INT8_CHANNEL, Codec.INT8_TOKEN, Codec.STATE16})
CODEC_NAMES = {codec: codec.name.lower() for codec in Codec}
CODECS_BY_NAME = {name: codec for codec, name in CODEC_NAMES.items()}


class ObjectKey(msgspec.Struct, frozen=True, gc=False):
    """Which bytes of a request's cache: rows [start, end) of tensor `tensor` of layer `layer`.

    A row of a paged layer is one token's entry; a row of a state layer is one step along its first dimension (a head).
    """

    layer: int
    tensor: int
    start: int
    end: int


NO_OBJECT = ObjectKey(0, 0, 0, 0)


class FrameHeader(msgspec.Struct, frozen=True, gc=False):
    """One frame's header. `wire_bytes` follow it; they decode to `raw_bytes`; `digest` is xxh3-64 of what follows."""

    kind: Kind
    transfer_id: TransferId
    epoch: int
    key: ObjectKey
    codec: Codec
    raw_bytes: int
    wire_bytes: int
    digest: int

    def pack(self) -> bytes:
        body = _FIELDS.pack(
            MAGIC,
            VERSION,
            self.kind,
            self.transfer_id,
            self.epoch,
            self.key.layer,
            self.key.tensor,
            self.codec,
            self.key.start,
            self.key.end,
            self.raw_bytes,
            self.wire_bytes,
            self.digest,
            0,
        )
        return body + _CHECKSUM.pack(_checksum(body))


def unpack(data: bytes | bytearray | memoryview, *, max_payload_bytes: int) -> FrameHeader:
    """Reads a header. Raises WireError on a wrong length, magic, version, checksum or enum, or too long a payload."""
    if len(data) != HEADER_BYTES:
        raise WireError(f"a frame header has {HEADER_BYTES} bytes, not {len(data)}")
    body = bytes(data[: _FIELDS.size])
    magic, version, kind, transfer_id, epoch, layer, tensor, codec, start, end, raw, wire, digest, flags = (
        _FIELDS.unpack(body)
    )
    if magic != MAGIC:
        raise WireError(f"the stream does not speak this protocol: magic is {magic!r}, not {MAGIC!r}")
    if _CHECKSUM.unpack(data[_FIELDS.size :])[0] != _checksum(body):
        raise WireError("the header's checksum does not match; the stream is corrupt")
    if version != VERSION:
        raise WireError(f"the peer speaks wire version {version}, this process only {VERSION}")
    if flags or wire > max_payload_bytes:
        raise WireError(f"flags {flags:#x} or a payload of {wire} bytes, above the {max_payload_bytes} agreed")
    try:
        return FrameHeader(
            Kind(kind),
            TransferId(transfer_id),
            epoch,
            ObjectKey(layer, tensor, start, end),
            Codec(codec),
            raw,
            wire,
            digest,
        )
    except ValueError as error:
        raise WireError(f"unknown value in a frame header: {error}") from None


def payload_digest(parts: Iterable[bytes | bytearray | memoryview]) -> int:
    """xxh3-64 over the parts in order."""
    digest = xxhash.xxh3_64()
    for part in parts:
        digest.update(part)
    return digest.intdigest()


def _checksum(body: bytes) -> int:
    return xxhash.xxh3_64_intdigest(body) & 0xFFFFFFFF
