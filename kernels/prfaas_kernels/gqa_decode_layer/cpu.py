"""An attention layer's decode between its projections: one compiled kernel, else the ops one after another."""

import torch
from torch import Tensor

from prfaas_kernels.gqa_decode_layer import compiled
from prfaas_kernels.gqa_decode_layer.layer import GqaHeads
from prfaas_kernels.norm import rms_norm
from prfaas_kernels.paged_decode_attention.cpu import paged_decode_attention
from prfaas_kernels.rotary import apply_rotary

Angles = tuple[Tensor, Tensor]


def gqa_decode_layer(
    rows: Tensor,
    layer: GqaHeads,
    angles: Angles | None,
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Tensor,
    lengths: Tensor,
) -> Tensor:
    """One token of each of B sequences, from what is projected in to what is projected out, [B, H Dv] in its dtype.

    `rows` [B, H Dk + G Dk + G Dv (+ H Dv)]: queries, keys, values and gates as projected. `angles` are cosines and
    sines of the tokens' positions, [B, rotated / 2] fp32 each. Keys and values go to position `lengths` - 1 of
    `k_pages` [pages, page_tokens, G, Dk] and `v_pages` [pages, page_tokens, G, Dv]; `block_table` [B, P] int64 has
    the pages of each sequence, `lengths` [B] int64 its tokens, the new one included. Whatever lies in pages beyond a
    length, NaN included, has no effect. The compiled kernel rounds only what is written.
    """
    if compiled.fits(rows, layer, angles, k_pages, v_pages, block_table, lengths):
        return compiled.gqa_decode(rows, layer, angles, k_pages, v_pages, block_table, lengths)
    q, k, v, gate = torch.split(rows, layer.widths, dim=-1)
    q = _place(layer, q, layer.heads, layer.q_norm, angles)
    places, page_tokens = lengths - 1, k_pages.shape[1]
    pages, offsets = block_table.gather(1, (places // page_tokens)[:, None])[:, 0], places % page_tokens
    k_pages[pages, offsets] = _place(layer, k, layer.groups, layer.k_norm, angles)
    v_pages[pages, offsets] = torch.unflatten(v, -1, (layer.groups, layer.value))
    opened = torch.unflatten(gate, -1, (layer.heads, layer.value)) if layer.gated else None
    where = (k_pages, v_pages, block_table, lengths)
    return paged_decode_attention(q, *where, layer.scale, sinks=layer.sinks, gate=opened).flatten(1)


def _place(layer: GqaHeads, x: Tensor, heads: int, norm: Tensor | None, angles: Angles | None) -> Tensor:
    """Normalised and rotated heads, [B, heads, Dk]."""
    x = torch.unflatten(x, -1, (heads, layer.key))
    if norm is not None:
        x = rms_norm(x, norm, layer.eps)
    return x if angles is None else apply_rotary(x, *angles, interleaved=layer.interleaved)
