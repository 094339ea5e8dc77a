"""Causal attention of the newest tokens of one sequence, a block of queries at a time."""

import torch
from torch import Tensor

_BLOCK_TOKENS = 128
_MAX_SCORES = 1 << 24  # elements of one block's score matrix over all heads: 64 MiB in fp32


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """`q` [H, T, D] are the last T of L tokens, `k` [H, L, D], `v` [H, L, Dv]. Returns [H, T, Dv] in the dtype of q.

    Keys after a block's last query are never multiplied; softmax is in fp32.
    """
    heads, tokens, _ = q.shape
    context = k.shape[1] - tokens
    block = max(1, min(_BLOCK_TOKENS, _MAX_SCORES // (heads * k.shape[1])))
    out = q.new_empty(heads, tokens, v.shape[-1])
    future = torch.ones(block, block, dtype=torch.bool, device=q.device).triu_(1)
    for start in range(0, tokens, block):
        stop = min(start + block, tokens)
        seen = context + stop
        scores = torch.matmul(q[:, start:stop] * scale, k[:, :seen].mT).float()  # [H, block, seen]
        size = stop - start
        scores[..., seen - size :].masked_fill_(future[:size, :size], -torch.inf)
        out[:, start:stop] = torch.matmul(scores.softmax(-1).to(v.dtype), v[:, :seen])
    return out
