"""Attention of one new token of each of several sequences over pages, by `gqa`'s walk over sequences of like length."""

import torch
from torch import Tensor

from prfaas_kernels.gqa.paged import decode_pages
from prfaas_kernels.merge_partials.partial import Partial


def paged_decode_attention(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Tensor,
    lengths: Tensor,
    scale: float,
    *,
    sinks: Tensor | None = None,
    gate: Tensor | None = None,
) -> Tensor:
    """One query for each of B sequences over paged keys and values; scores and softmax are in fp32.

    `q` [B, H, Dk], `k_pages` [pages, page_tokens, G, Dk], `v_pages` [pages, page_tokens, G, Dv], `block_table` [B, P]
    page ids (any valid id past a sequence's end), `lengths` [B] tokens >= 1 that each may read. `sinks` [H] are logits
    that join the softmax and carry no value; `gate` [B, H, Dv], opened by a sigmoid, multiplies the result. Returns
    [B, H, Dv] in the dtype of `q`. Whatever lies beyond a length, NaN included, has no effect.
    """
    by_group = None if sinks is None else sinks.float().view(k_pages.shape[2], -1, 1)
    out = _decode(q, k_pages, v_pages, block_table, lengths, scale, by_group, None).to(q.dtype)
    return out if gate is None else out.mul_(gate.sigmoid())


def paged_decode_partial(
    q: Tensor, k_pages: Tensor, v_pages: Tensor, block_table: Tensor, lengths: Tensor, scale: float
) -> Partial:
    """As `paged_decode_attention` over those keys of each sequence that lie here: `lengths` may be 0.

    The micro-attention of DistAttention (Infinite-LLM, arXiv 2401.02669): `merge_partials` joins what the holders of
    a sequence's other keys return for the same query.
    """
    batch, heads, _ = q.shape
    groups = k_pages.shape[2]
    out = q.new_zeros(batch, heads, v_pages.shape[3], dtype=torch.float32)
    peak = q.new_full((batch, heads), -torch.inf, dtype=torch.float32)
    total = q.new_zeros(batch, heads, dtype=torch.float32)
    [some] = torch.where(lengths > 0)
    if len(some):
        logs = q.new_empty(len(some), groups, heads // groups, 1, dtype=torch.float32)
        out[some] = _decode(q[some], k_pages, v_pages, block_table[some], lengths[some], scale, None, logs)
        peak[some] = logs.flatten(1)  # with the log of the total as the reference of exponents, the total is 1
        total[some] = 1
    return Partial(out, peak, total)


def _decode(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Tensor,
    lengths: Tensor,
    scale: float,
    sinks: Tensor | None,
    totals: Tensor | None,
) -> Tensor:
    """[B, H, Dv] fp32."""

    def read(page_ids: Tensor) -> tuple[Tensor, Tensor]:
        return k_pages.index_select(0, page_ids).float(), v_pages.index_select(0, page_ids).float()

    grouped = torch.unflatten(q.float() * scale, 1, (k_pages.shape[2], -1))  # [B, G, r, Dk]
    page_tokens, value_dim = k_pages.shape[1], v_pages.shape[3]
    out = decode_pages(grouped, read, block_table, lengths, page_tokens, value_dim, sinks, totals)
    return out.flatten(1, 2)
