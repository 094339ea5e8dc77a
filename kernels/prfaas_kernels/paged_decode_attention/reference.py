"""The definition of attention of single tokens over pages: one sequence after another, its tokens copied together."""

import torch
from torch import Tensor

from prfaas_kernels.gqa.reference import gqa_reference


def paged_decode_attention_reference(
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
    """As `cpu.paged_decode_attention`, in fp32: [B, H, Dv]."""
    parts = []
    for i, length in enumerate(lengths.tolist()):
        k, v = (pages[block_table[i]].flatten(0, 1)[:length] for pages in (k_pages, v_pages))
        parts.append(gqa_reference(q[i : i + 1], k, v, scale, sinks=sinks))
    out = torch.cat(parts)
    return out if gate is None else out * gate.float().sigmoid()
