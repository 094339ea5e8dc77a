"""Rotary embedding in Triton: a program turns some heads of some tokens. The table and its frequencies are torch's."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.launch import block, launch

_ELEMENTS = 2048  # that a program turns or copies


@triton.jit(do_not_specialize=["rows", "heads"])
def _rotary_kernel(
    x_ptr, cos_ptr, sin_ptr, out_ptr, rows, heads, size, half, x_token, x_head, table_stride,
    INTERLEAVED: tl.constexpr, ROWS: tl.constexpr, HALF: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """Row r is head r % heads of token r // heads; REST covers the entries that are not turned."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    x = x_ptr + (token * x_token + head * x_head)[:, None]
    out = out_ptr + (row.to(tl.int64) * size)[:, None]
    there = (row < rows)[:, None]

    pair = tl.arange(0, HALF)[None, :]
    has_pair = there & (pair < half)
    at = token[:, None] * table_stride + pair
    cos = tl.load(cos_ptr + at, mask=has_pair, other=0.0)
    sin = tl.load(sin_ptr + at, mask=has_pair, other=0.0)
    if INTERLEAVED:
        entry = tl.arange(0, 2 * HALF)[None, :]
        has_entry = there & (entry < 2 * half)
        both = tl.load(x + entry, mask=has_entry, other=0.0).to(tl.float32)
        first, second = tl.split(tl.reshape(both, (ROWS, HALF, 2)))
        turned = tl.join(first * cos - second * sin, second * cos + first * sin)
        turned = tl.reshape(turned, (ROWS, 2 * HALF))
        tl.store(out + entry, turned.to(out_ptr.dtype.element_ty), mask=has_entry)
    else:
        first = tl.load(x + pair, mask=has_pair, other=0.0).to(tl.float32)
        second = tl.load(x + half + pair, mask=has_pair, other=0.0).to(tl.float32)
        tl.store(out + pair, (first * cos - second * sin).to(out_ptr.dtype.element_ty), mask=has_pair)
        tl.store(out + half + pair, (second * cos + first * sin).to(out_ptr.dtype.element_ty), mask=has_pair)
    if REST > 0:
        entry = 2 * half + tl.arange(0, REST)[None, :]
        has_entry = there & (entry < size)
        tl.store(out + entry, tl.load(x + entry, mask=has_entry), mask=has_entry)


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """As `cpu.apply_rotary`."""
    tokens, heads, size = x.shape
    half = cos.shape[1]
    assert 2 * half <= size
    assert cos.shape == sin.shape
    assert cos.stride() == sin.stride()
    assert cos.stride(1) == 1 or half == 1
    if x.stride(2) != 1 and size > 1:
        x = x.contiguous()
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    rows = max(1, _ELEMENTS // block(size))
    rest = block(size - 2 * half) if size > 2 * half else 0
    sizes = (tokens * heads, heads, size, half, x.stride(0), x.stride(1), cos.stride(0))
    options = {"INTERLEAVED": interleaved, "ROWS": rows, "HALF": block(half, 1), "REST": rest}
    launch(_rotary_kernel, (triton.cdiv(tokens * heads, rows),), x, cos, sin, out, *sizes, **options)
    return out
