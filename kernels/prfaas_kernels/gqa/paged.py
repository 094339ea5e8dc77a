"""One query for each of several sequences over pages: similar lengths together, long sequences in spans of pages.

Knows nothing of what a page holds: that is for the caller's `Read`.
"""

import functools
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from prfaas_kernels.gqa.grouping import group_by_length
from prfaas_kernels.gqa.merge import merge
from prfaas_kernels.gqa.single_token import attend

_SPAN_ELEMENTS = 1 << 20  # of keys and values copied and read at once, 4 MiB: they stay in the L3 cache
_PADDING_ELEMENTS = 1 << 16  # takes about as long as a sequence of its own costs in calls

Read: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Page ids [n] to copies in fp32: keys [n, page_tokens, G, Dk] and values [n, page_tokens, G, Dv]."""


def decode_pages(
    q: Tensor,
    read: Read,
    block_table: Tensor,
    lengths: Tensor,
    page_tokens: int,
    value_dim: int,
    sinks: Tensor | None,
    totals: Tensor | None = None,
) -> Tensor:
    """`q` [B, G, r, Dk] fp32, already scaled, `block_table` [B, P], `lengths` [B] >= 1, `sinks` [G, r, 1].

    Returns [B, G, r, Dv]; into `totals` [B, G, r, 1], if given, goes the log of each softmax's total.
    """
    per_token = q.shape[1] * (q.shape[3] + value_dim)
    max_tokens, counts = _SPAN_ELEMENTS // per_token, lengths.tolist()
    out = q.new_empty(*q.shape[:3], value_dim)
    for group in group_by_length(counts, max_tokens, _PADDING_ELEMENTS // per_token):
        first, similar = group[0], [counts[i] for i in group]
        num_pages = -(-similar[0] // page_tokens)
        if len(group) > 1:
            out[group], logits = _attend_similar(q[group], read, block_table[group, :num_pages], similar, sinks)
            if totals is not None:
                totals[group] = logits.logsumexp(-1, keepdim=True)
        else:
            spans = torch.split(block_table[first, :num_pages], max(1, max_tokens // page_tokens))
            mixed, total = _attend_spans(q[first, None], read, spans, similar[0], sinks, totals is not None)
            out[first] = mixed[0]
            if totals is not None:
                totals[first] = total[0]
    return out


def _attend_similar(
    q: Tensor, read: Read, pages: Tensor, lengths: list[int], sinks: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`q` [n, G, r, Dk], `pages` [n, P], the longest of `lengths` first: [n, G, r, Dv], and all logits."""
    keys, values = (
        torch.unflatten(x.flatten(0, 1), 0, (len(lengths), -1))[:, : lengths[0]] for x in read(pages.flatten())
    )
    return attend(q, keys, values, lengths, sinks)


def _attend_spans(
    q: Tensor, read: Read, spans: tuple[Tensor, ...], length: int, sinks: Tensor | None, with_total: bool
) -> tuple[Tensor, Tensor]:
    """`q` [1, G, r, Dk] over the first `length` tokens of the pages in `spans`: [1, G, r, Dv], log totals if asked."""
    parts = []
    for i, pages in enumerate(spans):
        keys, values = (x.flatten(0, 1)[None, :length] for x in read(pages))
        length -= keys.shape[1]
        mixed, logits = attend(q, keys, values, (), sinks if i == 0 else None)
        parts.append((mixed, logits.logsumexp(-1, keepdim=True) if with_total or len(spans) > 1 else logits))
    return functools.reduce(merge, parts)
