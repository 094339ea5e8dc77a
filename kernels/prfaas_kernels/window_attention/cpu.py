"""Sliding windows over rings: a prompt's window put in order once, a decode's read as it lies."""

import torch
from torch import Tensor

from prfaas_kernels.gqa.prefill import gqa_prefill
from prfaas_kernels.gqa.ring import ring_read, ring_write
from prfaas_kernels.gqa.single_token import attend
from prfaas_kernels.spans import Spans
from prfaas_kernels.state_rows import StateRows


def window_prefill(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_rings: StateRows,
    v_rings: StateRows,
    spans: Spans,
    scale: float,
    window: int,
    *,
    sinks: Tensor | None = None,
) -> Tensor:
    """Causal attention of each span over the last `window` - 1 tokens before each of its own.

    `q` [T, H, Dk], `k` [T, G, Dk], `v` [T, G, Dv]. Keys and values before a span are in rings of `window` - 1 rows,
    [G, Dk] and [G, Dv], in which position p lies at p mod (`window` - 1); the span's own join them here. `sinks` [H]
    are logits that join the softmax and carry no value. Returns [T, H, Dv] in the dtype of `q`; rows outside of all
    spans are not written.
    """
    parts = []
    for i, ((start, stop), context) in enumerate(zip(spans.rows, spans.context_lens, strict=True)):
        k_ring, v_ring = k_rings.load(i, context), v_rings.load(i, context)
        out = q.new_empty(0, q.shape[1], v.shape[2])
        if stop > start:
            keys = torch.cat([ring_read(k_ring, context), k[start:stop]])
            values = torch.cat([ring_read(v_ring, context), v[start:stop]])
            out, _ = gqa_prefill(q[start:stop], keys, values, scale, sinks=sinks, window=window)
            ring_write(k_ring, k[start:stop], context)
            ring_write(v_ring, v[start:stop], context)
        k_rings.store(i, k_ring)
        v_rings.store(i, v_ring)
        parts.append(out)
    return spans.join(parts, q.shape[0])


def window_decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_rings: StateRows,
    v_rings: StateRows,
    lengths: Tensor,
    scale: float,
    *,
    sinks: Tensor | None = None,
) -> Tensor:
    """One token of each of B sequences over itself and its ring, which it then joins.

    `q` [B, H, Dk], `k` [B, G, Dk], `v` [B, G, Dv], rings as in `window_prefill`, `lengths` [B] tokens so far with the
    new one, `sinks` [H]. Returns [B, H, Dv] in the dtype of `q`. Ring rows that no token of the sequence has written
    have no effect.
    """
    k_before, v_before = k_rings.load_all(), v_rings.load_all()  # [B, window - 1, G, ·]
    keys = torch.cat([k[:, None], k_before], dim=1).float()
    values = torch.cat([v[:, None], v_before], dim=1).float()
    places = (lengths - 1) % k_before.shape[1]
    for rings, new in ((k_rings, k), (v_rings, v)):
        rings.store_one(places, new)
    grouped = torch.unflatten(q.float() * scale, 1, (k.shape[1], -1))  # [B, G, r, Dk]
    by_group = None if sinks is None else sinks.float().view(k.shape[1], -1, 1)
    seen = [min(length, keys.shape[1]) for length in lengths.tolist()]
    out, _ = attend(grouped, keys, values, seen, by_group)
    return out.flatten(1, 2).to(q.dtype)
