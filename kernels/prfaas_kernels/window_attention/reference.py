"""The definition of attention with a sliding window, and of the ring that holds what the next chunk sees."""

import torch
from torch import Tensor

from prfaas_kernels.gqa.reference import gqa_reference


def window_prefill_reference(
    q: Tensor, k: Tensor, v: Tensor, scale: float, window: int, *, sinks: Tensor | None = None
) -> Tensor:
    """Attention of the last T of L tokens of one sequence to themselves and the window - 1 tokens before each.

    `q` [T, H, Dk], `k` [L, G, Dk], `v` [L, G, Dv] with query head h reading key head h // (H / G); `sinks` [H] are
    logits that join the softmax and carry no value (arXiv 2309.17453). Returns [T, H, Dv] in fp32.
    """
    return gqa_reference(q, k, v, scale, sinks=sinks, window=window)


def ring_reference(x: Tensor, entries: int) -> Tensor:
    """The last tokens of `x` [L, ...] in a ring, the one at position p at p mod `entries`: [entries, ...].

    Zeros where there is no token yet.
    """
    ring = torch.zeros(entries, *x.shape[1:], dtype=x.dtype, device=x.device)
    for position in range(max(0, len(x) - entries), len(x)):
        ring[position % entries] = x[position]
    return ring
