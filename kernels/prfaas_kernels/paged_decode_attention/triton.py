"""Attention of one new token of each of several sequences over pages, in Triton: spans of tokens, then their merge."""

from torch import Tensor

from prfaas_kernels.merge_partials.partial import Partial
from prfaas_kernels.merge_partials.triton import join_partials, merge_partials
from prfaas_kernels.paged_decode_attention.triton_split import split_attention
from prfaas_kernels.paged_decode_attention.triton_tile import first_part


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
    """As `cpu.paged_decode_attention`."""
    parts = _split(q, k_pages, v_pages, block_table, lengths, scale)
    return merge_partials(parts.out, parts.peak, parts.total, sinks=sinks, gate=gate, dtype=q.dtype)


def paged_decode_partial(
    q: Tensor, k_pages: Tensor, v_pages: Tensor, block_table: Tensor, lengths: Tensor, scale: float
) -> Partial:
    """As `cpu.paged_decode_partial`."""
    return join_partials(_split(q, k_pages, v_pages, block_table, lengths, scale))


def _split(q: Tensor, k_pages: Tensor, v_pages: Tensor, block_table: Tensor, lengths: Tensor, scale: float) -> Partial:
    head = first_part(q.shape[2])
    tail = q[..., head:] if head < q.shape[2] else None
    return split_attention(q[..., :head], tail, k_pages, v_pages, block_table, lengths, scale)
