"""The walk of causal attention: a segment of keys, a block of queries and a span of the segment's keys at a time.

Knows nothing of where keys lie: that is for the caller's `Read`.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor

from prfaas_kernels.gqa.blocks import Block, Blocks, cut_blocks
from prfaas_kernels.gqa.merge import merge
from prfaas_kernels.gqa.product import times_transposed

_LOG2_E = 1 / math.log(2)  # torch raises 2 to a power four times as fast as e
_SPAN = 1024  # keys whose scores are held at once
_SCORES = 1 << 19  # held at once, 2 MiB, unless a single group of heads has more
_SEGMENT_ELEMENTS = 1 << 21  # of keys and values read at once, unless a span has more
_MIN_REDUCED_BLOCK = 32  # smaller blocks come in too many shapes for products in bfloat16, each compiled on first use

Read: TypeAlias = Callable[[int, int], tuple[Tensor, Tensor]]
"""Positions [start, stop) to keys [n, G, Dk] and values [n, G, Dv], any strides."""
Part: TypeAlias = tuple[Tensor, Tensor]
"""Attention of some rows over some keys: outputs [G, R, Dv] and log totals [G, R, 1], fp32."""


def attend_causally(
    q: Tensor,
    read: Read,
    length: int,
    groups: int,
    value_dim: int,
    scale: float,
    *,
    sinks: Tensor | None,
    window: int | None,
) -> tuple[Tensor, Tensor]:
    """Attention of `q` [T, H, Dk], the last T of `length` tokens, as `gqa_prefill` describes it.

    Returns [T, H, Dv] and the logarithms of the totals, sinks included, [T, H] fp32. Each segment of
    keys is read once. Memory grows with T alone, or with a window; for that, `length` is at most what some query sees.
    """
    tokens, heads, key_dim = q.shape
    sharing = heads // groups
    blocks = cut_blocks(tokens, length, sharing, window)
    mask = blocks.mask().to(q.device)
    found: dict[tuple[int, int], Part] = {}
    for segment in _segments(blocks, groups * (key_dim + value_dim)):
        keys, values = _read_segment(read, blocks, segment)
        for block in blocks:
            seen = slice(max(block.keys.start, segment.start), min(block.keys.stop, segment.stop))
            if seen.start >= seen.stop:
                continue
            queries = _queries(q, block, blocks.size, groups, scale * _LOG2_E)
            local = slice(seen.start - segment.start, seen.stop - segment.start)
            for some in _groups(block, blocks.size * sharing, groups):
                at, newer = (block.keys.stop, some.start), block.keys.stop - seen.stop
                so_far = found.get(at)
                found[at] = _attend(queries[some], keys[some, local], values[some, local], mask, newer, so_far)
    logits = None if sinks is None else _row_logits(sinks, groups, blocks.size)
    out, totals = q.new_empty(tokens, heads, value_dim), q.new_empty(tokens, heads, 1, dtype=torch.float32)
    for block in blocks:
        for some in _groups(block, blocks.size * sharing, groups):
            mixed, total = found[block.keys.stop, some.start]
            if logits is not None:  # one more key, with a value of zero
                mixed *= torch.sigmoid(total - logits[some])
                total = torch.logaddexp(total, logits[some])
            for rows, made in ((out, mixed), (totals, total)):
                placed = torch.unflatten(made, 1, (sharing, -1))[:, :, block.places]  # [some, r, rows, Dv or 1]
                torch.unflatten(rows[block.rows], 1, (groups, sharing))[:, some] = placed.permute(2, 0, 1, 3)
    return out, totals[..., 0]


def _segments(blocks: Blocks, per_token: int) -> Iterator[slice]:
    """Of whole spans, so that spans have few sizes; a window's keys, which are few, are one segment."""
    whole = blocks.padded_length
    size = whole if blocks.window is not None else max(1, _SEGMENT_ELEMENTS // per_token // _SPAN) * _SPAN
    return (slice(start, min(start + size, whole)) for start in range(0, whole, size))


def _groups(block: Block, rows: int, groups: int) -> Iterator[slice]:
    """Groups of heads that are worked on together."""
    together = max(1, _SCORES // (rows * min(_SPAN, block.keys.stop - block.keys.start)))
    return (slice(first, first + together) for first in range(0, groups, together))


def _read_segment(read: Read, blocks: Blocks, segment: slice) -> tuple[Tensor, Tensor]:
    """Keys and values of a segment, [G, S, D] each, zero past the last token."""
    k, v = read(segment.start, min(segment.stop, blocks.length))
    size = segment.stop - segment.start
    reduced = v.dtype if blocks.size >= _MIN_REDUCED_BLOCK else torch.float32
    return _by_group(k, size, torch.float32), _by_group(v, size, reduced)


def _by_group(x: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """[n, G, D] to [G, size, D], zero past n."""
    out = x.new_empty(x.shape[1], size, x.shape[2], dtype=dtype)
    out[:, : x.shape[0]] = x.transpose(0, 1)
    out[:, x.shape[0] :] = 0
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


def _attend(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor, newer: int, so_far: Part | None) -> Part:
    """`q` [G, R, Dk] over `keys` [G, S, Dk] and `values` [G, S, Dv], joined with what came `so_far`.

    `newer` keys of the block come after these.
    """
    parts = [] if so_far is None else [so_far]
    for start in range(0, keys.shape[1], _SPAN):
        span = slice(start, start + _SPAN)
        scores = times_transposed(q, keys[:, span])  # [G, R, span]
        _hide(scores, mask, newer + keys.shape[1] - start - scores.shape[2])
        parts.append(_mix(scores, values[:, span]))
    return functools.reduce(merge, parts)


def _hide(scores: Tensor, mask: Tensor, newer: int) -> None:
    """Adds to the `scores` of a span with `newer` keys after it what `mask` [size, M] says of its keys."""
    stop = mask.shape[1] - newer
    if stop > 0:
        masked = mask[:, max(0, stop - scores.shape[2]) : stop]
        torch.unflatten(scores, 1, (-1, mask.shape[0]))[..., -masked.shape[1] :] += masked


def _mix(scores: Tensor, values: Tensor) -> Part:
    """Softmax of `scores` [G, R, S], binary logarithms and overwritten, over `values` [G, S, Dv].

    Returns outputs [G, R, Dv] and natural logarithms of the totals [G, R, 1], fp32.
    """
    peak = scores.amax(-1, keepdim=True)
    weights = scores.sub_(peak).exp2_()
    total = weights.sum(-1, keepdim=True)
    mixed = times_transposed(weights.to(values.dtype), values.mT).float().div_(total)
    return mixed, peak.add_(total.log2_()).mul_(1 / _LOG2_E)
