"""How causal attention is cut into aligned blocks, and which keys a block's queries may not see."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_SMALLEST_FULL_BLOCK = 32
_LARGEST_BLOCK = 128
_ROWS = 512  # queries times heads that read the same keys: enough for a matrix product to run at full speed


@dataclass(frozen=True, slots=True)
class Block:
    """Some queries and the keys that at least one of them sees."""

    rows: slice
    """Of the T queries."""
    places: slice
    """Where those are among the block's `size` queries; the others are padding."""
    keys: slice
    """Positions."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """The positions of T queries, the last of L tokens, cut at multiples of `size`; keys are cut there too.

    Cuts at multiples keep the shapes of products few: a CPU library compiles a kernel for each.
    """

    size: int
    """Queries per block, a power of two."""
    context: int
    """Position of the first query."""
    length: int
    """L"""
    window: int | None

    @property
    def padded_length(self) -> int:
        return -(-self.length // self.size) * self.size

    @property
    def _reach(self) -> int | None:
        """Tokens before a block that its queries may see, in whole blocks; None for all."""
        return None if self.window is None else -(-(self.window - 1) // self.size) * self.size

    def __iter__(self) -> Iterator[Block]:
        for start in range(self.context // self.size * self.size, self.length, self.size):
            stop = start + self.size
            first, end = max(start, self.context), min(stop, self.length)
            yield Block(
                rows=slice(first - self.context, end - self.context),
                places=slice(first - start, end - start),
                keys=slice(0 if self._reach is None else max(0, start - self._reach), stop),
            )

    def mask(self) -> Tensor:
        """What to add to the scores of a block with the newest M keys that it sees, [size, M]: 0 or minus infinity.

        All its queries see the keys before those.
        """
        ago = torch.arange(self.size)[:, None] - torch.arange(-(self._reach or 0), self.size)
        hidden = ago < 0 if self.window is None else (ago < 0) | (ago >= self.window)
        return torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)


def cut_blocks(tokens: int, length: int, sharing: int, window: int | None) -> Blocks:
    """Blocks for `tokens` queries of `sharing` heads each that read the same keys."""
    full = min(max(_ROWS // sharing, _SMALLEST_FULL_BLOCK), _LARGEST_BLOCK)
    size = min(1 << (full.bit_length() - 1), 1 << (tokens - 1).bit_length())
    return Blocks(size=size, context=length - tokens, length=length, window=window)
