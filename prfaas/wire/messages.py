"""The small payloads beside KV objects, as msgpack maps; decoding is strict about types and bounds."""

from typing import Annotated, TypeVar

import msgspec

from prfaas.core.errors import WireError
from prfaas.core.shape import DType

MAX_MESSAGE_BYTES = 16 << 20
"""A manifest of 1M tokens, 64 layers and 1 MiB frames has far fewer bytes."""

MAX_SMALL_MESSAGE_BYTES = 64 << 10
"""For all but MANIFEST and ACCEPTED: what a peer may make us read before it has shown a secret."""

MAX_OBJECTS = 1 << 18
"""Of one transfer, since a receiver remembers each until the commit."""

UInt = Annotated[int, msgspec.Meta(ge=0)]
"""MessagePack itself has no integer above 2**64 - 1, and msgspec takes no bound of that size."""

Row = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
SessionId = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
CodecNumber = Annotated[int, msgspec.Meta(ge=0, le=255)]
Secret = Annotated[bytes, msgspec.Meta(min_length=1, max_length=64)]
Fingerprint = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
"""Finite: a NaN would make a manifest that comes again differ from itself."""


class Hello(msgspec.Struct, frozen=True):
    """Sender → receiver, first frame of a connection. Unknown fields are ignored: later versions may add some."""

    versions: Annotated[tuple[UInt, ...], msgspec.Meta(min_length=1, max_length=16)]
    """Wire versions that the sender speaks; the receiver chooses one."""
    instance_id: Name
    cluster: Name
    session: SessionId
    """Names the sender's connections to this receiver as one: they share credit, and frames may come by any."""


class Welcome(msgspec.Struct, frozen=True):
    """Receiver → sender, the answer to HELLO. Unknown fields are ignored."""

    version: UInt
    instance_id: Name
    cluster: Name
    epoch: UInt
    """Of the receiver's present life; transfers of another are gone."""
    max_frame_bytes: Positive
    credit_bytes: Positive
    """Payload bytes of objects and probes that the session may have sent and not yet seen acknowledged."""
    max_streams: Positive
    """Connections that the session may have."""


class Open(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sender → receiver, before a transfer's first object, and again when all connections were lost."""

    secret: Secret
    model_fingerprint: Fingerprint
    prompt_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]
    held_tokens: Row
    """Leading tokens whose rows of paged layers are not sent, as the ticket says that the receiver holds them."""
    kv_dtype: DType
    """Of the sender's cache; the receiver converts where its own differs."""


class RowRange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Rows [start, end) of one tensor of one layer."""

    layer: Row
    tensor: Row
    start: Row
    end: Row


class Accepted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Receiver → sender, the answer to OPEN: objects may be sent. `received` need not be sent (again)."""

    received: Annotated[tuple[RowRange, ...], msgspec.Meta(max_length=MAX_OBJECTS)]


class Ack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Receiver → sender: so many OBJECT and PROBE frames of this connection, in order, have been dealt with.

    Those asked for again were named by RESEND before.
    """

    frames: UInt
    credit_bytes: Positive
    """The session's credit from now on."""


class ManifestObject(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One object as the sender computed it; `digest` is xxh3-64 of its payload of `wire_bytes`."""

    layer: Row
    tensor: Row
    start: Row
    end: Row
    codec: CodecNumber
    wire_bytes: Row
    digest: UInt


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Sender → receiver, when every object has its digest: all that the receiver lacked, and the first token."""

    prompt_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]
    held_tokens: Row
    first_token_id: Row | None
    """None of a cached prefix, behind which nothing was computed."""
    objects: Annotated[tuple[ManifestObject, ...], msgspec.Meta(max_length=MAX_OBJECTS)]
    tokens_computed: Row
    tokens_reused: Row
    """Leading tokens that the sender had cached; with `tokens_computed` they make up the prompt."""
    queue_ms: Milliseconds
    prefill_ms: Milliseconds
    tokens_fetched: Row = 0
    """Of those reused: a third instance's cache had sent their KV for this request."""
    fetched_from: Annotated[str, msgspec.Meta(max_length=253)] = ""
    """That instance; empty: none."""
    rounded: bool = False
    """Some of what is sent had been rounded before the sender had it, so that its codec does not tell."""


class Rejected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Receiver → sender: the transfer is dead, or before WELCOME the connection; `code` is of `core.errors`."""

    code: Name
    message: str


M = TypeVar("M", Hello, Welcome, Open, Accepted, Ack, Manifest, Rejected)

encode = msgspec.msgpack.Encoder().encode
"""Any message as msgpack bytes."""


def decode(data: bytes | bytearray | memoryview, kind: type[M]) -> M:
    """Raises WireError when `data` is not a `kind`."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"a {kind.__name__} message cannot be read: {error}") from None
