"""Attention of one new token of each of several sequences, over pages or over the rings of a sliding window."""

import torch
from torch import Tensor

from prfaas_kernels.gqa.paged import decode_pages
from prfaas_kernels.gqa.single_token import attend


def gqa_decode(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_table: Tensor,
    lengths: Tensor,
    scale: float,
    *,
    sinks: Tensor | None = None,
) -> Tensor:
    """One query for each of B sequences over paged keys and values; scores and softmax are in fp32.

    `q` [B, H, Dk], `k_cache` [pages, page_tokens, G, Dk], `v_cache` [pages, page_tokens, G, Dv], `block_table` [B, P]
    page ids (any valid id past a sequence's end), `lengths` [B] tokens >= 1 that each may read, `sinks` [H].
    Returns [B, H, Dv] in the dtype of `q`. Whatever lies beyond a length, NaN included, has no effect.
    """

    def read(page_ids: Tensor) -> tuple[Tensor, Tensor]:
        return k_cache.index_select(0, page_ids).float(), v_cache.index_select(0, page_ids).float()

    grouped, by_group = _grouped(q, k_cache.shape[2], scale), _grouped_sinks(sinks, k_cache.shape[2])
    out = decode_pages(grouped, read, block_table, lengths, k_cache.shape[1], v_cache.shape[3], by_group)
    return out.flatten(1, 2).to(q.dtype)


def window_decode(
    q: Tensor,
    k_ring: Tensor,
    v_ring: Tensor,
    slots: Tensor,
    lengths: Tensor,
    scale: float,
    *,
    sinks: Tensor | None = None,
) -> Tensor:
    """One query for each of B sequences over rings of the last W tokens, in which position p lies at p mod W.

    `q` [B, H, Dk], `k_ring` [slots, W, G, Dk], `v_ring` [slots, W, G, Dv], `slots` [B], `lengths` [B] tokens so far
    including the new one, whose entry is already written. Returns [B, H, Dv] in the dtype of `q`. Entries that no
    token of the sequence has written have no effect. Rings are read in place, one after another.
    """
    groups = k_ring.shape[2]
    grouped, by_group = _grouped(q, groups, scale), _grouped_sinks(sinks, groups)
    out = q.new_empty(*q.shape[:2], v_ring.shape[3])
    for i, (slot, length) in enumerate(zip(slots.tolist(), lengths.tolist(), strict=True)):
        keys, values = (ring[None, slot, :length].float() for ring in (k_ring, v_ring))
        out[i] = attend(grouped[i : i + 1], keys, values, (), by_group)[0].flatten(0, 2)
    return out


def _grouped(q: Tensor, groups: int, scale: float) -> Tensor:
    """[B, H, Dk] to scaled fp32 queries by the key head that they read, [B, G, H / G, Dk]."""
    return torch.unflatten(q.float() * scale, 1, (groups, -1))


def _grouped_sinks(sinks: Tensor | None, groups: int) -> Tensor | None:
    return None if sinks is None else sinks.float().view(groups, -1, 1)
