"""The small payloads beside KV objects, as msgpack maps; decoding is strict about types and bounds."""

from typing import Annotated, TypeVar

import msgspec

from prfaas.core.errors import WireError

MAX_MESSAGE_BYTES = 16 << 20
"""A manifest of 1M tokens, 64 layers and 1 MiB frames has far fewer bytes."""

MAX_SMALL_MESSAGE_BYTES = 64 << 10
"""For all but manifests: what a peer may make us read before it has shown a secret."""

UInt = Annotated[int, msgspec.Meta(ge=0)]


class Hello(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sender → receiver, once per connection: who is calling."""

    instance_id: str
    cluster: str


class Open(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sender → receiver, before the first object of a transfer: the ticket's secret, and what will be sent."""

    secret: bytes
    model_fingerprint: str
    prompt_tokens: Annotated[int, msgspec.Meta(ge=1)]
    held_tokens: UInt
    """Leading tokens whose rows of paged layers are not sent, as the ticket says that the receiver holds them."""


class ManifestObject(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One object as the sender computed it; `digest` is xxh3-64 of its raw bytes."""

    layer: UInt
    tensor: UInt
    start: UInt
    end: UInt
    raw_bytes: UInt
    digest: UInt


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sender → receiver, after the last object: all that the receiver lacked of a prefill, and its first token."""

    prompt_tokens: Annotated[int, msgspec.Meta(ge=1)]
    held_tokens: UInt
    first_token_id: UInt
    objects: tuple[ManifestObject, ...]
    tokens_computed: UInt
    tokens_reused: UInt
    """Leading tokens that the sender had cached; with `tokens_computed` they make up the prompt."""
    queue_ms: float
    prefill_ms: float


class Rejected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Receiver → sender: the transfer is dead; `code` is one of `prfaas.core.errors`."""

    code: str
    message: str


M = TypeVar("M", Hello, Open, Manifest, Rejected)

encode = msgspec.msgpack.Encoder().encode
"""Any message as msgpack bytes."""


def decode(data: bytes | bytearray | memoryview, kind: type[M]) -> M:
    """Raises WireError when `data` is not a `kind`."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise WireError(f"a {kind.__name__} message cannot be read: {error}") from None
