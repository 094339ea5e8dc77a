"""Attention of a chunk over its sequence in pages, in Triton."""

from torch import Tensor

from prfaas_kernels.chunked_prefill_attention.triton_pages import attend_pages
from prfaas_kernels.chunked_prefill_attention.triton_tiling import split_width
from prfaas_kernels.spans import Spans


def chunked_prefill_attention(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Tensor,
    spans: Spans,
    scale: float,
    *,
    sinks: Tensor | None = None,
    window: int | None = None,
    gate: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As `cpu.chunked_prefill_attention`."""
    main, tail = split_width(q.shape[-1])
    return attend_pages(
        q[..., :main],
        q[..., main:] if tail else None,
        k_pages[..., :main],
        k_pages[..., main:] if tail else None,
        v_pages,
        block_table,
        spans,
        scale,
        sinks=sinks,
        window=window,
        gate=gate,
    )
