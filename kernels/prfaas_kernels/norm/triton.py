"""Norms and gates in Triton: one program for some rows, each read and written once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from prfaas_kernels.launch import block, launch

_ELEMENTS = 4096  # that a program holds at once, more where one row has more


@triton.jit
def _rms_norm_kernel(x_ptr, weight_ptr, out_ptr, rows, width, stride, eps, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    there = (row < rows)[:, None] & (column < width)[None, :]
    x = tl.load(x_ptr + row.to(tl.int64)[:, None] * stride + column[None, :], mask=there, other=0.0).to(tl.float32)
    weight = tl.load(weight_ptr + column, mask=column < width, other=0.0).to(tl.float32)
    mean = tl.sum(x * x, axis=1) / width
    out = x * tl.rsqrt(mean + eps)[:, None] * weight[None, :]
    tl.store(
        out_ptr + row.to(tl.int64)[:, None] * width + column[None, :],
        out.to(out_ptr.dtype.element_ty),
        mask=there,
    )


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """As `cpu.rms_norm`."""
    width = x.shape[-1]
    flat = x.reshape(-1, width)
    out = torch.empty_like(flat)
    wide = block(width)
    rows = max(1, _ELEMENTS // wide)
    grid = (triton.cdiv(flat.shape[0], rows),)
    launch(_rms_norm_kernel, grid, flat, weight, out, flat.shape[0], width, flat.stride(0), eps, ROWS=rows, WIDTH=wide)
    return out.view(x.shape)
