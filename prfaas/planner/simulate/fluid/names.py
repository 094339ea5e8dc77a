"""Names of the blocks that an arrival lists, as the prefix cache keeps them. Knows no tokens and no instance."""

from functools import lru_cache

from xxhash import xxh3_128_digest

from prfaas.core.ids import BlockHash
from prfaas.planner.simulate.arrival import Arrival

_REMEMBERED = 256
"""Arrivals: each is asked for by every instance when it is placed, and by two soon after."""
_ROOT = BlockHash(b"")


def block_names(arrival: Arrival) -> tuple[BlockHash, ...]:
    """Of the whole blocks of its prompt, each chained to those before it: equal names mean equal beginnings."""
    return _chained(arrival.blocks)


def answered_names(arrival: Arrival) -> tuple[BlockHash, ...]:
    """Of the whole blocks of its prompt and answer together."""
    if not arrival.answer_blocks:
        return _chained(arrival.blocks)
    return _chained(arrival.blocks + arrival.answer_blocks)


@lru_cache(_REMEMBERED)
def _chained(blocks: tuple[int, ...]) -> tuple[BlockHash, ...]:
    names, name = [], _ROOT
    for block in blocks:
        name = BlockHash(xxh3_128_digest(name + block.to_bytes(8, "little", signed=True)))
        names.append(name)
    return tuple(names)
