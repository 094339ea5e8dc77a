"""Joins attention over parts of the keys, and decides when keys are taken in parts; knows nothing of keys."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.chunked_prefill_attention.triton_fold import LOG2_E, LOWEST
from prfaas_kernels.launch import block, launch
from prfaas_kernels.spans import Spans

_FEWEST_KEYS = 512  # of a part: with fewer, writing and joining costs more than it gains
_MOST_PARTS = 32
_ROWS = 8


def parts_of(programs: int, multiprocessors: int, keys: int) -> int:
    """Into how many parts each program's `keys` are cut, so that a few queries after a long context fill a GPU."""
    return max(1, min(multiprocessors // max(1, programs), keys // _FEWEST_KEYS, _MOST_PARTS))


@triton.jit(do_not_specialize=["part_rows", "parts"])
def _join_kernel(
    mixed_ptr,
    part_lse_ptr,
    starts_ptr,
    stops_ptr,
    gate_ptr,
    out_ptr,
    lse_ptr,
    part_rows,
    heads,
    parts,
    gate_stride,
    gate_head_stride,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    span = tl.program_id(1)
    start = tl.load(starts_ptr + span)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)  # a token's heads, one after another
    there = row < (tl.load(stops_ptr + span) - start) * heads
    at = start.to(tl.int64) * heads + row
    column = tl.arange(0, BLOCK)
    written = there[:, None] & (column < WIDTH)[None, :]
    tile = (at * WIDTH)[:, None] + column[None, :]
    mixed = tl.zeros((ROWS, BLOCK), tl.float32)
    peak = tl.full((ROWS,), LOWEST, tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    for _ in range(parts):
        logit = tl.load(part_lse_ptr + at, mask=there, other=0.0) * LOG2_E
        new_peak = tl.maximum(peak, logit)
        shrink, weight = tl.math.exp2(peak - new_peak), tl.math.exp2(logit - new_peak)
        found = tl.load(mixed_ptr + tile, mask=written, other=0.0)
        mixed = mixed * shrink[:, None] + found * weight[:, None]
        total = total * shrink + weight
        peak = new_peak
        mixed_ptr += part_rows.to(tl.int64) * WIDTH
        part_lse_ptr += part_rows
    out = mixed / total[:, None]
    if gate_ptr is not None:
        gate_rows = gate_ptr + (at // heads) * gate_stride + (at % heads) * gate_head_stride
        gate = tl.load(gate_rows[:, None] + column[None, :], mask=written, other=0.0).to(tl.float32)
        out = out * tl.sigmoid(gate)
    tl.store(out_ptr + tile, out.to(out_ptr.dtype.element_ty), mask=written)
    tl.store(lse_ptr + at, (peak + tl.math.log2(total)) / LOG2_E, mask=there)


def join_parts(mixed: Tensor, part_lse: Tensor, spans: Spans, gate: Tensor | None, out: Tensor, lse: Tensor) -> None:
    """Writes `out` [T, H, D] and `lse` [T, H] from those of each part, `mixed` [parts, T, H, D] and `part_lse`, fp32.

    A part without keys has a log total of no weight and zeros.
    """
    parts, tokens, heads, width = mixed.shape
    launch(
        _join_kernel,
        (triton.cdiv(spans.longest * heads, _ROWS), len(spans)),
        mixed,
        part_lse,
        spans.starts,
        spans.stops,
        gate,
        out,
        lse,
        tokens * heads,
        heads,
        parts,
        *(0, 0) if gate is None else gate.stride()[:2],
        WIDTH=width,
        BLOCK=block(width),
        ROWS=_ROWS,
    )


def empty_parts(parts: int, out: Tensor) -> tuple[Tensor, Tensor]:
    """What `join_parts` takes, for `out` [T, H, D]."""
    mixed = torch.empty(parts, *out.shape, dtype=torch.float32, device=out.device)
    return mixed, torch.empty(parts, *out.shape[:2], dtype=torch.float32, device=out.device)
