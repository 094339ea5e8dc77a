"""One step of online softmax, and how tiles are loaded for it; knows nothing of where keys lie."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
"""Logits are kept times this: GPUs raise 2 to a power, not e."""
LOWEST = tl.constexpr(-3.0e38)
"""The peak before any key, beside a total of 1 that the first key makes vanish.

Finite, so that a step in which a row sees no key is not infinity less infinity.
"""


@triton.jit
def load_tile(rows, there, WIDTH: tl.constexpr, BLOCK: tl.constexpr, DOT: tl.constexpr):
    """Elements [0, WIDTH) of rows at pointers `rows` [n], for `tl.dot`: [n, BLOCK].

    Zeros beyond WIDTH, and in rows that are not `there` [n]; None says that all are.
    """
    column = tl.arange(0, BLOCK)
    pointers = rows[:, None] + column[None, :]
    if there is None and WIDTH == BLOCK:
        tile = tl.load(pointers)
    elif there is None:
        tile = tl.load(pointers, mask=(column < WIDTH)[None, :], other=0.0)
    elif WIDTH == BLOCK:
        tile = tl.load(pointers, mask=there[:, None], other=0.0)
    else:
        tile = tl.load(pointers, mask=there[:, None] & (column < WIDTH)[None, :], other=0.0)
    return tile.to(DOT)


@triton.jit
def fold(logits, values, mixed, peak, total, scale):
    """Takes `logits` [M, N], before their `scale`, and `values` [N, Dv] into a running softmax.

    `mixed` [M, Dv], `peak` and `total` [M] are of the keys so far: the sum of weighted values, the largest scaled
    logit, the sum of weights relative to it (FlashAttention-2, arXiv 2307.08691, Algorithm 1). Returns them anew.
    """
    new_peak = tl.maximum(peak, tl.max(logits, axis=1) * scale)
    weights = tl.math.exp2(logits * scale - new_peak[:, None])
    shrink = tl.math.exp2(peak - new_peak)
    total = total * shrink + tl.sum(weights, axis=1)
    mixed = tl.dot(weights.to(values.dtype), values, mixed * shrink[:, None], input_precision="tf32")
    return mixed, new_peak, total
