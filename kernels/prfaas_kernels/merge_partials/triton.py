"""Partials of disjoint keys put together in Triton: one program for some channels of one head."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.launch import block, launch
from prfaas_kernels.merge_partials.partial import Partial

_CHANNELS = 128  # of a program: its rows of a part are read 512 bytes at a time
_FEW_PARTS, _MANY_PARTS = 4, 32  # read at once


@triton.jit(do_not_specialize=["parts", "rows"])
def _merge_kernel(
    parts_ptr,
    peaks_ptr,
    totals_ptr,
    sinks_ptr,
    gate_ptr,
    out_ptr,
    peak_ptr,
    total_ptr,
    parts,
    rows,
    heads,
    gate_stride,
    gate_head_stride,
    SIZE: tl.constexpr,
    CHANNELS: tl.constexpr,
    PARTS: tl.constexpr,
):
    row = tl.program_id(0)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    head = row % heads
    if sinks_ptr is not None:
        peak = tl.load(sinks_ptr + head).to(tl.float32)
        total = tl.where(peak > float("-inf"), 1.0, 0.0)
    else:
        peak = tl.full([], float("-inf"), tl.float32)
        total = tl.full([], 0.0, tl.float32)
    mixed = tl.zeros([CHANNELS], tl.float32)
    for first in tl.range(0, parts, PARTS, num_stages=2):
        part = first + tl.arange(0, PARTS)
        here = part.to(tl.int64) * rows + row
        peaks = tl.load(peaks_ptr + here, mask=part < parts, other=float("-inf"))
        some = peaks > float("-inf")  # what an empty part has as `out` is not looked at
        totals = tl.load(totals_ptr + here, mask=some, other=0.0)
        values = tl.load(
            parts_ptr + here[:, None] * SIZE + channel[None, :],
            mask=some[:, None] & (channel < SIZE)[None, :],
            other=0.0,
        )
        highest = tl.maximum(peak, tl.max(peaks, axis=0))
        against = tl.where(highest > float("-inf"), highest, 0.0)
        weights = tl.exp(peaks - against)
        fade = tl.exp(peak - against)
        total = total * fade + tl.sum(weights * totals, axis=0)
        mixed = mixed * fade + tl.sum(weights[:, None] * values, axis=0)
        peak = highest
    if peak_ptr is None:
        mixed = mixed / tl.where(total > 0.0, total, 1.0)
    else:
        tl.store(peak_ptr + row, peak)
        tl.store(total_ptr + row, total)
    if gate_ptr is not None:
        place = (row // heads).to(tl.int64) * gate_stride + head * gate_head_stride
        mixed *= tl.sigmoid(tl.load(gate_ptr + place + channel, mask=channel < SIZE, other=0.0).to(tl.float32))
    tl.store(out_ptr + row.to(tl.int64) * SIZE + channel, mixed.to(out_ptr.dtype.element_ty), mask=channel < SIZE)


def merge_partials(
    out: Tensor,
    peak: Tensor,
    total: Tensor,
    *,
    sinks: Tensor | None = None,
    gate: Tensor | None = None,
    dtype: torch.dtype,
) -> Tensor:
    """As `cpu.merge_partials`."""
    merged = torch.empty(out.shape[1:], dtype=dtype, device=out.device)
    _merge(out, peak, total, merged, sinks=sinks, gate=gate)
    return merged


def join_partials(parts: Partial) -> Partial:
    """One part of N disjoint ones, `out` [N, B, H, Dv]: over the keys of all, [B, H, Dv], not normalised either.

    As in `merge_partials`, what lies in `out` of parts without keys has no effect.
    """
    joined = Partial(*(torch.empty(x.shape[1:], dtype=x.dtype, device=x.device) for x in _tensors(parts)))
    _merge(*_tensors(parts), joined.out, joined=joined)
    return joined


def _tensors(partial: Partial) -> tuple[Tensor, Tensor, Tensor]:
    return partial.out, partial.peak, partial.total


def _merge(
    out: Tensor,
    peak: Tensor,
    total: Tensor,
    merged: Tensor,
    *,
    sinks: Tensor | None = None,
    gate: Tensor | None = None,
    joined: Partial | None = None,
) -> None:
    """Into `merged` [B, H, Dv]: normalised, or with peaks and totals beside it in `joined`."""
    parts, sequences, heads, size = out.shape
    assert out.is_contiguous()
    assert peak.is_contiguous()
    assert total.is_contiguous()
    assert gate is None or gate.stride(2) == 1
    channels = min(_CHANNELS, block(size))
    rows, few = sequences * heads, parts <= _FEW_PARTS
    launch(
        _merge_kernel,
        (rows, triton.cdiv(size, channels)),
        out,
        peak,
        total,
        sinks,
        gate,
        merged,
        None if joined is None else joined.peak,
        None if joined is None else joined.total,
        parts,
        rows,
        heads,
        0 if gate is None else gate.stride(0),
        0 if gate is None else gate.stride(1),
        num_warps=1 if few else 4,
        SIZE=size,
        CHANNELS=channels,
        PARTS=_FEW_PARTS if few else _MANY_PARTS,
    )
