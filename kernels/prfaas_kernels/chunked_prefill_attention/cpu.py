"""Causal attention of a batch of prompts, one after another."""

import torch
from torch import Tensor

from prfaas_kernels.gqa.prefill import gqa_prefill_pages
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
    """Causal attention of each span over its whole sequence, whose keys and values, the span's included, are in pages.

    `q` [T, H, Dk], `k_pages` [pages, page_tokens, G, Dk], `v_pages` [pages, page_tokens, G, Dv], `block_table` [S, P]
    page ids (any valid id past a sequence's end). Query head h reads key head h // (H / G). With `window` w a query
    sees itself and the w - 1 tokens before it. `sinks` [H] are logits that join the softmax and carry no value; `gate`
    [T, H, Dv], opened by a sigmoid, multiplies the result. Scores and softmax are in fp32. Returns [T, H, Dv] in the
    dtype of `q` and the log of each softmax's total, [T, H] fp32; rows outside of all spans are not written. Whatever
    lies in pages beyond a sequence, NaN included, has no effect.
    """
    outs, totals = [], []
    for (start, stop), context, ids in zip(spans.rows, spans.context_lens, block_table, strict=True):
        if stop > start:
            length = context + stop - start
            out, total = gqa_prefill_pages(
                q[start:stop], k_pages, v_pages, ids, length, scale, sinks=sinks, window=window
            )
        else:
            out, total = q.new_empty(0, q.shape[1], v_pages.shape[3]), q.new_empty(0, q.shape[1], dtype=torch.float32)
        outs.append(out if gate is None else out.mul_(gate[start:stop].sigmoid()))
        totals.append(total)
    return spans.join(outs, q.shape[0]), spans.join(totals, q.shape[0])
