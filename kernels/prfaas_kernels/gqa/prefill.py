"""Causal attention of the newest tokens of one sequence, a block of queries and a span of keys at a time."""

import functools
import math

import torch
from torch import Tensor

from prfaas_kernels.gqa.blocks import Block, Blocks, cut_blocks
from prfaas_kernels.gqa.merge import merge
from prfaas_kernels.gqa.product import times_transposed

_LOG2_E = 1 / math.log(2)  # torch raises 2 to a power four times as fast as e
_SPAN = 1024  # keys whose scores are held at once
_SCORES = 1 << 19  # held at once, 2 MiB, unless a single group of heads has more
_MIN_REDUCED_BLOCK = 32  # smaller blocks come in too many shapes for products in bfloat16, each compiled on first use


def gqa_prefill(
    q: Tensor, k: Tensor, v: Tensor, scale: float, *, sinks: Tensor | None = None, window: int | None = None
) -> Tensor:
    """Causal attention of the last T of L tokens; scores and softmax are in fp32.

    `q` [T, H, Dk], `k` [L, G, Dk], `v` [L, G, Dv], any strides: query head h reads key head h // (H / G). With
    `window` w a query sees itself and the w - 1 tokens before it. `sinks` [H] are logits that join the softmax and
    carry no value. Returns [T, H, Dv] in the dtype of `q`. Beside a copy of keys and values, memory does not grow
    with T or L.
    """
    tokens, heads, _ = q.shape
    groups, sharing = k.shape[1], heads // k.shape[1]
    unseen = 0 if window is None else max(0, k.shape[0] - tokens - window + 1)
    blocks = cut_blocks(tokens, k.shape[0] - unseen, sharing, window)
    keys = _by_group(k[unseen:], blocks, torch.float32)
    values = _by_group(v[unseen:], blocks, v.dtype if blocks.size >= _MIN_REDUCED_BLOCK else torch.float32)
    mask = blocks.mask().to(q.device)
    logits = None if sinks is None else _row_logits(sinks, groups, blocks.size)
    out = q.new_empty(tokens, heads, v.shape[-1])
    for block in blocks:
        queries = _queries(q, block, blocks.size, groups, scale * _LOG2_E)
        together = max(1, _SCORES // (queries.shape[1] * min(_SPAN, block.keys.stop - block.keys.start)))
        for first in range(0, groups, together):
            some = slice(first, first + together)
            mixed, total = _attend(queries[some], keys[some, block.keys], values[some, block.keys], mask)
            if logits is not None:  # one more key, with a value of zero
                mixed *= torch.sigmoid(total - logits[some])
            placed = torch.unflatten(mixed, 1, (sharing, -1))[:, :, block.places]  # [some, r, rows, Dv]
            torch.unflatten(out[block.rows], 1, (groups, sharing))[:, some] = placed.permute(2, 0, 1, 3)
    return out


def _by_group(x: Tensor, blocks: Blocks, dtype: torch.dtype) -> Tensor:
    """[L, G, D] to [G, padded L, D], zero past L."""
    out = x.new_zeros(x.shape[1], blocks.padded_length, x.shape[2], dtype=dtype)
    out[:, : x.shape[0]] = x.transpose(0, 1)
    return out


def _row_logits(sinks: Tensor, groups: int, size: int) -> Tensor:
    """[H] to [G, r * size, 1]."""
    return sinks.float().view(groups, -1, 1).expand(-1, -1, size).flatten(1)[..., None]


def _queries(q: Tensor, block: Block, size: int, groups: int, factor: float) -> Tensor:
    """A block's queries times `factor`, zero where there is none, in fp32: [G, r * size, Dk]."""
    x = torch.unflatten(q[block.rows], 1, (groups, -1)).permute(1, 2, 0, 3)  # [G, r, rows, Dk]
    out = q.new_zeros(*x.shape[:2], size, x.shape[3], dtype=torch.float32)
    out[:, :, block.places] = x
    return out.mul_(factor).flatten(1, 2)


def _attend(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """`q` [G, R, Dk], `keys` [G, S, Dk], `values` [G, S, Dv]: outputs [G, R, Dv] and log totals [G, R, 1], fp32."""
    parts = []
    for start in range(0, keys.shape[1], _SPAN):
        span = slice(start, start + _SPAN)
        scores = times_transposed(q, keys[:, span])  # [G, R, span]
        _hide(scores, mask, keys.shape[1] - start - scores.shape[2])
        parts.append(_mix(scores, values[:, span]))
    return functools.reduce(merge, parts)


def _hide(scores: Tensor, mask: Tensor, newer: int) -> None:
    """Adds to the `scores` of a span with `newer` keys after it what `mask` [size, M] says of its keys."""
    stop = mask.shape[1] - newer
    if stop > 0:
        masked = mask[:, max(0, stop - scores.shape[2]) : stop]
        torch.unflatten(scores, 1, (-1, mask.shape[0]))[..., -masked.shape[1] :] += masked


def _mix(scores: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax of `scores` [G, R, S], binary logarithms and overwritten, over `values` [G, S, Dv].

    Returns outputs [G, R, Dv] and natural logarithms of the totals [G, R, 1], fp32.
    """
    peak = scores.amax(-1, keepdim=True)
    weights = scores.sub_(peak).exp2_()
    total = weights.sum(-1, keepdim=True)
    mixed = times_transposed(weights.to(values.dtype), values.mT).float().div_(total)
    return mixed, peak.add_(total.log2_()).mul_(1 / _LOG2_E)
