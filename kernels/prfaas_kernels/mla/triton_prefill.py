"""Prefill of latent attention in Triton: long spans with expanded keys, short ones in latent space."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
from torch import Tensor

from prfaas_kernels.chunked_prefill_attention.triton_pages import attend_pages
from prfaas_kernels.mla.triton_expanded import attend_expanded
from prfaas_kernels.mla.triton_plan import Absorbed, longest_absorbed, plan
from prfaas_kernels.spans import Spans

_ROUND_TOKENS = 8192  # expanded at once: 268 MB for 64 heads


def mla_prefill(q: Tensor, pages: Tensor, block_table: Tensor, spans: Spans, kv_up: Tensor, rope_dim: int) -> Tensor:
    """As `cpu.mla_prefill`."""
    (tokens, heads, width), (_, expanded, rank) = q.shape, kv_up.shape
    out = torch.empty(tokens, heads, expanded + rope_dim - width, dtype=q.dtype, device=q.device)
    longest = longest_absorbed(expanded, rank)
    short, long = plan(spans.rows, spans.context_lens, longest, _ROUND_TOKENS, q.device)
    if short is not None:
        _attend_absorbed(q, pages, block_table, short, kv_up, rope_dim, out)
    if long is not None:
        attend_expanded(q, pages, block_table, long, kv_up, rope_dim, out)
    return out


def _attend_absorbed(
    q: Tensor, pages: Tensor, block_table: Tensor, plan: Absorbed, kv_up: Tensor, rope_dim: int, out: Tensor
) -> None:
    """Writes attention of some sequences' spans to `out`: one head of keys for all, whose values are their first part.

    Those spans' queries are copied side by side, so that products are of nothing else.
    """
    nope, rank = q.shape[-1] - rope_dim, kv_up.shape[2]
    some = q.index_select(0, plan.rows)
    latent_q = torch.bmm(some[..., :nope].transpose(0, 1), kv_up[:, :nope])  # [H, n, rank]
    one_head = pages[:, :, None]
    mixed, _ = attend_pages(
        latent_q.transpose(0, 1),
        some[..., nope:] if rope_dim else None,
        one_head[..., :rank],
        one_head[..., rank:] if rope_dim else None,
        None,
        block_table.index_select(0, plan.sequences),
        plan.spans,
        q.shape[-1] ** -0.5,
    )  # [n, H, rank]
    values = torch.bmm(mixed.transpose(0, 1), kv_up[:, nope:].mT).transpose(0, 1)  # [n, H, v]
    out.index_copy_(0, plan.rows, values)
