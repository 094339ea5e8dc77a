"""Prefill of latent attention in Triton: long spans with expanded keys, short ones in latent space."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
from torch import Tensor

from prfaas_kernels.chunked_prefill_attention.triton_pages import attend_pages
from prfaas_kernels.mla.triton_expanded import attend_expanded
from prfaas_kernels.spans import Spans


def mla_prefill(q: Tensor, pages: Tensor, block_table: Tensor, spans: Spans, kv_up: Tensor, rope_dim: int) -> Tensor:
    """As `cpu.mla_prefill`."""
    tokens, heads, width = q.shape
    value = kv_up.shape[1] - (width - rope_dim)
    out = torch.empty(tokens, heads, value, dtype=q.dtype, device=q.device)
    absorbed, expanded = [], []
    for sequence, length in enumerate(spans.lens):
        if length > 0:
            cheaper = _absorbed_is_cheaper(length, width, rope_dim, kv_up)
            (absorbed if cheaper else expanded).append(sequence)
    if absorbed:
        _absorbed(q, pages, block_table, spans, absorbed, kv_up, rope_dim, out)
    if expanded:
        rows, contexts = [spans.rows[i] for i in expanded], [spans.context_lens[i] for i in expanded]
        attend_expanded(q, pages, block_table, rows, contexts, expanded, kv_up, rope_dim, out)
    return out


def _absorbed_is_cheaper(tokens: int, width: int, rope_dim: int, kv_up: Tensor) -> bool:
    """Compares multiplications per head and cached token: longer dot products against expanding the token once."""
    _, expanded, rank = kv_up.shape
    values = expanded - (width - rope_dim)
    return tokens * (2 * rank + rope_dim) < tokens * (width + values) + rank * expanded


def _absorbed(
    q: Tensor,
    pages: Tensor,
    block_table: Tensor,
    spans: Spans,
    sequences: list[int],
    kv_up: Tensor,
    rope_dim: int,
    out: Tensor,
) -> None:
    """Writes attention of some sequences' spans to `out`: one head of keys for all, whose values are their first part.

    Those spans' queries are copied side by side, so that products are of nothing else.
    """
    nope, rank = q.shape[-1] - rope_dim, kv_up.shape[2]
    rows = [spans.rows[i] for i in sequences]
    lens = [stop - start for start, stop in rows]
    packed = Spans.packed(tuple(lens), tuple(spans.context_lens[i] for i in sequences), q.device)
    some = torch.cat([q[start:stop] for start, stop in rows])
    latent_q = torch.bmm(some[..., :nope].transpose(0, 1), kv_up[:, :nope])  # [H, n, rank]
    one_head = pages[:, :, None]
    mixed, _ = attend_pages(
        latent_q.transpose(0, 1),
        some[..., nope:] if rope_dim else None,
        one_head[..., :rank],
        one_head[..., rank:] if rope_dim else None,
        None,
        torch.cat([block_table[i : i + 1] for i in sequences]),
        packed,
        q.shape[-1] ** -0.5,
    )  # [n, H, rank]
    values = torch.bmm(mixed.transpose(0, 1), kv_up[:, nope:].mT).transpose(0, 1)  # [n, H, v]
    for (start, stop), part in zip(rows, torch.split(values, lens), strict=True):
        out[start:stop] = part
