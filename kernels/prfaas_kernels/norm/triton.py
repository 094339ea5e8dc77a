"""Norms and gates in Triton: a program takes some rows, reads each once and writes it once. Knows no layer."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.launch import block, launch
from prfaas_kernels.norm.cpu import Activation

_ELEMENTS = 4096  # that a program of a norm holds at once; more where one row has more
_GATE_ELEMENTS = 2048
_PER_WARP = 1024  # elements: 32 of each operand in a thread's registers


@triton.jit(do_not_specialize=["rows", "inner"])
def _norm_kernel(
    x_ptr, beside_ptr, weight_ptr, out_ptr, rows, width, inner, x_outer, x_inner, beside_outer, beside_inner, eps,
    ADD: tl.constexpr, GATE: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """`beside` is the residual where ADD, the gate where GATE names a function. Row r is [r // inner, r % inner]."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    there = (row < rows)[:, None] & (column < width)[None, :]
    first, second = (row // inner).to(tl.int64), (row % inner).to(tl.int64)
    x = tl.load(x_ptr + (first * x_outer + second * x_inner)[:, None] + column[None, :], mask=there, other=0.0)
    x = x.to(tl.float32)
    beside = beside_ptr + (first * beside_outer + second * beside_inner)[:, None] + column[None, :]
    if ADD:
        total = (x + tl.load(beside, mask=there, other=0.0).to(tl.float32)).to(beside_ptr.dtype.element_ty)
        tl.store(beside, total, mask=there)
        x = total.to(tl.float32)
    weight = tl.load(weight_ptr + column, mask=column < width, other=0.0).to(tl.float32)
    mean = tl.sum(x * x, axis=1) / width
    out = x * tl.rsqrt(mean + eps)[:, None] * weight[None, :]
    if GATE != "none":
        gate = tl.load(beside, mask=there, other=0.0).to(tl.float32)
        out *= tl.sigmoid(gate)
        if GATE == "silu":
            out *= gate
    to = out_ptr + row.to(tl.int64)[:, None] * width + column[None, :]
    tl.store(to, out.to(out_ptr.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize=["rows"])
def _silu_and_mul_kernel(gate_up_ptr, out_ptr, rows, width, stride, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    there = (row < rows)[:, None] & (column < width)[None, :]
    from_ = gate_up_ptr + row[:, None] * stride + column[None, :]
    gate = tl.load(from_, mask=there, other=0.0).to(tl.float32)
    up = tl.load(from_ + width, mask=there, other=0.0).to(tl.float32)
    out = gate * tl.sigmoid(gate) * up
    tl.store(out_ptr + row[:, None] * width + column[None, :], out.to(out_ptr.dtype.element_ty), mask=there)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """As `cpu.rms_norm`."""
    return _norm(x, None, weight, eps, x.dtype)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
    """As `cpu.add_rms_norm`."""
    assert x.shape == residual.shape
    return _norm(x, residual, weight, eps, residual.dtype, add=True)


def rms_norm_gated(
    x: Tensor, gate: Tensor, weight: Tensor, eps: float, dtype: torch.dtype, activation: Activation = "sigmoid"
) -> Tensor:
    """As `cpu.rms_norm_gated`."""
    assert x.shape == gate.shape
    return _norm(x, gate, weight, eps, dtype, gate=activation)


def silu_and_mul(gate_up: Tensor) -> Tensor:
    """As `cpu.silu_and_mul`."""
    width = gate_up.shape[-1] // 2
    flat = _dense_rows(gate_up.flatten(0, -2) if gate_up.dim() > 1 else gate_up[None])
    out = torch.empty(*gate_up.shape[:-1], width, dtype=gate_up.dtype, device=gate_up.device)
    wide = min(block(width), _GATE_ELEMENTS)
    rows = _GATE_ELEMENTS // wide
    grid = (triton.cdiv(flat.shape[0], rows), triton.cdiv(width, wide))
    launch(_silu_and_mul_kernel, grid, flat, out, flat.shape[0], width, flat.stride(0), ROWS=rows, WIDTH=wide)
    return out


def _norm(
    x: Tensor,
    beside: Tensor | None,
    weight: Tensor,
    eps: float,
    dtype: torch.dtype,
    *,
    add: bool = False,
    gate: str = "none",
) -> Tensor:
    """Normalised `x` [..., D] in `dtype`; `beside` is what is read, or added to, at the same places."""
    assert weight.shape == x.shape[-1:]
    out = torch.empty(x.shape, dtype=dtype, device=x.device)
    read, width = _three(x), x.shape[-1]
    other = read if beside is None else _three(beside, written=add)
    wide, num_rows = block(width), read.shape[0] * read.shape[1]
    rows = max(1, _ELEMENTS // wide)
    strides = (*read.stride()[:2], *other.stride()[:2])
    sizes = (num_rows, width, read.shape[1], *strides)
    warps = min(16, rows * wide // _PER_WARP)
    grid, tensors = (triton.cdiv(num_rows, rows),), (read, other, weight, out)
    flags: dict[str, Any] = {"ADD": add, "GATE": gate, "ROWS": rows, "WIDTH": wide}
    launch(_norm_kernel, grid, *tensors, *sizes, eps, num_warps=warps, **flags)
    return out


def _three(x: Tensor, *, written: bool = False) -> Tensor:
    """`x` [..., D] as [A, B, D] with dense rows: a view where `x` has at most three dimensions or is `written`."""
    if x.dim() <= 2:
        return _dense_rows(x.view(-1, 1, x.shape[-1]) if x.dim() == 1 else x[:, None], written=written)
    outer = x.view(-1, *x.shape[-2:]) if written else x.flatten(0, -3)
    return _dense_rows(outer, written=written)


def _dense_rows(x: Tensor, *, written: bool = False) -> Tensor:
    if x.stride(-1) == 1 or x.shape[-1] <= 1:
        return x
    assert not written, "what is written must have dense rows"
    return x.contiguous()
