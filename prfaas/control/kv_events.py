"""What an instance's prefix cache tells others, as vLLM's KV events: messages, and the bytes of ours.

Knows no sockets, and nothing of what a block is beyond its name.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from prfaas.core.errors import WireError

MAX_NAME_BYTES = 64
"""Of a block; SHA-256 has 32."""
BlockName = Annotated[bytes, Meta(max_length=MAX_NAME_BYTES)] | int
"""A block's hash: bytes, or an integer where a vLLM server is told to shorten it."""

GPU = "GPU"
"""vLLM's word for the memory that the engine itself computes in, whatever the device."""
FULL_ATTENTION = "full_attention"
MLA_ATTENTION = "mla_attention"
MAMBA = "mamba"
"""Any state of fixed size, such as a linear layer's."""

SEQ_BYTES = 8
END_SEQ = b"\xff" * SEQ_BYTES
"""In place of a sequence number: no more batches follow in this answer."""
SNAPSHOT_REQUEST = END_SEQ
"""In place of the first number to repeat: all that is held now. A vLLM server answers with the end alone."""


class BlockStored(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Blocks that are held from now on, each the parent of the next."""

    block_hashes: tuple[BlockName, ...]
    parent_block_hash: BlockName | None
    token_ids: tuple[int, ...]
    """Of all these blocks; none for a state's snapshot, which holds no tokens of its own."""
    block_size: int
    lora_id: int | None
    medium: str | None
    lora_name: str | None
    extra_keys: tuple[tuple[Any, ...] | None, ...] | None = None
    group_idx: int | None = None
    kv_cache_spec_kind: str | None = None
    kv_cache_spec_sliding_window: int | None = None


class BlockRemoved(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Blocks that are not held any more."""

    block_hashes: tuple[BlockName, ...]
    medium: str | None
    group_idx: int | None = None


class AllBlocksCleared(msgspec.Struct, frozen=True, tag=True):
    """Nothing is held any more."""


KvEvent = BlockStored | BlockRemoved | AllBlocksCleared


class KvBatch(msgspec.Struct, frozen=True, array_like=True):
    """Events of one moment; `ts` is Unix time in seconds."""

    ts: float
    events: tuple[KvEvent, ...]
    data_parallel_rank: int | None = None


_encoder = msgspec.msgpack.Encoder()


def encode(batch: KvBatch) -> bytes:
    """msgpack, byte for byte as vLLM's current servers send it: the batch an array, its events maps."""
    return _encoder.encode(batch)


def frames(topic: bytes, seq: int, payload: bytes) -> tuple[bytes, bytes, bytes]:
    """One message of the publisher."""
    return topic, seq.to_bytes(SEQ_BYTES, "big"), payload


def read_frames(message: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The sequence number's bytes and the payload. Older servers repeat batches without the topic. Raises WireError."""
    if len(message) < 2 or len(message[-2]) != SEQ_BYTES:
        raise WireError(f"a message of KV events has parts of {[len(part) for part in message]} bytes")
    return message[-2], message[-1]
