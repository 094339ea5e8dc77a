"""What an instance begins and ceases to hold, as it tells others. Knows no sockets and no format of theirs."""

from typing import Literal

import msgspec

from prfaas.core.ids import BlockHash

Part = Literal["kv", "state"]
"""The KV of one block in all full-attention layers, or a snapshot of all linear states at a block's end."""


class Stored(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Held from now on."""

    part: Part
    block_hash: BlockHash
    parent: BlockHash | None
    """None for the first block of a prompt."""
    token_ids: tuple[int, ...]
    """Of the block; empty for a snapshot."""


class Removed(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Not held any more."""

    part: Part
    block_hash: BlockHash


class Cleared(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Nothing is held any more."""


Change = Stored | Removed | Cleared
