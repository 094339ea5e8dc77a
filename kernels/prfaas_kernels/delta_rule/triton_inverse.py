"""The inverse that each chunk of a delta rule needs; knows no decay and no state."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import triton
import triton.language as tl

LEVELS = 6
"""Times that blocks of one row double until they are a chunk."""


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
