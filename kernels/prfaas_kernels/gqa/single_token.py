"""Attention of one query for each of some sequences whose keys are side by side; knows nothing of pages."""

from collections.abc import Sequence

import torch
from torch import Tensor


def attend(
    q: Tensor, keys: Tensor, values: Tensor, lengths: Sequence[int], sinks: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`q` [n, G, r, Dk], scaled, over the first `lengths` of `keys` [n, L, G, Dk] and `values` [n, L, G, Dv], all fp32.

    Overwrites `values` past shorter lengths: a weight of zero does not silence a NaN. `sinks` [G, r, 1] join the
    softmax. Returns outputs [n, G, r, Dv] and all logits, [n, G, r, L] or with sinks [n, G, r, L + 1].
    """
    tokens = keys.shape[1]
    logits = q.new_empty(*q.shape[:3], tokens if sinks is None else tokens + 1)
    scores = logits[..., :tokens]
    _multiply(q, keys.permute(0, 2, 3, 1), scores)
    if sinks is not None:
        logits[..., tokens:] = sinks
    for i, length in enumerate(lengths):
        if length < tokens:
            scores[i, :, :, length:] = -torch.inf
            values[i, length:] = 0
    out = q.new_empty(*q.shape[:3], values.shape[-1])
    _multiply(logits.softmax(-1)[..., :tokens], values.transpose(1, 2), out)
    return out, logits


def _multiply(x: Tensor, y: Tensor, out: Tensor) -> None:
    """`x @ y` over two leading dimensions that strides keep apart, where `matmul` would copy: a loop over one."""
    if x.shape[0] > x.shape[1]:
        x, y, out = x.transpose(0, 1), y.transpose(0, 1), out.transpose(0, 1)
    for i in range(x.shape[0]):
        torch.bmm(x[i], y[i], out=out[i])
