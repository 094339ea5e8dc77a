"""Decode over cached latents in Triton: queries go into latent space, a latent is read once for all heads.

Knows nothing of prefill.
"""

import torch
from torch import Tensor

from prfaas_kernels.merge_partials.partial import Partial
from prfaas_kernels.merge_partials.triton import join_partials, merge_partials
from prfaas_kernels.paged_decode_attention.triton_split import split_attention


def mla_decode(q: Tensor, cache: Tensor, block_table: Tensor, lengths: Tensor, kv_up: Tensor, rope_dim: int) -> Tensor:
    """As `cpu.mla_decode`."""
    (sequences, heads, width), (_, expanded, _) = q.shape, kv_up.shape
    nope = width - rope_dim
    absorbed = torch.bmm(q[..., :nope].transpose(0, 1), kv_up[:, :nope]).transpose(0, 1)  # [B, H, rank]
    shared = q[..., nope:] if rope_dim else None
    parts = split_attention(absorbed, shared, cache[:, :, None], None, block_table, lengths, width**-0.5)
    mixed = merge_partials(parts.out, parts.peak, parts.total, dtype=q.dtype)  # [B, H, rank]
    out = torch.empty(sequences, heads, expanded - nope, dtype=q.dtype, device=q.device)
    torch.bmm(mixed.transpose(0, 1), kv_up[:, nope:].mT, out=out.transpose(0, 1))
    return out


def mla_decode_partial(
    absorbed: Tensor, cache: Tensor, block_table: Tensor, lengths: Tensor, scale: float, rope_dim: int
) -> Partial:
    """Attention of queries in latent space, `absorbed` [B, H, rank + rope], over some of their latents.

    `cache` [pages, page_tokens, rank + rope], `block_table` [B, P] int64, `lengths` [B] int64 >= 0. Returns sums of
    latents, `out` [B, H, rank]: merged, they go through the value half of `kv_up`.
    """
    rank = absorbed.shape[2] - rope_dim
    shared = absorbed[..., rank:] if rope_dim else None
    return join_partials(
        split_attention(absorbed[..., :rank], shared, cache[:, :, None], None, block_table, lengths, scale)
    )
