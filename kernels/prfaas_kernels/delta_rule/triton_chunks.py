"""How spans are cut into chunks, and the inverse that each chunk needs; knows no decay and no state."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.spans import Spans

CHUNK = 64
"""Rows of a chunk: what one product on tensor cores takes, and few enough to invert their matrix."""
LEVELS = 6
"""Times that blocks of one row double until they are a chunk."""


@dataclass(frozen=True, slots=True)
class Chunks:
    """N chunks of the rows of S spans, span after span; none reaches across the end of its span."""

    starts: Tensor
    """[N] int32 first row of each."""
    stops: Tensor
    """[N] int32 row after its last."""
    first: Tensor
    """[S] int32 index of each span's first chunk."""

    @classmethod
    def of(cls, spans: Spans) -> "Chunks":
        """On the device of `spans`, from what the host knows, in one copy."""
        starts: list[int] = []
        stops: list[int] = []
        first: list[int] = []
        for start, stop in spans.rows:
            first.append(len(starts))
            starts += range(start, stop, CHUNK)
            stops += [min(row + CHUNK, stop) for row in range(start, stop, CHUNK)]
        # Each part begins at a multiple of 16 bytes: Triton compiles anew for pointers that do not.
        padding = [0] * (-len(starts) % 4)
        table = torch.tensor([*starts, *padding, *stops, *padding, *first], dtype=torch.int32)
        table = table.to(spans.starts.device, non_blocking=True)
        width = len(starts) + len(padding)
        return cls(table[: len(starts)], table[width:][: len(stops)], table[2 * width :])

    def __len__(self) -> int:
        return self.starts.shape[0]


@triton.jit
def joins(level, C: tl.constexpr):
    """Which elements of a [C, C] lower triangle lie where two neighbouring blocks of `1 << level` rows meet: [C, C].

    From a number for each row and one for each column, so that no loop over levels keeps a matrix of them.
    """
    block = tl.arange(0, C) >> level
    earlier = tl.where(block & 1 == 1, block - 1, -1)
    return earlier[:, None] == block[None, :]


@triton.jit
def unit_lower_inverse(lower, C: tl.constexpr, DOUBLINGS: tl.constexpr):
    """Inverse of `I + lower` for a strictly lower triangular `lower` [C, C] in fp32, by joining diagonal blocks.

    The block that joins two neighbours X and Y is -Y^-1 B X^-1: for all pairs at once, that is a product of three
    matrices of which the outer two hold the inverses so far on their diagonals.
    """
    same = tl.arange(0, C)[:, None] == tl.arange(0, C)[None, :]
    inverse = tl.where(same, 1.0, tl.where(joins(0, C), -lower, 0.0))
    for level in range(1, DOUBLINGS):
        between = tl.where(joins(level, C), lower, 0.0)
        joined = tl.dot(inverse, between, input_precision="tf32")
        inverse -= tl.dot(joined, inverse, input_precision="tf32")
    return inverse
